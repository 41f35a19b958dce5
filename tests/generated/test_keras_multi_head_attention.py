"""The generated MultiHeadAttention in the place of Keras's own: its tests, its files, its subclasses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiling import GENERATED, imported
from in_keras import BACKEND, array_of, keras
from keras_layers import agree, check_hook, inputs

pytest.importorskip("absl")
from keras.src import layers as sources
from keras.src.layers.attention.multi_head_attention_test import MultiHeadAttentionTest

Native = keras.layers.MultiHeadAttention
Generated: Any = imported(GENERATED / "keras" / "keras_layers_multi_head_attention.py").MultiHeadAttention
HEADS = {"num_heads": 2, "key_dim": 4}
# Keras's own on jax has no value_dim of its own without weights: a known deviation.
SETTINGS: list[dict[str, Any]] = [
    {"output_shape": 5, "use_gate": True, "sliding_window": 2} | ({} if BACKEND == "jax" else {"value_dim": 3}),
    {"dropout": 0.5, "use_bias": False, "attention_axes": (1,), "seed": 3},
    {"output_shape": (6,), "attention_axes": -2},
]
HOOKS = {
    "_compute_attention_mask": [{"sliding_window": 2}, {}],
    "_compute_causal_mask": [{"dropout": 0.5}],
    "_compute_sliding_window_mask": [{"sliding_window": 2}],
    "_masked_softmax": [{"dropout": 0.5}],
    "_compute_attention": [{}],
}
either_way = pytest.mark.parametrize(("one", "other"), [(Native, Generated), (Generated, Native)], ids=["read", "written"])


class TestAsKerasTestsIt(MultiHeadAttentionTest):  # type: ignore[misc]
    """Keras's own tests of its layer, of this one."""

    @pytest.fixture(autouse=True)
    def _in_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "MultiHeadAttention", Generated)


del MultiHeadAttentionTest


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_and_results_are_those_of_the_native_layer(settings: dict[str, Any]) -> None:
    native, generated = Native(**HEADS, **settings), Generated(**HEADS, **settings)
    query, value = inputs(5, 7)
    for layer in (native, generated):
        layer(query, value)
    paths = [[v.path.partition("/")[2] for v in layer.weights] for layer in (native, generated)]
    assert paths[0] == paths[1]
    assert {*dir(generated)} >= {*dir(native)}
    generated.set_weights(native.get_weights())
    mask = np.random.default_rng(1).random((2, 5, 7)) < 0.6
    for call in ({}, {"use_causal_mask": True}, {"return_attention_scores": True}):
        for given in ({}, {"attention_mask": mask, "value_mask": mask[:, 0]}):
            agree(native(query, value, **call, **given), generated(query, value, **call, **given))
    assert generated.compute_output_shape(query.shape, value.shape) == native.compute_output_shape(query.shape, value.shape)
    config = generated.get_config()
    assert config.keys() == native.get_config().keys()
    assert Generated.from_config(config).get_config() == config
    for one, other in ((Native, generated), (Generated, native)):
        copy = one.from_config(other.get_config())
        copy.build(query.shape, value.shape)
        copy.set_weights(generated.get_weights())
        agree(copy(query, value), generated(query, value))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_subclass_with_a_hook_of_its_own_gives_what_it_gives_on_the_native_layer(hook: str) -> None:
    check_hook((Native, Generated), hook, HEADS, HOOKS[hook])


TOKENS = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1], [2, 0, 0, 0, 0, 0]], np.int32)


def model_of(layer: type, **settings: Any) -> Any:
    """Masked tokens and self-attention, as a functional model: masks of query and value come with the tokens."""
    tokens = keras.Input((6,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True, name="tokens")(tokens)
    attended = layer(**HEADS, **settings, name="own")(embedded, embedded, use_causal_mask=True)
    return keras.Model(tokens, keras.layers.Dense(3, name="dense")(keras.layers.GlobalAveragePooling1D(name="pool")(attended)))


@either_way
def test_weights_files_are_exchanged(one: type, other: type, tmp_path: Path) -> None:
    first, second = model_of(one, **SETTINGS[0]), model_of(other, **SETTINGS[0])
    first.save_weights(tmp_path / "of.weights.h5")
    second.load_weights(tmp_path / "of.weights.h5")
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(array_of(a.value), array_of(b.value))
    agree(first(TOKENS), second(TOKENS))


def test_a_model_of_it_trains_and_is_saved_whole(tmp_path: Path) -> None:
    model = model_of(Generated, **SETTINGS[0])
    model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=BACKEND == "torch")
    history = model.fit(TOKENS, np.ones((3, 3), np.float32), epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    model.save(tmp_path / "whole.keras")
    again = keras.models.load_model(tmp_path / "whole.keras")
    assert type(again.get_layer("own")) is Generated
    agree(model(TOKENS), again(TOKENS))


@pytest.mark.parametrize("axes", [(2, 1)] if BACKEND == "jax" else [None, (2, 1)], ids=str)  # jax compiles each size
def test_over_several_axes_it_gives_what_the_native_layer_gives(axes: tuple[int, ...] | None) -> None:
    settings = HEADS | {"attention_axes": axes, "output_shape": (3, 2), "use_gate": True}
    native, generated = Native(**settings), Generated(**settings)
    rng = np.random.default_rng(0)
    query, value = rng.standard_normal((2, 3, 5, 8), np.float32), rng.standard_normal((2, 3, 5, 4), np.float32)
    for layer in (native, generated):
        layer.build(query.shape, value.shape)
    assert [weight.shape for weight in generated.weights] == [weight.shape for weight in native.weights]
    assert generated.attention_axes == native.attention_axes
    generated.set_weights(native.get_weights())
    mask = rng.random((2, 3, 5, 3, 5) if axes is None else (2, 5, 3, 5, 3)) < 0.6
    both = [layer(query, value, attention_mask=mask, return_attention_scores=True) for layer in (native, generated)]
    agree(*both)
    assert both[1][1].shape == (2, 2, *mask.shape[1:])
    agree(native(query, value, attention_mask=mask[0]), generated(query, value, attention_mask=mask[0]))
    assert generated.get_config() == native.get_config() | {"name": generated.name}
    assert generated.compute_output_shape(query.shape, value.shape) == native.compute_output_shape(query.shape, value.shape)


def test_what_means_nothing_is_refused() -> None:
    grid = np.ones((2, 3, 4, 8), np.float32)
    for axes in (0, 3, (1, 1), ()):
        with pytest.raises(ValueError, match="`attention_axes` must name axes between the first and the last of 4"):
            Generated(**HEADS, attention_axes=axes)(grid, grid)
    with pytest.raises(ValueError, match="`use_causal_mask` and `sliding_window` need one attention axis"):
        Generated(**HEADS)(grid, grid, use_causal_mask=True)
    with pytest.raises(ValueError, match="`value` must have as many axes as `query`, 4, got 3"):
        Generated(**HEADS)(grid, grid[0])
    with pytest.raises(ValueError, match="`attention_mask` must have axes of the sizes"):
        Generated(**HEADS)(grid, grid, attention_mask=np.ones((2, 3, 4, 3, 5), bool))
