"""The relations: for a call, every other call whose answer follows from its own (relations.py says what each is about)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks import dropout, second_order, stacked
from attnspec.harness.checks.arguments import STEP
from attnspec.harness.checks.setting import Given, Related, Setting, all_moved, along, positions, related_to
from attnspec.harness.checks.variation import is_valid
from attnspec.harness.configuration import Case, TensorPlan
from attnspec.harness.facts import facts
from attnspec.harness.lanes.call import inputs
from attnspec.harness.lanes.memory import KINDS
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.spec.binding import tensors_of
from attnspec.spec.expression import Name, names
from attnspec.spec.model import Layout, Spec
from attnspec.spec.resolve import resolve

SHIFT = 2.0  # and quarters in the bias: exact in every dtype
FAR = 50.0  # what a hidden key holds: it would be noticed


def relations(spec: Spec, case: Case) -> Iterator[Related]:
    """Every relation that holds for a call."""
    given = inputs(arrays(case, spec))
    setting = Setting(spec, case, given, resolve(spec, facts(spec, case.configuration)))
    yield Related("twice", case, given, case.configuration, given, exact=True)
    yield from _memory(case, given)
    yield from stacked.linear_cotangents(setting)
    yield from dropout.seeded(setting)
    shared = any(argument.name in dict(case.configuration.values) for argument in spec.tensor_arguments)
    if spec.form == "function":
        yield from second_order.calls(setting, _number(case))
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
            stacked.linear_values,
            stacked.split_keys,
            dropout.calls,
        ):
            yield from relation(setting)


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
        poison = np.nan if plan.poisonable.get("key") == name else FAR  # a replaced logit forgets even NaN
        changed[name] = np.where(where, changed[name].dtype.type(poison), changed[name])
    yield related_to(setting, "hidden-keys", changed, row=row)


def _keys(setting: Setting) -> Iterator[Related]:
    if "s" not in positions(setting.attention) and setting.sizes.get("S", 1) > 1:
        moved = along(setting, "S", np.flip)
        assembled = any(stage.kind == "assemble" for stage in setting.attention.stages)  # of more keys than S
        without = tuple(output.name for output in setting.spec.outputs if "S" not in output.layouts[0].dims)
        outputs = without if assembled else ()
        yield related_to(setting, "permuted-keys", all_moved(setting.given, moved), terms=((1, moved),), outputs=outputs)


def _batch(setting: Setting) -> Iterator[Related]:
    if "b" not in positions(setting.attention) and setting.sizes.get("B", 1) > 1:
        moved = along(setting, "B", np.flip)
        other = all_moved(setting.given, moved)
        if any(other[name] is not array for name, array in setting.given.items()):  # the axes before a layout stay
            yield related_to(setting, "permuted-batch", other, terms=((1, moved),))


def _heads(setting: Setting) -> Iterator[Related]:
    """Key/value heads from the other end, and the groups of query heads with them."""
    sizes = setting.sizes
    if sizes.get("K", 1) == 1:
        return

    def blocks(array: Array, axis: int) -> Array:
        order = np.arange(sizes["N"]).reshape(sizes["K"], -1)[::-1].ravel()
        return np.take(array, order, axis)

    keys, queries = along(setting, "K", np.flip), along(setting, "N", blocks)

    def moved(name: str, array: Array) -> Array:
        return keys(name, array) if "K" in setting.apart(name, array.shape)[0] else queries(name, array)

    yield related_to(setting, "permuted-heads", all_moved(setting.given, moved), terms=((1, moved),))


def _repeated(setting: Setting) -> Iterator[Related]:
    sizes, given = setting.sizes, setting.given
    grouped = [name for name in ("key", "value") if name in given and setting.axis(name, "K", given[name].shape) is not None]
    if sizes.get("G", 1) == 1 or len(grouped) < 2:
        return
    moved = along(setting, "K", lambda array, axis: np.repeat(array, sizes["G"], axis))
    related = related_to(setting, "repeated-heads", all_moved(given, moved), terms=((1, moved),))
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
            yield replace(related_to(setting, "shifted-logits", shifted, outputs=("output",)), given=first)


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

    related = related_to(setting, "appended-key", all_moved(setting.given, longer))
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
    moved = along(setting, letter, lambda array, axis: np.take(array, [place], axis))
    related = related_to(setting, relation, all_moved(given, moved), terms=((1, moved),))
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
    expected = {name: related.expected(name, {name: gold.value}) for name, gold in before.items()}
    return all(_equal(expected[name], after[name], gold.bound.max()) for name, gold in before.items())


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
    yield related_to(setting, "doubled-values", other, outputs=names, terms=((2, lambda name, array: array),))


def _memory(case: Case, given: Given) -> Iterator[Related]:
    """All layouts for the first of the varied calls, another one for each of the others."""
    number = _number(case)
    for kind in KINDS if number <= 0 else KINDS[number % len(KINDS) :][:1]:
        own = {name: _repeated_entry(array) for name, array in given.items()} if kind == "expanded" else given
        yield Related(f"memory-{kind}", case, own, case.configuration, own, layout=kind)


def _number(case: Case) -> int:
    """Which of the varied calls it is."""
    return (case.seed // STEP - 1) // 2


def _repeated_entry(array: Array) -> Array:
    """The first entry of the first axis in the place of all."""
    return np.broadcast_to(array[:1], array.shape).copy() if array.ndim > 2 else array
