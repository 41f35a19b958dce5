"""A valid call after one that must raise gives what it gave before: a refusal leaves no state behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import preconditions
from attnspec.harness.checks.arguments import STEP, Call
from attnspec.harness.checks.failure import Failure
from attnspec.harness.checks.preconditions import Violation
from attnspec.harness.lanes.call import inputs
from attnspec.harness.lanes.messages import Answer, Returned
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

AFTER = "after "  # what the clause of such a failure begins with; the one that is broken follows
Attempt = Callable[[Case], object]


def violations(spec: Spec, dtype: str, lane: str) -> list[Violation]:
    """One invalid call for each clause."""
    found: dict[str, Violation] = {}
    for each in preconditions.violations(spec, dtype)[0]:
        if preconditions.is_invalid(each, spec, lane):
            found.setdefault(each.clause, each)
    return list(found.values())


def check(
    spec: Spec, subject: Subject, call: Call, attempt: Attempt, broken: Sequence[Violation], dtype: str
) -> Iterator[Failure]:
    """A failure for the first invalid call after which the simplest valid one is not answered by the same bits."""
    case = Case(pool(spec, dtype, 1)[0], STEP)
    given = inputs(arrays(case, spec))
    before = call(case.configuration, given)
    if not _same(before, call(case.configuration, given)):  # of what is never the same twice others tell
        return
    for violation in broken:
        attempt(Case(violation.configuration, STEP))
        if not _same(before, call(case.configuration, given)):
            message = f"a valid call gives something else after one that breaks `{violation.clause}`"
            clause = f"{AFTER}{violation.clause}"
            yield Failure(subject.name, "preconditions", clause, "not the same", message, spec.name, case)
            return


def _same(one: Answer, other: Answer) -> bool:
    if not isinstance(one, Returned):
        return not isinstance(other, Returned)
    return isinstance(other, Returned) and all(
        np.array_equal(tensor.array, other.outputs[name].array, equal_nan=True) for name, tensor in one.outputs.items()
    )
