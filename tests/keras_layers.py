"""What tests of generated Keras layers share: inputs, comparisons, subclasses."""

from __future__ import annotations

from typing import Any

import numpy as np

from in_keras import array_of, keras, ops


def inputs(*sizes: int) -> tuple[Any, ...]:
    """Two rows of 8 features, of these lengths."""
    random = np.random.default_rng(0)
    return tuple(ops.convert_to_tensor(random.normal(size=(2, length, 8)).astype(np.float32)) for length in sizes)


def agree(one: Any, other: Any, atol: float = 1e-5) -> None:
    """The tensors of both are alike, of the same dtypes."""
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        assert keras.backend.standardize_dtype(a.dtype) == keras.backend.standardize_dtype(b.dtype)
        np.testing.assert_allclose(array_of(ops.cast(a, "float32")), array_of(ops.cast(b, "float32")), atol=atol)


def differ(one: Any, other: Any) -> bool:
    """Whether some tensor of both shows a difference."""
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    return any(np.abs(array_of(a) - array_of(b)).max() > 1e-3 for a, b in pairs)


def with_other_hook(layer: type, hook: str) -> type:
    """A subclass with one hook of its own, made of the layer's."""

    def other(self: Any, *arguments: Any, **named: Any) -> Any:
        found = getattr(layer, hook)(self, *arguments, **named)
        if hook == "_compute_attention":
            return found[0] * 2, found[1]
        return ~found if hook.endswith("_mask") and found is not None else found

    def softmax(self: Any, scores: Any, attention_mask: Any = None) -> Any:
        return layer._masked_softmax(self, scores * 3, attention_mask)  # type: ignore[attr-defined]

    return type(f"Other{layer.__name__}", (layer,), {hook: softmax if hook == "_masked_softmax" else other})


def check_hook(layers: tuple[type, type], hook: str, sizes: dict[str, int], settings: list[dict[str, Any]]) -> None:
    """The native layer and the generated one give the same where a subclass replaces the hook; it changes something."""
    query, value = inputs(5, 7)
    seen = False
    for setting in settings:
        native, generated = (with_other_hook(layer, hook)(**sizes, **setting) for layer in layers)
        plain = layers[1](**sizes, **setting)
        for layer in (native, generated, plain):
            layer.build(query.shape, value.shape)
            layer.set_weights(native.get_weights())
        for call in ({}, {"use_causal_mask": True}, {"return_attention_scores": True}):
            found = generated(query, value, **call)
            agree(native(query, value, **call), found)
            seen = seen or differ(found, plain(query, value, **call))
    assert seen, f"{hook} changed nothing"
