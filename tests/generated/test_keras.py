"""Generated Keras: values on every backend, symbolic calls, models that train and are saved, and arguments that are refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builtin_calls import CALLS, JAX_NN, SDPA, float64_through, function
from by_hand import central_differences, random_arrays
from capabilities import Example
from in_keras import BACKEND, WIDE, Tensors, array_of, compiled, keras, ops, outputs_and_gradients, tensors_of

ONE_OF_EACH = [call for call in CALLS if call.id.rpartition("-")[2] in ("grouped", "lengths", "segments", "capped")]
jax_nn, sdpa, gemma2 = (function(name, "keras") for name in (JAX_NN, SDPA, "gemma2"))
ONE = np.zeros((2, 5, 4, 8), np.float32)


def attention(call: Example) -> Callable[[Tensors], Any]:
    """The generated function of its differentiable arrays, by name."""
    target, fixed = function(call.spec, "keras"), call.arguments({}, ops.convert_to_tensor)
    return lambda tensors: target(**tensors, **fixed)


def closeness(call: Example) -> float:
    return 1e-13 if float64_through(call) and WIDE == "float64" else 3e-6


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_values_and_gradients_are_those_written_by_hand(call: Example) -> None:
    cotangents = call.cotangents()
    (output,), slopes = outputs_and_gradients(lambda x: (attention(call)(x),), tensors_of(call.arrays()), cotangents)
    assert output.dtype == WIDE
    np.testing.assert_allclose(output, call.reference(call.arrays())[0], atol=closeness(call))
    by_hand = central_differences(lambda x: float((call.reference(x)[0] * cotangents[0]).sum()), call.arrays())
    for name, slope in by_hand.items():
        np.testing.assert_allclose(slopes[name], slope, atol=max(1e-8, 10 * closeness(call)), err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("call", ONE_OF_EACH, ids=lambda call: call.id)
def test_results_have_the_dtype_of_the_query_and_do_not_overflow(call: Example, dtype: str) -> None:
    """Every logit is past 65504, and all of a row are equal."""
    big = {n: ops.full(s, 300 if n in ("query", "key") else 1, dtype) for n, s in call.shapes.items()}
    found = compiled(attention(call))(big)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    output = array_of(ops.cast(found, "float32"))
    assert ((output == 0) | np.isclose(output, 1, atol=8e-3)).all()


def test_one_key_has_weight_1_without_a_warning() -> None:
    one = np.ones((1, 1, 1, 2), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(array_of(compiled(gemma2)(one, one, 3 * one)), 3 * one)


# -- models -------------------------------------------------------------------------------------------------------


def model() -> Any:
    """Any batch size, any length."""
    inputs = keras.Input((None, 8))
    query = keras.layers.Reshape((-1, 4, 2))(keras.layers.Dense(8)(inputs))
    key, value = (keras.layers.Reshape((-1, 2, 2))(keras.layers.Dense(4)(inputs)) for _ in range(2))
    attended = gemma2(query, key, value, left=2)
    assert attended.shape == (None, None, 4, 2)
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Reshape((-1, 8))(attended)))


def test_it_trains_inside_a_functional_model() -> None:
    """As Keras compiles it: with jax.jit, with XLA under tf.function, and eagerly in torch."""
    keras.utils.set_random_seed(0)
    trained = model()
    trained.compile("adam", "mse", jit_compile="auto")
    x = np.random.default_rng(0).standard_normal((8, 6, 8)).astype("float32")
    losses = trained.fit(x, x[..., :1], epochs=3, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert trained.predict(x[:3, :5], verbose=0).shape == (3, 5, 1)


def test_a_model_is_saved_and_loaded(tmp_path: Path) -> None:
    saved, x = model(), np.random.default_rng(0).standard_normal((2, 6, 8)).astype("float32")
    saved.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), saved.predict(x, verbose=0))


def test_it_runs_in_a_layer_under_a_mixed_precision_policy() -> None:
    class Attention(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return gemma2(x, x, x, left=1)

    layer = Attention(dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer(ONE).dtype) == "bfloat16"
    assert layer.compute_output_spec(keras.KerasTensor((None, None, 4, 8), "bfloat16")).shape == (None, None, 4, 8)


def test_a_symbolic_call_is_one_operation_that_is_named_after_the_function() -> None:
    tensor = keras.KerasTensor((2, 5, 4, 8))
    output = gemma2(tensor, tensor, tensor)
    assert output.shape == (2, 5, 4, 8)
    assert output._keras_history.operation.name.startswith("gemma2")


# -- refused ------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rank of query": (
        lambda: jax_nn(ONE[0, 0], ONE, ONE),
        ValueError,
        "`query` must have shape (B, T, N, H) or (T, N, H), got (4, 8)",
    ),
    "length of value": (
        lambda: jax_nn(ONE, ONE, ONE[:, :3]),
        ValueError,
        "`value` must have shape (B, S, K, H) or (S, K, H), got (2, 3, 4, 8); S = 5 is bound by `key`",
    ),
    "integers": (lambda: jax_nn(*[ONE.astype(np.int32)] * 3), ValueError, "`query` must be floating, got dtype int32"),
    "two dtypes": (
        lambda: jax_nn(ONE, ONE.astype(np.float16), ONE),
        ValueError,
        "`key` must have the dtype of `query`, float32, got float16",
    ),
    "an integer mask": (
        lambda: jax_nn(ONE, ONE, ONE, mask=np.ones((1, 1, 5, 5), np.int32)),
        ValueError,
        "`mask` must be bool, got dtype int32",
    ),
    "leading axes": (
        lambda: sdpa(ONE, ONE, np.zeros((3, 5, 4, 8), np.float32)),
        RuntimeError,
        "`value` has leading axes (3,), which do not broadcast with (2,) of `query`",
    ),
    "heads that do not divide": (
        lambda: jax_nn(ONE, ONE[:, :, :3], ONE[:, :, :3]),
        ValueError,
        "The number of query heads must be a multiple of key/value heads, but got 4 vs 3",
    ),
    "a cap of 0": (lambda: gemma2(ONE, ONE, ONE, cap=0.0), ValueError, "`cap` must satisfy cap > 0, got 0.0"),
    "a cap of two numbers": (
        lambda: gemma2(ONE, ONE, ONE, cap=[1.0, 2.0]),
        TypeError,
        "`cap` must be a number, got [1.0, 2.0]",
    ),
    "a window of half a key": (lambda: gemma2(ONE, ONE, ONE, left=2.5), TypeError, "`left` must be an integer, got 2.5"),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_argument_is_named_with_what_it_should_be(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_a_symbolic_call_is_refused_for_what_is_known() -> None:
    query, three, five = (keras.KerasTensor((None, *shape)) for shape in ((None, 4, 8), (3, 2, 8), (5, 2, 8)))
    heads = keras.KerasTensor((None, None, 3, 8))
    with pytest.raises(ValueError, match=re.escape("the 4 heads of query must be a multiple of the 3 heads of key and value")):
        gemma2(query, heads, heads)
    with pytest.raises(ValueError, match=re.escape("S = 5 is bound by `key`")):
        gemma2(query, five, three)


def test_numbers_may_be_scalars_of_any_kind() -> None:
    query = random_arrays(0, query=(1, 3, 2, 4))["query"].astype(np.float32)
    expected = array_of(gemma2(query, query, query, cap=2.0, left=1))
    for cap, left in ((np.float64(2), np.int64(1)), (np.float32(2), 1), (ops.convert_to_tensor(2.0), ops.convert_to_tensor(1))):
        np.testing.assert_allclose(array_of(gemma2(query, query, query, cap=cap, left=left)), expected, atol=1e-6)


def test_dropout_zeroes_a_share_of_the_weights_and_rescales_the_rest() -> None:
    keras.utils.set_random_seed(0)
    zeros, identity = np.zeros((200, 50), np.float32), np.eye(50, dtype=np.float32)
    weights = array_of(sdpa(zeros, identity, identity, dropout_p=0.25))
    kept = weights != 0
    np.testing.assert_allclose(weights[kept], 1 / 50 / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.02


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a tensor of TensorFlow")
def test_ragged_tensors_are_refused() -> None:
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_tensor(ONE)
    with pytest.raises(TypeError, match=r"^`key` must be a dense tensor, got RaggedTensor$"):
        gemma2(ONE, ragged, ragged)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the backend whose graphs know no sizes")
def test_a_graph_that_knows_no_sizes_gives_the_same() -> None:
    import tensorflow as tf

    call = next(call for call in CALLS if call.id.endswith("lengths"))
    signature = {name: tf.TensorSpec([None] * len(shape), WIDE) for name, shape in call.shapes.items()}
    traced = tf.function(attention(call), input_signature=[signature])
    tensors = tensors_of(call.arrays())
    np.testing.assert_allclose(traced(tensors), attention(call)(tensors), atol=1e-6)
