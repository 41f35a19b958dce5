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
