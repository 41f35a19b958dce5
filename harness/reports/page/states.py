"""What became of each API in each lane: the states of the matrix, and why nothing that was not judged is green."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from attnspec.harness.reports.saved_run import Counted, Found, Known, SavedRun

OPEN, NOT_ASKED = "open", "not asked for"  # of a lane, beside what is missing


class State(Enum):
    """A symbol and a word, for colours alone say nothing to many."""

    FINDING = "✗", "finding"
    KNOWN = "≈", "known deviation"
    PASSED = "✓", "pass"
    NOT_COVERED = "○", "not covered"

    @property
    def symbol(self) -> str:
        return self.value[0]

    @property
    def word(self) -> str:
        return self.value[1]

    @property
    def style(self) -> str:
        """The name of its colours in page.css."""
        return self.word.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Place:
    """One API in one lane: its subjects' counts, findings (by number, from 1) and known deviations; `why` it is not covered."""

    api: str
    lane: str
    id: str
    counts: tuple[Counted, ...]
    findings: tuple[int, ...]
    known: tuple[Known, ...]
    why: str

    @property
    def state(self) -> State:
        if self.findings:
            return State.FINDING
        if self.known:
            return State.KNOWN
        return State.NOT_COVERED if self.why else State.PASSED

    @property
    def cases(self) -> int:
        return sum(each.cases for each in self.counts)

    @property
    def gradient_cases(self) -> int:
        return sum(each.gradient_cases for each in self.counts)


def apis(run: SavedRun) -> tuple[str, ...]:
    """The APIs of a run in its order."""
    return tuple(dict.fromkeys(each.api for each in run.implementations))


def lanes(run: SavedRun) -> tuple[str, ...]:
    """The lanes that were asked for, there or not."""
    return tuple(lane for lane, what in run.lanes.items() if what != NOT_ASKED)


def places(run: SavedRun) -> Mapping[tuple[str, str], Place]:
    """Every API in every lane that was asked for."""
    return {(place.api, place.lane): place for place in _places(run)}


def _places(run: SavedRun) -> Iterator[Place]:
    lane_of = {(each.api, each.subject): each.lane for each in run.implementations}
    for number, api in enumerate(apis(run), start=1):
        for lane in lanes(run):
            subjects = {subject for (of, subject), where in lane_of.items() if (of, where) == (api, lane)}
            counts = tuple(each for each in run.matrix if each.api == api and each.subject in subjects)
            found = tuple(place for place, each in enumerate(run.findings, start=1) if _is_of(each, api, lane, lane_of))
            known = tuple(each for each in run.known_deviations if each.subject in subjects)
            yield Place(api, lane, f"api-{number}-{lane}", counts, found, known, _why(run.lanes[lane], subjects, counts))


def _is_of(finding: Found, api: str, lane: str, lane_of: Mapping[tuple[str, str], str]) -> bool:
    return finding.api == api and lane_of.get((api, finding.subject)) == lane


def _why(lane: str, subjects: set[str], counts: tuple[Counted, ...]) -> str:
    """Why nothing was judged there; nothing where something was."""
    if lane != OPEN:
        return "the lane is missing"
    if not subjects:
        return "no implementation"
    return "" if any(sum(each.ratios) for each in counts) else "no case was judged"
