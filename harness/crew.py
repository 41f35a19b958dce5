"""The lanes of a run, all at once: they work on a batch while the oracle does, and each case comes back as evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.lanes.messages import Answer
from attnspec.harness.lanes.process import LaneMissing
from attnspec.harness.oracle import Verdict, judge
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

Takes = Callable[[str, Configuration], bool]


def takes_all(lane: str, configuration: Configuration) -> bool:
    """The usual `Takes`: every lane gets every configuration of a dtype that it has."""
    return configuration.dtype in DTYPES[lane]


class Crew:
    """Open lanes by framework. `missing` says why a lane that was asked for is not there."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._asked = lanes
        self._stack = ExitStack()
        self.lanes: dict[str, Lane] = {}
        self.missing: dict[str, str] = {}

    def __enter__(self) -> Crew:
        """Start all lanes side by side: importing a framework takes seconds."""
        with ThreadPoolExecutor(max(1, len(self._asked))) as starters:
            for lane, trouble in zip(self._asked, starters.map(_started, self._asked), strict=True):
                if trouble:
                    self.missing[lane.framework] = trouble
                else:
                    self.lanes[lane.framework] = lane
                    self._stack.push(lane)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def present(self, subjects: Sequence[Subject]) -> tuple[Subject, ...]:
        """The subjects whose lanes are open."""
        return tuple(subject for subject in subjects if subject.lane in self.lanes)

    def version(self, subject: Subject) -> str:
        """The version of the subject's framework."""
        return next(iter(self.lanes[subject.lane].versions.values()))

    def evidence(
        self,
        spec: Spec,
        subjects: Sequence[Subject],
        cases: Sequence[Case],
        *,
        gradient: bool,
        takes: Takes = takes_all,
    ) -> Iterator[Evidence | Case]:
        """Run the batch everywhere and judge it. A case that the oracle refuses comes back as it is: it is invalid."""
        jobs = list(self._jobs(spec, subjects, cases, gradient, takes))
        for job in jobs:
            self._lane(job).submit(job)
        verdicts = [_verdict(spec, case, gradient) for case in cases]
        found = [_by_case(job, self._lane(job).collect()) for job in jobs]
        for case, verdict in zip(cases, verdicts, strict=True):
            if verdict is None:
                yield case
                continue
            answers = {name: answer for by_case in found for name, answer in by_case.get(case, {}).items()}
            yield Evidence(spec, case, verdict, answers, gradient)

    @property
    def pace(self) -> Mapping[str, float]:
        """Cases per second of every lane that was given some, by its own clock."""
        return {name: lane.answered / lane.seconds for name, lane in self.lanes.items() if lane.seconds}

    def pardon(self) -> None:
        """Let every subject be called again, also those that were given up."""
        for lane in self.lanes.values():
            lane.pardon()

    def forget(self, configurations: Sequence[Configuration]) -> None:
        for lane in self.lanes.values():
            lane.forget(configurations)

    def _lane(self, job: Job) -> Lane:
        return self.lanes[job.subjects[0].lane]

    def _jobs(
        self, spec: Spec, subjects: Sequence[Subject], cases: Sequence[Case], gradient: bool, takes: Takes
    ) -> Iterator[Job]:
        for name in self.lanes:
            here = tuple(subject for subject in subjects if subject.lane == name)
            taken = tuple(case for case in cases if takes(name, case.configuration))
            if here and taken:
                yield Job(spec, here, taken, gradient)


def _started(lane: Lane) -> str:
    """Nothing, or why the lane is missing."""
    try:
        lane.__enter__()
    except LaneMissing as missing:
        return str(missing) or "it does not start"
    return ""


def _verdict(spec: Spec, case: Case, gradient: bool) -> Verdict | None:
    try:
        return judge(spec, case, arrays(case, spec), gradient)
    except ValueError:
        return None


def _by_case(job: Job, rows: Sequence[tuple[Answer, ...]]) -> Mapping[Case, Mapping[str, Answer]]:
    names = [subject.name for subject in job.subjects]
    return {case: dict(zip(names, row, strict=True)) for case, row in zip(job.cases, rows, strict=True)}
