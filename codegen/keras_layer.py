"""A spec's layer as a `keras.layers.Layer`: what its projections are, the attention between them, and the class around both.

Projections become `EinsumDense` sublayers, which bring initialisers, regularisers, constraints, dtype policies and the places
in a checkpoint that the spec declares (`path`). What lies between them is a function of its own, `_attend`, compiled like
any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from attnspec.codegen.index_notation import align, lower
from attnspec.codegen.lower import canonical_scope
from attnspec.codegen.printer import ATOM, Printer, Target, indent
from attnspec.codegen.program import Dims, Node, Ref
from attnspec.codegen.prologue import call_checks, constructor_checks, tensor_checks
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Sum, fold, names, substitute, to_text
from attnspec.spec.layouts import parse_layout
from attnspec.spec.model import Argument, Output, Path, Spec, Stage, Weight

INNER = ("query", "key", "value")
"""What the attention between the projections is a function of."""
MASK = "attention_mask"
Method = tuple[str, str, str, Iterable[str]]
_MASKED: Dims = ("B", "T", "S")
_NAMED = {"E": "feature_dim"}
"""Sizes that no argument tells, by the attribute of the layer that holds them."""
_PRIVATE = {"flash_attention": "flash_attention or keras.config.is_flash_attention_enabled()"}
"""What Keras keeps beside an argument, for its own programs to ask."""


@dataclass(frozen=True, slots=True)
class Dense:
    """One projection: the stages of one tensor, as a sublayer."""

    attribute: str
    defines: str
    source: str
    equation: str
    kernel: Weight
    bias: Weight | None
    activation: str
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """`attention_output` of `attention_output_kernel`: the sublayer's own name."""
        return self.kernel.name.rpartition("_")[0]


def dense_layers(spec: Spec) -> tuple[Dense, ...]:
    """The projections in the order of their weights, which is that of a checkpoint."""
    weights = {weight.name: weight for weight in spec.weights}
    found = [dense for stage in spec.paths[-1].stages if (dense := _dense(spec, stage, weights)) is not None]
    return tuple(sorted(found, key=lambda dense: spec.weights.index(dense.kernel)))


def _dense(spec: Spec, stage: Stage, weights: dict[str, Weight]) -> Dense | None:
    """The projection that a stage begins: a product with a weight, then perhaps a bias and an activation."""
    product = stage.expression
    while isinstance(product, Sum):
        product = product.body
    match product:
        case Binary("*", Access(source, inputs), Access(kernel, own)) if kernel in weights and product is not stage.expression:
            followers = [
                s for s in spec.paths[-1].stages if s.defines == stage.defines and s is not stage and s.kind == stage.kind
            ]
            biases = [s for s in followers if names(s.expression) & weights.keys()]
            activations = [s for s in followers if isinstance(s.expression, Call)]
            bias = next((weights[name] for s in biases for name in names(s.expression) if name in weights), None)
            activation = next((s.expression.function for s in activations if isinstance(s.expression, Call)), "")
            letters = ["".join(index.name for index in side if isinstance(index, Name)) for side in (inputs, own)]
            made = "".join(spec.tensors[stage.defines]).lower()
            return Dense(
                attribute="_" + weights[kernel].path.partition("/")[0],
                defines=stage.defines,
                source=source,
                equation=f"{letters[0]},{letters[1]}->{made}",
                kernel=weights[kernel],
                bias=bias,
                activation=activation,
                stages=(stage, *biases, *activations),
            )
    return None


def inner_spec(spec: Spec) -> Spec:
    """The attention between the projections, as a function of projected heads and one joint mask."""
    projections = {stage.clause for dense in dense_layers(spec) for stage in dense.stages}
    tensors = {name: dims for name, dims in spec.tensors.items() if name not in {w.name for w in spec.weights}}
    tensors[MASK] = spec.tensors["logit"]
    arguments = [Argument(n, "tensor", layouts=(parse_layout(" ".join(tensors[n])),), doc=f"projected {n}") for n in INNER]
    layouts = tuple(map(parse_layout, ("B|1 N|1 T|1 S|1", "B|1 T|1 S|1", "T|1 S|1")))
    doc = "True where a query attends to a key"
    arguments.append(Argument(MASK, "tensor", required=False, layouts=layouts, dtype="bool", doc=doc))
    read = _names_of(spec)
    arguments += [a for a in spec.arguments if a.role in ("flag", "training") and a.name in read]
    return replace(
        spec,
        name=f"{spec.name}._attend",
        form="function",
        summary="The attention between the projections.",
        constructor=tuple(a for a in spec.constructor if a.role == "seed" or (a.role == "number" and a.name in read)),
        arguments=tuple(arguments),
        weights=(),
        paths=tuple(_inner_path(path, projections) for path in spec.paths),
        outputs=tuple(_inner_output(output) for output in spec.outputs),
        preconditions=(),
        tensors=tensors,
        sizes={name: rule for name, rule in spec.sizes.items() if name == "G"},
    )


def _names_of(spec: Spec) -> frozenset[str]:
    """The names that guards and rules of the inner attention ask for."""
    guards = [path.when for path in spec.paths] + [output.when for output in spec.outputs]
    stages = [stage for path in spec.paths for stage in path.stages if stage.kind != "mask" or stage.clause == "mask.causal"]
    parts = [part for stage in stages for part in (stage.expression, stage.when)]
    return frozenset().union(*(names(part) for part in (*guards, *parts) if part is not None))


def _inner_path(path: Path, projections: set[str]) -> Path:
    """The stages between the projections; of the masks, the causal one and what the others make together."""
    stages: list[Stage] = []
    masked = False
    for stage in path.stages:
        if stage.clause in projections or (stage.kind == "output" and stage.clause not in projections):
            continue
        if stage.kind == "mask" and stage.clause != "mask.causal":
            if not masked:
                given = Call("given", (Name(MASK),))
                stages.append(Stage("mask.attention", "mask", "attends", Name(MASK), given))
                masked = True
            continue
        stages.append(stage)
    return replace(path, stages=tuple(stages))


def _inner_output(output: Output) -> Output:
    """Before the last projection: the heads' output; taps stay."""
    if output.tensor == "projected":
        return replace(output, tensor="output", layouts=(parse_layout("B T N V"),), doc="the attended values, by head")
    return output


# -- the class ----------------------------------------------------------------------------------------------------


def keras_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of a layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    dense = dense_layers(spec)
    tensors = [argument for argument in spec.arguments if argument.role == "tensor" and argument.dtype == "floating"]
    shapes = ", ".join(f"{a.name}_shape: Any" + (" = None" if a.optional else "") for a in tensors)
    methods = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", _constructor(spec, target)),
        ("build", f"self, {shapes}", "None", _build(spec, dense, tensors)),
        ("_get_common_kwargs_for_sublayer", "self", "dict[str, Any]", _common(spec)),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec, target, dense)),
        (f"_compute_{MASK}", f"self, query: Any, value: Any, {_mask_parameters(spec)}", "Any", _masks(spec, target)),
        ("_compute_attention", f"self, {_inner_parameters()}", "tuple[Any, Any]", _attention(spec, target)),
        ("compute_output_shape", f"self, {shapes}", "tuple[Any, ...]", _output_shape(spec, tensors)),
        ("compute_output_spec", f"self, {', '.join(call)}", "Any", _output_spec(spec, tensors)),
        ("get_config", "self", "dict[str, Any]", _config(spec)),
    )
    name = _class_name(spec)
    exported = [f"\n{spec.class_name} = {name}"] if name != spec.class_name else []
    return "\n\n".join((layer_class(name, docstring, methods), *exported))


def layer_class(name: str, docstring: str, methods: Iterable[Method]) -> str:
    """A class that Keras saves and loads. A method is its name, its signature, what it returns and its lines."""
    texts = [
        f"def {own}({signature}) -> {returned}:\n{indent(chr(10).join(body))}" for own, signature, returned, body in methods
    ]
    head = f"@keras.saving.register_keras_serializable(__name__)\nclass {name}(keras.layers.Layer):\n{indent(docstring)}"
    return "\n\n".join((head, *map(indent, texts)))


def _class_name(spec: Spec) -> str:
    """What the owner calls the class: checkpoints of models hold it."""
    return spec.defined_as or spec.class_name


def _constructor(spec: Spec, target: Target) -> Iterator[str]:
    yield "super().__init__(**kwargs)"
    yield "self.supports_masking = True"
    printer = Printer(target, batched=False)
    yield from (printer.statement(replace(check, numbers=())) for check in constructor_checks(spec))
    for argument in spec.constructor:
        kind = _object_kind(argument)
        yield f"self.{argument.name} = keras.{kind}.get({argument.name})" if kind else f"self.{argument.name} = {argument.name}"
        if argument.name in _PRIVATE:
            yield f"self._{argument.name} = {_PRIVATE[argument.name]}"
    yield "self._return_attention_scores = False"


def _object_kind(argument: Argument) -> str:
    """The module of Keras that an object comes from: `initializers` of `kernel_initializer`."""
    return argument.name.rpartition("_")[2] + "s" if argument.role == "object" else ""


def _build(spec: Spec, dense: tuple[Dense, ...], tensors: list[Argument]) -> Iterator[str]:
    shape_of = {a.feeds or a.name: f"{a.name}_shape" for a in tensors}
    for argument in tensors:
        if isinstance(argument.unset, Name):
            name = f"{argument.name}_shape"
            yield f"{name} = {argument.unset.name}_shape if {name} is None else {name}"
    for dim, attribute in _NAMED.items():
        first = next(a for a in tensors if dim in a.layouts[0].dims)
        yield f"self.{attribute} = {first.name}_shape[{first.layouts[0].dims.index(dim)}]"
    last = [each for each in dense if each.source not in shape_of]
    for each in (each for each in dense if each not in last):
        yield from _built(spec, each, shape_of[each.source])
    yield from _dropout(spec)
    for each in last:
        sizes = ", ".join(_size(spec, dim) for dim in spec.tensors[each.source][2:])
        yield from _built(spec, each, f"(None, None, {sizes})")


def _dropout(spec: Spec) -> Iterator[str]:
    """The sublayer that holds what dropout draws from, where Keras looks for it."""
    seed = next((argument.name for argument in spec.constructor if argument.role == "seed"), "")
    if seed:
        yield f"self._dropout_layer = keras.layers.Dropout(self.{_rate(spec)}, dtype=self.dtype_policy, seed=self.{seed})"


def _rate(spec: Spec) -> str:
    """The argument that is the rate of dropout."""
    stages = (stage for path in spec.paths for stage in path.stages if stage.kind == "dropout")
    return next(iter(names(next(stages).expression)))


def _built(spec: Spec, dense: Dense, shape: str) -> Iterator[str]:
    made = spec.tensors[dense.defines][2:]
    bias = "".join(dense.bias.layout.dims).lower() if dense.bias else ""
    only = f" if {_own(spec, dense.bias.when, dense.kernel.when)} else None" if dense.bias and dense.bias.when else ""
    arguments = [
        f'"{dense.equation}"',
        f"output_shape=(None, {', '.join(_size(spec, dim) for dim in made)})",
        f'bias_axes="{bias}"{only}' if bias else "bias_axes=None",
        *([f'activation="{dense.activation}"'] if dense.activation else []),
        f'name="{dense.name}"',
        "**self._get_common_kwargs_for_sublayer()",
    ]
    lines = f"self.{dense.attribute} = _EinsumDense({', '.join(arguments)})\nself.{dense.attribute}.build({shape})"
    guard = _own(spec, dense.kernel.when, None) if dense.kernel.when else ""
    yield f"if {guard}:\n{indent(lines)}" if guard else lines


def _own(spec: Spec, when: Expression | None, given: Expression | None) -> str:
    """A guard over the constructor's arguments, which the layer holds; what `given` has asked already is left out."""
    assert when is not None
    match when:
        case Binary("and", left, right) if given in (left, right):
            when = right if left == given else left
    return to_text(substitute(when, {a.name: Name(f"self.{a.name}") for a in spec.constructor}))


def _size(spec: Spec, dim: str) -> str:
    teller = spec.teller(dim)
    return f"self.{teller.name if teller else _NAMED[dim]}"


def _common(spec: Spec) -> Iterator[str]:
    """What all sublayers share; each gets initialisers of its own, for an initialiser draws the same again."""
    yield '"""What all sublayers share; an initialiser each, for one that is shared would draw the same for all."""'
    for argument in spec.constructor:
        if argument.role == "object" and argument.name.endswith("initializer"):
            own = f"self.{argument.name}"
            yield f"{argument.name} = {own}.__class__.from_config({own}.get_config())"
    objects = [a.name for a in spec.constructor if a.role == "object"]
    passed = [f'"{name}": {name if name.endswith("initializer") else f"self.{name}"}' for name in objects]
    passed.append('"dtype": self.dtype_policy')
    yield f"return {{{', '.join(passed)}}}"


def _call(spec: Spec, target: Target, dense: tuple[Dense, ...]) -> Iterator[str]:
    inputs = {a.feeds or a.name: a.name for a in spec.arguments if a.role == "tensor"}
    printer = Printer(target, batched=False)
    held = {a.name: Name(f"self.{a.name}") for a in spec.constructor}
    for check in call_checks(spec):
        yield printer.statement(replace(check, fails=substitute(check.fails, held)))
    yield "self._return_attention_scores = return_attention_scores"
    for argument in spec.arguments:
        if argument.role == "tensor" and isinstance(argument.unset, Name):
            yield f"{argument.name} = {argument.unset.name} if {argument.name} is None else {argument.name}"
    yield from (printer.statement(statement) for statement in tensor_checks(spec))
    masks = ", ".join(f"{name}={name}" for name in (*_mask_names(spec), *_mask_flags(spec)))
    yield f"{MASK} = self._compute_{MASK}(query, value, {masks})"
    first = [each for each in dense if each.source in inputs]
    for each in sorted(first, key=lambda each: each.defines in INNER):
        line = f"{each.defines} = self.{each.attribute}({inputs[each.source]})"
        yield f"{line} if {_own(spec, each.kernel.when, None)} else None" if each.kernel.when else line
    own = f"{_class_name(spec)}._compute_attention"
    yield (
        "# A subclass's own attention gets a key and a value for every query head.\n"
        f"if type(self)._compute_attention is not {own}:\n"
        "    key, value = (ops.repeat(heads, query.shape[2] // heads.shape[2], axis=2) for heads in (key, value))"
    )
    yield f"output, scores = self._compute_attention(query, key, value, {MASK}={MASK}, training=training)"
    projections = {stage.clause for each in dense for stage in each.stages}
    for stage in spec.paths[-1].stages:
        if stage.kind == "output" and stage.clause not in projections:
            line = f"{stage.defines} = {to_text(fold(stage.expression))}"
            yield f"if {_own(spec, stage.when, None)}:\n{indent(line)}" if stage.when is not None else line
    for each in dense:
        if each.source not in inputs:
            yield f"output = self.{each.attribute}(output)"
    yield "return (output, scores) if return_attention_scores else output"


def _mask_names(spec: Spec) -> list[str]:
    return [a.name for a in spec.arguments if a.role == "tensor" and a.dtype == "bool"]


def _mask_flags(spec: Spec) -> list[str]:
    """Flags of the call that decide on a mask."""
    asked = [stage.when for path in spec.paths for stage in path.stages if stage.kind == "mask" and stage.when is not None]
    read = frozenset().union(*map(names, asked))
    return [a.name for a in spec.arguments if a.role == "flag" and a.name in read]


def _mask_parameters(spec: Spec) -> str:
    tensors = [f"{name}: Any = None" for name in _mask_names(spec)]
    return ", ".join((*tensors, *(f"{name}: bool = False" for name in _mask_flags(spec))))


def _masks(spec: Spec, target: Target) -> Iterator[str]:
    """Every mask of the call over (B, T, S), and all of them together."""
    stages = [stage for stage in spec.paths[-1].stages if stage.kind == "mask" and stage.when is not None]
    scope, printer = canonical_scope(spec), Printer(target, batched=False, rules=_rules(stages))
    added: list[str] = []
    for stage in stages:
        text = _over_batch(lower(stage.expression, _MASKED, scope, stage.clause), printer)
        assert stage.when is not None
        added += [printer.comment(stage.clause), f"if {to_text(stage.when)}:\n    masks.append({text})"]
    yield '"""The masks of a call as one, (B|1, T, S); None where there is none."""'
    yield from (f"{a.name} = self.{a.name}" for a in spec.constructor if any(a.name in text for text in added))
    yield from (f'{name} = None if {name} is None else ops.cast({name}, "bool")' for name in _mask_names(spec))
    grids = {"t": "query", "s": "value"}
    made = [f"{x} = ops.arange(_shape({grids[x]})[1], dtype=_INTEGER)" for x in sorted(scope.used_indices, reverse=True)]
    read = [
        to_text(stage.when) for stage in stages if stage.when is not None and not names(stage.expression) & {*_mask_names(spec)}
    ]
    if made:
        yield f"if {' or '.join(dict.fromkeys(read))}:\n{indent(chr(10).join(made))}"
    yield "masks: list[Any] = []"
    yield from added
    yield "return _all_of(masks)"


def _rules(stages: list[Stage]) -> dict[str, str]:
    return {stage.clause: to_text(fold(stage.expression)) for stage in stages}


def _over_batch(node: Node, printer: Printer) -> str:
    """A mask with all three axes: a tensor gets those that it lacks, a predicate of positions one for the batch."""
    if isinstance(node, Ref):
        return printer.node(align(node, _MASKED))[0]
    return f"{printer.operand(node, ATOM)}[None]"


def _inner_parameters() -> str:
    tensors = ", ".join(f"{name}: Any" for name in INNER)
    return f"{tensors}, {MASK}: Any = None, training: bool | None = None, use_causal_mask: bool = False"


def _attention(spec: Spec, target: Target) -> Iterator[str]:
    """The inner attention; the one that subclasses replace."""
    inner = inner_spec(spec)
    own = {"return_attention_scores": "self._return_attention_scores"}
    passed = [f"{a.name}={own.get(a.name, a.name)}" for a in inner.arguments if a.name not in INNER and a.name != MASK]
    passed += [f"{a.name}=self.{a.name}" for a in inner.constructor if a.role != "seed"]
    drawn = f"self._dropout_layer.seed_generator if self.{_rate(spec)} > 0 else None"  # Keras makes one where it has to
    passed += [f"{a.name}={drawn}" for a in inner.constructor if a.role == "seed"]
    yield '"""Output by head, and the weights before dropout where they are wanted: what a subclass may replace."""'
    yield f'{MASK} = None if {MASK} is None else ops.cast({MASK}, "bool")'
    yield f"found = _attend(query, key, value, {MASK}, {', '.join(passed)})"
    yield "return found if isinstance(found, tuple) else (found, None)"


def _output_shape(spec: Spec, tensors: list[Argument]) -> Iterator[str]:
    dims = {a.name: a.layouts[0].dims for a in tensors}
    for argument in tensors:
        if isinstance(argument.unset, Name):
            name = f"{argument.name}_shape"
            yield f"{name} = {argument.unset.name}_shape if {name} is None else {name}"
    received = ", ".join(f"{name}_shape={{{name}_shape}}" for name in dims)
    for one, other in ((a, b) for n, a in enumerate(dims) for b in list(dims)[n + 1 :]):
        for dim in [dim for dim in dims[one] if dim in dims[other] and dim != "B"]:
            here, there = f"{one}_shape[{dims[one].index(dim)}]", f"{other}_shape[{dims[other].index(dim)}]"
            yield f'if {here} != {there}:\n    raise ValueError(f"`{here}` and `{there}` must be equal. Received: {received}")'
    first = next(name for name in dims if dims[name] == spec.outputs[0].layouts[0].dims)
    yield f"return tuple({first}_shape)"


def _output_spec(spec: Spec, tensors: list[Argument]) -> Iterator[str]:
    shapes = ", ".join(
        f"{a.name}.shape if {a.name} is not None else None" if a.optional else f"{a.name}.shape" for a in tensors
    )
    yield f"output = keras.KerasTensor(self.compute_output_shape({shapes}), dtype=self.compute_dtype)"
    for output in spec.outputs[1:]:
        sizes = ", ".join(_spec_size(spec, dim, tensors) for dim in output.layouts[0].dims)
        assert output.when is not None
        yield f"if {to_text(output.when)}:\n    return output, keras.KerasTensor(({sizes}), dtype=self.compute_dtype)"
    yield "return output"


def _spec_size(spec: Spec, dim: str, tensors: list[Argument]) -> str:
    if spec.teller(dim) is not None:
        return _size(spec, dim)
    first = next(a for a in tensors if dim in a.layouts[0].dims)
    return f"{first.name}.shape[{first.layouts[0].dims.index(dim)}]"


def _config(spec: Spec) -> Iterator[str]:
    yield "config = super().get_config()"
    for argument in spec.constructor:
        kind = _object_kind(argument)
        own = f"self.{argument.name}"
        yield f'config["{argument.name}"] = ' + (f"keras.{kind}.serialize({own})" if kind else own)
    yield "return config"


__all__ = ["Dense", "dense_layers", "inner_spec", "keras_class", "layer_class"]
