"""The generated MultiHeadAttention in the place of that of tf_keras: weights, files, hooks, masks of inputs, ragged inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from compiling import GENERATED, imported
from tensorflow_layers import agree, bools, floats

Native = tf_keras.layers.MultiHeadAttention
Generated: Any = imported(GENERATED / "tf_keras" / "tf_keras_layers_multi_head_attention.py").MultiHeadAttention
PAIR = (Native, Generated)
HEADS = {"num_heads": 2, "key_dim": 4, "name": "own"}
SETTINGS: list[dict[str, Any]] = [
    {"value_dim": 3, "output_shape": (5,), "softmax_robust_masking": True},
    {"use_bias": False, "attention_axes": (1,), "kernel_regularizer": "l2"},
    {"output_shape": (2, 3), "bias_initializer": "ones"},
]
QUERY, VALUE, MASK = floats(2, 5, 6), floats(2, 7, 6), bools(2, 5, 7)
either_way = pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["read", "written"])


def layers(*inputs: Any, **settings: Any) -> tuple[Any, Any]:
    """The native layer and the generated one, of the same weights."""
    one, other = (layer(**HEADS, **settings) for layer in PAIR)
    for layer in (one, other):
        layer(*(inputs or (QUERY, VALUE)))
    other.set_weights(one.get_weights())
    return one, other


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_configurations_and_results_are_those_of_the_native_layer(settings: dict[str, Any]) -> None:
    one, other = layers(**settings)
    assert [(v.name, v.shape) for v in one.weights] == [(v.name, v.shape) for v in other.weights]
    assert {*dir(other)} >= {*dir(one)}
    assert one.get_config() == other.get_config()
    agree(one.losses, other.losses)
    calls: list[dict[str, Any]] = [{}, {"key": 2 * VALUE}, {"use_causal_mask": True}, {"attention_mask": MASK}]
    for call in (*calls, {"attention_mask": MASK[:1], "use_causal_mask": True}):
        for wanted in (False, True):
            agree(*(layer(QUERY, VALUE, return_attention_scores=wanted, **call) for layer in (one, other)))


def test_attention_over_several_axes() -> None:
    query, value = floats(2, 3, 4, 6), floats(2, 5, 4, 6)
    for axes, mask in (((2,), bools(2, 3, 4, 4)), ((1, 2), bools(2, 3, 4, 5, 4))):
        one, other = layers(query, query if axes == (2,) else value, attention_axes=axes)
        keys = query if axes == (2,) else value
        agree(*(layer(query, keys, attention_mask=mask, return_attention_scores=True) for layer in (one, other)))


@pytest.mark.parametrize("kinds", [PAIR, PAIR[::-1], (Generated, Generated)], ids=["read", "written", "itself"])
def test_a_configuration_makes_the_layer_with_its_sublayers(kinds: tuple[Any, Any]) -> None:
    kind, other = kinds
    layer = kind(**HEADS, **SETTINGS[0])
    assert not other.from_config(layer.get_config())._built_from_signature
    layer(QUERY, VALUE)
    again = other.from_config(layer.get_config())
    assert again._built_from_signature
    again(QUERY, VALUE)
    again.set_weights(layer.get_weights())
    agree(layer(QUERY, VALUE), again(QUERY, VALUE))


def model_of(layer: Any) -> Any:
    """Attention between a sequence and another, whose padding is masked."""
    query, tokens = tf_keras.Input((None, 6)), tf_keras.Input((None,), dtype="int32")
    value = tf_keras.layers.Embedding(9, 6, mask_zero=True, name="tokens")(tokens)
    return tf_keras.Model([query, tokens], layer(query, value))


CALL = [QUERY, np.array([[1, 2, 3, 0], [4, 5, 0, 0]], np.int32)]


@either_way
@pytest.mark.parametrize("name", ["own.weights.h5", "own.h5", "checkpoint"])
def test_files_are_exchanged(order: slice, name: str, tmp_path: Path) -> None:
    """The three kinds of them that Keras 2 has."""
    first, second = (model_of(layer(**HEADS)) for layer in PAIR[order])
    first.save_weights(str(tmp_path / name))
    found = second.load_weights(str(tmp_path / name))
    if name == "checkpoint":
        found.assert_consumed()
    agree(first(CALL), second(CALL))


def test_a_whole_model_is_saved_and_read(tmp_path: Path) -> None:
    ours = model_of(Generated(**HEADS, dropout=0.5))
    ours.save(tmp_path / "own.keras")
    again = tf_keras.models.load_model(tmp_path / "own.keras")
    assert type(again.get_layer("own")) is Generated
    agree(ours(CALL), again(CALL))


def test_masks_that_inputs_carry_are_joined() -> None:
    """And the query's goes on, as from any layer of Keras."""
    tokens, others = np.array([[1, 2, 0], [3, 4, 5]], np.int32), np.array([[1, 0, 0, 0], [2, 3, 4, 0]], np.int32)
    embedding = tf_keras.layers.Embedding(9, 6, mask_zero=True)
    one, other = layers()
    for call in ({}, {"use_causal_mask": True}, {"attention_mask": bools(2, 3, 4)}):
        found = [layer(embedding(tokens), embedding(others), return_attention_scores=True, **call) for layer in (one, other)]
        agree(*found)
        np.testing.assert_array_equal(found[1][1][0, :, 0, 1:], 0.0)
    np.testing.assert_array_equal(other(embedding(tokens), embedding(others))._keras_mask, tokens != 0)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_a_mask_of_numbers(dtype: str) -> None:
    """1 attends and 0 does not; beside a causal mask any other number attends too, as the native layer has it."""
    one, other = layers()
    agree(*(layer(QUERY, VALUE, attention_mask=MASK.astype(dtype)) for layer in (one, other)))
    agree(*(layer(QUERY, VALUE, attention_mask=3 * MASK.astype(dtype), use_causal_mask=True) for layer in (one, other)))
    agree(other(QUERY, VALUE, attention_mask=MASK), other(QUERY, VALUE, attention_mask=3 * MASK.astype(dtype)))


@pytest.mark.parametrize("ragged", ["query", "value", "both"])
def test_ragged_inputs(ragged: str) -> None:
    one, other = layers()
    query = QUERY if ragged == "value" else tf.RaggedTensor.from_tensor(QUERY, lengths=[3, 5])
    value = VALUE if ragged == "query" else tf.RaggedTensor.from_tensor(VALUE, lengths=[2, 6])
    found = [layer(query, value) for layer in (one, other)]
    assert isinstance(found[1], tf.RaggedTensor) == (ragged != "value")
    agree(*(each.flat_values if ragged != "value" else each for each in found))


def test_dropout_draws_what_the_native_layer_draws() -> None:
    def drawn(layer: Any) -> list[Any]:
        tf.random.set_seed(1)
        return [layer(QUERY, VALUE, training=True) for _ in range(2)]

    one, other = layers(dropout=0.5)
    found = drawn(other)
    assert np.any(found[0] != found[1])
    agree(drawn(one), found)


def test_dropout_follows_the_mode_of_the_model() -> None:
    model = model_of(Generated(**HEADS, dropout=0.5))
    model.compile("sgd", "mse")
    still = model(CALL)
    agree(model.predict(CALL, verbose=0), still.numpy())
    traced = tf.function(lambda training: model(CALL, training=training))
    agree(traced(tf.constant(False)), still)
    assert np.any(traced(tf.constant(True)) != still)
    targets = np.zeros(still.shape, np.float32)
    assert model.evaluate(CALL, targets, verbose=0) != model.fit(CALL, targets, verbose=0).history["loss"][0]


HOOKS = ["_compute_attention_mask", "_compute_causal_mask", "_masked_softmax", "_compute_attention", "_make_output_dense"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_subclass_replaces_a_hook(hook: str) -> None:
    def replaced(layer: Any) -> Any:
        def other(self: Any, *arguments: Any, **named: Any) -> Any:
            found = getattr(layer, hook)(self, *arguments, **named)
            if hook == "_make_output_dense":
                found.activation = tf.tanh
                return found
            if hook == "_compute_attention":
                return found[0] * 2, found[1]
            return found * 2 if hook == "_masked_softmax" else None if found is None else ~found

        return type("Other", (layer,), {hook: other})(**HEADS)

    one, other, plain = replaced(Native), replaced(Generated), Generated(**HEADS)
    call = {"attention_mask": MASK, "use_causal_mask": True, "return_attention_scores": True}
    for layer in (one, other, plain):
        layer(QUERY, VALUE)
        layer.set_weights(one.get_weights())
    found = other(QUERY, VALUE, **call)
    agree(one(QUERY, VALUE, **call), found)
    assert np.any(found[0] != plain(QUERY, VALUE, **call)[0])


def test_a_subclass_computes_attention_by_the_equations() -> None:
    """As programs of Keras 2 do that come with an attention of their own."""

    def own(self: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, training: Any = None) -> Any:
        scores = tf.einsum(self._dot_product_equation, key, query)
        weights = self._softmax(scores) if attention_mask is None else self._masked_softmax(scores, attention_mask)
        return tf.einsum(self._combine_equation, self._dropout_layer(weights, training=training), value), weights

    one, other = (type("Own", (layer,), {"_compute_attention": own})(**HEADS) for layer in PAIR)
    for layer in (one, other):
        layer(QUERY, VALUE)
    other.set_weights(one.get_weights())
    for call in ({}, {"attention_mask": MASK}):
        agree(one(QUERY, VALUE, **call), other(QUERY, VALUE, **call))


def test_half_precision_by_policy() -> None:
    one, other = layers(dtype="mixed_float16")
    agree(*(layer(QUERY, VALUE, attention_mask=MASK) for layer in (one, other)), atol=4e-3)
    assert {v.dtype for v in other.weights} == {tf.float32}


def test_shapes_before_a_call() -> None:
    layer = Generated(**HEADS, output_shape=5)
    assert layer.compute_output_shape((2, 5, 6), (2, 7, 3)).as_list() == [2, 5, 5]
    with pytest.raises(ValueError, match="All dimensions of `value` and `key`, except the last one, must be equal"):
        layer.compute_output_shape((2, 5, 6), (2, 7, 6), (2, 8, 6))
    assert layer(tf_keras.Input((None, 6)), tf_keras.Input((7, 6))).shape.as_list() == [None, None, 5]
