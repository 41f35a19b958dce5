"""A spec's layer without projections as a layer of tf_keras (Keras 2), in the place of its own.

Its functions and its weights are those of `keras_list_layer.py`. The class around them is what Keras 2 has: a layer that draws
by a generator of its own, masks that its call joins, shapes that are `tf.TensorShape`, a mode that a graph may not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.index_notation import lower
from attnspec.codegen.keras_class import Method, layer_class
from attnspec.codegen.keras_list_layer import (
    APPLIED,
    MASK,
    SCORES,
    attended,
    built_weights,
    configured,
    kept_arguments,
    named_inputs,
    own_scores,
)
from attnspec.codegen.lower import canonical_scope
from attnspec.codegen.printer import ATOM, Printer, Target
from attnspec.codegen.prologue import constructor_checks
from attnspec.spec.expression import fold, to_text
from attnspec.spec.model import Spec

_BASE = "__internal__.layers.BaseRandomLayer"
_CAUSAL = "mask.causal"


def tf_keras_list_layer(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of the layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    applied = f"self, scores: Any, value: Any, {MASK}: Any = None, training: Any = None"
    methods: tuple[Method, ...] = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", _constructor(spec, target)),
        ("build", "self, input_shape: Any", "None", _build(spec)),
        (SCORES, "self, query: Any, key: Any", "Any", own_scores(spec)),
        ("_scores_mask", "self, scores: Any, value_mask: Any, causal: bool", "Any", _masks(spec, target)),
        (APPLIED, applied, "Any", _own_applied()),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec)),
        ("compute_mask", "self, inputs: Any, mask: Any = None", "Any", _COMPUTED_MASK),
        ("compute_output_shape", "self, input_shape: Any", "tf.TensorShape", _OUTPUT_SHAPE),
        ("_validate_call_args", "self, inputs: Any, mask: Any", "None", _VALIDATED),
        ("get_config", "self", "dict[str, Any]", configured(spec)),
    )
    return layer_class(spec.class_name, target, docstring, methods, base=_BASE)


def _constructor(spec: Spec, target: Target) -> Iterator[str]:
    yield "causal = _deprecated_causal(kwargs)\nsuper().__init__(seed=seed, **kwargs)"
    yield "self.supports_masking, self.causal = True, causal"
    yield from kept_arguments(spec)
    printer = Printer(target, batched=False)
    yield from (printer.statement(replace(check, numbers=())) for check in constructor_checks(spec))


def _build(spec: Spec) -> Iterator[str]:
    if any(weight.layout.axes for weight in spec.weights):  # whose sizes are those of a list's members
        yield "if isinstance(input_shape, tf.TensorShape):  # of one tensor\n    self._validate_call_args(input_shape, None)"
    yield from built_weights(spec)
    yield "if self.dropout > 0:\n    super().build(input_shape)  # which makes the state that dropout draws from"
    yield "else:\n    tf_keras.layers.Layer.build(self, input_shape)"


def _masks(spec: Spec, target: Target) -> Iterator[str]:
    (path,) = spec.paths
    rule = next(stage.expression for stage in path.stages if stage.clause == _CAUSAL)
    printer = Printer(target, batched=False, rules={_CAUSAL: to_text(fold(rule))})
    positions = lower(rule, ("T", "S"), canonical_scope(spec), _CAUSAL)
    yield '"""Where queries attend to keys: the mask of the values, the causal one, or both; None where there is neither."""'
    yield f"{MASK} = None if value_mask is None else value_mask[..., None, :]"
    yield f"if not causal:\n    return {MASK}"
    yield "queries, keys = _shape(scores)[-2:]"
    yield "t, s = tf.range(queries, dtype=tf.int64), tf.range(keys, dtype=tf.int64)"
    yield printer.comment(_CAUSAL)
    yield f"positions = {printer.operand(positions, ATOM)}"
    yield f"return positions if {MASK} is None else {MASK} & positions"


def _own_applied() -> Iterator[str]:
    yield '"""The attended values and the weights, after dropout."""'
    drawn = "dropout=self.dropout, seed=self._random_generator"
    yield f"def applied(training: bool) -> Any:\n    return {APPLIED}(scores, value, {MASK}, training, {drawn})\n"
    yield "return _by_mode(training, applied) if self.dropout > 0 else applied(False)"


def _call(spec: Spec) -> Iterator[str]:
    yield "self._validate_call_args(inputs=inputs, mask=mask)"
    yield from named_inputs(spec)
    yield f"{MASK} = self._scores_mask(scores, value_mask, use_causal_mask or self.causal)"
    yield from attended(spec, "tf.where(query_mask[..., None], output, 0)")


_COMPUTED_MASK = (
    "self._validate_call_args(inputs=inputs, mask=mask)",
    "return None if not mask or mask[0] is None else tf.convert_to_tensor(mask[0])",
)
_OUTPUT_SHAPE = (
    "query, value = (tf.TensorShape(shape) for shape in input_shape[:2])",
    "return query[:-1].concatenate(value[-1:])",
)
_VALIDATED = (
    "name = self.__class__.__name__",
    "if not isinstance(inputs, list):\n"
    '    wanted = "layer must be called on a list of inputs, namely [query, value] or [query, value, key]."\n'
    '    raise ValueError(f"{name} {wanted} Received: {inputs}.")',
    "if not 2 <= len(inputs) <= 3:\n"
    '    wanted = "layer accepts inputs list of length 2 or 3, namely [query, value] or [query, value, key]."\n'
    '    raise ValueError(f"{name} {wanted} Received length: {len(inputs)}.")',
    "if mask and not isinstance(mask, list):\n"
    '    raise ValueError(f"{name} layer mask must be a list, namely [query_mask, value_mask]. Received: {mask}.")',
    "if mask and not 2 <= len(mask) <= len(inputs):\n"
    '    wanted = "layer mask must be a list of length 2, namely [query_mask, value_mask]."\n'
    '    raise ValueError(f"{name} {wanted} Received length: {len(mask)}.")',
)
"""The texts of Keras 2, which programs and its own tests match."""


__all__ = ["tf_keras_list_layer"]
