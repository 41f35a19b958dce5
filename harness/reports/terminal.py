"""The run on a terminal: progress while it lasts, then the matrix, what the arguments took, each lane and the verdict.

rich draws it, without colours where NO_COLOR is set. Where the output is no terminal the same text comes as plain lines, and
progress as one line for each API, dtype and kind of cases.
"""

from __future__ import annotations

import atexit
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from math import isfinite
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attnspec.harness.events import Event, Finished, Found, Progress, Started
from attnspec.harness.findings import Finding
from attnspec.harness.tally import Cell, Tally

SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
MOST_VALUES = 6
STATUSES = ("honoured", "refused", "inert", "ignored")
PLAIN_WIDTH = 200


class TerminalReport:
    """Prints events as they come. `verbose` adds the table of what every argument took."""

    def __init__(self, out: TextIO | None = None, *, verbose: bool = True) -> None:
        console = Console(file=out, highlight=False, emoji=False)
        if not console.is_terminal:
            console = Console(file=out, highlight=False, emoji=False, width=PLAIN_WIDTH)
        self._console = console
        self._verbose = verbose
        self._live: Live | None = None
        self._started: Started | None = None
        self._pace: Mapping[str, float] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._start(event)
            case Progress():
                self._progress(event)
            case Found(finding):
                self._finding(finding)
            case Finished():
                self._finish(event)

    def _print(self, text: str = "", style: str | None = None) -> None:
        self._console.print(escape(text), style=style, soft_wrap=True)

    def _start(self, event: Started) -> None:
        lanes = [f"{lane} {next(iter(versions.values()))}" for lane, versions in event.versions.items()]
        self._print(f"attnspec check, profile {event.profile}, seed {event.seed}: {', '.join(lanes) or 'no lane'}")
        for line in event.not_covered:
            self._print(f"not covered: {line}", "yellow")
        self._started = event
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True)
            self._live.start()
            atexit.register(self._live.stop)  # it gives the cursor back, to an interrupted run too

    def _progress(self, event: Progress) -> None:
        self._pace = event.pace
        if self._live is not None:
            self._live.update(Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in progress(event))))
        elif event.done == event.total:
            self._print(next(progress(event)))

    def _finding(self, finding: Finding) -> None:
        first, *rest = finding.lines()
        self._print()
        self._print(first, "bold red")
        for line in rest:
            self._print(line)

    def _finish(self, event: Finished) -> None:
        if self._live is not None:
            self._live.stop()
        self._print()
        self._console.print(matrix(event.tally))
        if self._verbose:
            self._print()
            self._console.print(arguments_taken(event.tally))
            self._console.print(arguments_became(event.tally))
        self._print()
        for line in (*lanes(self._started, event, self._pace), *shares(event.tally)):
            self._print(line)
        self._print_ledger(event)
        self._print(verdict(event), "bold green" if event.passed else "bold red")

    def _print_ledger(self, event: Finished) -> None:
        for deviation, seen in event.deviations.items():
            self._print(f"known deviation, seen {seen} times: {deviation}")
        for note in event.notes:
            self._print(note, "yellow")
        for line in event.not_covered:
            self._print(f"not covered: {line}", "yellow")
        for error in event.errors:
            self._print(f"error of the run: {error}", "red")


def progress(event: Progress) -> Iterator[str]:
    """What is being tried, how the run stands, and how fast each lane is."""
    kind = "gradients" if event.gradient else "forward"
    yield f"{event.spec}  {event.dtype}  {kind}  {event.done} of {event.total}"
    left = f"  about {timedelta(seconds=round(event.left))} left" if isfinite(event.left) else ""
    yield f"findings {event.findings}  worst error/bound {event.worst:.2g}{left}"
    width = max(map(len, event.pace), default=0)
    yield from (f"  {lane:<{width}}  {pace:7.0f} cases/s" for lane, pace in event.pace.items())


def lanes(started: Started | None, event: Finished, pace: Mapping[str, float]) -> Iterator[str]:
    """A line for each lane: its cases and how fast they were, how near to their bounds, and its findings."""
    items = started.items if started else ()
    of = {(item.spec.name, subject.name): subject.lane for item in items for subject in item.subjects}
    for lane in started.versions if started else ():
        cells = [cell for (api, subject, _), cell in event.tally.cells.items() if of.get((api, subject)) == lane]
        speed = f" at {pace[lane]:.0f} a second" if lane in pace else ""
        cases = f"{sum(cell.cases for cell in cells)} + {sum(cell.gradient_cases for cell in cells)} cases{speed}"
        found = sum(of.get((finding.failure.api, finding.failure.subject)) == lane for finding in event.findings)
        yield f"{lane}: {cases}, worst error/bound {_worst(cells)}, findings {found}"


def _worst(cells: Sequence[Cell]) -> str:
    outputs = max((cell.outputs.worst for cell in cells), default=0.0)
    gradients = max((cell.gradients.worst for cell in cells), default=0.0)
    return f"{outputs:.2g} / {gradients:.2g}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def matrix(tally: Tally) -> Table:
    """Spec by subject: cases, and the worst error over bound of each dtype, forward / gradient."""
    table = _table("worst error over bound, forward / gradient", "subject", "cases", *SHORT.values())
    rows: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)
    for (spec, subject, dtype), cell in tally.cells.items():
        rows[spec, subject][dtype] = cell
    for (_, subject), cells in rows.items():
        forward = sum(cell.cases for cell in cells.values())
        gradient = sum(cell.gradient_cases for cell in cells.values())
        worst = [_cell(cells.get(dtype)) for dtype in SHORT]
        table.add_row(escape(subject), f"{forward} + {gradient}", *worst)
    return table


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    gradient = f"{cell.gradients.worst:.2g}" if cell.gradient_cases else "-"
    return f"{cell.outputs.worst:.2g} / {gradient}"


def arguments_taken(tally: Tally) -> Table:
    """Which values each argument took, the commonest first."""
    table = _table("values taken", "spec", "argument", "values")
    for spec, taken in tally.taken.items():
        for argument, values in taken.items():
            shown = [f"{value} ({count})" for value, count in values.most_common(MOST_VALUES)]
            more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
            table.add_row(escape(spec), escape(argument), escape(", ".join(shown + more)))
    return table


def arguments_became(tally: Tally) -> Table:
    """What each subject did with the arguments that it was given."""
    table = _table("arguments", "subject", *STATUSES)
    for (_, subject), became in tally.arguments.items():
        row = [", ".join(name for name, status in became.items() if status == column) for column in STATUSES]
        table.add_row(escape(subject), *map(escape, row))
    return table


def shares(tally: Tally) -> list[str]:
    """The cases that judged nobody, one line in all."""
    counts = list(tally.shares.values())
    total = sum(share.cases for share in counts)
    if total == 0:
        return ["0 cases"]

    sampled = sum(share.sampled for share in counts)
    parts = [
        _part("ill-conditioned", sum(share.ill_conditioned for share in counts), total),
        _part("invalid", sum(share.invalid for share in counts), total),
        _part(f"of {sampled} looked at vacuous", sum(share.vacuous for share in counts), sampled),
    ]
    return [f"{total} cases: {', '.join(parts)}"]


def _part(name: str, count: int, cases: int) -> str:
    return f"{name} {count} ({count / max(cases, 1):.1%})"


def verdict(event: Finished) -> str:
    """The last line."""
    what = "passed" if event.passed else f"{len(event.findings)} finding(s), {len(event.errors)} error(s) of the run"
    return f"{what} in {event.seconds:.1f} s"
