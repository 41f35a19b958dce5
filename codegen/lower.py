"""A spec to a program: documented arguments to canonical tensors, the stages of the operator, documented outputs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from attnspec.codegen.folding import unfolding
from attnspec.codegen.index_notation import LoweringError, Scope, align, elementwise, lower, transpose
from attnspec.codegen.program import (
    ELEMENTWISE,
    Assign,
    Const,
    Dims,
    If,
    Node,
    Op,
    Program,
    Ref,
    Return,
    Statement,
    nodes,
    reads,
)
from attnspec.codegen.prologue import (
    canonical_dims,
    given_as_swapped,
    is_grouped,
    lacking_axis,
    lift_names,
    negate,
    prologue,
    swap,
    told_sizes,
)
from attnspec.spec.expression import Binary, Concat, Expression, Name, Number, Unary, names
from attnspec.spec.layouts import layout_text
from attnspec.spec.model import Layout, Output, Path, Spec, Stage
from attnspec.spec.returns import may_return, parts

HIDDEN = Ref("hidden")
SWAPPED = "returns.order"
"""The clause of the statement that gives batches back in the order in which they came."""
VARIABLES = {"logit": "logits", "weight": "weights"}
"""Operator tensors whose variable has another name, as the field writes it."""
DTYPES = {"input": "dtype", "at least float32": "compute", "float32": "float32"}
"""The variable that holds the dtype which a policy names."""


@dataclass
class Body:
    """The stages of one path, lowered one after another; `saved` are the tensors that outputs want from the way.

    `refs` are the tensors on the way, at first those of them that are inputs.
    """

    spec: Spec
    path: Path
    scope: Scope
    saved: frozenset[str]
    refs: dict[str, Ref] = field(default_factory=dict)

    def policy(self, name: str) -> str:
        return self.path.policies[name].value

    @property
    def fill(self) -> str:
        return self.path.policies["mask.fill"].detail

    def stages(self) -> tuple[Statement, ...]:
        """Projections and assembly first, which paths of a layer may share; then what only some of them need."""
        first = tuple(itertools.takewhile(lambda stage: stage.kind in ("project", "assemble"), self.path.stages))
        projected = _merged(statement for stage in first for statement in self.guarded(stage))
        lowered = _merged(statement for stage in self.path.stages[len(first) :] for statement in self.guarded(stage))
        early = tuple(self.indices(projected))
        late = tuple(grid for grid in self.indices((*projected, *lowered)) if grid not in early)
        projected = _without_unread_sizes(projected, (*late, *lowered))
        return (*self.dtypes(), *early, *projected, *late, *self.hidden(), *lowered)

    def dtypes(self) -> Iterator[Statement]:
        """The dtype of the inputs, and the one that products accumulate in: half precision never sums."""
        query = self.query
        yield Assign(Ref("dtype"), Op("dtype_of", (query,), None))
        if self.policy("logits.dtype") == "float32":
            yield Assign(Ref("compute"), Const("float32"))
        else:
            yield Assign(Ref("compute"), Op("at_least_float32", (query,), None))

    @property
    def query(self) -> Ref:
        """The tensor whose dtype and device the function works in."""
        tensors = self.scope.tensors
        return next((ref for name, ref in tensors.items() if name in ("query", "query_input")), next(iter(tensors.values())))

    def indices(self, lowered: tuple[Statement, ...]) -> Iterator[Statement]:
        """Index grids, and the intervals that they lie in, where some stage reads them."""
        read = reads(lowered)
        asked = {letter for name, (_, letter) in self.scope.used_intervals.items() if name in read}
        for letter in sorted(self.scope.used_indices & (read | asked), reverse=True):
            dim = self.scope.indices[letter]
            yield Assign(Ref(letter, (dim,)), Op("arange", (Ref(dim),), (dim,), (("like", self.query.name),)))
        for name in (name for name in self.scope.used_intervals if name in read):
            bounds, letter = self.scope.used_intervals[name]
            dims = (self.scope.indices[letter],)
            yield Assign(Ref(name, dims), Op("interval", (self.scope.tensors[bounds], Ref(letter, dims)), dims))

    def hidden(self) -> Iterator[Statement]:
        if any(stage.kind == "mask" for stage in self.path.stages):
            fill = Op("added_fill", (self.query,), None) if self.adds_number else Const(self.fill)
            yield Assign(HIDDEN, fill, "policy.mask.fill")

    @property
    def adds_number(self) -> bool:
        """Whether hidden logits get a finite number added, which rounds them: once, in the dtype of the logits."""
        return self.policy("mask.fill") == "add" and self.fill != "-inf"

    def guarded(self, stage: Stage) -> Iterator[Statement]:
        body = tuple(self.stage(stage))
        if stage.when is None:
            yield from body
        else:
            yield If(stage.when, body, clause=stage.clause)
        tap = f"{stage.defines}@{stage.clause}"
        if tap in self.saved:
            yield Assign(Ref(variable(tap), self.refs[stage.defines].dims), self.refs[stage.defines], stage.clause)

    def stage(self, stage: Stage) -> Iterator[Statement]:
        handler: Callable[[Stage], Iterator[Statement]] = getattr(self, "_" + stage.kind)
        return handler(stage)

    def assign(self, stage: Stage, value: Node) -> Assign:
        """`value` becomes the tensor that the stage defines."""
        ref = Ref(self.variable(stage), value.dims)
        self.refs[stage.defines] = ref
        self.scope.tensors = {**self.scope.tensors, stage.defines: ref}
        return Assign(ref, value, stage.clause)

    def variable(self, stage: Stage) -> str:
        """The variable of what a stage defines: not that of another tensor (a layer's input) which a later stage reads."""
        if stage.defines in self.refs:
            return self.refs[stage.defines].name
        name = variable(stage.defines)
        later = self.path.stages[self.path.stages.index(stage) + 1 :]
        needed = frozenset().union(*(names(other.expression) for other in later)) - {stage.defines}
        taken = any(self.scope.tensors[other].name == name for other in needed & self.scope.tensors.keys())
        return f"projected_{name}" if taken else name

    def lower(self, stage: Stage, order: Dims) -> Node:
        return lower(stage.expression, order, self.scope, stage.clause)

    def _project(self, stage: Stage) -> Iterator[Statement]:
        order = self.physical(stage.defines)
        value = _widened(align(self.lower(stage, order), order), order)
        yield self.assign(stage, Op("cast", (value,), order, (("to", "dtype"),)))

    _output = _project

    def _assemble(self, stage: Stage) -> Iterator[Statement]:
        if not isinstance(stage.expression, Concat):
            raise LoweringError(f"{stage.clause}: an assemble stage must be `concat(s, ...)`")
        order = self.physical(stage.defines)
        dim = self.scope.indices[stage.expression.index]
        parts: list[Node] = []
        like = self.scope.tensors[next(part.name for part in stage.expression.parts if isinstance(part, Name))]
        if stage.expression.parts[1:] == (Number(0),) and order[-1] == dim:
            yield self.assign(stage, Op("pad_last", (like,), like.dims))
            return
        for part in stage.expression.parts:
            if not isinstance(part, Name):
                shape = tuple("1" if d == dim else d for d in order)
                parts.append(Op("zeros", (like,), order, (("shape", shape),)))
                continue
            piece = self.piece(self.scope.tensors[part.name], order, dim)
            if not isinstance(piece, Ref):
                named = Ref(f"{part.name}_piece", piece.dims)
                yield Assign(named, piece, stage.clause)
                piece = named
            parts.append(piece)
        assigned = self.assign(stage, Op("concat", tuple(parts), order, (("dim", dim),)))
        yield assigned
        if stage.defines == "key" and dim not in self.spec.sizes:
            yield Assign(Ref(dim), Op("size", (assigned.target,), None, (("dim", dim),)), stage.clause)

    def piece(self, ref: Ref, order: Dims, dim: str) -> Node:
        """A tensor with all axes of `order`: its own length dim in place of `dim`, broadcast where it lacks one."""
        own = [d for d in ref.dims or () if d not in order]
        named = tuple(own[0] if d == dim and own else d for d in order)
        missing = tuple(d for d in named if d not in (ref.dims or ()))
        laid = transpose(ref, tuple(d for d in named if d in (ref.dims or ())))
        if not missing:
            return laid
        shape = tuple("1" if d == dim else d for d in named)
        inserted = Op("align", (laid,), named, (("inserted", missing),))
        return Op("broadcast", (inserted,), named, (("shape", shape),))

    def _score(self, stage: Stage) -> Iterator[Statement]:
        logits = _summed_widely(self.lower(stage, self.spec.tensors["logit"]))
        if self.policy("logits.dtype") == "input":
            logits = Op("cast", (logits,), logits.dims, (("to", "dtype"),))
        yield self.assign(stage, logits)

    def _modifier(self, stage: Stage) -> Iterator[Statement]:
        yield self.assign(stage, self.lower(stage, self.spec.tensors["logit"]))

    def _mask(self, stage: Stage) -> Iterator[Statement]:
        """Hidden logits get the fill, one mask after another: what any of them hides stays hidden."""
        order, logits = self.spec.tensors["logit"], self.refs["logit"]
        attends = self.lower(stage, order)
        if self.policy("mask.fill") == "replace":
            value = elementwise("where", (attends, logits, HIDDEN), order)
        else:
            fill = elementwise("where", (attends, Const(0.0), HIDDEN), order)
            value = elementwise("add", (logits, Op("cast", (fill,), fill.dims, (("to", "compute"),))), order)
            if self.adds_number and self.policy("logits.dtype") == "input":
                value = Op("cast", (value,), value.dims, (("to", "dtype"),))
        yield Assign(logits, value, stage.clause)

    def _softmax(self, stage: Stage) -> Iterator[Statement]:
        logits = self.refs["logit"]
        dims = logits.dims
        assert dims is not None
        if self.policy("softmax.dtype") != self.policy("logits.dtype"):
            cast = Op("cast", (logits,), dims, (("to", DTYPES[self.policy("softmax.dtype")]),))
            yield Assign(logits, cast, "policy.softmax.dtype")
        sink = None if stage.expression == Name("logit") else self.lower(stage, dims)
        if sink is not None:
            yield from self.softmax_with_sink(stage, sink, dims)
        elif self.guards_empty_rows():
            yield from self.softmax_guarded(stage, dims)
        else:
            yield self.assign(stage, Op("softmax", (logits,), dims))

    def guards_empty_rows(self) -> bool:
        """Whether an empty row needs a rule of its own: a -inf fill would give NaN."""
        rule = self.policy("empty_row")
        finite = self.fill != "-inf"
        if finite and rule != ("rounded" if self.adds_number else "uniform"):
            raise LoweringError(f"{self.spec.name}: policy.empty_row: {rule!r} needs the fill -inf, got {self.fill}")
        return not finite and rule != "nan"

    def softmax_guarded(self, stage: Stage, dims: Dims) -> Iterator[Statement]:
        """Softmax of zeros in empty rows: uniform, and zero where the rule says so. No NaN on the way, also backward."""
        logits, empty, safe = self.refs["logit"], Ref("empty", dims), Ref("safe_logits", dims)
        self.refs |= {"empty": empty, "safe_logit": safe}
        yield Assign(empty, Op("is_empty", (logits,), dims), "policy.empty_row")
        yield Assign(safe, Op("where", (empty, Const(0.0), logits), dims), "policy.empty_row")
        weights = self.assign(stage, Op("softmax", (safe,), dims))
        yield weights
        if self.policy("empty_row") == "zero":
            zeroed = Op("where", (empty, Const(0.0), weights.target), dims)
            yield Assign(weights.target, zeroed, "policy.empty_row")

    def softmax_with_sink(self, stage: Stage, sink: Node, dims: Dims) -> Iterator[Statement]:
        """The sink is one more logit of every row; its weight is dropped. A row with a sink is never empty."""
        column = Op("broadcast_last", (align(sink, dims), self.refs["logit"]), dims)
        joined, shares = Ref("logits_and_sink", dims), Ref("weights_and_sink", dims)
        yield Assign(joined, Op("concat", (self.refs["logit"], column), dims, (("dim", dims[-1]),)), stage.clause)
        yield Assign(shares, Op("softmax", (joined,), dims), stage.clause)
        yield self.assign(stage, Op("drop_last", (shares,), dims))

    def _dropout(self, stage: Stage) -> Iterator[Statement]:
        weights = self.refs["weight"]
        rate = lower(stage.expression, (), self.scope, stage.clause)
        seed = tuple(Ref(argument.name) for argument in self.spec.constructor if argument.role == "seed")
        yield self.assign(stage, Op("dropout", (weights, rate, *seed), weights.dims))

    def _combine(self, stage: Stage) -> Iterator[Statement]:
        weights = self.refs["weight"]
        if self.policy("weights.dtype") == "input":
            yield Assign(weights, Op("cast", (weights,), weights.dims, (("to", "dtype"),)), "policy.weights.dtype")
        order = self.physical("output")
        yield self.assign(stage, Op("cast", (self.lower(stage, order),), order, (("to", "dtype"),)))

    def _rows(self, stage: Stage) -> Iterator[Statement]:
        order = self.physical("output")
        yield self.assign(stage, elementwise("where", (self.lower(stage, order), self.refs["output"], Const(0)), order))

    def physical(self, tensor: str) -> Dims:
        """The axis order of a tensor here: an output's documented layout, query's for query, canonical otherwise."""
        for output in self.spec.outputs:
            if output.tensor == tensor:
                return canonical_dims(output.layouts[0], self.spec.tensors[tensor])
        if tensor == "output" and "query" in self.scope.tensors:
            return tuple("V" if d == "H" else d for d in self.scope.tensors["query"].dims or ())
        return self.spec.tensors[tensor]


def _widened(node: Node, dims: Dims) -> Node:
    """Arithmetic with the tensors that broadcast (biases) in the accumulation dtype: their gradient is a sum over the rest."""
    if isinstance(node, Op) and node.name in {*ELEMENTWISE, "align", "sum"}:
        return replace(node, arguments=tuple(_widened(argument, dims) for argument in node.arguments))
    if node.dims is not None and set(node.dims) != set(dims):
        return Op("cast", (node,), node.dims, (("to", "compute"),))
    return node


def _summed_widely(node: Node) -> Node:
    """Sums in the accumulation dtype: half precision never sums."""
    if not isinstance(node, Op):
        return node
    made = replace(node, arguments=tuple(map(_summed_widely, node.arguments)))
    if node.name != "sum":
        return made
    (term,) = made.arguments
    return replace(made, arguments=(Op("cast", (term,), term.dims, (("to", "compute"),)),))


def _without_unread_sizes(body: tuple[Statement, ...], rest: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Assembled keys have a new length; where nothing after them is made of sizes, it is left out."""
    if any(isinstance(node, Op) and node.name in _OF_SIZES for node in nodes(rest)):
        return body
    kept = (statement for statement in body if not _is_size(statement))
    return tuple(replace(s, body=_without_unread_sizes(s.body, rest)) if isinstance(s, If) else s for s in kept)


_OF_SIZES = frozenset({"arange", "split", "merge", "broadcast", "zeros"})


def _is_size(statement: Statement) -> bool:
    return isinstance(statement, Assign) and isinstance(statement.value, Op) and statement.value.name == "size"


def _merged(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Neighbours under one guard in one block."""
    found: list[Statement] = []
    for statement in statements:
        last = found[-1] if found else None
        if isinstance(statement, If) and isinstance(last, If) and last.test == statement.test:
            found[-1] = replace(last, body=(*last.body, *statement.body))
        else:
            found.append(statement)
    return tuple(found)


def variable(tensor: str) -> str:
    """The variable of a tensor: `logits` for `logit`, `logits_after_scale` for `logit@modifier.scale`."""
    name, _, clause = tensor.partition("@")
    base = VARIABLES.get(name, name)
    return f"{base}_after_{clause.rpartition('.')[2]}" if clause else base


def lower_spec(spec: Spec) -> Program:
    """The program of a spec's function (a layer's weights are ordinary tensors of it). Raises LoweringError."""
    _refuse_grouped_axes(spec)
    paths = [_lower_path(spec, path) for path in spec.paths]
    body = paths[-1]
    for path, statements in zip(reversed(spec.paths[:-1]), reversed(paths[:-1]), strict=True):
        assert path.when is not None
        same = _shared(statements, body)
        body = (*body[:same], If(path.when, statements[same:], body[same:], clause=f"path.{path.name}"))
    batched = any(layout.batched for argument in spec.tensor_arguments for layout in argument.layouts)
    return Program(spec.function_name, (*prologue(spec), *body), batched)


def _shared(one: tuple[Statement, ...], other: tuple[Statement, ...]) -> int:
    """How many statements two paths begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _refuse_grouped_axes(spec: Spec) -> None:
    """`(N H)` is taken apart where all its sizes are known from elsewhere; what is returned is not grouped yet."""
    known = {*told_sizes(spec)}
    for name, layout in [(a.name, layout) for a in spec.tensor_arguments for layout in a.layouts]:
        known |= {dim for axis in layout.axes if len(axis.dims) == 1 for dim in axis.dims}
        if is_grouped(layout) and (layout.batched or not set(layout.dims) <= known):
            raise _not_yet(spec, name, layout)
    for output in spec.outputs:
        for layout in (layout for layout in output.layouts if is_grouped(layout)):
            raise _not_yet(spec, output.name, layout)


def _not_yet(spec: Spec, name: str, layout: Layout) -> LoweringError:
    return LoweringError(f"{spec.name}: {name}: the grouped axes of `{layout_text(layout)}` cannot be compiled yet")


def _lower_path(spec: Spec, path: Path) -> tuple[Statement, ...]:
    returned = tuple(_on_path(output, path) for output in spec.outputs if may_return(output, path, spec.paths))
    saved = frozenset(output.tensor for output in returned if "@" in output.tensor)
    _refuse_two_additions(spec, path)
    scope = canonical_scope(spec)
    given = {name: ref for name, ref in scope.tensors.items() if name in VARIABLES}
    body = Body(replace(spec, outputs=returned), path, scope, saved, given)
    return (*body.stages(), *_returns(spec, body))


def _refuse_two_additions(spec: Spec, path: Path) -> None:
    """A key that two masks hide gets a finite fill once: masks have to exclude each other, or be one."""
    fill = path.policies["mask.fill"]
    masks = [stage for stage in path.stages if stage.kind == "mask"] if fill.value == "add" and fill.detail != "-inf" else []
    for one, other in itertools.combinations(masks, 2):
        asked = [set(parts(stage.when, "and")) if stage.when is not None else set[Expression]() for stage in (one, other)]
        if not any(negate(part) in asked[1] for part in asked[0]):
            raise LoweringError(f"{spec.name}: {other.clause}: where {fill.detail} is added, it must exclude {one.clause}")


def _on_path(output: Output, path: Path) -> Output:
    """The output with what is left of its guard where that of the path holds."""
    if output.when is None or path.when is None:
        return output
    rest = [part for part in parts(output.when, "and") if part not in {*parts(path.when, "and")}]
    return replace(output, when=functools.reduce(lambda one, other: Binary("and", one, other), rest) if rest else None)


def canonical_scope(spec: Spec) -> Scope:
    """What names mean before the first stage: arguments and weights under the operator's tensor names."""
    canonical = {w.name: w.layout.dims for w in spec.weights}
    canonical |= {(a.feeds or a.name): a.layouts[0].dims for a in spec.tensor_arguments} | dict(spec.tensors)
    arguments = {(a.feeds or a.name): a for a in spec.tensor_arguments}
    tensors = {name: Ref(a.name, canonical_dims(a.layouts[0], canonical[name])) for name, a in arguments.items()}
    tensors |= {w.name: Ref(w.name, w.layout.dims) for w in spec.weights}
    integers = frozenset(a.name for a in spec.tensor_arguments if a.dtype == "integer")
    indices = {dim.lower(): dim for dims in spec.tensors.values() for dim in dims}
    return Scope(tensors, canonical, indices, integers=integers)


def _returns(spec: Spec, body: Body) -> Iterator[Statement]:
    """The outputs under their documented names; where one depends on an argument, a return with it and one without.

    Of several outputs of one name each has its own return. `None` stands where a value may be and is not.
    """
    outputs = body.spec.outputs
    optional = [output for output in outputs if output.when is not None]
    if len({output.name for output in optional}) > 1:
        raise LoweringError(f"{spec.name}: outputs: at most one output may depend on an argument, got {len(optional)}")
    made = {output: _output(output, body) for output in outputs}
    always = [output for output in outputs if output.when is None]
    yield from (made[output] for output in always if made[output].value != made[output].target)
    yield from _swapped_back(always)
    yield from _unfolded(spec, always)
    for number, output in enumerate(optional):
        branch = (
            made[output],
            *_swapped_back([output]),
            *_unfolded(spec, [output]),
            _return(spec, _places(spec, outputs), [*always, output], made),
        )
        others = [other.when for other in optional[:number]]
        if output.when in [Unary("not", when) for when in others if when is not None]:
            yield from branch
            return
        assert output.when is not None
        yield If(output.when, branch, clause=f"returns.{output.name}")
    yield _return(spec, _places(spec, always), always, made)


def _places(spec: Spec, outputs: Iterable[Output]) -> list[str]:
    """The names of what is returned with these outputs, in order, those that are None among them."""
    held = {output.name for output in outputs}
    return list(dict.fromkeys(output.name for output in spec.outputs if output.name in held or output.otherwise))


def _return(spec: Spec, names: Iterable[str], outputs: Iterable[Output], made: Mapping[Output, Assign]) -> Return:
    """The outputs of these names, None where there is no such output; each without the axis that a call may lack."""
    chosen = {output.name: output for output in outputs}
    places = [chosen.get(name) for name in names]
    lifted = tuple(lacking_axis(output.layouts) if output else 0 for output in places) if lift_names(spec) else ()
    return Return(tuple(made[output].target if output else Ref("None") for output in places), lifted)


def _unfolded(spec: Spec, outputs: list[Output]) -> Iterator[Statement]:
    """Outputs with all axes that inputs and weights came with."""
    for output in outputs:
        yield from unfolding(spec, output.name, output.layouts[0])


def _swapped_back(outputs: list[Output]) -> Iterator[Statement]:
    """A call gets its batches back in the order in which it gave them."""
    for output in (output for output in outputs if output.swapped_unless):
        yield If(given_as_swapped(output.swapped_unless), (swap(output.name, output.layouts[0].dims),), clause=SWAPPED)


def _output(output: Output, body: Body) -> Assign:
    node = _output_node(output, body)
    return Assign(Ref(output.name, node.dims), node, f"returns.{output.name}")


def _logsumexp(body: Body) -> Op:
    """The log-sum-exp of every row; where rows may be empty, -inf there, with no NaN in its gradient."""
    logits = body.refs["logit"]
    assert logits.dims is not None
    dims = logits.dims[:-1]
    if "empty" not in body.refs:
        return Op("logsumexp", (logits,), dims)
    finite = Op("logsumexp", (body.refs["safe_logit"],), dims)
    return Op("where", (Op("first_of_last", (body.refs["empty"],), dims), Const("-inf"), finite), dims)


def _output_node(output: Output, body: Body) -> Node:
    node: Node
    if output.tensor == "logsumexp":
        node = _logsumexp(body)
        node = Op("cast", (transpose(node, output.layouts[0].dims),), output.layouts[0].dims, (("to", "dtype"),))
    else:
        name = output.tensor.partition("@")[0]
        ref = body.scope.tensors[name]
        ref = Ref(variable(output.tensor), ref.dims) if name != output.tensor else ref
        node = transpose(ref, canonical_dims(output.layouts[0], body.spec.tensors[name]))
        if name in VARIABLES:
            node = Op("cast", (node,), node.dims, (("to", "dtype"),))
    return Op("stop_gradient", (node,), node.dims) if output.stop_gradient else node


__all__ = ["LoweringError", "lower_spec", "variable"]
