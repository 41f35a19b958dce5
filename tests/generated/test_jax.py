"""Generated JAX: values, derivatives in both modes, every transform, and validation that tracing does not break."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from attnspec.spec.loader import builtin
from builtin_calls import BLOCKWISE, CALLS, JAX_NN, SDPA, float64_through, function, residual
from by_hand import Arrays, central_differences, random_arrays
from capabilities import Example

pytestmark = pytest.mark.xdist_group("jax")
each_call = pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)
ONE_OF_EACH = [call for call in CALLS if call.id.rpartition("-")[2] in ("grouped", "lengths", "segments", "capped")]
ONE_OF_EACH += [call for call in BLOCKWISE if call.name == "two-ranges"]
one_call_of_each = pytest.mark.parametrize("call", ONE_OF_EACH, ids=lambda call: call.id)
jax_nn, sdpa, gemma2 = (function(name, "jax") for name in (JAX_NN, SDPA, "gemma2"))


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def attention(call: Example) -> Callable[[Any], Any]:
    """The generated function of its differentiable arrays, by name."""
    target, fixed = function(call.spec, "jax"), call.arguments({}, np.asarray)
    return lambda arrays: target(**arrays, **fixed)


def in_float32(call: Example) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array, jnp.float32) for name, array in call.arrays().items()}


@each_call
def test_values_are_those_written_by_hand(call: Example, float64: None) -> None:
    (expected,) = call.reference(call.arrays())
    found = jax.jit(attention(call))(call.arrays())
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, atol=1e-13 if float64_through(call) else 1e-6)


@one_call_of_each
def test_first_and_second_derivatives_are_right(call: Example, float64: None) -> None:
    """In one compilation: the gradient, and what forward mode says that it changes by along one direction."""
    (cotangent,), arrays = call.cotangents(), call.arrays()
    direction = random_arrays(7, **call.shapes)

    def scalar(x: Any) -> jax.Array:
        return (attention(call)(x) * cotangent).sum()

    def by_hand(x: Arrays) -> float:
        return float((call.reference(x)[0] * cotangent).sum())

    derivatives = jax.jit(lambda x: jax.jvp(jax.grad(scalar), (x,), (direction,)))
    gradients, changes = derivatives(arrays)
    for name, slope in central_differences(by_hand, arrays).items():
        np.testing.assert_allclose(gradients[name], slope, atol=1e-8 if float64_through(call) else 3e-6, err_msg=name)
    step = 1e-5 if float64_through(call) else 1e-2
    ahead, behind = (derivatives({n: x + h * direction[n] for n, x in arrays.items()})[0] for h in (step, -step))
    tolerance = 1e-5 if float64_through(call) else 2e-2
    for name, change in changes.items():
        np.testing.assert_allclose(change, (ahead[name] - behind[name]) / (2 * step), atol=tolerance, rtol=tolerance)


def test_jaxs_own_check_of_derivatives_passes(float64: None) -> None:
    """Order 2, forward and reverse mode, each over the other."""
    arrays = random_arrays(0, query=(1, 2, 2, 2), key=(1, 3, 1, 2), value=(1, 3, 1, 2))
    check_grads(jax.jit(function("causal_gqa", "jax")), tuple(arrays.values()), order=2, modes=("fwd", "rev"))


def test_a_hessian_is_symmetric_and_finite_where_a_row_sees_nothing(float64: None) -> None:
    arrays = random_arrays(0, query=(1, 2, 2, 2), key=(1, 3, 1, 2), value=(1, 3, 1, 2))
    hidden = np.zeros((1, 1, 2, 3), bool)
    hidden[..., 1, :2] = True

    def loss(query: jax.Array) -> jax.Array:
        heads_first = (x.swapaxes(1, 2) for x in (query, arrays["key"], arrays["value"]))
        return jnp.square(sdpa(*heads_first, attn_mask=hidden, enable_gqa=True)).sum()

    found = jax.jit(jax.hessian(loss))(arrays["query"]).reshape(8, 8)
    assert jnp.isfinite(found).all()
    assert jnp.abs(found).max() > 0
    np.testing.assert_allclose(found, found.T, atol=1e-12)


@one_call_of_each
def test_mapped_over_a_new_axis_it_gives_every_call(call: Example) -> None:
    arrays, attend = in_float32(call), jax.jit(attention(call))
    stacked = {name: jnp.stack([array, -array, 2 * array]) for name, array in arrays.items()}
    found = jax.jit(jax.vmap(attention(call)))(stacked)
    for row, factor in zip(found, (1, -1, 2), strict=True):
        expected = attend({name: factor * array for name, array in arrays.items()})
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_mapped_over_one_argument_alone_it_gives_every_call() -> None:
    call = next(c for c in CALLS if c.spec == "gemma2")
    arrays = in_float32(call)
    queries = jnp.stack([arrays["query"], -arrays["query"]], axis=-1)
    attend = jax.jit(lambda query: attention(call)({**arrays, "query": query}))
    np.testing.assert_allclose(jax.vmap(attend, in_axes=-1)(queries)[1], attend(-arrays["query"]), atol=1e-6)


@each_call
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_results_and_gradients_have_the_dtype_of_the_query(call: Example, dtype: Any) -> None:
    """Checked without running: shapes and dtypes alone."""
    arrays = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in call.shapes.items()}
    output, backward = jax.eval_shape(lambda x: (attention(call)(x), jax.grad(lambda y: attention(call)(y).sum())(x)), arrays)
    assert output.dtype == dtype
    assert {gradient.dtype for gradient in backward.values()} == {jnp.dtype(dtype)}


@one_call_of_each
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_stays_near_the_exact_result(call: Example, dtype: Any) -> None:
    (expected,) = call.reference(call.arrays())
    found = jax.jit(attention(call))({name: array.astype(dtype) for name, array in in_float32(call).items()})
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.1)


@one_call_of_each
def test_products_beyond_the_range_of_fp16_do_not_overflow(call: Example) -> None:
    """Every logit is past 65504 and all of a row are equal."""
    big = {n: jnp.full(s, 300 if n in ("query", "key") else 1, jnp.float16) for n, s in call.shapes.items()}

    def total(arrays: Any) -> tuple[jax.Array, jax.Array]:
        output = attention(call)(arrays)
        return output.sum(), output

    backward, output = jax.jit(jax.grad(total, has_aux=True))(big)
    assert ((output == 0) | jnp.isclose(output, 1, atol=2e-3)).all()
    assert all(jnp.isfinite(gradient).all() for gradient in backward.values())


@pytest.mark.parametrize("wide", [False, True])
def test_float64_is_float64_only_where_jax_has_it(wide: bool) -> None:
    call = next(c for c in CALLS if c.spec == "gemma2")
    with jax.enable_x64(wide):
        assert jax.eval_shape(attention(call), call.arrays()).dtype == (jnp.float64 if wide else jnp.float32)


def test_lengths_may_be_traced() -> None:
    """Facts about values are not checked under jit, and nothing breaks: lengths out of range clamp."""
    arrays = {name: jnp.asarray(a, jnp.float32) for name, a in random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3)).items()}
    lengths = jnp.array([0, 99])
    attend = jax.jit(lambda n: jax_nn(**arrays, value=arrays["key"], key_value_seq_lengths=n, query_seq_lengths=n))
    found = attend(lengths)
    everything = jax.jit(lambda: jax_nn(**arrays, value=arrays["key"]))()
    np.testing.assert_allclose(found[1], everything[1], atol=1e-6)
    assert (found[0] == 0).all()


def test_numbers_may_be_traced() -> None:
    """`jax.jit(f)(q, k, v, cap=...)` traces the numbers too: what cannot be checked then must not break."""
    x = jnp.asarray(random_arrays(0, x=(1, 4, 2, 3))["x"], jnp.float32)
    traced = jax.jit(gemma2)(x, x, x, scale=0.5, cap=2.0, left=1)
    known = jax.jit(lambda: gemma2(x, x, x, scale=0.5, cap=2.0, left=1))()
    np.testing.assert_allclose(traced, known, atol=1e-6)
    slope = jax.jit(jax.grad(lambda cap: gemma2(x, x, x, cap=cap).sum()))(2.0)
    assert jnp.isfinite(slope)
    assert slope != 0


ONE = np.zeros((2, 5, 4, 8), np.float32)
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
    "head dim of value": (
        lambda: jax_nn(ONE, ONE, ONE[..., :3]),
        ValueError,
        "`value` must have shape (B, S, K, H) or (S, K, H), got (2, 5, 4, 3); H = 8 is bound by `query`",
    ),
    "a mix of ranks": (
        lambda: jax_nn(ONE, ONE[0], ONE[0]),
        ValueError,
        "`key`, `value` must have the leading axes of `query`",
    ),
    "integers": (lambda: jax_nn(*[ONE.astype(int)] * 3), ValueError, "`query` must be floating, got dtype int32"),
    "two dtypes": (
        lambda: jax_nn(ONE, ONE.astype(np.float16), ONE),
        ValueError,
        "`key` must have the dtype of `query`, float32, got float16",
    ),
    "an integer mask": (
        lambda: jax_nn(ONE, ONE, ONE, mask=np.ones((1, 1, 5, 5), int)),
        ValueError,
        "`mask` must be bool, got dtype int32",
    ),
    "heads that do not divide": (
        lambda: jax_nn(ONE, ONE[:, :, :3], ONE[:, :, :3]),
        ValueError,
        "The number of query heads must be a multiple of key/value heads, but got 4 vs 3",
    ),
    "a negative window": (
        lambda: jax_nn(ONE, ONE, ONE, local_window_size=(-1, 3)),
        ValueError,
        "`local_window_size` must hold sizes of 0 or more, got (-1, 3)",
    ),
    "lengths of another batch": (
        lambda: jax_nn(ONE, ONE, ONE, key_value_seq_lengths=np.array([1, 2, 3])),
        ValueError,
        "`key_value_seq_lengths` must have shape (B), got (3,); B = 2 is bound by `query`",
    ),
    "a cap of 0": (lambda: gemma2(ONE, ONE, ONE, cap=0.0), ValueError, "`cap` must satisfy cap > 0, got 0.0"),
    "a window of half a key": (lambda: gemma2(ONE, ONE, ONE, left=2.5), TypeError, "`left` must be an integer, got 2.5"),
    "dropout": (
        lambda: sdpa(ONE, ONE, ONE, dropout_p=0.5),
        NotImplementedError,
        "jax: dropout needs a `seed`, another one in every step",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_argument_is_named_with_what_it_should_be(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("name", ["length of value", "heads that do not divide", "two dtypes", "a negative window"])
def test_static_facts_are_checked_under_jit_too(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=re.escape(message)):
        jax.jit(call)()


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if spec.form == "function"))
def test_the_signature_is_the_documented_one(name: str) -> None:
    spec = builtin()[name]
    kinds = {"positional": inspect.Parameter.POSITIONAL_OR_KEYWORD, "keyword-only": inspect.Parameter.KEYWORD_ONLY}
    parameters = inspect.signature(function(spec.module_name, "jax")).parameters.values()
    assert [(p.name, p.kind) for p in parameters] == [(a.name, kinds[a.kind]) for a in spec.arguments]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert defaults == {a.name: a.default for a in spec.arguments if not a.required}


def test_the_signature_is_that_of_the_installed_function() -> None:
    own = inspect.signature(jax.nn.dot_product_attention).parameters
    assert [(p.name, p.kind, p.default) for p in inspect.signature(jax_nn).parameters.values()] == [
        (p.name, p.kind, p.default) for p in own.values()
    ]


NATIVE: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True, "scale": 0.5},
    "residual": {"is_causal": True, "return_residual": True},
    "window": {"local_window_size": (2, 1)},
    "one size": {"local_window_size": 1},
    "bias": {"bias": np.random.default_rng(0).standard_normal((1, 4, 3, 1)).astype(np.float32)},
    "mask": {"mask": np.random.default_rng(0).random((2, 1, 3, 5)) < 0.5},
    "lengths": {"query_seq_lengths": np.array([2, 3], np.int32), "key_value_seq_lengths": np.array([0, 4], np.int32)},
}


@pytest.mark.parametrize("options", NATIVE.values(), ids=NATIVE)
def test_it_can_stand_in_for_the_frameworks_own(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls `jax.nn.dot_product_attention`, before and after the exchange."""
    arrays = random_arrays(3, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))
    inputs = [jnp.asarray(array, jnp.float32) for array in arrays.values()]

    def program() -> Any:
        return jax.jit(lambda *at: jax.nn.dot_product_attention(*at, **options))(*inputs)

    expected = program()
    monkeypatch.setattr(jax.nn, "dot_product_attention", jax_nn)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), program(), expected)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"return_residual": True}], ids=str)
def test_without_a_batch_axis_it_gives_the_same(options: dict[str, bool]) -> None:
    arrays = random_arrays(3, query=(3, 4, 3), key=(5, 2, 3), value=(5, 2, 3))
    inputs = [jnp.asarray(array, jnp.float32) for array in arrays.values()]
    own, ours = (jax.jit(lambda *at, f=f: f(*at, **options))(*inputs) for f in (jax.nn.dot_product_attention, jax_nn))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, own)


def test_the_residual_comes_without_a_gradient(float64: None) -> None:
    arrays = random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))

    def total(query: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, found = jax_nn(query, arrays["key"], arrays["value"], is_causal=True, return_residual=True)
        return found.sum(), found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(arrays["query"])
    np.testing.assert_allclose(found, residual(arrays), atol=1e-6)
    assert (gradient == 0).all()
