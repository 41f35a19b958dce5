"""Every capability of the language that has a function, compiled to Keras: values, gradients, and what symbolic calls say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from by_hand import Arrays, central_differences
from capabilities import EXAMPLES, Example
from compiling import capability
from in_keras import WIDE, Tensors, keras, ops, outputs_and_gradients, tensors_of

FUNCTIONS = [example for example in EXAMPLES if not example.weights]
each_example = pytest.mark.parametrize("example", FUNCTIONS, ids=lambda example: example.id)
CLOSE = {"float64": 1e-13, "float32": 2e-6}[WIDE]


def attention(example: Example, convert: Callable[[np.ndarray], Any] = ops.convert_to_tensor) -> Callable[[Tensors], Any]:
    function = getattr(capability(example.spec, "keras"), example.spec)

    def outputs(tensors: Tensors) -> tuple[Any, ...]:
        found = function(**example.arguments(tensors, convert))
        return found if isinstance(found, tuple) else (found,)

    return outputs


@each_example
def test_values_and_gradients_are_those_written_by_hand(example: Example) -> None:
    cotangents, arrays = example.cotangents(), example.arrays()

    def by_hand(x: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, example.reference(x), strict=True)))

    outputs, slopes = outputs_and_gradients(attention(example), tensors_of(arrays), cotangents)
    for output, expected in zip(outputs, example.reference(arrays), strict=True):
        np.testing.assert_allclose(output, expected, atol=CLOSE)
    for name, slope in central_differences(by_hand, arrays).items():
        np.testing.assert_allclose(slopes[name], slope, atol=max(1e-8, 10 * CLOSE), err_msg=name)


@each_example
def test_a_symbolic_call_says_what_an_eager_one_gives(example: Example) -> None:
    """With every size known, and with no batch size and no length known."""
    shapes = [output.shape for output in example.reference(example.arrays())]
    for known in (True, False):
        given = {name: symbolic(name, array, WIDE, known) for name, array in example.arrays().items()}
        said = attention(example, lambda array, known=known: symbolic("", array, array.dtype.name, known))(given)
        for shape, output in zip(shapes, said, strict=True):
            assert output.dtype == WIDE
            assert len(output.shape) == len(shape)
            assert all(size in (None, real) for size, real in zip(output.shape, shape, strict=True))
            assert not known or None not in output.shape


def symbolic(name: str, array: np.ndarray, dtype: str, known: bool) -> Any:
    """A symbolic tensor of the array's shape, its batch size and lengths left open where they are not known."""
    lengths = {"bias": (2,), "": (0, 2, 3)}.get(name, (0, 1) if array.ndim > 2 else ())
    shape = [None if not known and axis in lengths and size > 1 else size for axis, size in enumerate(array.shape)]
    return keras.KerasTensor(shape, dtype)
