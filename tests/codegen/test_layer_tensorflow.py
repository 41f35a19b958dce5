"""`keras.layers.GroupQueryAttention` as a `tf.Module`: weights of any target, distributions, dropout, training, export."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from compiling import GENERATED, imported

FILE = "keras_layers_group_query_attention"
LAYER = imported(GENERATED / "tensorflow" / f"{FILE}.py").GroupQueryAttention
NUMPY = imported(GENERATED / "numpy" / f"{FILE}.py")
SIZES: dict[str, Any] = {"head_dim": 8, "num_query_heads": 4, "num_key_value_heads": 2}
Weights = dict[str, np.ndarray]


def weights_of(layer: tf.Module) -> Weights:
    """By name, in the order in which the layer made them."""
    return {name: value.numpy() for name, value in vars(layer).items() if isinstance(value, tf.Variable)}


def holding(params: Weights, **settings: Any) -> Any:
    """A layer that has these weights."""
    layer = LAYER(**settings, E=params["query_kernel"].shape[0], D=params["key_kernel"].shape[0])
    assert list(weights_of(layer)) == list(params)
    for name, weight in params.items():
        getattr(layer, name).assign(weight)
    return layer


@pytest.mark.parametrize("settings", [{}, {"use_gate": True}, {"use_bias": False, "sliding_window": 2}], ids=str)
@pytest.mark.parametrize("scores", [False, True])
def test_with_the_weights_of_another_target_it_gives_the_same_eager_and_traced(settings: dict[str, Any], scores: bool) -> None:
    random = np.random.default_rng(0)
    settings = SIZES | settings
    params = NUMPY.group_query_attention_init(random, **settings, E=12, D=5)
    layer = holding(params, **settings)
    arrays = [random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 12), (2, 5, 12), (2, 5, 5))]
    mask = random.random((2, 3, 5)) < 0.7
    options = {"use_causal_mask": True, "return_attention_scores": scores}
    expected = NUMPY.group_query_attention(params, *arrays, attention_mask=mask, **options, **settings)
    specs = [tf.TensorSpec((None, None, array.shape[-1])) for array in arrays]
    traced = tf.function(lambda q, v, k: layer(q, v, k, attention_mask=mask, **options), input_signature=specs)
    for found in (layer(*arrays, attention_mask=mask, **options), traced(*arrays)):
        for one, other in zip(found, expected, strict=True) if scores else [(found, expected)]:
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_kernels_are_uniform_with_the_fans_of_what_the_layer_sums_over_and_makes() -> None:
    """`D -> N * H` and not the fans of a convolution: by moments, and by the largest distance of the distributions."""
    tf.random.set_seed(3)
    params = weights_of(LAYER(head_dim=16, num_query_heads=8, num_key_value_heads=4, use_gate=True, E=48, D=40))
    fans = {"query": (48, 128), "key": (40, 64), "gate": (48, 128), "value": (48, 64), "attention_output": (128, 48)}
    for name, fan in fans.items():
        kernel = np.sort(params[f"{name}_kernel"].ravel().astype(np.float64))
        limit = (6 / sum(fan)) ** 0.5
        assert -limit <= kernel[0] < -0.99 * limit
        assert 0.99 * limit < kernel[-1] <= limit
        assert abs(kernel.mean()) < 5 * limit / (3 * kernel.size) ** 0.5
        expected = (kernel / limit + 1) / 2
        distance = np.abs(expected - (np.arange(kernel.size) + 0.5) / kernel.size).max()
        assert distance < 2.2 / kernel.size**0.5  # Kolmogorov-Smirnov: exceeded by one in 8,000 true ones
    assert all((weight == 0).all() for name, weight in params.items() if name.endswith("bias"))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="`kernel_regularizer` must be None here, got 'l2'"):
        LAYER(**SIZES, E=4, kernel_regularizer="l2")
    with pytest.raises(ValueError, match="must be divisible by"):
        LAYER(head_dim=2, num_query_heads=3, num_key_value_heads=2, E=4)
    ragged = tf.RaggedTensor.from_row_lengths(tf.zeros((5, 4)), [3, 2])
    with pytest.raises(TypeError, match="`value` must be a dense tensor, got a RaggedTensor"):
        LAYER(**SIZES, E=4)(tf.zeros((2, 3, 4)), ragged)


# -- dropout: one head whose projections are the identity, and values that are one too: the output is the weights ---


def transparent(keys: int, **settings: Any) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """A layer that returns its dropped weights, and the query and value of a call."""
    identity, nothing = np.eye(keys, dtype=np.float32), np.zeros((keys, 1, keys), np.float32)
    params = {
        "query_kernel": nothing,
        "key_kernel": nothing,
        "value_kernel": identity[:, None, :],
        "attention_output_kernel": identity[None],
    }
    layer = holding(params, head_dim=keys, num_query_heads=1, num_key_value_heads=1, use_bias=False, **settings)
    return layer, tf.zeros((8, 50, keys)), tf.eye(keys, batch_shape=(8,))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
def test_dropout_zeroes_a_share_of_the_weights_and_rescales_the_rest(seed: int | None, compiled: bool) -> None:
    keys, rate = 32, 0.25
    layer, query, value = transparent(keys, dropout=rate, seed=seed)
    call = tf.function(lambda q, v: layer(q, v, training=True, return_attention_scores=True))
    output, scores = call(query, value) if compiled else layer(query, value, training=True, return_attention_scores=True)
    kept = output.numpy() != 0
    np.testing.assert_allclose(output.numpy()[kept], 1 / keys / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / kept.size) ** 0.5
    np.testing.assert_allclose(scores, 1 / keys, rtol=1e-6)  # before dropout
    assert kept.any(axis=(0, 1)).all()  # no position, row or example is
    assert not kept.all(axis=(0, 1)).any()  # dropped or kept as a whole


def test_the_seed_and_the_training_flag_decide() -> None:
    one, same, other = (transparent(16, dropout=0.5, seed=seed) for seed in (1, 1, 2))
    first, again, another = (layer(query, value, training=True) for layer, query, value in (one, same, other))
    np.testing.assert_array_equal(first, again)
    assert (first.numpy() != another.numpy()).any()
    layer, query, value = one
    assert (layer(query, value, training=True).numpy() != first.numpy()).any()  # every call draws anew
    for training in (False, None):
        np.testing.assert_allclose(layer(query, value, training=training), 1 / 16, rtol=1e-6)
    layer, query, value = transparent(16, dropout=1.0, seed=1)
    assert (layer(query, value, training=True).numpy() == 0).all()


def test_a_graph_draws_anew_in_every_call() -> None:
    layer, query, value = transparent(16, dropout=0.5, seed=1)
    step = tf.function(lambda q, v: layer(q, v, training=True))
    assert (step(query, value).numpy() != step(query, value).numpy()).any()


def test_forward_and_backward_share_one_mask() -> None:
    layer, query, value = transparent(12, dropout=0.5, seed=9)
    with tf.GradientTape() as tape:
        tape.watch(value)
        output = layer(query, value, training=True)
    gradient = tape.gradient(output, value)
    np.testing.assert_allclose(gradient, output.numpy().sum(axis=1)[:, :, None] * np.ones(12), rtol=1e-5)


# -- as a module --------------------------------------------------------------------------------------------------


def test_it_is_trained_through_its_variables_and_saved_with_them(tmp_path: Path) -> None:
    layer = LAYER(**SIZES, use_gate=True, E=12)
    x, target = tf.random.stateless_normal((2, 5, 12), (1, 2)), tf.random.stateless_normal((2, 5, 12), (3, 4))

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, x, use_causal_mask=True) - target))
        for variable, gradient in zip(layer.trainable_variables, tape.gradient(loss, layer.trainable_variables), strict=True):
            variable.assign_sub(0.5 * gradient)
        return loss

    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    layer.attend = tf.function(lambda q, v: layer(q, v), input_signature=[tf.TensorSpec((None, None, 12))] * 2)
    tf.saved_model.save(layer, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.attend(x, x), layer(x, x))
    checkpoint = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    fresh = LAYER(**SIZES, use_gate=True, E=12)
    tf.train.Checkpoint(layer=fresh).read(checkpoint).expect_partial()
    np.testing.assert_array_equal(fresh(x, x), layer(x, x))


def test_a_copy_goes_its_own_way() -> None:
    layer, query, value = transparent(16, dropout=0.5, seed=4)
    other = copy.deepcopy(layer)
    other.value_kernel.assign(2 * other.value_kernel)
    np.testing.assert_allclose(other(query, value), 2 * layer(query, value), rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64], ids=lambda dtype: dtype.name)
def test_its_weights_have_the_dtype_that_was_asked_for(dtype: Any) -> None:
    layer = LAYER(**SIZES, E=12, dtype=dtype)
    assert {variable.dtype for variable in layer.variables} == {dtype}
    x = tf.ones((1, 2, 12), dtype)
    assert layer(x, x).dtype == dtype
