"""What a stage may name: every index, size, scalar and tensor is there, and what may be None is asked for first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from attnspec.spec.errors import Errors, Key
from attnspec.spec.expression import GUARD_FUNCTIONS, Access, Call, Concat, Expression, IsNone, Sum, names, to_text, walk
from attnspec.spec.model import Argument, Stage
from attnspec.spec.scope import Scope, free_indices


@dataclass
class StageChecks:
    """Checks stages one by one; `noted` are unknown names that have been reported where they were bound."""

    scope: Scope
    noted: set[str] = field(default_factory=set)

    @property
    def errors(self) -> Errors:
        return self.scope.errors

    def names(self, stage: Stage, defined: set[str], key: Key) -> None:
        """Every name is an index, a size, a scalar, or a tensor that is there by now."""
        scope, tensors, indices = self.scope, self.scope.tensors, self.scope.declared.indices
        text = to_text(stage.expression)
        scope.used |= names(stage.expression)
        known = indices | scope.bound | scope.scalars.keys() | defined
        for name in sorted(names(stage.expression) - known - self.noted):
            if name in tensors and scope.broken:
                continue  # the stage that defines it may be the one that could not be read
            if name in tensors:
                self.errors.add(key, f"tensor `{name}` is neither an argument nor bound nor defined by a stage before this one")
            elif name in self.scope.declared.size_names:
                self.errors.add(key, f"size `{name}` is told by no layout")
            else:
                scope.unknown(key, text, name, known)
        for node in walk(stage.expression):
            self._check_node(node, key)
        if stage.kind != "assemble" and names(stage.expression) <= known:
            scope.check_sort(stage.expression, "predicate" if stage.kind in ("mask", "rows") else "number", key)
        allowed = frozenset(dim.lower() for dim in self._axes(stage))
        for index in sorted(free_indices(stage.expression, tensors, indices) - allowed):
            self.errors.add(key, f"index `{index}` is neither summed over nor an axis of {self._defined(stage)}")

    def _defined(self, stage: Stage) -> str:
        """What a stage's indices must be axes of."""
        if stage.kind == "dropout":
            return "the rate"
        return "logit" if stage.defines == "attends" else stage.defines

    def _axes(self, stage: Stage) -> tuple[str, ...]:
        return self.scope.tensors.get(self._defined(stage), ())

    def _check_node(self, node: Expression, key: Key) -> None:
        tensors = self.scope.tensors
        match node:
            case Access(tensor, indices) if tensor in tensors and len(indices) != len(tensors[tensor]):
                dims = ", ".join(tensors[tensor])
                self.errors.add(key, f"`{tensor}` has {len(tensors[tensor])} axes ({dims}), got {len(indices)} indices")
            case Access(tensor, _) if tensor not in tensors and tensor in self.scope.bound | self.scope.declared.indices:
                self.errors.add(key, f"`{tensor}` is no tensor; it cannot be indexed")
            case Sum(index, _) | Concat(index, _) if index not in self.scope.declared.indices:
                self.errors.add(key, f"index `{index}` runs over no declared dim")
            case IsNone(name):
                self.errors.add(key, f"`{name} is None` belongs into `when`")
            case Call(function, _) if function in GUARD_FUNCTIONS:
                self.errors.add(key, f"`{function}` belongs into `when`")
            case Call("interval", (bounds, _)) if to_text(bounds) not in self.scope.integers_of_one_axis:
                self.errors.add(key, f"`interval` takes a tensor of integers with one axis, got `{to_text(bounds)}`")

    def absent(self, stage: Stage, guard: Expression | None, key: Key) -> None:
        """What may be None is only named where a guard has asked for it."""
        asked = {n for e in (stage.when, guard) if e is not None for n in names(e)}
        for name, owner in self._may_be_absent():
            given = names(owner.when) if owner.when is not None else {owner.name}
            if name in names(stage.expression) and owner.name not in asked and not given <= asked:
                wanted = to_text(owner.when) if owner.when is not None else f"{owner.name} is not None"
                self.errors.add(key, f'`{owner.name}` may be None here; add when = "{wanted}"')
        for weight in self.scope.weights:
            if weight.when is not None and weight.name in names(stage.expression) and not names(weight.when) <= asked:
                self.errors.add(key, f'weight `{weight.name}` may be absent here; add when = "{to_text(weight.when)}"')

    def _may_be_absent(self) -> Iterable[tuple[str, Argument]]:
        for argument in self.scope.flat:
            if argument.optional and argument.unset is None:
                for name in argument.names or (argument.feeds or argument.name,):
                    yield name, argument
