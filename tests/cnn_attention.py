"""The CNN+Attention example of the founding document of `Attention`: its tokens, weights for it, and its result by NumPy."""

from __future__ import annotations

import numpy as np

from attnspec.generated.numpy.tf_keras_layers_attention import attention

VOCABULARY, DIMENSION, FILTERS, WIDTH = 50, 16, 12, 4
_RANDOM = np.random.default_rng(3)
QUERY, VALUE = (_RANDOM.integers(0, VOCABULARY, (2, length)).astype(np.int32) for length in (6, 9))
EMBEDDINGS = _RANDOM.normal(size=(VOCABULARY, DIMENSION)).astype(np.float32)
KERNEL = (0.3 * _RANDOM.normal(size=(WIDTH, DIMENSION, FILTERS))).astype(np.float32)
BIAS = _RANDOM.normal(size=FILTERS).astype(np.float32)


def encoded(tokens: np.ndarray) -> np.ndarray:
    """Embedding and convolution, the ends padded so that the length stays: 1 before, 2 after."""
    embedded = np.pad(EMBEDDINGS[tokens].astype(np.float64), ((0, 0), (1, WIDTH - 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(embedded, WIDTH, axis=1)
    return np.einsum("btdw,wdf->btf", windows, KERNEL.astype(np.float64)) + BIAS


def result() -> np.ndarray:
    """The input of the document's dense layers."""
    query, value = encoded(QUERY), encoded(VALUE)
    attended = attention({}, [query, value])
    return np.concatenate((query.mean(axis=1), attended.mean(axis=1)), axis=-1)


def agree(found: object) -> None:
    """What a framework makes of it in float32 is that."""
    np.testing.assert_allclose(np.asarray(found), result(), rtol=2e-4, atol=2e-4)
