"""Generated TensorFlow: values, derivatives, graphs that know no sizes, XLA, export, and what is refused when."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attnspec.spec.loader import builtin
from builtin_calls import BLOCKWISE, CALLS, JAX_NN, SDPA, float64_through, function, residual
from by_hand import Arrays, central_differences, random_arrays
from capabilities import Example

each_call = pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)
ONE_OF_EACH = [call for call in CALLS if call.id.rpartition("-")[2] in ("grouped", "lengths", "segments", "capped")]
one_call_of_each = pytest.mark.parametrize("call", ONE_OF_EACH, ids=lambda call: call.id)
jax_nn, sdpa, gemma2, packed = (function(name, "tensorflow") for name in (JAX_NN, SDPA, "gemma2", "packed_documents"))
Tensors = dict[str, tf.Tensor]


def attention(call: Example) -> Callable[[Tensors], Any]:
    """The generated function of its differentiable tensors, by name."""
    target, fixed = function(call.spec, "tensorflow"), call.arguments({}, tf.constant)
    return lambda tensors: target(**tensors, **fixed)


def of_unknown_sizes(call: Example, attend: Callable[[Tensors], Any], dtype: tf.DType = tf.float64) -> Any:
    """`attend` as a graph that knows ranks and nothing else of its inputs."""
    signature = {name: tf.TensorSpec([None] * len(shape), dtype, name=name) for name, shape in call.shapes.items()}
    return tf.function(attend, input_signature=[signature])


def tensors_of(call: Example, dtype: tf.DType = tf.float64) -> Tensors:
    return {name: tf.cast(array, dtype) for name, array in call.arrays().items()}


# -- values and derivatives ---------------------------------------------------------------------------------------


@each_call
def test_values_are_those_written_by_hand_eager_and_where_no_size_is_known(call: Example) -> None:
    (expected,) = call.reference(call.arrays())
    for attend in (attention(call), of_unknown_sizes(call, attention(call))):
        found = attend(tensors_of(call))
        assert found.dtype == tf.float64
        np.testing.assert_allclose(found, expected, atol=1e-13 if float64_through(call) else 1e-6)


@one_call_of_each
def test_gradients_eager_and_traced_are_the_slopes_of_what_is_written_by_hand(call: Example) -> None:
    (cotangent,) = call.cotangents()

    def by_hand(x: Arrays) -> float:
        return float((call.reference(x)[0] * cotangent).sum())

    def gradients(x: Tensors) -> Tensors:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = attention(call)(x)
        return tape.gradient(output, x, output_gradients=tf.constant(cotangent))

    slopes = central_differences(by_hand, call.arrays())
    for compute in (gradients, of_unknown_sizes(call, gradients)):
        found = compute(tensors_of(call))
        for name, slope in slopes.items():
            np.testing.assert_allclose(found[name], slope, atol=1e-8 if float64_through(call) else 3e-6, err_msg=name)


@one_call_of_each
def test_second_derivatives_are_what_the_gradient_changes_by(call: Example) -> None:
    """A tape over a tape, in a graph that knows no sizes."""
    (cotangent,), arrays = call.cotangents(), call.arrays()
    direction = random_arrays(7, **call.shapes)

    def derivatives(x: Tensors) -> tuple[Tensors, Tensors]:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                output = attention(call)(x)
            gradients = inner.gradient(output, x, output_gradients=tf.constant(cotangent))
            along = tf.add_n([tf.reduce_sum(gradients[name] * direction[name]) for name in direction])
        return gradients, outer.gradient(along, x)

    compute = of_unknown_sizes(call, derivatives)
    _, changes = compute(tensors_of(call))
    step, tolerance = (1e-5, 1e-5) if float64_through(call) else (1e-2, 2e-2)
    moved = ({n: tf.constant(x + h * direction[n]) for n, x in arrays.items()} for h in (step, -step))
    ahead, behind = (compute(at)[0] for at in moved)
    for name, change in changes.items():
        np.testing.assert_allclose(change, (ahead[name] - behind[name]) / (2 * step), atol=tolerance, rtol=tolerance)


def test_a_hessian_is_symmetric_and_finite_where_a_row_sees_nothing() -> None:
    arrays = random_arrays(0, query=(1, 2, 2, 2), key=(1, 1, 3, 2), value=(1, 1, 3, 2))
    hidden = np.zeros((1, 1, 2, 3), bool)
    hidden[..., 1, :2] = True

    @tf.function
    def hessian(query: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(query)
            with tf.GradientTape() as inner:
                inner.watch(query)
                output = sdpa(query, arrays["key"], arrays["value"], attn_mask=hidden, enable_gqa=True)
                loss = tf.reduce_sum(tf.square(output))
            gradient = tf.reshape(inner.gradient(loss, query), [-1])
        return outer.jacobian(gradient, query)

    found = hessian(tf.constant(arrays["query"])).numpy().reshape(8, 8)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0
    np.testing.assert_allclose(found, found.T, atol=1e-12)


def test_the_residual_comes_without_a_gradient() -> None:
    arrays = random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))
    query = tf.constant(arrays["query"])
    with tf.GradientTape() as tape:
        tape.watch(query)
        _, found = jax_nn(query, arrays["key"], arrays["value"], is_causal=True, return_residual=True)
    np.testing.assert_allclose(found, residual(arrays), atol=1e-6)
    assert tape.gradient(found, query) is None


# -- dtypes -------------------------------------------------------------------------------------------------------


@each_call
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32], ids=lambda dtype: dtype.name)
def test_results_and_gradients_have_the_dtype_of_the_query_and_stay_near_the_exact_result(call: Example, dtype: Any) -> None:
    tensors, (expected,) = tensors_of(call, dtype), call.reference(call.arrays())
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        output = attention(call)(tensors)
    assert output.dtype == dtype
    assert {gradient.dtype for gradient in tape.gradient(output, tensors).values()} == {dtype}
    np.testing.assert_allclose(tf.cast(output, tf.float64), expected, atol=1e-5 if dtype == tf.float32 else 0.1)


@one_call_of_each
def test_products_beyond_the_range_of_fp16_do_not_overflow(call: Example) -> None:
    """Every logit is past 65504 and all of a row are equal."""
    big = {n: tf.fill(s, tf.constant(300 if n in ("query", "key") else 1, tf.float16)) for n, s in call.shapes.items()}
    with tf.GradientTape() as tape:
        tape.watch(big)
        output = attention(call)(big)
    found = tf.cast(output, tf.float32).numpy()
    assert ((found == 0) | np.isclose(found, 1, atol=2e-3)).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(output, big).values())


@pytest.mark.parametrize("given", [tf.float64, tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_a_mask_of_another_dtype_is_added_in_that_of_the_logits(given: Any) -> None:
    call = next(c for c in CALLS if c.id.endswith("-float-mask"))
    tensors = tensors_of(call, tf.float32) | {"attn_mask": tf.cast(call.arrays()["attn_mask"], given)}
    (expected,) = call.reference({name: tf.cast(tensor, tf.float64).numpy() for name, tensor in tensors.items()})
    found = attention(call)(tensors)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.int64], ids=lambda kind: kind.__name__)
def test_integers_of_any_width_are_positions_and_segments(kind: type) -> None:
    call = next(c for c in CALLS if c.spec == "packed_documents")
    other = {name: value.astype(kind) for name, value in call.others.items()}
    (expected,) = call.reference(call.arrays())
    np.testing.assert_allclose(packed(**call.arrays(), **other), expected, atol=1e-13)


# -- graphs -------------------------------------------------------------------------------------------------------


@one_call_of_each
def test_xla_compiles_it_with_its_gradients(call: Example) -> None:
    (cotangent,) = call.cotangents()

    def program(x: Tensors) -> tuple[tf.Tensor, Tensors]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = attention(call)(x)
        return output, tape.gradient(output, x, output_gradients=tf.constant(cotangent))

    tensors = tensors_of(call)
    (output, gradients), (expected, slopes) = tf.function(program, jit_compile=True)(tensors), program(tensors)
    tolerance = 1e-12 if float64_through(call) else 1e-5
    np.testing.assert_allclose(output, expected, atol=tolerance)
    for name, slope in slopes.items():
        np.testing.assert_allclose(gradients[name], slope, atol=tolerance, err_msg=name)


def test_one_trace_serves_every_batch_and_every_length() -> None:
    traces = []

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        traces.append(query.shape)
        return gemma2(query, key, value, left=2)

    heads = {"query": (4, 3), "key": (2, 3), "value": (2, 6)}
    graph = tf.function(attend, input_signature=[tf.TensorSpec((None, None, *rest)) for rest in heads.values()])
    for batch, rows, columns in ((1, 1, 1), (2, 3, 5), (3, 7, 2)):
        sizes = {"query": rows, "key": columns, "value": columns}
        arrays = random_arrays(rows, **{name: (batch, sizes[name], *rest) for name, rest in heads.items()})
        inputs = [tf.constant(array, tf.float32) for array in arrays.values()]
        np.testing.assert_allclose(graph(*inputs), gemma2(*inputs, left=2), atol=1e-6)
    assert [tuple(shape) for shape in traces] == [(None, None, 4, 3)]


def test_what_a_graph_knows_of_its_result_is_what_it_knows_of_its_inputs() -> None:
    specs = [tf.TensorSpec((None, 7, 4, 3)), tf.TensorSpec((2, None, 2, 3)), tf.TensorSpec((None, None, 2, 6))]
    graph = tf.function(lambda q, k, v: gemma2(q, k, v)).get_concrete_function(*specs)
    assert graph.output_shapes.as_list() == [2, 7, 4, 6]


def test_lengths_may_be_traced() -> None:
    """Facts about values are not checked in a graph, and nothing breaks: lengths out of range clamp."""
    arrays = {n: tf.constant(a, tf.float32) for n, a in random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3)).items()}
    attend = tf.function(lambda n: jax_nn(**arrays, value=arrays["key"], key_value_seq_lengths=n, query_seq_lengths=n))
    found, everything = attend(tf.constant([0, 99])), jax_nn(**arrays, value=arrays["key"])
    np.testing.assert_allclose(found[1], everything[1], atol=1e-6)
    assert (found[0].numpy() == 0).all()


@pytest.mark.parametrize("of", [tf.float64, tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_numbers_may_be_tensors_of_any_dtype(of: Any) -> None:
    """What cannot be checked while it is traced must not break; and a number has a gradient."""
    x = tf.constant(random_arrays(0, x=(1, 4, 2, 3))["x"], tf.float32)
    expected = gemma2(x, x, x, scale=0.5, cap=2.0, left=1)
    attend = tf.function(lambda scale, cap, left: gemma2(x, x, x, scale=scale, cap=cap, left=left))
    found = attend(tf.constant(0.5, of), tf.constant(2.0, of), tf.constant(1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    cap = tf.Variable(2.0, dtype=of)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(gemma2(x, x, x, cap=cap))
    assert tape.gradient(total, cap).dtype == of


def test_a_variable_is_as_good_as_a_tensor() -> None:
    call = next(c for c in CALLS if c.spec == "gemma2")
    variables = {name: tf.Variable(tensor) for name, tensor in tensors_of(call).items()}
    with tf.GradientTape() as tape:
        output = attention(call)(variables)
    np.testing.assert_array_equal(output, attention(call)(tensors_of(call)))
    assert all(gradient is not None for gradient in tape.gradient(output, variables).values())


@pytest.mark.parametrize("call", [*ONE_OF_EACH, BLOCKWISE[-1]], ids=lambda call: call.id)
def test_exported_and_loaded_it_gives_the_same(call: Example, tmp_path: Path) -> None:
    """A SavedModel holds the graph: nothing of the Python code is needed to run it."""
    module = tf.Module()
    module.attend = of_unknown_sizes(call, attention(call), tf.float32)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    tensors = tensors_of(call, tf.float32)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.attend(tensors), module.attend(tensors))


@one_call_of_each
def test_mapped_over_a_new_axis_it_gives_every_call(call: Example) -> None:
    tensors = tensors_of(call)
    stacked = {name: tf.stack([tensor, -tensor]) for name, tensor in tensors.items()}
    found = tf.vectorized_map(attention(call), stacked)
    for row, factor in zip(found, (1, -1), strict=True):
        expected = attention(call)({name: factor * tensor for name, tensor in tensors.items()})
        np.testing.assert_allclose(row, expected, atol=1e-12 if float64_through(call) else 1e-6)


def test_dropout_zeroes_a_share_of_the_weights_and_rescales_the_rest() -> None:
    """The values are one-hot, so that the output shows the weights: all equal before dropout."""
    tf.random.set_seed(0)
    zeros, eye = tf.zeros((4, 8, 32, 3)), tf.eye(32, batch_shape=(4, 8))
    found = sdpa(zeros, zeros, eye, dropout_p=0.25).numpy()
    np.testing.assert_allclose(np.unique(found), [0, 1 / 32 / 0.75], rtol=1e-6)
    assert (found == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (sdpa(zeros, zeros, eye, dropout_p=1.0).numpy() == 0).all()


# -- refusals -----------------------------------------------------------------------------------------------------

ONE = np.zeros((2, 5, 4, 8), np.float32)
RAGGED = tf.RaggedTensor.from_row_lengths(tf.zeros((7, 4, 8)), [5, 2])
IDS = {"query_segment_ids": np.zeros((2, 5), int), "key_value_segment_ids": np.zeros((2, 5), int)}
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
    "a mix of ranks": (
        lambda: jax_nn(ONE, ONE[0], ONE[0]),
        ValueError,
        "`key`, `value` must have the leading axes of `query`",
    ),
    "integers": (lambda: jax_nn(*[ONE.astype(int)] * 3), ValueError, "`query` must be floating, got dtype int64"),
    "two dtypes": (
        lambda: jax_nn(ONE, ONE.astype(np.float16), ONE),
        ValueError,
        "`key` must have the dtype of `query`, float32, got float16",
    ),
    "an integer mask": (
        lambda: jax_nn(ONE, ONE, ONE, mask=np.ones((1, 1, 5, 5), int)),
        ValueError,
        "`mask` must be bool, got dtype int64",
    ),
    "heads that do not divide": (
        lambda: jax_nn(ONE, ONE[:, :, :3], ONE[:, :, :3]),
        ValueError,
        "The number of query heads must be a multiple of key/value heads, but got 4 vs 3",
    ),
    "leading axes that do not broadcast": (
        lambda: sdpa(ONE, np.concatenate([ONE, ONE[:1]]), ONE),
        RuntimeError,
        "`key` has leading axes (3,), which do not broadcast with (2,) of `query`",
    ),
    "leading axes that only the mask has": (
        lambda: sdpa(ONE, ONE, ONE, attn_mask=np.ones((3, 1, 1, 4, 4), bool)),
        RuntimeError,
        "`attn_mask` has leading axes (3, 1), which do not broadcast with (2,) of `query`",
    ),
    "a negative window": (
        lambda: jax_nn(ONE, ONE, ONE, local_window_size=(-1, 3)),
        ValueError,
        "`local_window_size` must hold sizes of 0 or more, got (-1, 3)",
    ),
    "a ragged query": (
        lambda: gemma2(RAGGED, ONE, ONE),
        TypeError,
        "`query` must be a dense tensor, got a RaggedTensor: pad it with `.to_tensor()` and mask the padding",
    ),
    "ragged segments": (
        lambda: packed(ONE, ONE, ONE, **IDS | {"key_value_segment_ids": tf.ragged.constant([[1, 1], [1]])}),
        TypeError,
        "`key_value_segment_ids` must be a dense tensor, got a RaggedTensor: pad it with `.to_tensor()` and mask the padding",
    ),
    "a sparse value": (
        lambda: gemma2(ONE, ONE, tf.sparse.from_dense(ONE)),
        TypeError,
        "`value` must be a dense tensor, got SparseTensor",
    ),
    "a cap of 0": (lambda: gemma2(ONE, ONE, ONE, cap=0.0), ValueError, "`cap` must satisfy cap > 0, got 0.0"),
    "a window of half a key": (lambda: gemma2(ONE, ONE, ONE, left=2.5), TypeError, "`left` must be an integer, got 2.5"),
    "a scale per head": (
        lambda: gemma2(ONE, ONE, ONE, scale=(1.0, 2.0)),
        TypeError,
        "`scale` must be a number, got (1.0, 2.0)",
    ),
    "a scale that is true": (lambda: gemma2(ONE, ONE, ONE, scale=True), TypeError, "`scale` must be a number, got True"),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_argument_is_named_with_what_it_should_be(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("name", ["length of value", "heads that do not divide", "two dtypes", "a ragged query"])
def test_static_facts_are_checked_in_a_graph_too(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=re.escape(message)):
        tf.function(call)()


def test_what_is_known_of_a_size_is_checked_and_the_rest_when_it_runs() -> None:
    """The batch is unknown, the heads are not; then two lengths that turn out to differ."""
    clash = [tf.TensorSpec((None, None, 4, 3)), tf.TensorSpec((None, None, 2, 5)), tf.TensorSpec((None, None, 2, 6))]
    message = "`key` must have shape (B, S, K, H), got (None, None, 2, 5); H = 3 is bound by `query`"
    with pytest.raises(ValueError, match=re.escape(message)):
        tf.function(gemma2).get_concrete_function(*clash)
    of_two, of_three = (tf.TensorSpec((None, batch, 4, None, 3)) for batch in (2, 3))
    message = "`key` has leading axes (None, 3), which do not broadcast with (None, 2) of `query`"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        tf.function(sdpa).get_concrete_function(of_two, of_three, of_three)
    fits = [tf.TensorSpec((None, None, 4, 3)), tf.TensorSpec((None, None, 2, 3)), tf.TensorSpec((None, None, 2, 6))]
    graph = tf.function(lambda *tensors: gemma2(*tensors), input_signature=fits)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph(tf.zeros((1, 3, 4, 3)), tf.zeros((1, 5, 2, 3)), tf.zeros((1, 4, 2, 6)))


def test_a_tensor_of_unknown_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("`query` must have shape (B, T, N, H), got one of unknown rank")):
        tf.function(gemma2).get_concrete_function(tf.TensorSpec(None), tf.TensorSpec(None), tf.TensorSpec(None))


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if spec.form == "function"))
def test_the_signature_is_the_documented_one(name: str) -> None:
    spec = builtin()[name]
    kinds = {"positional": inspect.Parameter.POSITIONAL_OR_KEYWORD, "keyword-only": inspect.Parameter.KEYWORD_ONLY}
    parameters = inspect.signature(function(spec.module_name, "tensorflow")).parameters.values()
    assert [(p.name, p.kind) for p in parameters] == [(a.name, kinds[a.kind]) for a in spec.arguments]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert defaults == {a.name: a.default for a in spec.arguments if not a.required}
