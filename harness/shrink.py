"""The smallest case that still fails. Configurations come from `cases.free`, outside the pool; Hypothesis shrinks.

The search starts from the smallest failing case of the run and keeps whatever is smaller still, so that running out of
time or examples costs nothing but size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import hypothesis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from attnspec.harness.cases import Case, free
from attnspec.harness.drive import QUIET, SEEDS
from attnspec.harness.findings import size_of
from attnspec.spec.model import Spec


class _OutOfTime(BaseException):
    """Ends Hypothesis's search from inside; not an Exception, which it would take for a failure of the predicate."""


def smallest(spec: Spec, failing: Case, fails: Callable[[Case], bool], *, seed: int, seconds: float, examples: int) -> Case:
    """The smallest case found for which `fails` holds; `failing` itself where nothing smaller turns up."""
    best = failing
    end = time.monotonic() + seconds

    def smaller_and_fails(case: Case) -> bool:
        nonlocal best
        if time.monotonic() > end:
            raise _OutOfTime
        if not fails(case):
            return False
        best = min(best, case, key=size_of)
        return True

    cases = st.builds(Case, free(spec, failing.configuration.dtype), SEEDS)
    bounded = settings(QUIET, max_examples=examples, phases=[Phase.generate, Phase.shrink])
    with suppress(_OutOfTime, HypothesisException):  # nothing fails outside the pool, or no time is left
        hypothesis.find(cases, smaller_and_fails, settings=bounded, random=Random(seed))
    return best
