"""Mutated spec files: each must load as a valid spec or be refused cleanly, in a second and 256 MB.

    python -m tests.spec.fuzz --count 100000

Takes every valid spec file of the project, breaks it (expressions first: at least half of all mutants must reach the
expression parser with a text that no valid file has), and loads the result. Any exception but `SpecError`, any spec that
does not survive its own JSON, and any mutant over the limits is a failure: it is printed with its number, and the exit
code is 1. The same seed makes the same mutants.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any

from tests.spec.mutants import mutant

import attnspec.spec.reading
from attnspec.spec.expression import MAX_LENGTH, Expression, parse, to_text
from attnspec.spec.interchange import from_json, to_json
from attnspec.spec.loader import SpecError, loads

SECONDS = 1.0
"""Of processor time, so that a busy machine fails nobody."""
MEGABYTES = 256
ROOT = Path(__file__).parents[2]
BLOCK = 500
"""Mutants of one random generator: a failing mutant is made again from the block's number alone."""


def sources() -> list[str]:
    """The texts of all valid spec files."""
    folders = ("spec/apis", "spec/variants", "tests/specs")
    return [file.read_text() for folder in folders for file in sorted((ROOT / folder).glob("*.toml"))]


class TooSlow(Exception):
    """The alarm went off."""


@dataclass
class Tally:
    """What came of some mutants."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    megabytes: float = 0.0

    def add(self, other: Tally) -> None:
        """Count another tally in."""
        self.outcomes += other.outcomes
        self.kinds += other.kinds
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)
        self.megabytes = max(self.megabytes, other.megabytes)


@dataclass
class Watch:
    """Stands in for the expression parser and notes texts that no valid file has."""

    known: set[str]
    reached: bool = False

    def __call__(self, text: str) -> Expression:
        self.reached = self.reached or text not in self.known
        expression = parse(text)
        again = to_text(expression)
        assert len(again) > MAX_LENGTH or parse(again) == expression, f"{again!r} is another expression"
        return expression


def known_expressions(texts: list[str]) -> set[str]:
    """Every expression of the valid files."""
    seen: set[str] = set()

    def note(text: str) -> Expression:
        seen.add(text)
        return parse(text)

    with parser_replaced(note):
        for text in texts:
            loads(text)
    return seen


class parser_replaced:  # noqa: N801, it reads as a function
    """For a while, expressions of spec files are parsed by another function."""

    def __init__(self, other: Callable[[str], Expression]) -> None:
        self.other = other

    def __enter__(self) -> None:
        attnspec.spec.reading.parse = self.other  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        attnspec.spec.reading.parse = parse  # type: ignore[attr-defined]


def outcome(text: str | bytes) -> str:
    """`valid` or `refused`; raises where the loader fails in any other way."""
    try:
        spec = loads(text, "mutant.toml")
    except SpecError as error:
        return _refused(str(error))
    assert from_json(to_json(spec)) == spec, "does not survive its own JSON"
    return "valid"


def _refused(message: str) -> str:
    lines = message.splitlines()
    assert lines, "no message"
    assert all(line.startswith("mutant.toml: ") and len(line) < 1_000 for line in lines), message
    return "refused"


def block(number: int, count: int, seed: int, texts: list[str]) -> Tally:
    """The outcomes of one block of mutants."""
    watch, tally = Watch(known_expressions(texts)), Tally()
    data = [tomllib.loads(text) for text in texts]
    chance = random.Random(f"{seed}/{number}")
    signal.signal(signal.SIGPROF, _alarm)
    with parser_replaced(watch):
        for index in range(count):
            which = chance.randrange(len(texts))
            kind, text = mutant(chance, texts[which], data[which])
            watch.reached = False
            _judge(f"block {number}, mutant {index} ({kind})", text, tally)
            tally.kinds[kind] += 1
            tally.outcomes["reached the expression parser"] += watch.reached
    return tally


def _alarm(signum: int, frame: FrameType | None) -> None:
    raise TooSlow


def _judge(name: str, text: str | bytes, tally: Tally) -> None:
    """Load one mutant under the alarm, and note what came of it."""
    before, start = _peak(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        tally.outcomes[outcome(text)] += 1
    except TooSlow:
        tally.failures.append(f"{name}: took more than {SECONDS} s")
    except BaseException:
        tally.failures.append(f"{name}:\n{traceback.format_exc(limit=-3)[-2_000:]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    grown = _peak() - before
    tally.slowest = max(tally.slowest, time.process_time() - start)
    tally.megabytes = max(tally.megabytes, grown)
    if grown > MEGABYTES:
        tally.failures.append(f"{name}: took {grown:.0f} MB")


def _peak() -> float:
    """The most memory that this process has held, in MB; it never falls, so a growth is due to what ran in between."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def run(count: int, seed: int, processes: int) -> Tally:
    """All mutants, in blocks over processes."""
    sizes = [min(BLOCK, count - start) for start in range(0, count, BLOCK)]
    total = Tally()
    with ProcessPoolExecutor(processes) as pool:
        for tally in pool.map(block, range(len(sizes)), sizes, repeat(seed), repeat(sources())):
            total.add(tally)
    return total


def report(total: Tally, count: int, seconds: float) -> str:
    """The figures of a run."""
    reached = total.outcomes["reached the expression parser"]
    lines = [
        f"{count} mutants of {len(sources())} spec files in {seconds:.1f} s",
        f"  {total.outcomes['refused']} refused, {total.outcomes['valid']} valid, {len(total.failures)} failures",
        f"  {reached} ({reached / count:.0%}) reached the expression parser with a new text",
        f"  slowest {total.slowest:.3f} s (limit {SECONDS:g}), most memory {total.megabytes:.0f} MB (limit {MEGABYTES})",
        *(f"  {kind:24s} {number}" for kind, number in total.kinds.most_common()),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; 1 when any mutant fails or too few reach the expression parser."""
    options = argparse.ArgumentParser(prog="python -m tests.spec.fuzz", description="Load mutated spec files.")
    options.add_argument("--count", type=int, default=2_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen: Any = options.parse_args(arguments)
    start = time.perf_counter()
    total = run(chosen.count, chosen.seed, chosen.processes)
    print(report(total, chosen.count, time.perf_counter() - start))
    for failure in total.failures[:20]:
        print(failure, file=sys.stderr)
    few = total.outcomes["reached the expression parser"] * 2 < chosen.count
    return 1 if total.failures or few else 0


if __name__ == "__main__":
    sys.exit(main())
