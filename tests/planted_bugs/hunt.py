"""Run the harness over the faults: which checks see each of them, and after how many cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from attnspec.harness.cases import Case, large, pool
from attnspec.harness.checks import CASE_CHECKS, aftermath, arguments, preconditions, related_calls, relations, signature
from attnspec.harness.checks.failure import Failure
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive, drive
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Lost
from attnspec.harness.subjects import Subject, user
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec
from planted_bugs.faults import APIS, CASES, GENERATED, Fault

SEED = 2
POOL = 24
# jax compiles whatever has a new shape: a few configurations of the dtypes its faults are about, and few calls of the others.
JAX_POOL, JAX_DTYPES, JAX_VIOLATIONS, JAX_CALLS = 3, ("float32", "bfloat16"), 25, 5
BATCH = 50
RELATED = 3  # one in so many pairs of arguments
Seen = dict[str, int]
Hit = tuple[int, Failure]


def hunt(framework: str, faults: Sequence[Fault], folder: Path) -> dict[str, Seen]:
    """For each fault of the framework, the checks that see it, each with the number of cases that it took.

    Every fault is judged alone, as the user's function that it plays: there is no other subject to compare it with.
    """
    spec = builtin()[(APIS | GENERATED)[framework]]
    lane = framework if framework in APIS else "numpy"
    subjects = {fault.name: user(f"{fault.write(folder)}:{fault.function}", spec, lane) for fault in faults}
    faulty = {subject.name: name for name, subject in subjects.items()}
    seen: dict[str, Seen] = {name: {} for name in subjects}
    with Crew([Lane(lane)]) as crew:
        present = crew.present(tuple(subjects.values()))
        for hunter in (from_cases, from_arguments, from_relations, from_violations, from_signatures):
            for number, failure in hunter(crew, spec, present):
                seen[faulty[failure.subject]].setdefault(failure.check, number)
    return seen


def from_cases(crew: Crew, spec: Spec, subjects: Sequence[Subject]) -> Iterator[Hit]:
    """What the checks of single cases report, forward and backward."""
    cases = cases_of(spec, subjects[0].lane)
    batches = (cases[start : start + BATCH] for start in range(0, len(cases), BATCH))
    judged = chain.from_iterable(crew.evidence(spec, subjects, batch, gradient=True) for batch in batches)
    for number, evidence in enumerate(judged, start=1):
        assert not isinstance(evidence, Case), f"the generator drew an invalid case: {evidence}"
        for name, answer in evidence.answers.items():
            alone = replace(evidence, answers={name: answer})
            for check in CASE_CHECKS.values():
                yield from ((number, failure) for failure in check(alone))


def cases_of(spec: Spec, lane: str) -> list[Case]:
    """`CASES` cases, the lane's dtypes in turn."""
    dtypes, size = (JAX_DTYPES, JAX_POOL) if lane == "jax" else (DTYPES[lane], POOL)
    columns: list[list[Case]] = []
    for dtype in dtypes:
        columns.append([])
        wide = () if lane == "jax" else large(spec, dtype)
        drive((*pool(spec, dtype, POOL)[:size], *wide), -(-CASES // len(dtypes)), derive(SEED, dtype), columns[-1].extend)
    return [case for row in zip(*columns, strict=True) for case in row][:CASES]


def from_arguments(crew: Crew, spec: Spec, subjects: Sequence[Subject]) -> Iterator[Hit]:
    """What the arguments check reports: the number is that of the call in which an argument is ignored."""
    alone, both = arguments.cases(spec, "float32")
    cases = alone[::JAX_CALLS] if subjects[0].lane == "jax" else [*alone, *both]
    variations = [each for case in cases for each in arguments.variations(spec, case)]
    for subject in subjects:
        found = list(arguments.outcomes(partial(crew.lanes[subject.lane].call, spec, subject), variations))
        for failure in arguments.check(spec, subject, found):
            assert failure.case is not None
            yield cases.index(failure.case) + 1, failure


def from_relations(crew: Crew, spec: Spec, subjects: Sequence[Subject]) -> Iterator[Hit]:
    """What the relations check reports: the number is that of the pair of calls."""
    alone, both = arguments.cases(spec, "float32")
    cases = alone[:1] if subjects[0].lane == "jax" else [*alone, *both[::RELATED]]
    pairs = [each for case in cases for each in related_calls.relations(spec, case)]
    for subject in subjects:
        call = partial(crew.lanes[subject.lane].call, spec, subject)
        for number, related in enumerate(pairs, start=1):
            yield from ((number, failure) for failure in relations.check(spec, subject, call, related))


def from_violations(crew: Crew, spec: Spec, subjects: Sequence[Subject]) -> Iterator[Hit]:
    """What the preconditions check reports: the number is that of the invalid call."""
    violations, _ = preconditions.violations(spec, "float32")
    violations = violations[:: JAX_VIOLATIONS if subjects[0].lane == "jax" else 1]
    cases = tuple(Case(violation.configuration, SEED) for violation in violations)
    for subject in subjects:
        call, attempt = (
            partial(ask, spec, subject) for ask in (crew.lanes[subject.lane].call, crew.lanes[subject.lane].attempt)
        )
        few = [] if subject.lane == "jax" else aftermath.violations(spec, "float32", subject.lane)
        yield from ((len(few), failure) for failure in aftermath.check(spec, subject, call, attempt, few, "float32"))
        for number, (violation, case, answer) in enumerate(zip(violations, cases, attempt(*cases), strict=True), start=1):
            yield from ((number, failure) for failure in preconditions.check(spec, subject, violation, answer, case))


def from_signatures(crew: Crew, spec: Spec, subjects: Sequence[Subject]) -> Iterator[Hit]:
    """What the signature check reports: it needs no case, so it counts as the first."""
    for subject in subjects:
        answer = crew.lanes[subject.lane].signature(subject)
        assert not isinstance(answer, Lost)
        yield from ((1, failure) for failure in signature.check(spec, subject, answer))
