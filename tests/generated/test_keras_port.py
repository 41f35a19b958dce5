"""Layers of other frameworks as Keras layers: in models and files, under their documented names, drawn as documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compiling import GENERATED, imported
from in_keras import array_of, keras, ops

Torchs: Any = imported(GENERATED / "keras" / "torch_nn_multihead_attention.py").MultiheadAttention
Older: Any = imported(GENERATED / "keras" / "tf_keras_layers_multi_head_attention.py").MultiHeadAttention
in_numpy: Any = imported(GENERATED / "numpy" / "torch_nn_multihead_attention.py")
QUERY, VALUE = (np.random.default_rng(seed).normal(size=(2, n, 6)).astype(np.float32) for seed, n in ((0, 5), (1, 7)))
SETTINGS = {"embed_dim": 6, "num_heads": 2, "dropout": 0.5, "batch_first": True}


def model_of(layer: Any) -> Any:
    query, value = keras.Input((None, 6)), keras.Input((7, 6))
    output, weights = layer(query, value, value)
    assert tuple(weights.shape) == (None, None, 7)
    return keras.Model([query, value], output)


def test_weights_have_their_documented_names() -> None:
    layer = Torchs(**SETTINGS, add_bias_kv=True, kdim=3)
    names = [variable.name for variable in layer.weights]
    assert names[:4] == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"]
    assert names[4:] == ["bias_k", "bias_v", "out_proj_weight", "out_proj_bias"]
    assert tuple(layer.k_proj_weight.shape) == (6, 3)
    drawn = array_of(layer.q_proj_weight)
    assert 0.3 < np.abs(drawn).max() <= (6 / 12) ** 0.5
    np.testing.assert_array_equal(array_of(layer.in_proj_bias), 0.0)


def test_a_model_computes_saves_and_loads(tmp_path: Path) -> None:
    model = model_of(Torchs(**SETTINGS, name="own"))
    params = {variable.name: array_of(variable) for variable in model.get_layer("own").weights}
    expected, _ = in_numpy.multihead_attention(params, QUERY, VALUE, VALUE, **SETTINGS)
    np.testing.assert_allclose(array_of(model([QUERY, VALUE])), expected, atol=1e-5)
    model.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    assert type(again.get_layer("own")) is Torchs
    np.testing.assert_allclose(array_of(again([QUERY, VALUE])), expected, atol=1e-5)


def test_dropout_follows_the_mode_and_weights_are_trained() -> None:
    model = model_of(Torchs(**SETTINGS))
    model.compile("sgd", "mse")
    still = array_of(model([QUERY, VALUE]))
    assert (array_of(model([QUERY, VALUE], training=True)) != still).any()
    before = model.get_weights()
    model.fit([QUERY, VALUE], np.zeros_like(still), verbose=0)
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_sizes_that_no_argument_tells_are_given() -> None:
    layer = Older(2, 3, value_dim=4, output_shape=(2, 5), E=6)
    assert ops.shape(layer(QUERY, VALUE)) == (2, 5, 2, 5)
    assert Older.from_config(layer.get_config()).count_params() == layer.count_params()
