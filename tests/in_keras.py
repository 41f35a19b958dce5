"""Keras on the backend of this process (`KERAS_BACKEND`), and derivatives in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp())  # neither read the user's settings nor write any
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiled to be run once
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import ops

BACKEND: str = keras.config.backend()
WIDE = "float32" if BACKEND == "jax" else "float64"  # the widest dtype that Keras keeps there
Tensors = dict[str, Any]
Outputs = Callable[[Tensors], Sequence[Any]]


def tensors_of(arrays: Mapping[str, np.ndarray], dtype: str = WIDE) -> Tensors:
    return {name: ops.convert_to_tensor(array, dtype) for name, array in arrays.items()}


def array_of(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled where one operation after another would be compiled otherwise."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


def outputs_and_gradients(
    outputs: Outputs, at: Tensors, cotangents: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The outputs, and the gradient of their product with the cotangents, by the backend's own means."""

    def total(tensors: Tensors) -> tuple[Any, list[Any]]:
        found = list(outputs(tensors))
        return sum(ops.sum(c * ops.cast(o, WIDE)) for c, o in zip(given, found, strict=True)), found

    given = [ops.convert_to_tensor(cotangent, WIDE) for cotangent in cotangents]
    found, slopes = _GRADIENTS[BACKEND](total, at)
    return [array_of(output) for output in found], {name: array_of(slope) for name, slope in slopes.items()}


Total = Callable[[Tensors], tuple[Any, list[Any]]]


def _in_jax(total: Total, at: Tensors) -> tuple[list[Any], Tensors]:
    import jax

    slopes, found = jax.jit(jax.grad(total, has_aux=True))(at)
    return found, slopes


def _in_tensorflow(total: Total, at: Tensors) -> tuple[list[Any], Tensors]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(at)
        loss, found = total(at)
    return found, tape.gradient(loss, at, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _in_torch(total: Total, at: Tensors) -> tuple[list[Any], Tensors]:
    import torch

    leaves = {name: tensor.detach().requires_grad_() for name, tensor in at.items()}
    loss, found = total(leaves)
    return found, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


_GRADIENTS = {"jax": _in_jax, "tensorflow": _in_tensorflow, "torch": _in_torch}
