"""The generated Attention and AdditiveAttention in the place of those of tf_keras: weights, files, hooks, texts, the mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import cnn_attention as example
from compiling import GENERATED, imported
from tensorflow_layers import agree, bools, floats

Dot: Any = imported(GENERATED / "tf_keras" / "tf_keras_layers_attention.py").Attention
Additive: Any = imported(GENERATED / "tf_keras" / "tf_keras_layers_additive_attention.py").AdditiveAttention
PAIRS = [(tf_keras.layers.Attention, Dot), (tf_keras.layers.AdditiveAttention, Additive)]
SETTINGS: list[dict[str, Any]] = [{"use_scale": True, "score_mode": "concat"}, {"use_scale": True}, {}]
CASES = [(*PAIRS[0], settings) for settings in SETTINGS] + [(*PAIRS[1], {"use_scale": each}) for each in (True, False)]
either_way = pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["read", "written"])
both_layers = pytest.mark.parametrize(("native", "generated"), PAIRS, ids=["dot", "additive"])


def inputs() -> list[Any]:
    return [floats(2, 5, 4), floats(2, 7, 4)]


def masks() -> list[Any]:
    return [bools(2, 5), bools(2, 7)]


@pytest.mark.parametrize(("native", "generated", "settings"), CASES, ids=str)
def test_weights_and_results_are_those_of_the_native_layer(native: type, generated: type, settings: dict[str, Any]) -> None:
    one, other = (layer(**settings, name="own") for layer in (native, generated))
    for layer in (one, other):
        layer(inputs())
    assert [(v.name, v.shape) for v in one.weights] == [(v.name, v.shape) for v in other.weights]
    one.set_weights([np.full(v.shape, 0.7, np.float32) for v in one.weights])
    other.set_weights(one.get_weights())
    query, value = inputs()
    for given in ([query, value], [query, value, 2 * value], [query[:, None], value[:, None]]):
        agree(one(given, use_causal_mask=True), other(given, use_causal_mask=True))
    for more in ({}, {"use_causal_mask": True}, {"mask": masks()}, {"mask": [None, masks()[1]], "use_causal_mask": True}):
        agree(one(inputs(), return_attention_scores=True, **more), other(inputs(), return_attention_scores=True, **more))


@both_layers
def test_configurations_are_the_same(native: type, generated: type) -> None:
    one, other = (layer(use_scale=True, dropout=0.5, seed=3, name="own") for layer in (native, generated))
    config = other.get_config()
    assert config == one.get_config() | {"seed": 3}  # which Keras's own forgets
    assert generated.from_config(config).get_config() == config
    assert generated.from_config(one.get_config()).get_config() == config | {"seed": None}
    assert native.from_config(config).get_config() == one.get_config()


def network_of(layer: Any) -> Any:
    """The document's network, up to its dense layers."""
    query_input, value_input = (tf_keras.Input((None,), dtype="int32") for _ in range(2))
    embedding = tf_keras.layers.Embedding(example.VOCABULARY, example.DIMENSION, name="tokens")
    convolution = tf_keras.layers.Conv1D(example.FILTERS, example.WIDTH, padding="same", name="convolution")
    query, value = convolution(embedding(query_input)), convolution(embedding(value_input))
    attended = layer([query, value])
    pooled = [tf_keras.layers.GlobalAveragePooling1D()(each) for each in (query, attended)]
    model = tf_keras.Model([query_input, value_input], tf_keras.layers.Concatenate()(pooled))
    embedding.set_weights([example.EMBEDDINGS])
    convolution.set_weights([example.KERNEL, example.BIAS])
    return model


CALLS = [example.QUERY, example.VALUE]


@pytest.mark.parametrize("layer", PAIRS[0], ids=["native", "generated"])
def test_the_documents_network(layer: type) -> None:
    example.agree(network_of(layer())(CALLS))


@either_way
@pytest.mark.parametrize("name", ["own.weights.h5", "own.h5", "checkpoint"])
def test_files_are_exchanged(order: slice, name: str, tmp_path: Path) -> None:
    """The three kinds of them that Keras 2 has."""
    settings: dict[str, Any] = {"use_scale": True, "score_mode": "concat", "name": "own"}
    first, second = (network_of(layer(**settings)) for layer in PAIRS[0][order])
    first.get_layer("own").set_weights([np.float32(0.5), np.float32(1.5)])
    first.save_weights(str(tmp_path / name))
    found = second.load_weights(str(tmp_path / name))
    if name == "checkpoint":
        found.assert_consumed()
    assert [float(v) for v in second.get_layer("own").weights] == [0.5, 1.5]
    agree(first(CALLS), second(CALLS))


@pytest.mark.parametrize("name", ["own.keras", "own.h5", "saved"])
def test_a_whole_model_is_saved_and_read(name: str, tmp_path: Path) -> None:
    ours = network_of(Dot(use_scale=True, dropout=0.5, name="own"))
    ours.get_layer("own").set_weights([np.float32(0.5)])
    ours.save(tmp_path / name)
    again = tf_keras.models.load_model(tmp_path / name)
    assert type(again.get_layer("own")) is Dot
    agree(ours(CALLS), again(CALLS))


@either_way
def test_a_model_is_cloned_with_the_other_layer(order: slice) -> None:
    kind, other = PAIRS[0][order]
    model = network_of(kind(use_scale=True, dropout=0.5, name="own"))
    model.get_layer("own").set_weights([np.float32(0.5)])

    def cloned(layer: Any) -> Any:
        return (other if type(layer) is kind else type(layer)).from_config(layer.get_config())

    again = tf_keras.models.clone_model(model, clone_function=cloned)
    again.set_weights(model.get_weights())
    assert type(again.get_layer("own")) is other
    agree(model(CALLS), again(CALLS))


def test_a_mask_reaches_the_attention_and_goes_on() -> None:
    tokens = np.array([[1, 2, 0, 0], [3, 4, 5, 0]], np.int32)
    embedded = tf_keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    output, scores = Dot()([embedded, embedded], return_attention_scores=True)
    np.testing.assert_array_equal(scores[0, :, 2:], 0.0)
    np.testing.assert_array_equal(output.numpy()[tokens == 0], 0.0)
    np.testing.assert_array_equal(Dot()([embedded, embedded])._keras_mask, tokens != 0)


@both_layers
def test_dropout_draws_what_the_native_layer_draws(native: type, generated: type) -> None:
    def drawn(layer: type) -> list[Any]:
        tf.random.set_seed(1)
        made = layer(use_scale=False, dropout=0.5, seed=7)
        return [made(inputs(), training=True) for _ in range(2)]

    first, second = drawn(generated)
    assert np.any(first != second)
    agree(drawn(native), [first, second])


def test_dropout_follows_the_mode_of_the_model() -> None:
    """As an argument of the model's call, in `fit`, in `predict`; in a graph that does not know it, too."""
    model = network_of(Dot(dropout=0.5))
    model.compile("sgd", "mse")
    still = model(CALLS)
    agree(model.predict(CALLS, verbose=0), still.numpy())
    assert np.any(model(CALLS, training=True) != still)
    traced = tf.function(lambda training: model(CALLS, training=training))
    agree(traced(tf.constant(False)), still)
    assert np.any(traced(tf.constant(True)) != still)
    targets = np.zeros(still.shape, np.float32)
    assert model.evaluate(CALLS, targets, verbose=0) != model.fit(CALLS, targets, verbose=0).history["loss"][0]


def test_half_precision_by_policy() -> None:
    one, other = (layer(use_scale=True, dtype="mixed_float16") for layer in PAIRS[0])
    agree(*(layer(inputs(), mask=masks(), return_attention_scores=True) for layer in (one, other)), atol=4e-3)
    assert [v.dtype for v in other.weights] == [tf.float32]


@both_layers
@pytest.mark.parametrize("hook", ["_calculate_scores", "_apply_scores", "_validate_call_args"])
def test_a_subclass_replaces_a_hook(native: type, generated: type, hook: str) -> None:
    def replaced(layer: Any) -> Any:
        def other(self: Any, *arguments: Any, **named: Any) -> Any:
            found = getattr(layer, hook)(self, *arguments, **named)
            if hook == "_validate_call_args":
                raise KeyError(hook)
            return (found[0] * 2, found[1]) if hook == "_apply_scores" else found * 3

        return type("Other", (layer,), {hook: other})(use_scale=False)

    one, other = replaced(native), replaced(generated)
    if hook == "_validate_call_args":
        with pytest.raises(KeyError, match=hook):
            other(inputs())
        return
    agree(one(inputs(), use_causal_mask=True), other(inputs(), use_causal_mask=True))
    assert np.any(other(inputs()) != generated(use_scale=False)(inputs()))


def test_causal_of_older_programs() -> None:
    with pytest.warns(DeprecationWarning, match="use_causal_mask"):
        older = Dot(causal=True)
    assert older.causal
    agree(older(inputs()), Dot()(inputs(), use_causal_mask=True))


WRONG: list[tuple[Any, Any]] = [
    (inputs()[0], None),
    (inputs()[:1], None),
    ([*inputs(), *inputs()], None),
    (inputs(), (None, masks()[1])),
    (inputs(), masks()[:1]),
    (inputs(), [*masks(), masks()[1]]),
]


each_wrong = pytest.mark.parametrize("wrong", WRONG, ids=["tensor", "one", "four", "tuple", "one mask", "three masks"])


@each_wrong
def test_what_is_refused_is_refused_in_the_same_words(wrong: tuple[Any, Any]) -> None:
    said = []
    for layer in PAIRS[0]:
        with pytest.raises(ValueError, match="Attention layer") as raised:
            layer(name="own")(wrong[0], mask=wrong[1])
        said.append(str(raised.value))
    assert said[0] == said[1]


@each_wrong
def test_an_additive_layer_refuses_before_it_makes_its_weight(wrong: tuple[Any, Any]) -> None:
    """Keras's own looks for the sizes first."""
    with pytest.raises(ValueError, match=r"AdditiveAttention layer (must|accepts|mask)"):
        Additive()(wrong[0], mask=wrong[1])


def test_shapes_before_a_call() -> None:
    query, value = tf_keras.Input((None, 4)), tf_keras.Input((7, 3))
    output, scores = Dot()([query, value, tf_keras.Input((7, 4))], return_attention_scores=True)
    assert (output.shape.as_list(), scores.shape.as_list()) == ([None, None, 3], [None, None, 7])
    assert Dot().compute_output_shape([(2, 5, 4), (2, 7, 3)]).as_list() == [2, 5, 3]
