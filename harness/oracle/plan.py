"""One configuration of a spec, compiled: everything that does not depend on the arrays is worked out here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnspec.harness.configuration import Configuration
from attnspec.harness.error_bounds import Array, Units, gold_dtype
from attnspec.harness.facts import facts
from attnspec.harness.oracle.dual import Node, Slot, ordered
from attnspec.harness.oracle.elementwise import Rows
from attnspec.harness.oracle.interpreter import Interpreter
from attnspec.harness.oracle.movement import Join
from attnspec.harness.oracle.port import Port, port
from attnspec.harness.oracle.softmax import Rule, Softmax
from attnspec.harness.oracle.terms import Exact, Fixed, Term, aligned_shape, apply, on_axes
from attnspec.spec.binding import Tensor, tensors_of
from attnspec.spec.expression import Concat, Expression, Name
from attnspec.spec.layouts import paired_dims, swapped
from attnspec.spec.model import Axis, Layout, Output, Spec, Stage
from attnspec.spec.resolve import Attention, Facts, resolve


@dataclass(frozen=True, slots=True)
class Result:
    """An output that this configuration returns, and the slot that it is read from."""

    output: Output
    slot: Slot
    port: Port


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled configuration. `inputs` are the floating tensors with their slots, `weighs` the softmax's number."""

    nodes: tuple[Node, ...]
    inputs: Mapping[str, tuple[Slot, Port]]
    results: tuple[Result, ...]
    slots: int
    units: Units
    dtype: str
    gold: type[np.floating[Any]]
    softmax: int
    value: int
    logit: int
    combined: int
    value_side: frozenset[str]
    visible: Array | Callable[[Mapping[str, Array]], Array] | None
    logits: tuple[int, ...]
    poisonable: Mapping[str, str]

    def seen(self, arrays: Mapping[str, Array]) -> Array | None:
        """Which keys some query attends to, over (batch, heads, keys); None where every key is visible."""
        if self.visible is None:
            return None
        visible = self.visible(arrays) if callable(self.visible) else self.visible
        some: Array = np.asarray(np.broadcast_to(visible, self.logits).any(axis=2))
        return some


class Compiler:
    """Compiles one configuration stage by stage."""

    def __init__(self, spec: Spec, configuration: Configuration) -> None:
        self.spec = spec
        self.configuration = configuration
        self.facts: Facts = facts(spec, configuration)
        self.attention: Attention = resolve(spec, self.facts)
        self.units = Units.of(self.attention.path.policies, configuration.dtype)
        self.inputs: dict[str, tuple[Slot, Port]] = {}
        self.kinds = {argument.name: argument.dtype for argument in spec.tensor_arguments}
        self.taps: dict[str, Term] = {}
        self.visible: Fixed | Exact | None = None
        self.value = self.logit = self.softmax = self.combined = -1
        self.logits: tuple[int, ...] = ()
        self.chosen = 0
        self.interpreter = Interpreter(
            tensors={},
            canonical={name: tuple(dims) for name, dims in spec.tensors.items()},
            scalars=self.attention.scope,
            sizes={name.lower(): size for name, size in self.facts.sizes.items() if len(name) == 1},
            units=self.units,
            given=lambda name: name in self.facts.shapes or self.facts.values.get(name) is not None,
        )

    def plan(self) -> Plan:
        """The compiled configuration."""
        self._load()
        for stage in self.attention.stages:
            self._stage(stage)
        results = tuple(self._result(output) for output in self.attention.outputs)
        return Plan(
            nodes=tuple(self.interpreter.nodes),
            inputs=self.inputs,
            results=results,
            slots=self.interpreter.slots,
            units=self.units,
            dtype=self.configuration.dtype,
            gold=gold_dtype(self.configuration.dtype),
            softmax=self.softmax,
            value=self.value,
            logit=self.logit,
            combined=self.combined,
            value_side=frozenset(self._leading_to(self.value)) - frozenset(self._leading_to(self.logit)),
            visible=None if self.visible is None else on_axes(self.visible, ("b", "n", "t", "s")),
            logits=self.logits,
            poisonable=dict(self._poisonable()),
        )

    # -- inputs ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        plans = dict(self.configuration.tensors)
        names = {a.name: (a.feeds or a.name) for a in self.spec.tensor_arguments}
        for tensor in (each.under(self.facts.values) for each in tensors_of(self.spec)):
            if tensor.name in plans:
                operator = names.get(tensor.name, tensor.name)
                self.interpreter.tensors[operator] = self._input(tensor, operator, plans[tensor.name].dtype)
        for argument in self.spec.tensor_arguments:
            operator = names[argument.name]
            other = argument.unset.name if isinstance(argument.unset, Name) else self.facts.values.get(argument.name)
            if argument.name not in plans and isinstance(other, str):
                self.interpreter.tensors[operator] = self._stand_in(operator, names[other])

    def _stand_in(self, operator: str, other: str) -> Term:
        """Another tensor in place of one that is not given, its axes under the missing one's letters."""
        term = self.interpreter.tensors[other]
        letters = dict(zip(self.interpreter.canonical[other], self.interpreter.canonical[operator], strict=True))
        axes = tuple(letters[axis.upper()].lower() for axis in term.axes)
        return replace(term, axes=axes)

    def _input(self, tensor: Tensor, operator: str, dtype: str) -> Term:
        shape = self.facts.shapes[tensor.name]
        number, layout = _layout(tensor.layouts, len(shape))
        if tensor.name == self.spec.tensor_arguments[0].name:
            self.chosen = number
        canonical = self.interpreter.canonical[operator]
        layout = _renamed(layout, canonical)
        way = port(layout, canonical, shape, self.facts.sizes, self.facts.batch)
        if "float" in dtype:
            slot = self.interpreter.slot(way.axes, way.shape)
            self.inputs[tensor.name] = slot, way
            return slot
        name = tensor.name
        if self.kinds.get(name) == "bool or number":
            return Exact(way.axes, way.shape, lambda arrays: way.into(arrays[name] != 0))
        return Exact(way.axes, way.shape, lambda arrays: way.into(arrays[name]))

    # -- stages ---------------------------------------------------------------------------------------------------

    def _stage(self, stage: Stage) -> None:
        low = stage.kind in ("project", "assemble", "output")
        self.interpreter.unit = self.units.output if low else self.units.logit
        self.interpreter.operand = {"combine": self.units.weight, "score": self.units.logit}.get(
            stage.kind, self.units.accumulate
        )
        # A projection is stored once. An attended row may be stored and then read again: numerics' 2 u_o.
        self.interpreter.stored = {"combine": 2 * self.units.output}.get(stage.kind, self.units.output if low else 0.0)
        self.interpreter.weighs = stage.kind == "combine"
        handlers: Mapping[str, Callable[[Stage], Term | None]] = {
            "assemble": self._assemble, "mask": self._mask, "softmax": self._softmax, "dropout": self._dropout,
            "combine": self._combine, "rows": self._rows,
        }  # fmt: skip
        result = handlers.get(stage.kind, self._expression)(stage)
        if result is not None:
            self.interpreter.tensors[stage.defines] = result
            self.taps[f"{stage.defines}@{stage.clause}"] = result

    def _expression(self, stage: Stage) -> Term:
        """A stage that only computes: project, score, modifier, output."""
        result = self.interpreter.lifted(self.interpreter.term(stage.expression))
        if stage.defines in self.spec.tensors:
            axes = ordered([dim.lower() for dim in self.spec.tensors[stage.defines]])
            result = self.interpreter.expanded(result, axes)
        return result

    def _assemble(self, stage: Stage) -> Term:
        """`concat(s, a, b)`: every piece gets the result's axes, its own length dim in place of the joined one."""
        assert isinstance(stage.expression, Concat)
        letter = stage.expression.index
        axes = ordered([dim.lower() for dim in self.spec.tensors[stage.defines]])
        if any(isinstance(self.interpreter.term(part), Exact) for part in stage.expression.parts):
            return self._assemble_exact(stage.expression, axes)
        pieces = [self._piece(part, axes, letter) for part in stage.expression.parts]
        axis = axes.index(letter)
        shapes = tuple(piece.shape for piece in pieces)
        length = sum(shape[axis] for shape in shapes)
        self.interpreter.sizes[letter] = length
        whole = (*shapes[0][:axis], length, *shapes[0][axis + 1 :])
        return self.interpreter.emit(Join(axis, shapes), pieces, axes, whole)

    def _assemble_exact(self, expression: Concat, axes: tuple[str, ...]) -> Exact:
        """The same for booleans and integers, with axes of 1 left as they are; a constant piece has length 1."""
        letter, axis = expression.index, axes.index(expression.index)
        pieces = [self.interpreter.term(part) for part in expression.parts]
        plain = [piece for piece in pieces if not isinstance(piece, Slot)]
        if len(plain) != len(pieces):
            raise ValueError(f"the pieces along `{letter}` must be all booleans and integers, or all floating")
        shapes = [aligned_shape(piece, axes) for piece in plain]
        rest = np.broadcast_shapes(*((*shape[:axis], 1, *shape[axis + 1 :]) for shape in shapes))
        own = [(*rest[:axis], shape[axis], *rest[axis + 1 :]) for shape in shapes]
        parts = [on_axes(piece, axes) for piece in plain]
        self.interpreter.sizes[letter] = length = sum(shape[axis] for shape in shapes)

        def joined(arrays: Mapping[str, Array]) -> Array:
            values = [np.asarray(part(arrays) if callable(part) else part) for part in parts]
            kind = next(v.dtype for v, piece in zip(values, plain, strict=True) if isinstance(piece, Exact))
            whole = [np.broadcast_to(v.reshape(s), o).astype(kind) for v, s, o in zip(values, shapes, own, strict=True)]
            return np.concatenate(whole, axis=axis)

        return Exact(axes, (*rest[:axis], length, *rest[axis + 1 :]), joined)

    def _piece(self, part: Expression, axes: tuple[str, ...], letter: str) -> Slot:
        term = self.interpreter.lifted(self.interpreter.term(part))
        foreign = [x for x in term.axes if x not in axes]
        if len(foreign) > 1:
            raise ValueError(f"a piece along `{letter}` has the further axes {foreign}")
        own = foreign[0] if foreign else letter if letter in term.axes else ""
        lengths = dict(zip(term.axes, term.shape, strict=True))
        renamed = Slot(term.number, tuple(letter if x == own else x for x in term.axes), term.shape)
        shape = tuple(lengths.get(own, 1) if x == letter else self.interpreter.sizes[x] for x in axes)
        if renamed.axes != ordered(renamed.axes):
            raise ValueError(f"a piece along `{letter}` has its axes in another order")
        kept = dict(self.interpreter.sizes)
        self.interpreter.sizes[letter] = lengths.get(own, 1)
        result = self.interpreter.expanded(renamed, axes)
        self.interpreter.sizes.update(kept)
        assert result.shape == shape
        return result

    def _mask(self, stage: Stage) -> None:
        term = self.interpreter.term(stage.expression)
        if isinstance(term, Slot):
            raise ValueError(f"{stage.clause}: a mask is a predicate, not a floating tensor")
        self.visible = term if self.visible is None else apply(np.logical_and, [self.visible, term])

    def _softmax(self, stage: Stage) -> Term:
        logit = self.interpreter.tensors["logit"]
        assert isinstance(logit, Slot)
        inputs = [logit]
        if stage.expression != Name("logit"):
            sink = self.interpreter.lifted(self.interpreter.term(stage.expression))
            axes = logit.axes[:-1]
            self.interpreter.sizes["s"], keys = 1, self.interpreter.sizes["s"]
            inputs.append(self.interpreter.expanded(sink, (*axes, "s")))
            self.interpreter.sizes["s"] = keys
        policies = self.attention.path.policies
        visible = None if self.visible is None else on_axes(self.visible, logit.axes)
        wanted = any(output.tensor == "logsumexp" for output in self.attention.outputs)
        weight = self.interpreter.slot(logit.axes, logit.shape)
        log_sum = self.interpreter.slot(logit.axes[:-1], logit.shape[:-1])
        step = Softmax(visible, Rule.of(policies, self.configuration.dtype), self.units, wanted)
        outputs = (weight.number, log_sum.number) if wanted else (weight.number,)
        self.interpreter.nodes.append(Node(step, tuple(each.number for each in inputs), outputs))
        self.taps["logsumexp"] = log_sum
        self.logit, self.softmax, self.logits = logit.number, weight.number, logit.shape
        return weight

    def _dropout(self, stage: Stage) -> None:
        rate = self.interpreter.term(stage.expression)
        if not isinstance(rate, Fixed) or np.any(rate.value != 0):
            raise ValueError(f"{stage.clause}: dropout is never the same twice; the oracle judges a rate of 0")

    def _combine(self, stage: Stage) -> Term:
        value = self.interpreter.tensors.get("value")
        self.value = value.number if isinstance(value, Slot) else -1
        output = self._expression(stage)
        assert isinstance(output, Slot)
        self.combined = output.number
        return output

    def _rows(self, stage: Stage) -> Term:
        output = self.interpreter.tensors[stage.defines]
        keeps = self.interpreter.term(stage.expression)
        assert isinstance(output, Slot) and not isinstance(keeps, Slot)
        step = Rows(on_axes(keeps, output.axes), self.interpreter.slots, output.number)
        return self.interpreter.emit(step, [output], output.axes, output.shape)

    # -- outputs --------------------------------------------------------------------------------------------------

    def _result(self, output: Output) -> Result:
        name = output.tensor
        term = self.taps[name] if name in self.taps else self.interpreter.tensors[name]
        slot = self.interpreter.lifted(term)
        canonical = self.spec.tensors[name.partition("@")[0]]
        swap = output.swapped_unless and not self.facts.values.get(output.swapped_unless)
        layouts = swapped(output.layouts) if swap else output.layouts
        layout = layouts[self.chosen if len(layouts) > 1 else 0]
        shape = self._documented(layout, canonical, slot)
        sizes = {x.upper(): n for x, n in zip(slot.axes, slot.shape, strict=True)}
        way = port(_renamed(layout, canonical), canonical, shape, sizes, self.facts.batch)
        return Result(output, slot, way)

    def _documented(self, layout: Layout, canonical: tuple[str, ...], slot: Slot) -> tuple[int, ...]:
        sizes = dict(zip(slot.axes, slot.shape, strict=True))
        axes = _renamed(layout, canonical).axes
        own = tuple(int(np.prod([sizes[dim.lower()] for dim in axis.dims])) for axis in axes)
        return (*self.facts.batch, *own) if layout.batched else own

    def _poisonable(self) -> Iterator[tuple[str, str]]:
        """The inputs that are `key` and `value` as they stand, or nothing but a projected key; hidden logits are replaced."""
        if self.attention.path.policies["mask.fill"].value != "replace":
            return
        terms = {operator: self.interpreter.tensors.get(operator) for operator in ("query", "key", "value")}
        for operator in ("key", "value"):
            term = terms[operator]
            for name, (slot, _) in self.inputs.items():
                if isinstance(term, Slot) and slot.number == term.number:
                    yield operator, name
        others = {
            name
            for each in (terms["query"], terms["value"])
            if isinstance(each, Slot)
            for name in self._leading_to(each.number)
        }
        for name in self._leading_to(self.logit):
            if self.inputs[name][0].axes[:2] == ("b", "s") and name not in others:
                yield "key", name

    def _leading_to(self, number: int) -> Iterator[str]:
        """The names of the inputs that a slot is made from."""
        wanted = {number}
        for node in reversed(self.interpreter.nodes):
            if wanted & set(node.outputs):
                wanted |= set(node.inputs)
        yield from (name for name, (slot, _) in self.inputs.items() if slot.number in wanted)


def _layout(layouts: tuple[Layout, ...], rank: int) -> tuple[int, Layout]:
    """The layout of a rank: an exact one, else a batched one."""
    exact = [n for n, layout in enumerate(layouts) if not layout.batched and len(layout.axes) == rank]
    number = (exact or [n for n, layout in enumerate(layouts) if layout.batched and len(layout.axes) <= rank])[0]
    return number, layouts[number]


def _renamed(layout: Layout, canonical: tuple[str, ...]) -> Layout:
    """The layout in the operator's letters: an output's `B T N H` is `B T N V`."""
    dims = layout.dims[layout.batched :]
    renamed = iter(paired_dims(dims, tuple(d for d in canonical if not (layout.batched and d == "B"))))
    return Layout(tuple(Axis(tuple(next(renamed) for _ in axis.dims), axis.or_one) for axis in layout.axes), layout.batched)


_LIMIT = 8192
_plans: dict[tuple[int, Configuration], tuple[Spec, Plan]] = {}


def plan_of(spec: Spec, configuration: Configuration) -> Plan:
    """The plan of a configuration, compiled once. The spec is kept with it, so that its id stays its own."""
    key = (id(spec), configuration)
    found = _plans.get(key)
    if found is None:
        if len(_plans) >= _LIMIT:
            _plans.clear()
        found = _plans[key] = (spec, Compiler(spec, configuration).plan())
    return found[1]


__all__ = ["Compiler", "Plan", "aligned_shape", "plan_of"]
