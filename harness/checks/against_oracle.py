"""What `oracle` and `gradients` share: every returned tensor of one part against the oracle's."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.harness.checks.evidence import Evidence, Part
from attnspec.harness.checks.failure import Failure


def check_part(check: str, part: Part, evidence: Evidence) -> Iterator[Failure]:
    """One failure per tensor that is missing or disagrees. An ill-conditioned case judges nobody."""
    if evidence.verdict.ill_conditioned:
        return
    for subject, tensors in evidence.returned(part):
        for name in evidence.golds(part):
            if name not in tensors:
                seen, message, worst = "missing", f"`{name}` is missing", None
            else:
                comparison = evidence.comparison(subject, part, name)
                if comparison.agrees:
                    continue
                seen, message, worst = comparison.seen, f"`{name}` is {comparison.message}", comparison.worst
            yield Failure(subject, check, name, seen, message, evidence.spec.name, evidence.case, worst)
