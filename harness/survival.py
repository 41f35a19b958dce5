"""Which of many wrong implementations the checks let live: all of them in one lane, and what has failed is not asked again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from attnspec.harness.cases import Case, large, pool
from attnspec.harness.checks import CASE_CHECKS, arguments, preconditions, related_calls, relations
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Job
from attnspec.harness.plan import COMPILED
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

BATCH, COMPILED_BATCH = 16, 2  # where each case is compiled, the dead had better be known soon
POOL, COMPILED_POOL = 48, 6
VIOLATIONS = 4  # of the invalid calls one in so many, where each is traced anew


def survivors(crew: Crew, spec: Spec, subjects: Sequence[Subject], cases: int, seed: int) -> tuple[Subject, ...]:
    """Those in which no check finds a fault, of one lane: cases first, forward and backward, then calls of their own."""
    left = tuple(subjects)
    drawn = _cases(spec, subjects[0].lane, cases, seed)
    step = COMPILED_BATCH if subjects[0].lane in COMPILED else BATCH
    for start in range(0, len(drawn), step):
        left = _without(left, _wrong(crew, spec, left, drawn[start : start + step]))
    for ask in (_by_preconditions, _by_arguments, _by_relations):
        crew.pardon()
        left = tuple(subject for subject in left if not any(ask(crew, spec, subject)))
    return left


def _without(subjects: Sequence[Subject], failed: set[str]) -> tuple[Subject, ...]:
    return tuple(subject for subject in subjects if subject.name not in failed)


def _cases(spec: Spec, lane: str, count: int, seed: int) -> list[Case]:
    """The lane's dtypes in turn, each over its whole pool."""
    size = COMPILED_POOL if lane in COMPILED else POOL
    pools = [(*pool(spec, dtype, POOL)[:size], *(large(spec, dtype) if lane not in COMPILED else ())) for dtype in DTYPES[lane]]
    numbers = [(number, pools[number % len(pools)]) for number in range(count)]
    return [Case(each[number // len(pools) % len(each)], derive(seed, number)) for number, each in numbers]


def _wrong(crew: Crew, spec: Spec, subjects: Sequence[Subject], cases: Sequence[Case]) -> set[str]:
    """The subjects that fail a check of single cases, each judged as if it were alone."""
    if not subjects:
        return set()
    judged = [each for each in crew.evidence(spec, subjects, cases, gradient=True) if isinstance(each, Evidence)]
    alone = (replace(each, answers={name: answer}) for each in judged for name, answer in each.answers.items())
    return {failure.subject for each in alone for check in CASE_CHECKS.values() for failure in check(each)}


def _by_preconditions(crew: Crew, spec: Spec, subject: Subject) -> Iterator[object]:
    violations, _ = preconditions.violations(spec, "float32")
    mine = [each for each in violations if preconditions.is_invalid(each, spec, subject.lane)]
    mine = mine[:: VIOLATIONS if subject.lane in COMPILED else 1]
    cases = tuple(Case(each.configuration, 0) for each in mine)
    answers = crew.lanes[subject.lane].run(Job(spec, (subject,), cases, attempt=True))
    for violation, case, (answer,) in zip(mine, cases, answers, strict=True):
        yield from preconditions.check(spec, subject, violation, answer, case)


def _by_arguments(crew: Crew, spec: Spec, subject: Subject) -> Iterator[object]:
    varied = chain.from_iterable(arguments.variations(spec, case) for case in arguments.cases(spec, "float32")[0])
    asked = arguments.spared(spec, varied, subject.lane in COMPILED)
    outcomes = arguments.outcomes(partial(crew.lanes[subject.lane].call, spec, subject), asked)
    return iter([each for each in outcomes if each.status == "ignored"])


def _by_relations(crew: Crew, spec: Spec, subject: Subject) -> Iterator[object]:
    call = partial(crew.lanes[subject.lane].call, spec, subject)
    taken = arguments.cases(spec, "float32")[0][:: 4 if subject.lane in COMPILED else 1]
    related = chain.from_iterable(related_calls.relations(spec, case) for case in taken)
    return chain.from_iterable(relations.check(spec, subject, call, each) for each in related)
