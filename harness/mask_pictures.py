"""Pictures of masks: which keys a query sees, as the oracle evaluates the spec's own predicates, a line of text per query.

A finding's pictures show the mask that is declared at its call beside the one that its cause would have there; a spec's
pictures show each of its masks alone, at one call of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.causes.perturbations import Cause, perturbations
from attnspec.harness.causes.rewriting import with_path
from attnspec.harness.error_bounds import Array
from attnspec.harness.facts import facts
from attnspec.harness.findings import values_given
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.profiles import seed_for
from attnspec.spec.binding import ShapeMismatch
from attnspec.spec.expression import fold, to_text
from attnspec.spec.model import Path, Spec, Stage
from attnspec.spec.resolve import Attention, EvaluationError, resolve

SEEN, HIDDEN = "#", "."
LARGEST = 160  # queries or keys that a picture shows one by one
POOL = 24
FEWEST = 4  # queries and keys of a call whose picture says something
NO_CALL = (ShapeMismatch, EvaluationError, ValueError, IndexError)  # what a spec raises at a call that is none of its


@dataclass(frozen=True, slots=True)
class Picture:
    """One batch row and head: a line for each query, `#` for a key that it sees. `rule` says what they are by."""

    title: str
    rule: str
    where: str
    lines: tuple[str, ...]


def of_finding(
    spec: Spec, calls: Sequence[tuple[Case, Mapping[str, Array] | None]], causes: Sequence[Cause]
) -> Iterator[Picture]:
    """The declared mask at each call, and what the first of the causes that changes it there makes of it."""
    for case, given in calls:
        tensors = arrays(case, spec) if given is None else given
        declared = _visible(spec, case, tensors)
        if declared is None:
            continue
        others = ((cause, _visible(changed, case, tensors)) for cause, changed in _changed(spec, case, causes))
        other = next(((cause, mask) for cause, mask in others if _differ(declared, mask)), None)
        place = _place(declared, other and other[1])
        yield Picture("declared", "", _where(spec, case, declared, place), _lines(declared[place]))
        if other and other[1] is not None:
            yield Picture("here", other[0].text, _where(spec, case, other[1], place), _lines(other[1][place]))


def of_spec(spec: Spec) -> Iterator[Picture]:
    """Each mask of a spec alone, at the call of the pool that shows it best."""
    cases = [Case(configuration, seed_for("plain")) for configuration in pool(spec, "float32", POOL)]
    calls = [(case, resolve(spec, facts(spec, case.configuration))) for case in cases]
    for clause in dict.fromkeys(stage.clause for path in spec.paths for stage in path.stages if stage.kind == "mask"):
        drawn = [each for case, attention in calls for each in _alone(spec, case, attention, clause)]
        if drawn:
            yield max(drawn, key=_says)


def _alone(spec: Spec, case: Case, attention: Attention, clause: str) -> Iterator[Picture]:
    for stage in (stage for stage in attention.stages if stage.clause == clause):
        mask = _visible(with_path(spec, attention.path, _with_only(attention.path, stage)), case, arrays(case, spec))
        if mask is not None:
            yield Picture(clause, f"`{to_text(fold(stage.expression))}`", _where(spec, case, mask, (0, 0)), _lines(mask[0, 0]))


def _with_only(path: Path, mask: Stage) -> Path:
    return replace(path, stages=tuple(stage for stage in path.stages if stage.kind != "mask" or stage is mask))


def _says(picture: Picture) -> tuple[bool, bool, bool, int]:
    """What makes a picture a good one: room, keys of both kinds, other sizes than a square's, and then few keys."""
    rows, columns = len(picture.lines), len(picture.lines[0])
    signs = set("".join(picture.lines))
    return min(rows, columns) >= FEWEST, len(signs) == 2, rows != columns, -rows * columns


def _changed(spec: Spec, case: Case, causes: Sequence[Cause]) -> Iterator[tuple[Cause, Spec]]:
    return ((cause, changed) for cause, changed in perturbations(spec, case.configuration) if cause in causes)


def _visible(spec: Spec, case: Case, tensors: Mapping[str, Array]) -> Array | None:
    """Which keys are seen, over (batch, heads, queries, keys); nothing where it is no call or too large to draw."""
    try:
        plan = plan_of(spec, case.configuration)
        visible = plan.visible(tensors) if callable(plan.visible) else plan.visible
    except NO_CALL:
        return None
    if max(plan.logits[2:]) > LARGEST or 0 in plan.logits:
        return None
    return np.broadcast_to(True if visible is None else visible, plan.logits)


def _differ(one: Array, other: Array | None) -> bool:
    return other is not None and one.shape == other.shape and not np.array_equal(one, other)


def _place(one: Array, other: Array | None) -> tuple[int, int]:
    """The first batch row and head in which two masks differ."""
    if other is None:
        return 0, 0
    row, head = np.argwhere((one != other).any(axis=(2, 3)))[0]
    return int(row), int(head)


def _where(spec: Spec, case: Case, mask: Array, place: tuple[int, int]) -> str:
    """The sizes and Python values of the call, and which row and head it is where that matters."""
    places = zip(("batch row", "head"), place, mask.shape, strict=False)
    named = [f"{name} {number}" for name, number, count in places if count > 1]
    return ", ".join([f"T={mask.shape[2]}", f"S={mask.shape[3]}", *values_given(spec, case.configuration), *named])


def _lines(mask: Array) -> tuple[str, ...]:
    return tuple("".join(SEEN if seen else HIDDEN for seen in row) for row in mask)
