"""A call, what the spec knows of it, and another call that must give the same: what every relation is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from attnspec.harness.checks.preconditions import layout_of
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.spec.expression import Access, Expression, Name, children, names
from attnspec.spec.layouts import swapped
from attnspec.spec.model import Argument, Layout, Output, Spec
from attnspec.spec.resolve import Attention, resolve

Given = Mapping[str, Array]
Moved = Callable[[str, Array], Array]


@dataclass(frozen=True, eq=False)
class Related:
    """A call and another one, which must give the sum of the `terms`: so many times the first one's outputs, moved.

    `row` picks the query that is compared, where only one is concerned; `exact` asks for the same bits; `layout` is how the
    second call's arrays lie in memory; with `gradient` both are asked for gradients, and these are compared. With a `rate`
    the second call has dropout, and both return weights.
    """

    relation: str
    case: Case
    given: Given
    changed: Configuration
    other: Given
    terms: tuple[tuple[int, Moved], ...] = ((1, lambda name, array: array),)
    row: int | None = None
    exact: bool = False
    outputs: tuple[str, ...] = ()
    layout: str = ""
    gradient: bool = False
    rate: float = 0.0
    bounds: dict[str, Array] = field(default_factory=dict)

    def expected(self, name: str, found: Mapping[str, Array]) -> Array:
        """What the second call must give, from what the first one gave."""
        return self._summed(name, found[name], [factor for factor, _ in self.terms])

    def spread(self, name: str, golds: Mapping[str, Gold]) -> Array:
        """How far off that is where what the first one gave is off by its bounds."""
        return self._summed(name, golds[name].bound, [abs(factor) for factor, _ in self.terms])

    def _summed(self, name: str, array: Array, factors: Sequence[int]) -> Array:
        moved = [factor * moved(name, array) for factor, (_, moved) in zip(factors, self.terms, strict=True)]
        return np.asarray(sum(moved[1:], start=moved[0]))

    def apart(self, spec: Spec, name: str) -> Array:
        """How far apart two right answers may be; worked out once, whoever asks."""
        if name not in self.bounds:
            before = self._golds(spec, self.case.configuration, self.given)
            after = self._golds(spec, self.changed, self.other)
            names = [each for each in after if each in before and (not self.outputs or each in self.outputs)]
            self.bounds.update({each: self.spread(each, before) + after[each].bound for each in names})
            if self.gradient:  # what must be zero is asked by `gradients`: the bound there is of no use to what is not
                self.bounds.update({each: np.where(after[each].value == 0, np.inf, self.bounds[each]) for each in names})
        return self.bounds[name]

    def _golds(self, spec: Spec, configuration: Configuration, given: Given) -> Mapping[str, Gold]:
        verdict = judge(spec, Case(configuration, self.case.seed), given, self.gradient)
        return verdict.gradients if self.gradient else verdict.outputs


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
        outputs = [output for output in self.attention.outputs if output.name == name]
        returned = [layout for output in outputs for layout in self._ordered(output)]
        if returned:
            return next(iter([*(layout for layout in returned if len(layout.axes) == len(shape)), *returned]))
        found = layout_of(self.spec, name, TensorPlan(shape, ""))
        of = [each for each in self.spec.tensor_arguments if each.name == name and found in each.layouts]
        return self._ordered(of[0])[of[0].layouts.index(found)] if of and found else found

    def _ordered(self, of: Argument | Output) -> tuple[Layout, ...]:
        """The layouts as the flags of the call order their axes."""
        if not of.swapped_unless or facts(self.spec, self.configuration).values.get(of.swapped_unless):
            return of.layouts
        return swapped(of.layouts)

    def visible(self) -> Array:
        """Which key each row may see, over (batch, heads, queries, keys)."""
        plan = plan_of(self.spec, self.configuration)
        seen = plan.visible(self.given) if callable(plan.visible) else plan.visible
        return np.asarray(np.broadcast_to(True if seen is None else seen, plan.logits))


def setting_of(spec: Spec, related: Related) -> Setting:
    """The first of two calls."""
    return Setting(spec, related.case, related.given, resolve(spec, facts(spec, related.case.configuration)))


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
