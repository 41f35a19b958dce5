"""Agreement of the subjects with each other: any two lie within the sum of their bounds, whatever the oracle says.

It follows from `oracle` where that holds, so a tensor that already failed there is not reported again. On its own it
finds what differs between implementations when the oracle is switched off or says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from attnspec.harness.checks.agreement import OUTSIDE, Comparison, compare
from attnspec.harness.checks.evidence import Evidence, Part
from attnspec.harness.checks.failure import Failure
from attnspec.harness.lanes.messages import Tensor
from attnspec.harness.oracle import Gold


def check(evidence: Evidence) -> Iterator[Failure]:
    """One failure per subject and tensor that is apart from the others."""
    if evidence.verdict.ill_conditioned:
        return
    parts: tuple[Part, ...] = ("outputs", "gradients") if evidence.gradient else ("outputs",)
    for part in parts:
        for name, gold in evidence.golds(part).items():
            given = {subject: tensors[name] for subject, tensors in evidence.returned(part) if name in tensors}
            if not _all_close(given, gold):
                yield from _failures(evidence, part, name, given)


def _all_close(given: Mapping[str, Tensor], gold: Gold) -> bool:
    """The usual case in one pass: same shape and dtype, and the spread of all values within twice the bound."""
    tensors = list(given.values())
    if len({(tensor.array.shape, tensor.dtype) for tensor in tensors}) > 1:
        return False
    if len(tensors) < 2:
        return True
    values = np.stack([tensor.array for tensor in tensors]).astype(gold.value.dtype)
    with np.errstate(invalid="ignore"):
        inside = values.max(axis=0) - values.min(axis=0) <= 2 * gold.bound
    return bool(inside.all())


def _failures(evidence: Evidence, part: Part, name: str, given: Mapping[str, Tensor]) -> Iterator[Failure]:
    """One failure for whoever disagrees with most others: three right answers and one wrong one are one fault.

    Whoever the oracle contradicts comes first: of two that are apart, the wrong one is to blame.
    """
    gold = evidence.golds(part)[name]
    apart = {pair for pair in combinations(given, 2) if not _between(given[pair[0]], given[pair[1]], gold).agrees}
    while apart:
        counts = Counter(subject for pair in apart for subject in pair)
        involved = [subject for subject in given if subject in counts]
        blamed = max(involved, key=lambda subject: (not evidence.comparison(subject, part, name).agrees, counts[subject]))
        other = next(subject for subject in involved if {(subject, blamed), (blamed, subject)} & apart)
        found = _between(given[blamed], given[other], gold)
        message = f"`{name}` is {found.seen} of {other}" if found.worst else f"`{name}`: {found.message} of {other}"
        yield Failure(blamed, "pairwise", name, found.seen, message, evidence.spec.name, evidence.case, found.worst)
        apart = {pair for pair in apart if blamed not in pair}


def _between(one: Tensor, other: Tensor, gold: Gold) -> Comparison:
    """`one` against `other` as gold, at the sum of both bounds."""
    if one.array.shape != gold.value.shape or other.array.shape != gold.value.shape:
        if one.array.shape == other.array.shape:
            return Comparison("inside the bound", 0.0)
        return Comparison("wrong shape", np.inf, f"shape {one.array.shape} against {other.array.shape}")
    value = other.array.astype(gold.value.dtype)
    if gold.loose is not None:  # where either may be NaN, a NaN agrees with anything; the oracle's own NaN bounds nothing
        value = np.where(gold.loose & (np.isnan(value) | np.isnan(gold.value)), one.array, value)
    as_gold = replace(gold, value=value, bound=2 * gold.bound, dtype=other.dtype)
    found = compare(one, as_gold)
    return found if found.seen != OUTSIDE else replace(found, message="outside the sum of the bounds")
