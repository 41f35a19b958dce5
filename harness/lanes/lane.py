"""A lane: batches of cases through one framework's process, which may die or hang and costs no more than its own cases.

    lane.submit(job)      starts a batch and returns
    lane.collect()        the answers, per case and subject

When a batch does not come back, its calls are made again one by one in a fresh process: the one that kills or hangs it
gets a `Lost` answer, all others their result. A subject that loses `PATIENCE` calls is not called until `pardon`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.messages import Answer, Array, Lost, unpack
from attnspec.harness.lanes.process import GIB, LaneMissing, Process, Silent
from attnspec.harness.subjects import Subject
from attnspec.spec.interchange import to_json
from attnspec.spec.model import Spec

PATIENCE = 3
GIVEN_UP = Lost("not run", f"given up after {PATIENCE} lost calls")


@dataclass(frozen=True, slots=True)
class Job:
    """A batch: every subject on every case. An attempt only asks whether the calls are refused."""

    spec: Spec
    subjects: tuple[Subject, ...]
    cases: tuple[Case, ...]
    gradient: bool = False
    attempt: bool = False

    @property
    def calls(self) -> int:
        return len(self.subjects) * len(self.cases)


class Lane:
    """One framework in a process of its own. A context manager; LaneMissing on entry where it is not installed."""

    def __init__(
        self,
        framework: str,
        *,
        python: str | None = None,
        deadline: float = 60.0,
        memory: int = 8 * GIB,
        hasty: bool = False,
    ) -> None:
        self.framework = framework
        self.hasty = hasty
        self.restarts = 0
        self.answered = 0  # cases, in batches that came back
        self.seconds = 0.0  # of its own that they took
        self.gone = ""  # why the process could not be started again
        self._process = Process(framework, python, deadline, memory, hasty)
        self._specs: set[str] = set()
        self._numbers: dict[Configuration, int] = {}
        self._last_number = 0
        self._lost: Counter[str] = Counter()
        self._submitted: tuple[Job, Job] | None = None

    def __enter__(self) -> Lane:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    @property
    def versions(self) -> dict[str, str]:
        """Version by distribution, the framework's own first."""
        return self._process.versions

    @property
    def cpu_seconds(self) -> float:
        """Processor time of its process so far."""
        return self._process.cpu_seconds

    def submit(self, job: Job) -> None:
        """Send a batch. `collect` fetches its answers, so that several lanes work at the same time."""
        if self._submitted is not None:
            raise RuntimeError("the last job was not collected")
        sent = replace(job, subjects=tuple(s for s in job.subjects if not self._is_given_up(s)))
        if sent.subjects:
            self._process.send(self._request(sent))
        self._submitted = job, sent

    def collect(self) -> list[tuple[Answer, ...]]:
        """The answers of the submitted job: one tuple per case, in the order of its subjects."""
        if self._submitted is None:
            raise RuntimeError("no job was submitted")
        (job, sent), self._submitted = self._submitted, None
        return _completed(job, sent, self._answers(sent) if sent.subjects else [()] * len(job.cases))

    def run(self, job: Job) -> list[tuple[Answer, ...]]:
        self.submit(job)
        return self.collect()

    def attempt(self, spec: Spec, subject: Subject, *cases: Case) -> list[Answer]:
        """What the subject says to calls that it has to refuse."""
        return [answer for (answer,) in self.run(Job(spec, (subject,), cases, attempt=True))]

    def call(
        self,
        spec: Spec,
        subject: Subject,
        configuration: Configuration,
        given: Mapping[str, Array],
        layout: str = "",
        gradient: bool = False,
        seed: int = 0,
        turned: bool = False,
        second: bool = False,
    ) -> Answer:
        """One call on the caller's own arrays, which the lane may lay out otherwise in memory (memory.py), or make `turned`.

        `second` asks for how the gradients change along the inputs, in their place.

        For gradients the cotangents are among the arrays. A `seed` sets the framework's generator before the call, and
        before it is made again for gradients.
        """
        if self._is_given_up(subject):
            return GIVEN_UP
        case = Case(configuration, 0)
        lessons = self._lessons(Job(spec, (subject,), (case,)))
        arrays = {name: [array.dtype.str, list(array.shape), array.tobytes().hex()] for name, array in given.items()}
        request = {"subject": subject.to_dict(), "gradient": gradient, "attempt": False, "arrays": arrays, "layout": layout}
        request |= {"seed": seed, "turned": turned, "second": second}
        self._process.send({"op": "call", "configuration": self._numbers[configuration], **request, **lessons})
        try:
            (answer,) = unpack(*self._process.receive())
        except Silent as silent:
            self._restart()
            self._lost[subject.name] += 1
            return silent.lost
        return answer

    def signature(self, subject: Subject) -> dict[str, Any] | Lost:
        """The subject's parameters as Python sees them in the lane, or its docstring, or the error (see server.py)."""
        if self.gone:
            return Lost("not run", self.gone)
        self._process.send({"op": "signature", "subject": subject.to_dict()})
        try:
            found: dict[str, Any] = json.loads(self._process.receive()[0])
        except Silent as silent:
            self._restart()
            return silent.lost
        return found

    def forget(self, configurations: Sequence[Configuration]) -> None:
        """Let the lane drop what it keeps (compiled code too) for configurations that will not come again."""
        numbers = [self._numbers.pop(each) for each in configurations if each in self._numbers]
        if self.gone or not numbers:
            return
        self._process.send({"op": "forget", "forget": numbers})
        try:
            self._process.receive()
        except Silent:
            self._restart()

    def pardon(self) -> None:
        """Call again whom it has given up: what comes next is another matter."""
        self._lost.clear()

    def _is_given_up(self, subject: Subject) -> bool:
        return bool(self.gone) or self._lost[subject.name] >= PATIENCE

    def _restart(self) -> None:
        self._process.kill()
        self._specs, self._numbers = set(), {}
        self.restarts += 1
        try:
            self._process.start()
        except LaneMissing as missing:
            self.gone = str(missing)

    def _answers(self, job: Job) -> list[tuple[Answer, ...]]:
        try:
            flat = unpack(*self._process.receive())
        except Silent as silent:
            suspect = min(self._process.beat, len(job.cases) - 1)
            self._restart()
            return self._blame(job, silent.lost) if job.calls == 1 else self._one_by_one(job, silent.lost, suspect)
        if not job.attempt:
            self.answered += len(job.cases)
            self.seconds += self._process.took
        width = len(job.subjects)
        return [tuple(flat[i * width : (i + 1) * width]) for i in range(len(job.cases))]

    def _blame(self, job: Job, lost: Lost) -> list[tuple[Answer, ...]]:
        self._lost[job.subjects[0].name] += 1
        return [(lost,)]

    def _one_by_one(self, job: Job, lost: Lost, suspect: int) -> list[tuple[Answer, ...]]:
        """After a batch was lost: each call alone."""
        singles = [[replace(job, subjects=(s,), cases=(case,)) for s in job.subjects] for case in job.cases]
        answers = [tuple(self.run(single)[0][0] for single in row) for row in singles]
        if not any(isinstance(answer, Lost) for row in answers for answer in row):
            # It does not happen alone, yet it happened: the case that was last known to run stands for it.
            unsteady = replace(lost, detail=f"{lost.detail}; in a batch of {len(job.cases)} cases, and not again alone")
            answers[suspect] = (unsteady, *answers[suspect][1:])
        return answers

    def _request(self, job: Job) -> dict[str, Any]:
        lessons = self._lessons(job)
        return {
            "op": "run",
            "subjects": [subject.to_dict() for subject in job.subjects],
            "gradient": job.gradient,
            "attempt": job.attempt,
            "cases": [[self._numbers[case.configuration], case.seed] for case in job.cases],
            **lessons,
        }

    def _lessons(self, job: Job) -> dict[str, Any]:
        """The spec and the configurations that the process has not seen yet."""
        lessons: dict[str, Any] = {}
        if job.spec.name not in self._specs:
            lessons["specs"] = {job.spec.name: to_json(job.spec)}
            self._specs.add(job.spec.name)
        fresh = dict.fromkeys(case.configuration for case in job.cases if case.configuration not in self._numbers)
        if fresh:
            lessons["configurations"] = {str(self._number(each)): each.to_dict() for each in fresh}
        return lessons

    def _number(self, configuration: Configuration) -> int:
        self._last_number += 1
        self._numbers[configuration] = self._last_number
        return self._last_number


def _completed(job: Job, sent: Job, answers: Sequence[tuple[Answer, ...]]) -> list[tuple[Answer, ...]]:
    """`not run` in the place of each subject that was not sent."""
    if job.subjects == sent.subjects:
        return list(answers)
    names = [subject.name for subject in sent.subjects]

    def whole(row: tuple[Answer, ...]) -> tuple[Answer, ...]:
        by_name = dict(zip(names, row, strict=True))
        return tuple(by_name.get(subject.name, GIVEN_UP) for subject in job.subjects)

    return [whole(row) for row in answers]
