"""Dims that a spec says are 1 (`N = "1"`, an attention without heads) left out, so that generated code has no such axes."""

from __future__ import annotations

from dataclasses import replace

from attnspec.spec.expression import Access, Binary, Call, Concat, Expression, Name, Number, Sum, Unary, names
from attnspec.spec.model import Path, Spec, Stage


def without_unit_dims(spec: Spec) -> Spec:
    """The spec with those dims gone from its tensors, its sizes and its rules."""
    units = frozenset(name for name, rule in spec.sizes.items() if rule == Number(1))
    if not units:
        return spec
    kept = {name: tuple(dim for dim in dims if dim not in units) for name, dims in spec.tensors.items()}
    return replace(
        spec,
        tensors=kept,
        sizes={name: rule for name, rule in spec.sizes.items() if name not in units and not names(rule) & units},
        paths=tuple(_path(path, _Rewriting(spec, units)) for path in spec.paths),
    )


def _path(path: Path, rewriting: _Rewriting) -> Path:
    return replace(path, stages=tuple(_stage(stage, rewriting) for stage in path.stages))


def _stage(stage: Stage, rewriting: _Rewriting) -> Stage:
    return replace(stage, expression=rewriting.rule(stage.expression))


class _Rewriting:
    """Rules without the indices of some dims."""

    def __init__(self, spec: Spec, units: frozenset[str]) -> None:
        self._dims = spec.tensors
        self._units = units

    def rule(self, expression: Expression) -> Expression:
        """The rule over the dims that are left; an index of one that is not is 0."""
        match expression:
            case Name(name) if name.upper() in self._units and name.islower():
                return Number(0)
            case Access(tensor, indices):
                pairs = zip(self._dims[tensor], indices, strict=True)
                left = tuple(self.rule(index) for dim, index in pairs if dim not in self._units)
                return Access(tensor, left) if left else Name(tensor)
            case Unary(operator, operand):
                return Unary(operator, self.rule(operand))
            case Binary(operator, left_side, right_side):
                return Binary(operator, self.rule(left_side), self.rule(right_side))
            case Call(function, arguments):
                return Call(function, tuple(map(self.rule, arguments)))
            case Sum(index, body):
                return self.rule(body) if index.upper() in self._units else Sum(index, self.rule(body))
            case Concat(index, parts):
                return Concat(index, tuple(map(self.rule, parts)))
        return expression
