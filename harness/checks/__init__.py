"""Checks, one module each. Every one can be switched off, and every one has a test in which it fails.

answers        a valid call returns: it neither raises, crashes, hangs nor is given up
oracle         every output is within its error bound of the oracle's
gradients      every gradient is within its error bound of the oracle's
pairwise       any two subjects are within the sum of their bounds of each other
arguments      every argument acts, is refused or declared inert: none is silently ignored
relations      two calls that must give the same do: permuted, repeated, shifted, with other hidden keys, made twice
preconditions  a call that breaks a declared or implied precondition raises the declared error
signature      names, order, kinds and defaults are the documented ones
coverage       every argument varied, and few cases were ill-conditioned, invalid or vacuous
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from attnspec.harness.checks import answers, gradients, oracle, pairwise
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure

CaseCheck = Callable[[Evidence], Iterator[Failure]]

# What judges one case; the other checks ask for calls or counts of their own and are run by the conductor.
CASE_CHECKS: Mapping[str, CaseCheck] = {
    "answers": answers.check,
    "oracle": oracle.check,
    "gradients": gradients.check,
    "pairwise": pairwise.check,
}
NAMES: tuple[str, ...] = (*CASE_CHECKS, "arguments", "relations", "preconditions", "signature", "coverage")


def select(only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the checks to run. ValueError for a name that is none."""
    for name in (*only, *skip):
        if name not in NAMES:
            raise ValueError(f"Expected a check of {', '.join(NAMES)}, got {name!r}")
    return tuple(name for name in NAMES if (not only or name in only) and name not in skip)
