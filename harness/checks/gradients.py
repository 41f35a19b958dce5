"""Backward agreement: the gradient of every floating input lies within its error bound of the oracle's closed form."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.harness.checks.against_oracle import check_part
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure


def check(evidence: Evidence) -> Iterator[Failure]:
    """One failure per gradient that is outside its bound, for a case that asked for gradients."""
    if evidence.gradient:
        yield from check_part("gradients", "gradients", evidence)
