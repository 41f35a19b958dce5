"""Relations of three calls, two of which are made as one: rows or heads of both, side by side.

linear-values      the output of 3 V1 - 2 V2 is 3 times that of V1 less 2 times that of V2
linear-cotangents  the gradients of 3 dO1 - 2 dO2 are 3 times those of dO1 less 2 times those of dO2
split-keys         the halves of the keys apart, each with its log-sum-exp, give together what all of them give
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import STEP
from attnspec.harness.checks.setting import Given, Moved, Related, Setting, all_moved, along, positions, related_to
from attnspec.harness.checks.variation import is_valid
from attnspec.harness.configuration import Configuration, TensorPlan
from attnspec.harness.error_bounds import UNIT
from attnspec.harness.facts import facts
from attnspec.harness.lanes.call import COTANGENT
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import Gold
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.storage import stored
from attnspec.spec.binding import tensors_of
from attnspec.spec.expression import Name
from attnspec.spec.resolve import resolve

NAMES = ("linear-values", "linear-cotangents", "split-keys")
FACTORS = (3, -2)


def linear_values(setting: Setting) -> Iterator[Related]:
    """Where value is all that is combined, as it is given, and is not the key too."""
    is_key = any(t.stands_in == "value" and t.name not in setting.given for t in tensors_of(setting.spec))
    changed = is_key or any(stage.kind in ("project", "assemble") for stage in setting.attention.stages)
    if not changed and "value" in setting.given:
        for one, other, whole in _combined(setting, ["value"], setting.given):
            names = tuple(output.name for output in setting.attention.outputs if output.tensor == "output")
            yield from _of_halves(setting, "linear-values", one, other, whole, names)


def linear_cotangents(setting: Setting) -> Iterator[Related]:
    """Always: a gradient is linear, whatever the function is."""
    made = arrays(setting.case, setting.spec)
    for one, other, whole in _combined(setting, list(made.keys() - setting.given.keys()), made):
        for related in _of_halves(setting, "linear-cotangents", one, other, whole):
            yield replace(related, gradient=True)


def _combined(setting: Setting, names: Sequence[str], made: Given) -> Iterator[tuple[Given, Given, Given]]:
    """The call with two tensors of each name, in quarters, and with a sum of so many times both, where that is exact."""
    if setting.configuration.dtype == "float64":  # what computes it in float32 is the oracle's finding, not several more
        return
    redrawn = arrays(replace(setting.case, seed=setting.case.seed + STEP), setting.spec)
    one, other = ({name: (np.rint(4 * of[name]) / 4).astype(of[name].dtype) for name in names} for of in (made, redrawn))
    exact = {name: FACTORS[0] * one[name].astype(np.float64) + FACTORS[1] * other[name].astype(np.float64) for name in names}
    whole = {name: stored(array, setting.configuration.dtype).astype(one[name].dtype) for name, array in exact.items()}
    if all(np.array_equal(whole[name], exact[name]) for name in names):
        yield {**made, **one}, {**made, **other}, {**made, **whole}


def _of_halves(
    setting: Setting, relation: str, one: Given, other: Given, whole: Given, names: tuple[str, ...] = ()
) -> Iterator[Related]:
    """The call of the two, and what its halves say of the whole: of an output, or of what has a gradient of its own."""
    for stack, both, configuration in _stacked(setting, one, other):
        terms = tuple(zip(FACTORS, stack.halves(configuration, both), strict=True))
        floats = {name: array for name, array in setting.given.items() if array.dtype.kind == "f"}
        names = names or tuple(name for name, array in floats.items() if stack.axis(name, array.shape) is not None)
        case = replace(setting.case, configuration=configuration)
        yield Related(relation, case, both, setting.configuration, whole, terms=terms, outputs=names)


# -- two calls as one ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Two calls as one along some dims: rows of a batch after rows, or heads after heads."""

    setting: Setting
    letters: str

    def both(self, one: Given, other: Given, **sizes: int) -> Iterator[tuple[Given, Configuration]]:
        """The call of the two; nothing where they cannot be told apart in it, or it is not valid."""
        own = self.setting.sizes
        joined = {name: self._joined(name, array, other[name]) for name, array in one.items()}
        both = {name: array for name, array in joined.items() if array is not None}
        if len(both) < len(joined) or any(own.get(letter, 1) == 1 for letter in self.letters):
            return
        plans = self.setting.configuration.tensors
        tensors = tuple((name, TensorPlan(both[name].shape, plan.dtype)) for name, plan in plans)
        doubled = {**own, **{letter: 2 * own[letter] for letter in self.letters}, **sizes}
        configuration = replace(self.setting.configuration, tensors=tensors, sizes=tuple(doubled.items()))
        if is_valid(self.setting.spec, configuration):
            yield both, configuration

    def _joined(self, name: str, one: Array, other: Array) -> Array | None:
        """One after the other, as it is where every row or head has the same; None where they are in no axis of their own."""
        axis = self.axis(name, one.shape)
        if one is other and (axis is None or one.shape[axis] == 1):
            return one if axis is not None or not self._dims(name, one.shape) & set(self.letters) else None
        if axis is None:
            return None
        count = self.setting.sizes[self.letters[-1]] if one.shape[axis] == 1 else 1
        return np.concatenate([np.repeat(one, count, axis), np.repeat(other, count, axis)], axis)

    def axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Where a tensor, or the cotangent of one, has the dim, counted from the front."""
        letters, _ = self.setting.apart(self._tensor(name), shape)
        return next((letters.index(x) for x in self.letters if x in letters and len(letters) == len(shape)), None)

    def _dims(self, name: str, shape: tuple[int, ...]) -> set[str]:
        return set(self.setting.apart(self._tensor(name), shape)[0])

    def _tensor(self, name: str) -> str:
        return name if name in self.setting.given else name.removeprefix(COTANGENT)

    def halves(self, configuration: Configuration, both: Given) -> tuple[Moved, Moved]:
        """What the first call of two has of a tensor, and what the second one has."""
        spec = self.setting.spec
        case = replace(self.setting.case, configuration=configuration)
        wide = Stack(Setting(spec, case, both, resolve(spec, facts(spec, configuration))), self.letters)

        def half(place: int) -> Moved:
            def moved(name: str, array: Array) -> Array:
                axis = wide.axis(name, array.shape)
                return array if axis is None else np.split(array, 2, axis)[place]

            return moved

        return half(0), half(1)


def _stacked(setting: Setting, one: Given, other: Given, **sizes: int) -> Iterator[tuple[Stack, Given, Configuration]]:
    """The two calls as one: along the batch, or the heads where no dim is named for that."""
    for letters in ("B", "KN"):
        stack = Stack(setting, letters)
        found = list(stack.both(one, other, **sizes))
        if found:
            yield stack, *found[0]
            return


# -- split keys ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Merged(Related):
    """Each half of the keys has a share in the whole, by its log-sum-exp. `terms` pick the halves.

    `order` and `axis` bring a row's number beside its features: the order of its axes in the output, and the one that it lacks.
    """

    log_sum: str = ""
    order: tuple[int, ...] = ()
    axis: int = 0

    def expected(self, name: str, found: Mapping[str, Array]) -> Array:
        one, other = self._parts(self.log_sum, found[self.log_sum])
        if name == self.log_sum:
            return np.asarray(np.logaddexp(one, other))
        share = self._share(one, other)
        first, second = self._parts(name, found[name])
        return np.asarray(share * first + (1 - share) * second)

    def spread(self, name: str, golds: Mapping[str, Gold]) -> Array:
        """Of a log-sum-exp, the larger bound. Of an output, its halves' bounds in the shares that they may have.

        A share is 1 / (1 + exp(other - one)): where both logarithms together are off by e, it is off by at most a factor of
        exp(e). The merge itself is in float64: a few units of that for its exponent, and for its sum.
        """
        logs = golds[self.log_sum]
        one, other = self._parts(self.log_sum, logs.value)
        bounds = self._parts(self.log_sum, logs.bound)
        if name == self.log_sum:
            return np.asarray(np.maximum(*bounds))
        share = self._share(one, other)
        off = sum(bounds) + 8 * UNIT["float64"] * (1 + np.abs(one) + np.abs(other))
        halves = zip(
            (share, 1 - share), self._parts(name, golds[name].bound), self._parts(name, golds[name].value), strict=True
        )
        with np.errstate(over="ignore", invalid="ignore"):
            off = self._beside(off)
            one, other = (part * (np.exp(off) * bound + np.expm1(off) * np.abs(value)) for part, bound, value in halves)
            return np.asarray(np.nan_to_num(one + other, nan=np.inf, posinf=np.inf))

    def _parts(self, name: str, array: Array) -> tuple[Array, Array]:
        (_, first), (_, second) = self.terms
        return first(name, array), second(name, array)

    def _share(self, one: Array, other: Array) -> Array:
        """That of the first half, for every row. Where a logarithm is infinite it is any: the bound is too."""
        with np.errstate(over="ignore", invalid="ignore"):
            share = 1 / (1 + np.exp(other - one))
        return self._beside(np.where(np.isnan(share), 0.5, share))

    def row_of(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Where the log-sum-exp has the row of an output's element."""
        rest = (*index[: self.axis], *index[self.axis + 1 :])
        return tuple(rest[self.order.index(place)] for place in range(len(rest)))

    def _beside(self, rows: Array) -> Array:
        return np.expand_dims(np.transpose(rows, self.order), self.axis)


def split_keys(setting: Setting) -> Iterator[Related]:
    """Where nothing depends on the places of keys, nor a row on more than its keys; their log-sum-exp is returned."""
    names = {output.tensor: output.name for output in setting.attention.outputs}
    half = setting.sizes.get("S", 0) // 2
    stages = setting.attention.stages
    other_terms = any(stage.kind == "softmax" and stage.expression != Name("logit") for stage in stages)  # a sink
    moving = {"s", "S"} & positions(setting.attention) or any(stage.kind == "assemble" for stage in stages)
    if not half or other_terms or moving or not {"output", "logsumexp"} <= names.keys():
        return
    first, second, whole = (
        all_moved(setting.given, along(setting, "S", partial(_taken, start=start, stop=stop)))
        for start, stop in ((0, half), (half, 2 * half), (0, 2 * half))
    )
    kept = {name: first[name] if first[name] is array else second[name] for name, array in setting.given.items()}
    for stack, both, configuration in _stacked(setting, first, kept, S=half):
        changed = related_to(setting, "split-keys", whole).changed
        changed = replace(changed, sizes=tuple((setting.sizes | {"S": 2 * half}).items()))
        terms = tuple((1, moved) for moved in stack.halves(configuration, both))
        case, outputs = replace(setting.case, configuration=configuration), (names["output"], names["logsumexp"])
        order, axis = _rows_within(setting, *outputs)
        merged = partial(Merged, outputs=outputs, log_sum=names["logsumexp"], order=order, axis=axis)
        yield merged("split-keys", case, both, changed, whole, terms)


def _rows_within(setting: Setting, output: str, rows: str) -> tuple[tuple[int, ...], int]:
    """Where an output has the axes of a tensor over rows, and the axis that the rows have not."""
    shapes = {result.output.name: result.port.documented for result in plan_of(setting.spec, setting.configuration).results}
    (wide, _), (narrow, _) = (setting.apart(name, shapes[name]) for name in (output, rows))
    order = tuple(narrow.index(letter) if letter else place for place, letter in enumerate(wide) if letter in narrow)
    return order, next(place for place, letter in enumerate(wide) if letter not in narrow)


def _taken(array: Array, axis: int, start: int, stop: int) -> Array:
    return np.take(array, range(start, stop), axis)
