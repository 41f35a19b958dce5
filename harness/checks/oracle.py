"""Forward agreement: every output lies within its a-priori error bound of the oracle's."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.harness.checks.against_oracle import check_part
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure


def check(evidence: Evidence) -> Iterator[Failure]:
    """One failure per output that is outside its bound."""
    return check_part("oracle", "outputs", evidence)
