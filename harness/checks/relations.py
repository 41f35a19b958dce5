"""Two calls that must give the same, whatever it is: no value of the oracle's is asked for, only how far rounding may go.

twice            the same call gives the same bits again
hidden-keys      a key that a row may not see does not matter to it: future tokens, padding, other documents
permuted-keys    the order of the keys does not matter where nothing depends on their positions
permuted-batch   rows of a batch do not see each other
permuted-heads   groups of heads do not see each other
repeated-heads   grouped heads are those of keys and values repeated for each query head
shifted-logits   a constant that is added to all logits of a row changes nothing
explicit-mask    a mask given by a flag or a size is the boolean mask that it stands for
single-batch     a row of the batch alone gives what it gives beside others
last-query       the last query alone, as in decoding, gives what it gives after others
doubled-values   twice the values give twice the output
dropout          with it a weight is zero or 1 / (1 - rate) times itself, in the share that the rate says
appended-key     a further key that the mask hides changes nothing
memory-KIND      the same arrays elsewhere in memory: transposed, sliced, offset, expanded, reversed (lanes/memory.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import STEP, Call, is_dropout, is_valid
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.checks.preconditions import layout_of
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.facts import facts
from attnspec.harness.lanes.call import inputs
from attnspec.harness.lanes.memory import KINDS, OFFERED
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.subjects import Subject
from attnspec.spec.binding import tensors_of
from attnspec.spec.expression import Access, Expression, Name, children, names
from attnspec.spec.model import Layout, Spec
from attnspec.spec.resolve import Attention, resolve

Given = Mapping[str, Array]
Moved = Callable[[str, Array], Array]
RATE, SIGMAS = 0.5, 6.0  # a right share is further away than that once in 500 million runs
NEITHER = "neither dropped nor scaled"
SHIFT = 2.0  # and quarters in the bias: exact in every dtype
FAR = 50.0  # what a hidden key holds: it would be noticed


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


def relations(spec: Spec, case: Case) -> Iterator[Related]:
    """Every relation that holds for a call."""
    given = inputs(arrays(case, spec))
    setting = Setting(spec, case, given, resolve(spec, facts(spec, case.configuration)))
    yield Related("twice", case, given, case.configuration, given, exact=True)
    yield from _memory(case, given)
    shared = any(argument.name in dict(case.configuration.values) for argument in spec.tensor_arguments)
    if spec.form == "function" and not shared:  # what moves in one tensor must not in another
        for relation in (
            _hidden,
            _keys,
            _batch,
            _heads,
            _repeated,
            _shifted,
            _explicit,
            _appended,
            _single,
            _last,
            _doubled,
            _dropped,
        ):
            yield from relation(setting)


def positions(attention: Attention) -> frozenset[str]:
    """The indices and sizes on which the stages depend otherwise than by reading a tensor there."""

    def bare(expression: Expression) -> frozenset[str]:
        if isinstance(expression, Access):  # a computed index says where something is, a plain one only reads it there
            return frozenset().union(*(names(index) for index in expression.indices if not isinstance(index, Name)))
        own = names(expression) if isinstance(expression, Name) else frozenset[str]()
        return own.union(*map(bare, children(expression)))

    return frozenset().union(*(bare(stage.expression) for stage in attention.stages))


def _related(setting: Setting, relation: str, other: Given, **more: object) -> Related:
    """The same call with other arrays, which may have other shapes."""
    plans = dict(setting.configuration.tensors)
    plans = {name: TensorPlan(array.shape, plans[name].dtype) for name, array in other.items() if name in plans}
    changed = replace(setting.configuration, tensors=tuple(plans.items()))
    return Related(relation, setting.case, setting.given, changed, other, **more)  # type: ignore[arg-type]


def _along(setting: Setting, letter: str, change: Callable[[Array, int], Array]) -> Moved:
    """The change applied along one dim, to whatever has it."""

    def moved(name: str, array: Array) -> Array:
        axis = setting.axis(name, letter, array.shape)
        letters, lengths = setting.apart(name, array.shape)
        if axis is None and letter in letters and len(letters) > array.ndim:  # in a group, whose length stays
            return change(array.reshape(lengths), letters.index(letter) - len(letters)).reshape(array.shape)
        return array if axis is None else change(array, axis)

    return moved


def _all(given: Given, moved: Moved) -> dict[str, Array]:
    return {name: moved(name, array) for name, array in given.items()}


# -- the relations ------------------------------------------------------------------------------------------------


def _hidden(setting: Setting) -> Iterator[Related]:
    """Keys and values that no head of a group sees from the middle row become something else."""
    plan = plan_of(setting.spec, setting.configuration)
    visible = setting.visible()
    row = visible.shape[2] // 2
    sees: Array = visible[:, :, row, :]
    hidden: Array = np.asarray(~sees & sees.any(axis=-1, keepdims=True))
    changed = dict(setting.given)
    for name in ("key", "value"):
        if name not in plan.inputs:
            return
        slot, port = plan.inputs[name]
        if port.full != port.documented or len(slot.shape) != 4 or slot.shape[2] != hidden.shape[-1]:
            return  # also where keys are assembled: not all that are seen are this input's
        by_head = hidden.reshape(hidden.shape[0], slot.shape[1], -1, hidden.shape[-1]).all(axis=2)
        where = port.out(np.broadcast_to(np.expand_dims(by_head, -1), slot.shape))
        if not where.any():
            return
        poison = np.nan if name in plan.direct and name == "key" else FAR  # a replaced logit forgets even NaN
        changed[name] = np.where(where, changed[name].dtype.type(poison), changed[name])
    yield _related(setting, "hidden-keys", changed, row=row)


def _keys(setting: Setting) -> Iterator[Related]:
    if "s" not in positions(setting.attention) and setting.sizes.get("S", 1) > 1:
        moved = _along(setting, "S", np.flip)
        assembled = any(stage.kind == "assemble" for stage in setting.attention.stages)  # of more keys than S
        without = tuple(output.name for output in setting.spec.outputs if "S" not in output.layouts[0].dims)
        outputs = without if assembled else ()
        yield _related(setting, "permuted-keys", _all(setting.given, moved), moved=moved, outputs=outputs)


def _batch(setting: Setting) -> Iterator[Related]:
    if "b" not in positions(setting.attention) and setting.sizes.get("B", 1) > 1:
        moved = _along(setting, "B", np.flip)
        other = _all(setting.given, moved)
        if any(other[name] is not array for name, array in setting.given.items()):  # the axes before a layout stay
            yield _related(setting, "permuted-batch", other, moved=moved)


def _heads(setting: Setting) -> Iterator[Related]:
    """Key/value heads from the other end, and the groups of query heads with them."""
    sizes = setting.sizes
    if sizes.get("K", 1) == 1:
        return

    def blocks(array: Array, axis: int) -> Array:
        order = np.arange(sizes["N"]).reshape(sizes["K"], -1)[::-1].ravel()
        return np.take(array, order, axis)

    keys, queries = _along(setting, "K", np.flip), _along(setting, "N", blocks)

    def moved(name: str, array: Array) -> Array:
        return keys(name, array) if "K" in setting.apart(name, array.shape)[0] else queries(name, array)

    yield _related(setting, "permuted-heads", _all(setting.given, moved), moved=moved)


def _repeated(setting: Setting) -> Iterator[Related]:
    sizes, given = setting.sizes, setting.given
    grouped = [name for name in ("key", "value") if name in given and setting.axis(name, "K", given[name].shape) is not None]
    if sizes.get("G", 1) == 1 or len(grouped) < 2:
        return
    moved = _along(setting, "K", lambda array, axis: np.repeat(array, sizes["G"], axis))
    related = _related(setting, "repeated-heads", _all(given, moved), moved=moved)
    changed = replace(related.changed, sizes=tuple((sizes | {"K": sizes["N"], "G": 1}).items()))
    if is_valid(setting.spec, changed):
        yield replace(related, changed=changed)


def _shifted(setting: Setting) -> Iterator[Related]:
    """The first call has quarters for a bias, so that both are exact."""
    modifiers = [stage for stage in setting.attention.stages if stage.kind == "modifier"]
    if not modifiers or not modifiers[-1].clause.endswith("bias") or "sink" in modifiers[-1].clause:
        return
    if any(stage.kind == "softmax" and stage.expression != Name("logit") for stage in setting.attention.stages):
        return  # a sink's logit stays
    for argument in setting.spec.tensor_arguments:
        array = setting.given.get(argument.name)
        if array is not None and argument.name in names(modifiers[-1].expression) and array.dtype.kind == "f":
            first = {**setting.given, argument.name: (np.rint(4 * array) / 4).astype(array.dtype)}
            shifted = {**first, argument.name: first[argument.name] + array.dtype.type(SHIFT)}
            yield replace(_related(setting, "shifted-logits", shifted, outputs=("output",)), given=first)


def _explicit(setting: Setting) -> Iterator[Related]:
    """Flags and sizes that mask by position, replaced by a boolean mask."""
    spec, values = setting.spec, dict(setting.configuration.values)
    explicit = next((s for p in spec.paths for s in p.stages if s.clause == "mask.explicit"), None)
    masks = [stage for stage in setting.attention.stages if stage.kind == "mask"]
    if explicit is None or not isinstance(explicit.expression, Name) or not masks:
        return
    argument = spec.argument(explicit.expression.name)
    by_value = {name for stage in masks if stage.when is not None for name in names(stage.when)}
    if argument.inert or argument.name in setting.given or not by_value <= values.keys():
        return
    shape = _mask_shape(argument.layouts, setting.sizes)
    if shape is None:
        return
    mask = setting.visible()[0, 0].reshape(shape)
    kept = tuple(pair for pair in setting.configuration.values if pair[0] not in by_value)
    tensors = (*setting.configuration.tensors, (argument.name, TensorPlan(shape, "bool")))
    changed = replace(setting.configuration, values=kept, tensors=tensors)
    if is_valid(spec, changed):
        yield Related("explicit-mask", setting.case, setting.given, changed, {**setting.given, argument.name: mask})


def _mask_shape(layouts: tuple[Layout, ...], sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """The shape of a mask over queries and keys, 1 everywhere else."""
    for layout in reversed(layouts):
        letters = [axis.dims[0] for axis in layout.axes]
        if {"T", "S"} <= set(letters) and all(axis.or_one or axis.dims[0] in "TS" for axis in layout.axes):
            return tuple(sizes[letter] if letter in "TS" else 1 for letter in letters)
    return None


def _appended(setting: Setting) -> Iterator[Related]:
    """One more key, behind a boolean mask that covers all of them. Rows without a key would average over it."""
    masks = [n for n, a in setting.given.items() if a.dtype == bool and setting.axis(n, "S", a.shape) is not None]
    explicit = any(stage.clause == "mask.explicit" for stage in setting.attention.stages)
    if not masks or not explicit or "S" in positions(setting.attention) or not setting.visible().any(axis=-1).all():
        return

    def longer(name: str, array: Array) -> Array:
        axis = setting.axis(name, "S", array.shape)
        if axis is None:
            return array
        fill = False if array.dtype == bool else array.dtype.type(FAR if array.dtype.kind == "f" else 0)
        return np.concatenate([array, np.full_like(np.take(array, [0], axis), fill)], axis)

    related = _related(setting, "appended-key", _all(setting.given, longer))
    whole = tuple((setting.sizes | {"S": setting.sizes["S"] + 1}).items())
    yield replace(related, changed=replace(related.changed, sizes=whole))


def _single(setting: Setting) -> Iterator[Related]:
    yield from _alone(setting, "single-batch", "B", 0)


def _last(setting: Setting) -> Iterator[Related]:
    """Where masks count positions from the end; from the start, the last query alone would be the first one."""
    yield from _alone(setting, "last-query", "T", -1)


def _alone(setting: Setting, relation: str, letter: str, place: int) -> Iterator[Related]:
    """One entry of a dim without the others. Where the stages depend on its position, the spec says whether that holds."""
    sizes, given = setting.sizes, setting.given
    grouped = [name for name, array in given.items() if _is_grouped(setting, name, array, letter)]
    if sizes.get(letter, 1) == 1 or grouped:
        return
    moved = _along(setting, letter, lambda array, axis: np.take(array, [place], axis))
    related = _related(setting, relation, _all(given, moved), moved=moved)
    changed = replace(related.changed, sizes=tuple((sizes | {letter: 1}).items()))
    related = replace(related, changed=changed)
    if dict(changed.tensors) == dict(setting.configuration.tensors) or not is_valid(setting.spec, changed):
        return
    if not {letter, letter.lower()} & positions(setting.attention) or _holds(setting.spec, related):
        yield related


def _is_grouped(setting: Setting, name: str, array: Array, letter: str) -> bool:
    letters, _ = setting.apart(name, array.shape)
    return letter in letters and len(letters) > array.ndim


def _holds(spec: Spec, related: Related) -> bool:
    """Whether the spec's own answers to both calls are the same."""
    before = judge(spec, related.case, related.given, False).outputs
    after = judge(spec, Case(related.changed, related.case.seed), related.other, False).outputs
    return all(_equal(related.moved(name, gold.value), after[name], gold.bound.max()) for name, gold in before.items())


def _equal(expected: Array, gold: Gold, bound: float) -> bool:
    with np.errstate(invalid="ignore"):
        near = np.abs(expected - gold.value) <= gold.bound + bound
    return bool((near | (expected == gold.value) | (np.isnan(expected) & np.isnan(gold.value))).all())


def _doubled(setting: Setting) -> Iterator[Related]:
    """Exact in every dtype, where value is all that is combined, as it is given, and is not the key too."""
    names = tuple(output.name for output in setting.attention.outputs if output.tensor == "output")
    is_key = any(t.stands_in == "value" and t.name not in setting.given for t in tensors_of(setting.spec))
    changed = is_key or any(stage.kind in ("project", "assemble") for stage in setting.attention.stages)
    if changed or "value" not in setting.given or not names:
        return
    other = {**setting.given, "value": 2 * setting.given["value"]}
    yield _related(setting, "doubled-values", other, outputs=names, factor=2)


def _dropped(setting: Setting) -> Iterator[Related]:
    """The values are the identity: the output is then the weights. A mask would leave fewer of them."""
    spec, sizes, value = setting.spec, setting.sizes, setting.given.get("value")
    rate = next((each.name for each in spec.arguments if is_dropout(spec, each)), None)
    kinds = {stage.kind for stage in setting.attention.stages}
    if rate is None or value is None or kinds & {"mask", "project", "dropout"} or rate in dict(setting.configuration.values):
        return
    letters, lengths = setting.apart("value", value.shape)
    if "S" not in letters or letters[-1] != "V" or letters[-2] == "V" or len(letters) != value.ndim:
        return
    keys, axis = sizes["S"], letters.index("S")
    plans = dict(setting.configuration.tensors)
    plans["value"] = replace(plans["value"], shape=(*lengths[:-1], keys))
    plain = replace(setting.configuration, tensors=tuple(plans.items()), sizes=tuple((sizes | {"V": keys}).items()))
    if not is_valid(spec, plain):
        return
    case = replace(setting.case, configuration=plain)
    given = inputs(arrays(case, spec))
    identity = np.eye(keys).reshape([keys if place in (axis, value.ndim - 1) else 1 for place in range(value.ndim)])
    given["value"] = np.broadcast_to(identity, given["value"].shape).astype(value.dtype)
    changed = replace(plain, values=(*plain.values, (rate, RATE)))
    names = tuple(output.name for output in setting.attention.outputs if output.tensor == "output")
    yield Related("dropout", case, given, changed, given, outputs=names, rate=RATE)


def _memory(case: Case, given: Given) -> Iterator[Related]:
    """All layouts for the first of the varied calls, another one for each of the others."""
    number = (case.seed // STEP - 1) // 2
    for kind in KINDS if number <= 0 else KINDS[number % len(KINDS) :][:1]:
        own = {name: _repeated_entry(array) for name, array in given.items()} if kind == "expanded" else given
        yield Related(f"memory-{kind}", case, own, case.configuration, own, layout=kind)


def _repeated_entry(array: Array) -> Array:
    """The first entry of the first axis in the place of all."""
    return np.broadcast_to(array[:1], array.shape).copy() if array.ndim > 2 else array


# -- what a subject does ------------------------------------------------------------------------------------------


def check(spec: Spec, subject: Subject, call: Call, related: Related) -> Iterator[Failure]:
    """A failure where the two calls differ by more than rounding. What is not answered is another check's."""
    if related.layout and related.layout not in OFFERED.get(subject.lane, ()):
        return
    before = call(related.case.configuration, related.given)
    after = (
        call(related.changed, related.other, layout=related.layout) if related.layout else call(related.changed, related.other)
    )
    if not isinstance(before, Returned) or not isinstance(after, Returned):
        return
    for name, tensor in before.outputs.items():
        if (related.outputs and name not in related.outputs) or name not in after.outputs:
            continue
        if related.rate:
            yield from _dropout(spec, subject, related, name, tensor.array, after.outputs[name].array)
            continue
        worst = _worst(spec, related, name, related.factor * related.moved(name, tensor.array), after.outputs[name].array)
        if worst is not None:
            message = f"`{name}` is not the same: {related.relation}"
            where = worst if worst.index else None
            yield Failure(subject.name, "relations", related.relation, "not the same", message, spec.name, related.case, where)
            return


def _worst(spec: Spec, related: Related, name: str, expected: Array, got: Array) -> Worst | None:
    """The element at which the two calls are furthest apart, where that is more than rounding; no index for other shapes."""
    if expected.shape != got.shape:
        return Worst((), np.nan, np.nan, 0.0, np.inf, name)
    one, other = expected.astype(np.float64), got.astype(np.float64)
    bound = np.zeros(()) if related.exact else related.apart(spec, name)
    if bound.shape not in ((), one.shape):
        return None  # both have a shape that is wrong, which is another check's
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(one - other)
        same = (apart <= bound) | (one == other) | (np.isnan(one) & np.isnan(other))
        over = np.where(same, 0.0, np.where(np.isfinite(apart), apart / bound, np.inf))
    axis = _compared_axis(spec, related, name, over.shape)
    if axis is not None:
        rows = np.arange(over.shape[axis]) == related.row
        over = np.where(rows.reshape(-1, *(1,) * (-axis - 1)), over, 0.0)
    if not over.any():
        return None
    index = tuple(int(place) for place in np.unravel_index(int(np.argmax(over)), over.shape))
    limit = float(np.broadcast_to(bound, over.shape)[index])
    return Worst(index, float(other[index]), float(one[index]), limit, float(over[index]), name)


def _dropout(spec: Spec, subject: Subject, related: Related, name: str, plain: Array, got: Array) -> Iterator[Failure]:
    """Weights that are neither zero nor scaled, or a share of them that has no chance. Both calls are off by their bounds."""
    bound = 3 * dropout_bound(spec, related, name) / (1 - related.rate)
    if plain.shape != got.shape:
        return
    weights, found = plain.astype(np.float64) / (1 - related.rate), got.astype(np.float64)
    wrong = int(np.count_nonzero(~((found == 0) | (np.abs(found - weights) <= bound))))
    telling = weights > 2 * bound
    count, kept = int(telling.sum()), int((telling & (found != 0)).sum())
    expected, spread = count * (1 - related.rate), SIGMAS * sqrt(count * related.rate * (1 - related.rate))
    if wrong:
        seen, message = NEITHER, f"`{name}`: {wrong} weights are neither zero nor 1 / (1 - rate) times themselves"
    elif abs(kept - expected) > spread:
        seen, message = "another share is kept", f"`{name}`: {kept} of {count} weights are kept, at a rate of {related.rate}"
    else:
        return
    yield Failure(subject.name, "relations", related.relation, seen, f"{message}: dropout", spec.name, related.case)


def dropout_bound(spec: Spec, related: Related, name: str) -> float:
    """The largest bound of the weights."""
    return float(judge(spec, related.case, related.given, False).outputs[name].bound.max())


def _compared_axis(spec: Spec, related: Related, name: str, shape: tuple[int, ...]) -> int | None:
    """The queries' axis, counted from the end, where one query alone is compared."""
    if related.row is None:
        return None
    setting = Setting(spec, related.case, related.given, resolve(spec, facts(spec, related.case.configuration)))
    return setting.axis(name, "T", shape)
