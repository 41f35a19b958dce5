"""Every capability of the language, compiled to JAX: values and gradients against attention written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from by_hand import Arrays, central_differences, random_arrays
from capabilities import EXAMPLES, Example
from compiling import capability

pytestmark = pytest.mark.xdist_group("jax")
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def called(example: Example, arrays: dict[str, Any]) -> tuple[jax.Array, ...]:
    found = getattr(capability(example.spec, "jax"), example.spec)(**example.arguments(arrays, jnp.asarray))
    return found if isinstance(found, tuple) else (found,)


@each_example
def test_values_and_two_orders_of_derivatives_are_those_written_by_hand(example: Example) -> None:
    """In one compilation: outputs, gradients, and by forward mode over them what the gradients change by along a direction."""
    cotangents, arrays = example.cotangents(), example.arrays()
    direction = random_arrays(7, **example.shapes)

    def scalar(x: Any) -> Any:
        outputs = called(example, x)
        return sum((c * o).sum() for c, o in zip(cotangents, outputs, strict=True)), outputs

    def by_hand(x: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, example.reference(x), strict=True)))

    @jax.jit
    def derivatives(x: Any) -> Any:
        return jax.jvp(jax.grad(scalar, has_aux=True), (x,), (direction,))

    (gradients, outputs), (changes, _) = derivatives(arrays)
    for output, expected in zip(outputs, example.reference(arrays), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-13)
    for name, slope in central_differences(by_hand, arrays).items():
        np.testing.assert_allclose(gradients[name], slope, atol=1e-8, err_msg=name)
    moved = ({n: x + step * direction[n] for n, x in arrays.items()} for step in (1e-5, -1e-5))
    ahead, behind = (derivatives(at)[0][0] for at in moved)
    for name, change in changes.items():
        np.testing.assert_allclose(change, (ahead[name] - behind[name]) / 2e-5, atol=1e-5, rtol=1e-6, err_msg=name)


def test_without_a_compiler_the_values_are_the_same() -> None:
    example = next(example for example in EXAMPLES if example.spec == "sink")
    (output,), (expected,) = called(example, example.arrays()), example.reference(example.arrays())
    np.testing.assert_allclose(output, expected, atol=1e-13)


def test_a_layer_starts_from_the_documented_distributions() -> None:
    params = capability("projected_layer", "jax").projected_layer_init(jax.random.key(0), E=60, N=6, H=10, K=3, V=20)
    limits = {"query_kernel": (6 / 120) ** 0.5, "key_kernel": (6 / 90) ** 0.5, "output_kernel": (6 / 180) ** 0.5}
    assert all((params[name] == 0).all() for name in params if name.endswith("bias"))
    for name, limit in limits.items():
        assert 0.97 * limit < jnp.abs(params[name]).max() <= limit
    assert all(weight.dtype == jnp.float32 for weight in params.values())


def test_a_layer_without_biases_has_none() -> None:
    init = capability("projected_layer", "jax").projected_layer_init
    params = init(jax.random.key(0), use_bias=False, E=60, N=6, H=10, K=3, V=20)
    assert sorted(params) == ["key_kernel", "output_kernel", "query_kernel", "value_kernel"]
