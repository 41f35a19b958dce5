"""Generated NumPy: values and gradients by hand, fp16 without overflow, arguments left as they were."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from attnspec.spec.loader import builtin
from builtin_calls import BLOCKWISE, CALLS, JAX_NN, SDPA, float64_through, function, residual
from by_hand import Arrays, central_differences, random_arrays
from capabilities import Example

each_call = pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)


def called(call: Example, arrays: dict[str, np.ndarray], suffix: str = "", **more: Any) -> Any:
    return function(call.spec, "numpy", suffix)(**more, **call.arguments(arrays, np.asarray))


@each_call
def test_values_are_those_written_by_hand(call: Example) -> None:
    (expected,) = call.reference(call.arrays())
    np.testing.assert_allclose(called(call, call.arrays()), expected, atol=1e-13 if float64_through(call) else 1e-6)


@each_call
def test_gradients_are_the_slopes_of_what_is_written_by_hand(call: Example) -> None:
    (cotangent,) = call.cotangents()

    def scalar(arrays: Arrays) -> float:
        return float((call.reference(arrays)[0] * cotangent).sum())

    found = called(call, call.arrays(), "_vjp", d_output=cotangent)
    expected = central_differences(scalar, call.arrays())
    assert found.keys() == expected.keys()
    for name, slope in expected.items():
        assert found[name].shape == slope.shape
        np.testing.assert_allclose(found[name], slope, atol=1e-8 if float64_through(call) else 3e-6, err_msg=name)


@each_call
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_have_the_dtype_of_the_query(call: Example, dtype: type) -> None:
    arrays: dict[str, np.ndarray] = {name: array.astype(dtype) for name, array in call.arrays().items()}
    output = called(call, arrays)
    assert output.dtype == dtype
    gradients = called(call, arrays, "_vjp", d_output=output)
    assert {name: gradient.dtype for name, gradient in gradients.items()} == dict.fromkeys(arrays, np.dtype(dtype))


@each_call
def test_products_beyond_the_range_of_fp16_do_not_overflow(call: Example) -> None:
    """Every logit is past 65504 and all of a row are equal: only what a sum in fp16 would lose decides."""
    ones = {name: np.ones(shape, np.float16) for name, shape in call.shapes.items()}
    big = {name: array * np.float16(300 if name in ("query", "key") else 1) for name, array in ones.items()}
    output = called(call, big)
    gradients = called(call, big, "_vjp", d_output=np.ones_like(output))
    assert np.isfinite(output).all()
    assert ((output == 0) | np.isclose(output, 1, atol=2e-3)).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@each_call
def test_nothing_is_written_to(call: Example) -> None:
    """Read-only arrays go in; the cotangent too."""
    arrays = call.arrays()
    arguments = call.arguments(arrays, np.array)
    (cotangent,) = call.cotangents()
    given = [a for a in (*arguments.values(), cotangent) if isinstance(a, np.ndarray)]
    copies = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    function(call.spec, "numpy")(**arguments)
    function(call.spec, "numpy", "_vjp")(cotangent, **arguments)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@each_call
def test_the_memory_layout_does_not_matter(call: Example) -> None:
    """Transposed, strided and reversed views give what contiguous arrays give."""

    def laid_out(array: np.ndarray) -> np.ndarray:
        spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
        spread[..., ::-2] = array
        view = np.asfortranarray(spread)[..., ::-2]
        assert view.shape == array.shape and not view.flags.c_contiguous
        return view

    strange = {name: laid_out(array) for name, array in call.arrays().items()}
    (cotangent,) = call.cotangents()
    np.testing.assert_allclose(called(call, strange), called(call, call.arrays()), atol=1e-7)
    found = called(call, strange, "_vjp", d_output=laid_out(cotangent))
    for name, gradient in called(call, call.arrays(), "_vjp", d_output=cotangent).items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if spec.form == "function"))
def test_the_signature_is_the_documented_one(name: str) -> None:
    spec = builtin()[name]
    parameters = inspect.signature(function(spec.module_name, "numpy")).parameters.values()
    kinds = {"positional": inspect.Parameter.POSITIONAL_OR_KEYWORD, "keyword-only": inspect.Parameter.KEYWORD_ONLY}
    assert [(p.name, p.kind) for p in parameters] == [(a.name, kinds[a.kind]) for a in spec.arguments]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert defaults == {a.name: a.default for a in spec.arguments if not a.required}


def test_the_residual_is_the_log_sum_exp_of_the_logits() -> None:
    arrays = random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))
    output, found = function(JAX_NN, "numpy")(**arrays, is_causal=True, return_residual=True)
    np.testing.assert_allclose(found, residual(arrays), atol=1e-6)
    np.testing.assert_array_equal(output, function(JAX_NN, "numpy")(**arrays, is_causal=True))


def test_dropout_zeroes_a_share_and_keeps_the_mean() -> None:
    np.random.seed(0)
    query = np.zeros((1, 1, 40, 2))
    value = np.ones((1, 1, 50, 1))
    output = function(SDPA, "numpy")(query, np.zeros((1, 1, 50, 2)), value, dropout_p=0.25)
    np.testing.assert_allclose(output.mean(), 1, atol=0.05)
    assert output.std() > 0
    assert (function(SDPA, "numpy")(query, np.zeros((1, 1, 50, 2)), value, dropout_p=1.0) == 0).all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=nps.array_shapes(min_dims=4, max_dims=4, max_side=4),
    keys=st.integers(1, 5),
    groups=st.integers(1, 3),
)
def test_any_shape_keeps_weights_between_the_values(seed: int, shape: tuple[int, ...], keys: int, groups: int) -> None:
    """An output is a mean of values: never outside their range, whatever the sizes."""
    batch, rows, heads, depth = shape
    arrays = random_arrays(seed, query=(batch, rows, heads * groups, depth), key=(batch, keys, heads, depth))
    value = np.random.default_rng(seed).random((batch, keys, heads, depth + 1))
    output = function("causal_gqa", "numpy")(**arrays, value=value)
    assert output.shape == (batch, rows, heads * groups, depth + 1)
    assert value.min() - 1e-12 <= output.min() and output.max() <= value.max() + 1e-12
