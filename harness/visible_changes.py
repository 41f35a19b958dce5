"""Would a wrong implementation show in this case? Single-field changes of the spec, judged at the case's own bound.

A case in which none of them is visible shows nothing, however well everybody agrees: it is vacuous.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from attnspec.harness.causes.rewriting import backwards, before_softmax, ones, rewritten, tiled, with_path, with_stage, without
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.error_bounds import Array
from attnspec.harness.facts import facts
from attnspec.harness.oracle import Gold, judge
from attnspec.spec.expression import Access, Binary, Expression, Name, Number, names, substitute, walk
from attnspec.spec.model import Path, Policy, Spec, Stage
from attnspec.spec.resolve import resolve


def visible_changes(spec: Spec, case: Case, arrays: Mapping[str, Array]) -> dict[str, bool]:
    """Every change that applies to the case, and whether it would move some output out of its bound."""
    return {name: is_visible(spec, case, arrays, changed) for name, changed in changes(spec, case.configuration)}


def is_visible(spec: Spec, case: Case, arrays: Mapping[str, Array], changed: Spec) -> bool:
    """Whether a change of the spec would move some output out of its bound."""
    outputs = judge(spec, case, arrays, False).outputs
    return any(_differ(outputs[each], gold) for each, gold in judge(changed, case, arrays, False).outputs.items())


def is_vacuous(spec: Spec, case: Case, arrays: Mapping[str, Array]) -> bool:
    """Whether no change is visible."""
    return not any(visible_changes(spec, case, arrays).values())


def _differ(gold: Gold, other: Gold) -> bool:
    """Whether no array can be within both bounds, or the NaN patterns differ."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(gold.value - other.value) > gold.bound + other.bound
    apart |= np.isfinite(gold.value) != np.isfinite(other.value)
    for loose in (gold.loose, other.loose):
        if loose is not None:
            apart &= ~loose
    return bool(apart.any())


# -- the changes --------------------------------------------------------------------------------------------------

_changes: dict[tuple[int, Configuration], tuple[Spec, tuple[tuple[str, Spec], ...]]] = {}


def changes(spec: Spec, configuration: Configuration) -> tuple[tuple[str, Spec], ...]:
    """The single-field changes that apply to a configuration, by name; made once."""
    key = (id(spec), configuration)
    found = _changes.get(key)
    if found is None:
        if len(_changes) >= 1024:
            _changes.clear()
        found = _changes[key] = (spec, tuple(_made(spec, configuration)))
    return found[1]


def _made(spec: Spec, configuration: Configuration) -> Iterator[tuple[str, Spec]]:
    attention = resolve(spec, facts(spec, configuration))
    path = attention.path
    for stage in attention.stages:
        if stage.kind in ("mask", "modifier", "rows"):
            yield f"{stage.clause} dropped", with_path(spec, path, without(path, stage))
        if stage.kind == "mask" and by_position(stage.expression):
            later = substitute(stage.expression, {"t": Binary("+", Name("t"), Number(1))})
            yield f"{stage.clause} off by one", with_stage(spec, path, stage, later)
        read = names(stage.expression) if stage.kind == "score" else frozenset()
        for each in (weight.name for weight in spec.weights if weight.name in read):
            yield f"{stage.clause} without `{each}`", with_stage(spec, path, stage, rewritten(stage.expression, ones(each)))
    for name, hidden in (("first key hidden", Number(0)), ("last key hidden", Binary("-", Name("S"), Number(1)))):
        mask = Stage("mask.changed", "mask", "attends", Binary("!=", Name("s"), hidden))
        # Of one key, none is left: only zero rows show it.
        other = _with_empty_rows(path, "zero") if attention.scope.get("S") == 1 else path
        yield name, with_path(spec, path, replace(other, stages=before_softmax(path, mask)))
    if attention.scope.get("K", 1) != 1:
        name, rule = ("heads tiled", tiled) if attention.scope.get("G", 1) != 1 else ("heads reversed", backwards)
        stages = tuple(replace(stage, expression=rewritten(stage.expression, rule)) for stage in path.stages)
        yield name, with_path(spec, path, replace(path, stages=stages))
    if any(stage.kind == "mask" for stage in attention.stages):
        yield "other empty row", with_path(spec, path, _other_empty_row(path))


def by_position(expression: Expression) -> bool:
    """Whether a mask compares positions: it names t and s, and indexes no tensor by t."""
    inside = {name for node in walk(expression) if isinstance(node, Access) for name in names(node)}
    return {"t", "s"} <= names(expression) and "t" not in inside


def _other_empty_row(path: Path) -> Path:
    """Zero for uniform and what is often that, and uniform for the others."""
    return _with_empty_rows(path, "zero" if path.policies["empty_row"].value in ("uniform", "rounded") else "uniform")


def _with_empty_rows(path: Path, rule: str) -> Path:
    """A path with that rule, and a fill that leaves room for it."""
    fill = replace(path.policies["mask.fill"], detail="-inf")
    return replace(path, policies={**path.policies, "empty_row": Policy(rule, "ruled"), "mask.fill": fill})
