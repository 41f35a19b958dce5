"""A call that shows a known deviation: looked for among the calls in its guard, then made as small as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice, product

from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import CASE_CHECKS, arguments, preconditions, related_calls, relations, signature
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive
from attnspec.harness.findings import size_of
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Job
from attnspec.harness.lanes.messages import Lost
from attnspec.harness.pool import taking
from attnspec.harness.profiles import MASKS, VALUES
from attnspec.harness.shrink import smallest
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

POOL = 48
CHOICES = 400  # of which some are valid, and take the shortcut that a deviation is about
MOST = 64  # invalid calls
SEEDS = len(VALUES) * len(MASKS)  # every distribution once
BATCH = 16
SECONDS, EXAMPLES = 6.0, 200
Failures = Iterator[Failure]


def failure_of(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failure | None:
    """The deviation in a small call of the subject, whose lane is open; None where no call shows it."""
    crew.pardon()
    look = _LOOKS.get(deviation.check, _by_case)
    shown = (each for each in look(deviation, spec, subject, crew) if _is(deviation, each, spec))
    if deviation.check in CASE_CHECKS:
        found = next(shown, None)
        return _smaller(deviation, spec, subject, crew, found) if found is not None and found.case is not None else found
    few = islice(shown, BATCH)
    return min(few, key=lambda failure: size_of(failure.case) if failure.case else (0, 0, 0), default=None)


def _is(deviation: Deviation, failure: Failure, spec: Spec) -> bool:
    configuration = failure.case.configuration if failure.case else None
    return deviation.excuses(failure) and deviation.holds(spec, configuration)


def _by_case(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failures:
    """What the check of single cases says, of all distributions of numbers and masks, the smallest calls first."""
    inside = [each for dtype in DTYPES[subject.lane] for each in pool(spec, dtype, POOL) if deviation.holds(spec, each)]
    small = sorted(inside, key=lambda each: size_of(Case(each, 0)))
    cases = [Case(each, seed) for seed, each in product(range(SEEDS), small)]
    for start in range(0, len(cases), BATCH):
        yield from _judged(deviation, spec, subject, crew, cases[start : start + BATCH])


def _judged(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew, cases: Sequence[Case]) -> Failures:
    gradient = deviation.check == "gradients" or deviation.clause == "gradients"
    for evidence in crew.evidence(spec, (subject,), cases, gradient=gradient):
        if isinstance(evidence, Evidence):
            yield from CASE_CHECKS[deviation.check](evidence)


def _smaller(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew, found: Failure) -> Failure:
    assert found.case is not None

    def again(case: Case) -> Failure | None:
        judged = _judged(deviation, spec, subject, crew, [case])
        failure = next((each for each in judged if _is(deviation, each, spec)), None)
        crew.forget([case.configuration])
        return failure

    seed = derive(0, deviation)
    case = smallest(spec, found.case, lambda each: again(each) is not None, seed=seed, seconds=SECONDS, examples=EXAMPLES)
    return again(case) or found


def _by_argument(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failures:
    call = partial(crew.lanes[subject.lane].call, spec, subject)
    for case in _varied(deviation, spec, subject):
        found = [each for each in arguments.variations(spec, case) if each.argument in deviation.clauses]
        yield from arguments.check(spec, subject, list(arguments.outcomes(call, found)))


def _by_relation(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failures:
    call = partial(crew.lanes[subject.lane].call, spec, subject)
    for case in _varied(deviation, spec, subject):
        for related in related_calls.relations(spec, case):
            if related.relation in deviation.clauses:
                yield from relations.check(spec, subject, call, related)


def _varied(deviation: Deviation, spec: Spec, subject: Subject) -> Iterator[Case]:
    for dtype in DTYPES[subject.lane]:
        alone, both = arguments.cases(spec, dtype)
        yield from (case for case in (*alone, *both) if deviation.holds(spec, case.configuration))


def _by_violation(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failures:
    bases = taking(spec, "float32", deviation.shortcut, CHOICES) if deviation.shortcut else pool(spec, "float32", POOL)
    found = [each for clause in deviation.clauses for each in preconditions.breaking(spec, clause, bases)]
    mine = [each for each in found if deviation.holds(spec, each.configuration)]
    mine = sorted(mine, key=lambda each: size_of(Case(each.configuration, 0)))[:MOST]
    cases = tuple(Case(each.configuration, 0) for each in mine)
    answers = crew.lanes[subject.lane].run(Job(spec, (subject,), cases, attempt=True))
    for violation, case, (answer,) in zip(mine, cases, answers, strict=True):
        yield from preconditions.check(spec, subject, violation, answer, case)


def _by_signature(deviation: Deviation, spec: Spec, subject: Subject, crew: Crew) -> Failures:
    answer = crew.lanes[subject.lane].signature(subject)
    if not isinstance(answer, Lost):
        yield from signature.check(spec, subject, answer)


_LOOKS = {
    "arguments": _by_argument,
    "relations": _by_relation,
    "preconditions": _by_violation,
    "signature": _by_signature,
}
