"""The generated Attention and AdditiveAttention in the place of Keras's own: its tests, its files, the document's network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnn_attention as example
from compiling import GENERATED, imported
from in_keras import BACKEND, array_of, keras, ops

pytest.importorskip("absl")
from keras.src import layers as sources
from keras.src.layers.attention.additive_attention_test import AdditiveAttentionTest
from keras.src.layers.attention.attention_test import AttentionTest

Dot: Any = imported(GENERATED / "keras" / "keras_layers_attention.py").Attention
Additive: Any = imported(GENERATED / "keras" / "keras_layers_additive_attention.py").AdditiveAttention
Older: Any = imported(GENERATED / "keras" / "tf_keras_layers_attention.py").Attention
PAIRS = [(keras.layers.Attention, Dot), (keras.layers.AdditiveAttention, Additive)]
SETTINGS: list[dict[str, Any]] = [{"use_scale": True, "score_mode": "concat"}, {"use_scale": True}, {}]
if BACKEND == "jax":  # which compiles every operation of every shape by itself
    SETTINGS = SETTINGS[:1]
CASES = [(keras.layers.Attention, Dot, settings) for settings in SETTINGS] + [(*PAIRS[1], {"use_scale": True})]
either_way = pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["read", "written"])


class _InItsPlace:
    @pytest.fixture(autouse=True)
    def _generated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for native, generated in PAIRS:
            monkeypatch.setattr(sources, native.__name__, generated)


class TestAsKerasTestsAttention(_InItsPlace, AttentionTest):  # type: ignore[misc]
    """Keras's own tests of its layer, of this one."""


class TestAsKerasTestsAdditiveAttention(_InItsPlace, AdditiveAttentionTest):  # type: ignore[misc]
    """Keras's own tests of its layer, of this one."""


del AttentionTest, AdditiveAttentionTest


def inputs() -> list[Any]:
    random = np.random.default_rng(0)
    return [ops.convert_to_tensor(random.normal(size=(2, length, 4)).astype(np.float32)) for length in (5, 7)]


def masks() -> list[Any]:
    random = np.random.default_rng(1)
    return [random.random((2, length)) < 0.6 for length in (5, 7)]


def agree(one: Any, other: Any) -> None:
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        np.testing.assert_allclose(array_of(a), array_of(b), atol=1e-5)


@pytest.mark.parametrize(("native", "generated", "settings"), CASES, ids=str)
def test_weights_and_results_are_those_of_the_native_layer(native: type, generated: type, settings: dict[str, Any]) -> None:
    one, other = native(**settings), generated(**settings)
    for layer in (one, other):
        layer(inputs())
    assert [(v.name, v.shape) for v in one.weights] == [(v.name, v.shape) for v in other.weights]
    one.set_weights([np.full(v.shape, 0.7, np.float32) for v in one.weights])
    other.set_weights(one.get_weights())
    for more in ({}, {"use_causal_mask": True}, {"mask": masks()}, {"mask": [None, masks()[1]], "use_causal_mask": True}):
        agree(one(inputs(), return_attention_scores=True, **more), other(inputs(), return_attention_scores=True, **more))


def test_configurations_are_the_same() -> None:
    for native, generated in PAIRS:
        config = generated(use_scale=True, dropout=0.5, seed=3, name="own").get_config()
        assert config == native(use_scale=True, dropout=0.5, seed=3, name="own").get_config() | {"seed": 3}
        assert generated.from_config(config).get_config() == config


def network_of(layer: Any) -> Any:
    """The document's network, up to its dense layers."""
    query_input, value_input = (keras.Input((None,), dtype="int32") for _ in range(2))
    embedding = keras.layers.Embedding(example.VOCABULARY, example.DIMENSION, name="tokens")
    convolution = keras.layers.Conv1D(example.FILTERS, example.WIDTH, padding="same", name="convolution")
    query, value = convolution(embedding(query_input)), convolution(embedding(value_input))
    attended = layer([query, value])
    pooled = [keras.layers.GlobalAveragePooling1D()(each) for each in (query, attended)]
    model = keras.Model([query_input, value_input], keras.layers.Concatenate()(pooled))
    embedding.set_weights([example.EMBEDDINGS])
    convolution.set_weights([example.KERNEL, example.BIAS])
    return model


@pytest.mark.parametrize("layer", [Older, Dot], ids=["tf_keras", "keras"])
def test_the_documents_network(layer: type) -> None:
    example.agree(array_of(network_of(layer())([example.QUERY, example.VALUE])))


@either_way
def test_files_are_exchanged(order: slice, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"use_scale": True, "score_mode": "concat", "name": "own"}
    first, second = (network_of(layer(**settings)) for layer in (keras.layers.Attention, Dot)[order])
    first.get_layer("own").set_weights([np.float32(0.5), np.float32(1.5)])
    first.save_weights(tmp_path / "of.weights.h5")
    second.load_weights(tmp_path / "of.weights.h5")
    assert [array_of(v.value).tolist() for v in second.get_layer("own").weights] == [0.5, 1.5]
    calls = [example.QUERY, example.VALUE]
    agree(first(calls), second(calls))


def test_a_whole_model_is_saved_and_read_as_the_native_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = network_of(Dot(use_scale=True, name="own"))
    ours.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    registered = keras.saving.get_registered_name(Dot)
    monkeypatch.delitem(keras.saving.get_custom_objects(), registered)  # as in a process that does not import it
    theirs = keras.models.load_model(tmp_path / "ours.keras", custom_objects={registered: keras.layers.Attention})
    calls = [example.QUERY, example.VALUE]
    for model, kind in ((again, Dot), (theirs, keras.layers.Attention)):
        assert type(model.get_layer("own")) is kind
        agree(ours(calls), model(calls))


def test_a_mask_reaches_the_attention_and_goes_on() -> None:
    tokens = np.array([[1, 2, 0, 0], [3, 4, 5, 0]], np.int32)
    embedded = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    output, scores = Dot()([embedded, embedded], return_attention_scores=True)
    np.testing.assert_array_equal(array_of(scores)[0, :, 2:], 0.0)
    np.testing.assert_array_equal(array_of(output)[tokens == 0], 0.0)
    alone = Dot()([embedded, embedded])
    np.testing.assert_array_equal(array_of(keras.src.backend.get_keras_mask(alone)), tokens != 0)


def test_dropout_follows_the_seed_and_the_mode() -> None:
    one, same, native = (layer(dropout=0.5, seed=7) for layer in (Dot, Dot, keras.layers.Attention))
    first = array_of(one(inputs(), training=True))
    np.testing.assert_array_equal(first, array_of(same(inputs(), training=True)))
    assert (first != array_of(one(inputs(), training=True))).any()
    np.testing.assert_allclose(first, array_of(native(inputs(), training=True)), rtol=1e-5)  # draws the same


def test_leading_axes_are_those_of_the_query() -> None:
    query, value = inputs()
    for one in ([query[None], value], [query, value[:1]], [query[:1], value]):
        with pytest.raises(ValueError, match="leading axes"):
            Dot()(one)
