"""What tests of generated tf_keras layers share: comparisons, and subclasses that replace a hook."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def agree(one: Any, other: Any, atol: float = 1e-5) -> None:
    """The tensors of both are alike, of the same dtypes."""
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=atol)


def floats(*shape: int) -> np.ndarray:
    """Numbers of that shape, the same every time."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def bools(*shape: int) -> np.ndarray:
    """Bools of that shape, the same every time, three of five of them True."""
    return np.random.default_rng(1).random(shape) < 0.6
