"""Helpers that generated files for tf_keras carry, beside those of TensorFlow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from attnspec.codegen.support.common import _LayoutError


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
