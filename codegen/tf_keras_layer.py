"""A spec's layer with projections as a layer of tf_keras (Keras 2), in the place of its own.

Settings, projections and functions are those of `keras_layer.py`, printed with TensorFlow's operations. The class around them
is what Keras 2 has: it makes its sublayers from the first call's inputs or from a configuration that remembers their shapes,
reads masks off its inputs, takes ragged ones, and may not know in a graph whether it is training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.folding import axes_argument
from attnspec.codegen.keras_class import Method, layer_class
from attnspec.codegen.keras_hooks import APPLIED, INNER, MASK, SCORES, SOFTMAX
from attnspec.codegen.keras_masks import CAUSAL, position_masks
from attnspec.codegen.keras_projections import Dense, common_settings, dense_layers, einsum_dense, last_projection
from attnspec.codegen.keras_settings import NAMED, configured, constructor, held, kept, size_text
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.prologue import call_checks, tensor_checks
from attnspec.spec.expression import substitute
from attnspec.spec.model import Spec

_INPUTS = ", ".join(INNER)
_GIVEN = "query, value, key"
"""The inputs in the order of a call."""
_COMMON = "self._get_common_kwargs_for_sublayer()"
_SHAPES = ("query_shape", "key_shape", "value_shape")


def tf_keras_layer(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of the layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    dense = dense_layers(spec)
    mask, inner = f"{MASK}: Any = None", ", ".join(f"{name}: Any" for name in INNER)
    methods: tuple[Method, ...] = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", (*constructor(spec, target), _UNBUILT)),
        ("_build_from_signature", "self, query: Any, value: Any, key: Any = None", "None", _built(spec, dense)),
        ("_build_attention", "self, rank: int", "None", _between(spec)),
        (
            "_make_output_dense",
            "self, free_dims: int, common_kwargs: dict[str, Any], name: str | None = None",
            "Any",
            last_projection(spec, dense[-1]),
        ),
        ("_get_common_kwargs_for_sublayer", "self", "dict[str, Any]", common_settings(spec)),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec, target, dense)),
        (
            f"_compute_{MASK}",
            f"self, query: Any, value: Any, key: Any = None, {mask}, {CAUSAL}: bool = False",
            "Any",
            _JOINT_MASK,
        ),
        *position_masks(spec, target),
        ("_compute_attention", f"self, {inner}, {mask}, training: Any = None", "tuple[Any, Any]", _ATTENTION),
        (SOFTMAX, f"self, attention_scores: Any, {mask}", "Any", _softmax(spec)),
        (
            "compute_output_shape",
            "self, query_shape: Any, value_shape: Any, key_shape: Any = None",
            "tf.TensorShape",
            _output_shape(spec),
        ),
        ("get_config", "self", "dict[str, Any]", (*configured(spec, target), *_REMEMBERED)),
        ("from_config", "cls, config: dict[str, Any]", "Any", _FROM_CONFIG),
    )
    return layer_class(spec.class_name, target, docstring, methods)


_UNBUILT = "self._built_from_signature = False\nself._query_shape = self._key_shape = self._value_shape = None"


def _built(spec: Spec, dense: tuple[Dense, ...]) -> Iterator[str]:
    yield '"""The sublayers, for inputs or shapes of inputs."""'
    yield "self._built_from_signature = True"
    yield "shapes = [_shape_of(each) for each in (query, value, value if key is None else key)]"
    yield "self._query_shape, self._value_shape, self._key_shape = shapes"
    yield from (f"self.{attribute} = self._query_shape[-1]" for attribute in NAMED.values())
    axes = axes_argument(spec)
    if axes is not None:
        own = kept(spec, axes.name)
        yield f'{own} = tuple(_places("{axes.name}", {own}, self._query_shape.rank))'
    made = (einsum_dense(spec, each, f'name="{each.name}"', f"**{_COMMON}") for each in dense[:-1])
    lines = [f"self.{each.attribute} = {text}" for each, text in zip(dense, made, strict=False)]
    lines.append("self._build_attention(4)")
    last = f'self._make_output_dense(2, {_COMMON}, "{dense[-1].name}")'
    lines.append(f"self.{dense[-1].attribute} = {last}")
    yield f"with tf.init_scope():  # not in the graph of a call\n{indent(chr(10).join(lines))}"


def _between(spec: Spec) -> Iterator[str]:
    yield '"""What the attention between the projections keeps, of projected heads of that rank."""'
    robust = f"robust_masking={kept(spec, 'softmax_robust_masking')}"
    yield "# For subclasses: the layer has its own."
    yield f"self._softmax = tf_keras.layers.Softmax({robust}, dtype=self.dtype_policy)"
    yield f"self._dropout_layer = tf_keras.layers.Dropout({kept(spec, 'dropout')}, dtype=self.dtype_policy)"


def _call(spec: Spec, target: Target, dense: tuple[Dense, ...]) -> Iterator[str]:
    printer = Printer(target, batched=False)
    inputs = {argument.feeds: argument.name for argument in spec.arguments if argument.feeds}
    yield "if not self._built_from_signature:\n    self._build_from_signature(query=query, value=value, key=key)"
    yield "key = value if key is None else key"
    yield "lengths = query.nested_row_lengths() if isinstance(query, tf.RaggedTensor) else None"
    yield f"{_GIVEN} = given = _padded(query), _padded(value, key), _padded(key, value)"
    axes = axes_argument(spec)
    assert axes is not None
    yield f'spans = _spans("{axes.name}", {kept(spec, axes.name)}, _sizes_of(query), _sizes_of(value))'
    yield from (printer.statement(statement) for statement in tensor_checks(spec))
    for check in call_checks(spec):
        yield printer.statement(replace(check, fails=substitute(check.fails, held(spec))))
    yield f'{_GIVEN} = (_carry_mask(*each, spans) for each in zip(given, ({_GIVEN}), "TSS", strict=True))'
    yield f"{MASK} = self._compute_{MASK}(query, value, key=key, {MASK}={MASK}, {CAUSAL}={CAUSAL})"
    yield from (f"{each.defines} = self.{each.attribute}({inputs[each.source]})" for each in dense if each.source in inputs)
    yield f"output, scores = self._compute_attention({_INPUTS}, {MASK}, training)"
    yield f'output = _unfold(self.{dense[-1].attribute}(output), "T", spans)'
    yield "if lengths is not None:\n    output = tf.RaggedTensor.from_tensor(output, lengths=lengths)"
    yield "return (output, _unfold_pairs(scores, spans)) if return_attention_scores else output"


_JOINT_MASK = (
    '"""The mask of a call together with those that its inputs carry and the causal one; None where there is none."""',
    "masks: list[Any] = []",
    "for tensor, axis in ((query, 2), (value, 1), (key, 1)):\n"
    "    if _mask_of(tensor) is not None:\n"
    "        masks.append(tf.expand_dims(tf.cast(_mask_of(tensor), tf.bool), axis))",
    f"if {CAUSAL}:\n    masks.append(self._compute_causal_mask(query, value))",
    f"if {MASK} is not None:\n    masks.append(tf.cast({MASK}, tf.bool))",
    "return _all_of(masks)",
)


_ATTENTION = (
    '"""Output by head, and the weights before dropout: what a subclass may replace."""',
    f"weights = self.{SOFTMAX}({SCORES}(query, key), {MASK})",
    f"return {APPLIED}(self._dropout_layer(weights, training=training), value), weights",
)


def _softmax(spec: Spec) -> Iterator[str]:
    yield '"""Weights of scores, (B, N, T, S): what a subclass may replace."""'
    robust = f"softmax_robust_masking={kept(spec, 'softmax_robust_masking')}"
    yield f"return {SOFTMAX}(attention_scores, {MASK}, {robust})"


def _output_shape(spec: Spec) -> Iterator[str]:
    yield "key_shape = value_shape if key_shape is None else key_shape"
    yield f"{_INPUTS} = (tf.TensorShape(shape) for shape in (query_shape, key_shape, value_shape))"
    yield (
        "if value[1:-1] != key[1:-1]:\n"
        '    wanted = "All dimensions of `value` and `key`, except the last one, must be equal."\n'
        '    raise ValueError(f"{wanted} Received {value} and {key}")'
    )
    yield f"return query[:-1].concatenate([{size_text(spec, spec.outputs[0].layouts[0].dims[-1], {'E': 'query[-1]'})}])"


_REMEMBERED = (*(f'config["{name}"] = self._{name}' for name in _SHAPES), "return config")
_FROM_CONFIG = (
    '"""The layer, with its sublayers where the shapes of its inputs are known."""',
    "config = dict(config)",
    f"{', '.join(_SHAPES)} = (config.pop(name, None) for name in {_SHAPES!r})".replace("'", '"'),
    "layer = cls(**config)",
    f"if None not in ({', '.join(_SHAPES)}):\n    layer._build_from_signature(query_shape, value_shape, key_shape)",
    "return layer",
)


__all__ = ["tf_keras_layer"]
