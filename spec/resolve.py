"""Which path, stages and outputs of a spec hold for one call: shared by codegen's tests, the oracle and the harness.

NumPy is not needed here, and arrays are not looked into: `facts_of` takes shapes and dtypes by argument name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from math import prod

from attnspec.spec.axes import PLAIN_RANK, least_rank
from attnspec.spec.binding import Binder, ShapeMismatch, Tensor, tensors_of
from attnspec.spec.evaluate import NO_FACTS, EvaluationError, Evaluator, Facts, Scalar, evaluate, evaluator
from attnspec.spec.model import Argument, Default, Output, Path, Spec, Stage
from attnspec.spec.nodes import Expression, names
from attnspec.spec.unparser import to_text

__all__ = ["Attention", "EvaluationError", "Facts", "ShapeMismatch", "evaluate", "facts_of", "holds", "resolve"]

_KEPT = 256


@dataclass(frozen=True, slots=True)
class Attention:
    """One call, decided: the path it takes, the stages and outputs that hold, and every scalar by name."""

    path: Path
    stages: tuple[Stage, ...]
    outputs: tuple[Output, ...]
    scope: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same for every call of a spec, worked out once."""

    spec: Spec
    tensors: tuple[Tensor, ...]
    scalars: tuple[Argument, ...]
    told: tuple[tuple[str, str, Evaluator], ...]
    sizes: tuple[tuple[str, frozenset[str], Evaluator], ...]
    paths: tuple[tuple[Evaluator | None, Path, tuple[tuple[Evaluator | None, Stage], ...]], ...]
    outputs: tuple[tuple[Evaluator | None, Output], ...]


_plans: dict[int, _Plan] = {}


def _plan(spec: Spec) -> _Plan:
    """The plan of a spec. It is kept with the spec itself, so the spec's id stays its own."""
    plan = _plans.get(id(spec))
    if plan is None:
        if len(_plans) >= _KEPT:
            _plans.clear()
        plan = _plans[id(spec)] = _planned(spec)
    return plan


def _planned(spec: Spec) -> _Plan:
    scalars = tuple(a for a in (*spec.constructor, *spec.arguments) if a.role not in ("tensor", "tensors"))
    paths = [(_when(p.when), p, tuple((_when(s.when), s) for s in p.stages)) for p in spec.paths]
    outputs = tuple((_when(output.when), output) for output in spec.outputs)
    sizes = tuple((name, names(rule), evaluator(rule)) for name, rule in spec.sizes.items())
    told = tuple((dim, to_text(rule), evaluator(rule)) for dim, rule in spec.told.items())
    return _Plan(spec, tensors_of(spec), scalars, told, sizes, tuple(paths), outputs)


def _when(guard: Expression | None) -> Evaluator | None:
    return None if guard is None else evaluator(guard)


def facts_of(
    spec: Spec,
    values: Mapping[str, Default],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    same: frozenset[frozenset[str]] = frozenset(),
) -> Facts:
    """The facts of a call: its Python values with defaults filled in, and the sizes its shapes bind.

    `shapes` and `dtypes` have the tensors that are given (list elements and weights by their own names). The value of a tensor
    is the name of another one, which is given in its place too. Raises ShapeMismatch.
    """
    plan = _plan(spec)
    filled = {a.name: a.default for a in plan.scalars if not a.required}
    filled.update(values)
    places = {t.name: str(values[t.name]) for t in plan.tensors if values.get(t.name) in shapes}
    shapes = {**shapes, **{name: shapes[other] for name, other in places.items()}}
    dtypes = {**dtypes, **{name: dtypes[other] for name, other in places.items()}}
    same = same | same_places(places)
    binder = Binder()
    _tell(plan, binder, _scope(plan, filled, {}))
    binder.bind(tuple(tensor.under(filled) for tensor in plan.tensors), shapes)
    scope: dict[str, Scalar] = {**binder.sizes}
    scope.update((name, value) for name, value in _scope(plan, filled, {}).items() if isinstance(value, int))
    bound = binder.sizes
    for name, needed, rule in plan.sizes:
        if name not in bound and needed <= scope.keys():
            _derive(name, rule, scope, bound)
    folded = any(least_rank(filled[axes.name]) > PLAIN_RANK for axes in plan.scalars if axes.role == "axes")
    return Facts(filled, shapes, dtypes, bound, binder.batch, same, _scope(plan, filled, bound), folded)


def _tell(plan: _Plan, binder: Binder, scope: Mapping[str, Scalar]) -> None:
    """The sizes that the constructor decides; where one has no value a precondition of the spec says why."""
    for dim, text, rule in plan.told:
        with suppress(EvaluationError):
            binder.tell(text, (dim,), rule(scope, NO_FACTS))


def same_places(places: Mapping[str, str]) -> frozenset[frozenset[str]]:
    """The arguments that are one object, two by two."""
    groups = ([other, *(name for name, one in places.items() if one == other)] for other in set(places.values()))
    return frozenset(frozenset(pair) for group in groups for pair in combinations(group, 2))


def _derive(name: str, rule: Evaluator, scope: dict[str, Scalar], bound: dict[str, int]) -> None:
    """A derived size; where it has no value (no heads to divide by) a precondition of the spec says why."""
    try:
        size = rule(scope, NO_FACTS)
    except EvaluationError:
        return
    if isinstance(size, int):
        bound[name] = scope[name] = size


def _scope(plan: _Plan, values: Mapping[str, Default], sizes: Mapping[str, int]) -> dict[str, Scalar]:
    """Every scalar of a call by name. One whose rule has no value (`H ** -0.5` for H = 0) is left out."""
    scope: dict[str, Scalar] = {**sizes}
    for argument in plan.scalars:
        value = values.get(argument.name)
        if value is None and argument.unset is not None:
            with suppress(EvaluationError):
                scope[argument.name] = evaluator(argument.unset)(scope, NO_FACTS)
        elif argument.role == "axes":
            scope[argument.name] = len(value) if isinstance(value, tuple) else 1
        elif argument.several and isinstance(value, tuple):
            scope[argument.name] = prod(value)
        elif argument.role != "sizes" and not isinstance(value, tuple):
            scope[argument.name] = value
        elif value is not None:
            members = value if isinstance(value, tuple) else (value,) * len(argument.names)
            scope.update(zip(argument.names, members, strict=False))
    return scope


def holds(guard: Expression | None, facts: Facts) -> bool:
    """Whether a guard or a precondition holds for a call; no guard always does. Raises EvaluationError."""
    return guard is None or bool(evaluator(guard)(facts.scope, facts))


def resolve(spec: Spec, facts: Facts) -> Attention:
    """The first path whose guard holds, and the stages and outputs whose `when` holds. Raises EvaluationError."""
    plan, scope = _plan(spec), facts.scope
    for guard, path, stages in plan.paths:
        if guard is None or guard(scope, facts):
            held = tuple(stage for when, stage in stages if when is None or when(scope, facts))
            outputs = tuple(output for when, output in plan.outputs if when is None or when(scope, facts))
            return Attention(path, held, outputs, scope)
    raise EvaluationError(f"{spec.name}: no path holds; the last one must have no guard")
