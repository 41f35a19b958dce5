"""A call, what the spec knows of it, and another call that must give the same: what every relation is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from attnspec.harness.checks.preconditions import layout_of
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.spec.expression import Access, Expression, Name, children, names
from attnspec.spec.model import Layout, Spec
from attnspec.spec.resolve import Attention

Given = Mapping[str, Array]
Moved = Callable[[str, Array], Array]


@dataclass(frozen=True, eq=False)
class Related:
    """A call and another one. `moved` makes the first one's outputs those that the second one must give.

    `factor` is how many times the first one's they are. `row` picks the query that is compared, where only one is concerned;
    `exact` asks for the same bits; `layout` is how the second call's arrays lie in memory. With a `rate` the second call
    has dropout, and both return weights.
    """

    relation: str
    case: Case
    given: Given
    changed: Configuration
    other: Given
    moved: Moved = lambda name, array: array
    row: int | None = None
    exact: bool = False
    outputs: tuple[str, ...] = ()
    layout: str = ""
    factor: int = 1
    rate: float = 0.0
    bounds: dict[str, Array] = field(default_factory=dict)

    def apart(self, spec: Spec, name: str) -> Array:
        """How far apart two right answers may be; worked out once, whoever asks."""
        if name not in self.bounds:
            before = judge(spec, self.case, self.given, False).outputs
            after = judge(spec, Case(self.changed, self.case.seed), self.other, False).outputs
            moved = {each: self.factor * self.moved(each, gold.bound) for each, gold in before.items()}
            self.bounds.update({each: bound + after[each].bound for each, bound in moved.items()})
        return self.bounds[name]


@dataclass(frozen=True)
class Setting:
    """A call and what the spec knows of it."""

    spec: Spec
    case: Case
    given: Given
    attention: Attention

    @property
    def configuration(self) -> Configuration:
        return self.case.configuration

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self.configuration.sizes)

    def axis(self, name: str, letter: str, shape: tuple[int, ...]) -> int | None:
        """Where a tensor has a dim at its full size, counted from the end; batch axes are not named."""
        layout = self._layout(name, shape)
        letters = [axis.dims for axis in layout.axes] if layout else []
        if (letter,) not in letters:
            return None
        place = letters.index((letter,)) - len(letters)
        return place if shape[place] == self.sizes.get(letter) != 1 else None

    def apart(self, name: str, shape: tuple[int, ...]) -> tuple[list[str], list[int]]:
        """The dims of a tensor, groups taken apart, and their lengths; batch axes are not named."""
        layout = self._layout(name, shape)
        axes = layout.axes if layout else ()
        front = len(shape) - len(axes)
        letters, lengths = [""] * front, list(shape[:front])
        for axis, length in zip(axes, shape[front:], strict=True):
            letters += axis.dims or ("",)
            lengths += [self.sizes[dim] for dim in axis.dims] if len(axis.dims) > 1 else [length]
        return letters, lengths

    def _layout(self, name: str, shape: tuple[int, ...]) -> Layout | None:
        returned = [layout for output in self.attention.outputs if output.name == name for layout in output.layouts]
        if returned:
            return next(iter([*(layout for layout in returned if len(layout.axes) == len(shape)), *returned]))
        return layout_of(self.spec, name, TensorPlan(shape, ""))

    def visible(self) -> Array:
        """Which key each row may see, over (batch, heads, queries, keys)."""
        plan = plan_of(self.spec, self.configuration)
        seen = plan.visible(self.given) if callable(plan.visible) else plan.visible
        return np.asarray(np.broadcast_to(True if seen is None else seen, plan.logits))


def positions(attention: Attention) -> frozenset[str]:
    """The indices and sizes on which the stages depend otherwise than by reading a tensor there."""

    def bare(expression: Expression) -> frozenset[str]:
        if isinstance(expression, Access):  # a computed index says where something is, a plain one only reads it there
            return frozenset().union(*(names(index) for index in expression.indices if not isinstance(index, Name)))
        own = names(expression) if isinstance(expression, Name) else frozenset[str]()
        return own.union(*map(bare, children(expression)))

    return frozenset().union(*(bare(stage.expression) for stage in attention.stages))


def related_to(setting: Setting, relation: str, other: Given, **more: object) -> Related:
    """The same call with other arrays, which may have other shapes."""
    plans = dict(setting.configuration.tensors)
    plans = {name: TensorPlan(array.shape, plans[name].dtype) for name, array in other.items() if name in plans}
    changed = replace(setting.configuration, tensors=tuple(plans.items()))
    return Related(relation, setting.case, setting.given, changed, other, **more)  # type: ignore[arg-type]


def along(setting: Setting, letter: str, change: Callable[[Array, int], Array]) -> Moved:
    """The change applied along one dim, to whatever has it."""

    def moved(name: str, array: Array) -> Array:
        axis = setting.axis(name, letter, array.shape)
        letters, lengths = setting.apart(name, array.shape)
        if axis is None and letter in letters and len(letters) > array.ndim:  # in a group, whose length stays
            return change(array.reshape(lengths), letters.index(letter) - len(letters)).reshape(array.shape)
        return array if axis is None else change(array, axis)

    return moved


def all_moved(given: Given, moved: Moved) -> dict[str, Array]:
    """Every tensor of a call, moved."""
    return {name: moved(name, array) for name, array in given.items()}
