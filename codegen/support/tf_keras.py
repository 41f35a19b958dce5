"""Helpers that generated files for tf_keras carry, beside those of TensorFlow."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from attnspec.codegen.support.common import _fold, _LayoutError


class _EinsumDense(tf_keras.layers.EinsumDense):
    """Adds the bias in at least float32: the bias's gradient is a sum over batch and length, which half precision rounds."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        product = tf.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            wide = tf.float64 if product.dtype == tf.float64 else tf.float32
            product = tf.cast(tf.cast(product, wide) + tf.cast(self.bias, wide), product.dtype)
        return product if self.activation is None else self.activation(product)


def _dropout(weights: tf.Tensor, rate: float, seed: Any) -> tf.Tensor:
    """Zero a share of the weights and rescale the rest: what the layer's own generator draws next."""
    return tf.zeros_like(weights) if rate == 1 else seed.dropout(weights, rate=rate)


def _by_mode(training: Any, function: Callable[[bool], Any]) -> Any:
    """What `function` makes of that mode, the learning phase where it is None; a graph may not know it."""
    mode = tf_keras.backend.learning_phase() if training is None else training
    known = tf.get_static_value(mode)
    if known is None:
        return tf.cond(tf.cast(mode, tf.bool), lambda: function(True), lambda: function(False))
    return function(bool(known))


def _deprecated_causal(settings: dict[str, Any]) -> bool:
    """`causal` of older programs, taken out of the settings."""
    if "causal" in settings:
        warnings.warn("`causal` is deprecated: pass `use_causal_mask` to the call", DeprecationWarning, stacklevel=3)
    return bool(settings.pop("causal", False))


def _alike(**tensors: tuple[tf.Tensor | None, int]) -> None:
    """Tensors have the same leading axes, before so many of their own."""
    leading = {name: tuple(tensor.shape)[:-own] for name, (tensor, own) in tensors.items() if tensor is not None}
    (first, wanted), *others = leading.items()
    for name, axes in others:
        if len(axes) != len(wanted) or any(None not in pair and pair[0] != pair[1] for pair in zip(axes, wanted, strict=True)):
            raise _LayoutError(f"`{name}` must have the leading axes of `{first}`, {wanted}, got {axes}")


def _shape_of(tensor: Any) -> tf.TensorShape:
    """The shape of a tensor, or the shape itself."""
    return tf.TensorShape(tensor.shape if hasattr(tensor, "shape") else tensor)


def _mask_of(tensor: Any) -> Any:
    """The mask that Keras has a tensor carry."""
    try:
        return tensor._keras_mask
    except AttributeError:
        return None


def _carry_mask(given: Any, tensor: tf.Tensor, dim: str, spans: dict[str, Any]) -> tf.Tensor:
    """The tensor with the mask of what it was made of."""
    mask = _mask_of(given)
    if mask is not None and tensor is not given:
        tensor._keras_mask = _fold("mask", mask, dim, spans)
    return tensor


def _padded(tensor: Any, *beside: Any) -> Any:
    """A ragged tensor as a dense one, as long as the others beside it."""
    if not isinstance(tensor, tf.RaggedTensor):
        return tensor
    longest = tf.reduce_max([_longest(each) for each in (tensor, *beside)])
    return tensor.to_tensor(shape=(None, longest, *tensor.shape[2:]))


def _longest(tensor: Any) -> tf.Tensor:
    return tensor.bounding_shape(1) if isinstance(tensor, tf.RaggedTensor) else tf.shape(tensor, tf.int64)[1]


def _all_of(masks: list[tf.Tensor]) -> tf.Tensor | None:
    """What all of the masks leave visible; None where there is none."""
    return functools.reduce(tf.logical_and, masks) if masks else None
