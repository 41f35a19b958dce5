"""A spec's layer without projections as a `keras.layers.Layer`: a list of inputs, a list of masks, weights of its own.

Its hooks are those of Keras's `Attention`, and each is compiled from the stages that it stands for: `_calculate_scores` from
the score and its modifiers, `_apply_scores` from the fill to the sum over the values. Between them masks are joined, as there.
Any number of leading axes will do, as Keras's own tests have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.keras_class import Method, layer_class
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.prologue import constructor_checks
from attnspec.spec.expression import Call, Expression, Name, names, substitute, to_text
from attnspec.spec.layouts import parse_layout
from attnspec.spec.model import Argument, Output, Spec, Stage, Weight

SCORES, APPLIED = "_calculate_scores", "_apply_scores"
MASK = "scores_mask"
_FIRST = ("score", "modifier")


def is_list_layer(spec: Spec) -> bool:
    """Whether the layer takes a list of query, value and key as they are, and masks of positions."""
    lists = [argument for argument in spec.arguments if argument.role == "tensors"]
    kinds = {stage.kind for path in spec.paths for stage in path.stages}
    return spec.form == "layer" and len(lists) == 2 and not kinds & {"project", "output"} and len(spec.paths) == 1


def inner_specs(spec: Spec) -> tuple[Spec, Spec]:
    """The functions of both hooks: scores of query and key, and what they make of the values."""
    return _scores(spec), _applied(spec)


def _scores(spec: Spec) -> Spec:
    (path,) = spec.paths
    stages = tuple(stage for stage in path.stages if stage.kind in _FIRST)
    read = frozenset[str]().union(*(names(part) for s in stages for part in (s.expression, s.when) if part is not None))
    inputs = [replace(_any_leading(spec.argument(name)), required=True, unset=None) for name in ("query", "key")]
    return replace(
        spec,
        name=f"{spec.name}.{SCORES}",
        form="function",
        summary="Scores of queries and keys.",
        constructor=tuple(argument for argument in spec.constructor if argument.name in read),
        arguments=tuple(inputs),
        paths=(replace(path, stages=stages),),
        outputs=(Output("scores", "logit", (parse_layout("... T S"),), doc="the scores"),),
        preconditions=(),
    )


def _applied(spec: Spec) -> Spec:
    (path,) = spec.paths
    kept = tuple(stage for stage in path.stages if stage.kind in ("softmax", "dropout", "combine"))
    stages = (
        Stage("score.given", "score", "logit", Name("scores")),
        Stage("mask.joint", "mask", "attends", Name(MASK), Call("given", (Name(MASK),))),
        *kept,
    )
    layouts = tuple(map(parse_layout, ("... T|1 S|1",)))
    arguments = (
        Argument("scores", "tensor", layouts=(parse_layout("... T S"),), doc="scores of queries and keys"),
        replace(_any_leading(spec.argument("value")), required=True),
        Argument(MASK, "tensor", required=False, layouts=layouts, dtype="bool", doc="True where a query attends to a key"),
        spec.argument("training"),
    )
    return replace(
        spec,
        name=f"{spec.name}.{APPLIED}",
        form="function",
        summary="Values attended by scores, and the weights.",
        constructor=tuple(argument for argument in spec.constructor if argument.name in ("dropout", "seed")),
        arguments=arguments,
        weights=(),
        paths=(replace(path, stages=stages),),
        outputs=(_any_batch(spec.outputs[0]), replace(_any_batch(spec.outputs[1]), when=None)),
        preconditions=(),
        tensors={**spec.tensors, "scores": spec.tensors["logit"], MASK: spec.tensors["logit"]},
    )


def _any_leading(argument: Argument) -> Argument:
    """A tensor with any number of axes in the place of B."""
    return replace(argument, layouts=tuple(replace(layout, axes=layout.axes[1:], batched=True) for layout in argument.layouts))


def _any_batch(output: Output) -> Output:
    return replace(output, layouts=tuple(replace(layout, axes=layout.axes[1:], batched=True) for layout in output.layouts))


# -- the class ----------------------------------------------------------------------------------------------------


def list_layer_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of the layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    inputs, mask = (argument for argument in spec.arguments if argument.role == "tensors")
    methods: tuple[Method, ...] = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", _constructor(spec, target)),
        ("build", "self, input_shape: Any", "None", ("self._validate_inputs(input_shape)", *built_weights(spec))),
        (SCORES, "self, query: Any, key: Any", "Any", own_scores(spec)),
        ("_calculate_score_mask", "self, scores: Any, v_mask: Any, use_causal_mask: bool", "Any", _MASKS),
        (
            APPLIED,
            f"self, scores: Any, value: Any, {MASK}: Any = None, training: bool | None = False",
            "Any",
            _own_applied(spec),
        ),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec)),
        ("compute_mask", "self, inputs: Any, mask: Any = None", "Any", _COMPUTED_MASK),
        ("compute_output_shape", "self, input_shape: Any", "tuple[Any, ...]", _OUTPUT_SHAPE),
        ("compute_output_spec", f"self, {', '.join(call)}", "Any", _OUTPUT_SPEC),
        ("_validate_inputs", "self, inputs: Any, mask: Any = None", "None", _validated(inputs, mask)),
        ("get_config", "self", "dict[str, Any]", configured(spec)),
    )
    return layer_class(spec.class_name, target, docstring, methods)


def _constructor(spec: Spec, target: Target) -> Iterator[str]:
    yield "super().__init__(**kwargs)"
    yield from kept_arguments(spec)
    printer = Printer(target, batched=False)
    for check in constructor_checks(spec):
        yield printer.statement(replace(check, numbers=()))
    yield "if dropout > 0:\n    self.seed_generator = keras.random.SeedGenerator(seed)"


def kept_arguments(spec: Spec) -> Iterator[str]:
    """The arguments of the constructor, as attributes of their names."""
    yield from (f"self.{argument.name} = {argument.name}" for argument in spec.constructor)


def built_weights(spec: Spec) -> Iterator[str]:
    """The weights, each under its guard; one that is not there is None."""
    yield from (f"self.{weight.name} = None" for weight in spec.weights)
    for weight in spec.weights:
        text = f"self.{weight.name} = self.add_weight({_variable(spec, weight)})"
        guard = to_text(_held(spec, weight.when)) if weight.when is not None else ""
        yield f"if {guard}:\n{indent(text)}" if guard else text


def _variable(spec: Spec, weight: Weight) -> str:
    """Arguments of `add_weight`: the sizes are the last axes of the inputs."""
    shape = ", ".join("input_shape[0][-1]" for _ in weight.layout.axes)
    sized = f"({shape},)" if shape else "()"
    return f'name="{weight.name}", shape={sized}, initializer="{weight.initializer}", dtype=self.dtype, trainable=True'


def _held(spec: Spec, expression: Expression) -> Expression:
    """Over what the layer holds of its constructor's arguments."""
    return substitute(expression, {argument.name: Name(f"self.{argument.name}") for argument in spec.constructor})


def own_scores(spec: Spec) -> Iterator[str]:
    """The body of the hook for scores."""
    weights = ", ".join(f'"{weight.name}": self.{weight.name}' for weight in spec.weights)
    own = ", ".join(f"{a.name}=self.{a.name}" for a in _scores(spec).constructor)
    yield '"""Scores of queries and keys, (..., T, S): what a subclass may replace."""'
    yield f"return {SCORES}({{{weights}}}, query, key, {own})"


def _own_applied(spec: Spec) -> Iterator[str]:
    yield '"""The attended values and the weights, after dropout."""'
    yield f"if {MASK} is not None and len({MASK}.shape) == 2:\n    {MASK} = {MASK}[:, None, :]"
    seed = "self.seed_generator if self.dropout > 0 else None"
    yield f"return {APPLIED}(scores, value, {MASK}, training, dropout=self.dropout, seed={seed})"


_MASKS = (
    '"""Where queries attend to keys: the mask of the values, the causal one, or both; None where there is neither."""',
    "if not use_causal_mask:\n    return v_mask",
    "queries, keys = _shape(scores)[-2:]",
    "t, s = ops.arange(queries, dtype=_INTEGER), ops.arange(keys, dtype=_INTEGER)",
    "causal = (s <= t[:, None])[None]",
    'return causal if v_mask is None else ops.logical_and(ops.cast(v_mask, "bool")[..., None, :], causal)',
)
_COMPUTED_MASK = (
    "self._validate_inputs(inputs=inputs, mask=mask)",
    "return None if mask is None or mask[0] is None else ops.convert_to_tensor(mask[0])",
)
_OUTPUT_SHAPE = ("return (*input_shape[0][:-1], input_shape[1][-1])",)
_OUTPUT_SPEC = (
    "self._validate_inputs(inputs, mask)",
    "query, value = inputs[:2]",
    "output = keras.KerasTensor(self.compute_output_shape([query.shape, value.shape]), dtype=self.compute_dtype)",
    "if not return_attention_scores:\n    return output",
    "return output, keras.KerasTensor((*query.shape[:-1], value.shape[-2]), dtype=self.compute_dtype)",
)


def _call(spec: Spec) -> Iterator[str]:
    yield "self._validate_inputs(inputs=inputs, mask=mask)"
    yield from named_inputs(spec)
    yield f"{MASK} = self._calculate_score_mask(scores, value_mask, use_causal_mask)"
    yield from attended(spec, "ops.where(query_mask[..., None], output, 0)")


def named_inputs(spec: Spec) -> Iterator[str]:
    """The first half of a call: its tensors by name, checked, and the scores."""
    yield "query, value, key = inputs if len(inputs) == 3 else (*inputs, None)"
    yield "key = value if key is None else key"
    yield "query_mask, value_mask = mask[:2] if mask else (None, None)"
    yield "sizes: dict[str, tuple[int, str]] = {}"
    for argument in spec.tensor_arguments:
        if not argument.inert:
            layout = " ".join(argument.layouts[0].dims[1:])
            text = f'{argument.name} = _tensor(sizes, "{argument.name}", {argument.name}, "{argument.dtype}", "... {layout}")'
            optional = argument.optional and argument.unset is None
            yield f"if {argument.name} is not None:\n    {text}" if optional else text
    yield "_alike(query=(query, 2), value=(value, 2), key=(key, 2), query_mask=(query_mask, 1), value_mask=(value_mask, 1))"
    yield f"scores = self.{SCORES}(query=query, key=key)"


def attended(spec: Spec, masked: str) -> Iterator[str]:
    """The second half: what the hook makes of scores and mask, in the rows that the mask of the query leaves."""
    yield f"output, weights = self.{APPLIED}(scores=scores, value=value, {MASK}={MASK}, training=training)"
    rows = next(stage for stage in spec.paths[0].stages if stage.kind == "rows")
    yield f"# {rows.clause}: {to_text(rows.expression)}"
    yield f"if query_mask is not None:\n    output = {masked}"
    yield "return (output, weights) if return_attention_scores else output"


def _validated(inputs: Argument, mask: Argument) -> Iterator[str]:
    """The texts of Keras, which its own tests match."""
    yield "name = self.__class__.__name__"
    yield (
        "if not isinstance(inputs, list):\n"
        '    wanted = "layer must be called on a list of inputs, namely [query, value] or [query, value, key]."\n'
        '    raise ValueError(f"{name} {wanted} Received: inputs={inputs}.")'
    )
    yield (
        f"if not {inputs.least} <= len(inputs) <= {len(inputs.elements)}:\n"
        '    wanted = "layer accepts inputs list of length 2 or 3, namely [query, value] or [query, value, key]."\n'
        '    raise ValueError(f"{name} {wanted} Received length: {len(inputs)}.")'
    )
    yield (
        "if mask is not None and not isinstance(mask, list):\n"
        '    wanted = "layer mask must be a list, namely [query_mask, value_mask]."\n'
        '    raise ValueError(f"{name} {wanted} Received: mask={mask}.")'
    )
    yield (
        f"if mask is not None and not {mask.least} <= len(mask) <= {len(mask.elements)}:\n"
        '    raise ValueError(f"{name} layer accepts mask list of length 2 or 3. Received: inputs={inputs}, mask={mask}.")'
    )


def configured(spec: Spec) -> Iterator[str]:
    """The body of `get_config`."""
    yield "config = super().get_config()"
    yield from (f'config["{argument.name}"] = self.{argument.name}' for argument in spec.constructor)
    yield "return config"
