"""Every capability of the language, compiled to NumPy: values and gradients against attention written by hand."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import pytest

from by_hand import Arrays, central_differences
from capabilities import EXAMPLES, Example
from compiling import capability

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)


def results(example: Example, suffix: str = "", **more: Any) -> Any:
    module = capability(example.spec, "numpy")
    return getattr(module, example.spec + suffix)(**more, **example.arguments(example.arrays(), np.asarray))


def cotangent_argument(example: Example) -> dict[str, Any]:
    """One cotangent, or a tuple of them where several outputs come back."""
    vjp = getattr(capability(example.spec, "numpy"), f"{example.spec}_vjp")
    cotangents = example.cotangents()
    return {next(iter(signature(vjp).parameters)): cotangents if len(cotangents) > 1 else cotangents[0]}


@each_example
def test_values_are_those_written_by_hand(example: Example) -> None:
    found = results(example)
    outputs = found if isinstance(found, tuple) else (found,)
    for output, expected in zip(outputs, example.reference(example.arrays()), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-13)


@each_example
def test_gradients_are_the_slopes_of_what_is_written_by_hand(example: Example) -> None:
    cotangents = example.cotangents()

    def scalar(arrays: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, example.reference(arrays), strict=True)))

    found = results(example, "_vjp", **cotangent_argument(example))
    expected = central_differences(scalar, example.arrays())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-8, err_msg=name)


def test_rows_that_see_nothing_follow_the_path_that_was_taken() -> None:
    example = next(e for e in EXAMPLES if e.id == "two_paths-fused")
    arguments = example.arguments(example.arrays(), np.asarray)
    function = capability("two_paths", "numpy").two_paths
    with np.errstate(invalid="ignore"):
        output, weights = function(**arguments, return_weights=True)
    assert np.isnan(output[0, 1]).all()
    assert np.isnan(weights[0, :, 1]).all()
    assert np.isfinite(np.delete(output.reshape(6, -1), 1, axis=0)).all()
    assert (function(**arguments)[0, 1] == 0).all()


def test_a_list_whose_optional_member_has_another_dtype_is_refused() -> None:
    query, value = np.ones((1, 2, 2, 3), np.float32), np.ones((1, 4, 1, 3), np.float32)
    function = capability("list_input", "numpy").list_input
    with pytest.raises(ValueError, match="`key` must have the dtype of `query`, float32, got float64"):
        function([query, value, value.astype(np.float64)])


@pytest.mark.parametrize("inputs", [(), [1], (1, 2), [1, 2, 3, 4]], ids=str)
def test_a_list_input_must_be_a_list_of_the_right_length(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"^`inputs` must be a list of 2 to 3 tensors, got "):
        capability("list_input", "numpy").list_input(inputs)


def test_a_layer_starts_from_the_documented_distributions() -> None:
    """Glorot's limit from the dims that the layer sums over and those that it makes; zeros for biases."""
    init = capability("projected_layer", "numpy").projected_layer_init
    params = init(np.random.default_rng(0), E=60, N=6, H=10, K=3, V=20)
    limits = {"query_kernel": (6 / 120) ** 0.5, "key_kernel": (6 / 90) ** 0.5, "output_kernel": (6 / 180) ** 0.5}
    for name, limit in limits.items():
        assert 0.97 * limit < np.abs(params[name]).max() <= limit
        assert params[name].std() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert all((params[name] == 0).all() for name in params if name.endswith("bias"))
    assert {weight.dtype for weight in params.values()} == {np.dtype(np.float32)}
    assert sorted(init(np.random.default_rng(0), use_bias=False, E=6, N=6, H=1, K=3, V=2)) == [
        "key_kernel", "output_kernel", "query_kernel", "value_kernel",
    ]  # fmt: skip


def test_a_weight_that_does_not_fit_is_named() -> None:
    example = next(e for e in EXAMPLES if e.id == "projected_layer-bias")
    arguments = example.arguments(example.arrays(), np.asarray)
    arguments["params"]["key_bias"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"`key_bias` must have shape \(K, H\), got \(3, 3\); K = 2 is bound by `key_kernel`"):
        capability("projected_layer", "numpy").projected_layer(**arguments)
