"""Every capability of the language, compiled to torch: values by hand, gradients as NumPy's `vjp` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from by_hand import Arrays, central_differences, random_arrays
from capabilities import EXAMPLES, E, Example, H, K, N, V
from compiling import capability

pytestmark = pytest.mark.xdist_group("torch")
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)


def called(example: Example, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The outputs of the function, or of the module with these weights."""
    module = capability(example.spec, "torch")
    arguments = example.arguments(tensors, torch.from_numpy)
    params = arguments.pop("params", None)
    function: Callable[..., Any] = getattr(module, example.spec)
    if params is not None:
        constructor = {name: arguments.pop(name) for name in ("use_bias", "scale") if name in arguments}
        layer = function(**constructor, E=E, N=N, H=H, K=K, V=V, dtype=torch.float64)
        found = torch.func.functional_call(layer, params, kwargs=arguments)
    else:
        found = function(**arguments)
    return found if isinstance(found, tuple) else (found,)


def tensors_of(example: Example) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).requires_grad_() for name, array in example.arrays().items()}


@each_example
def test_values_are_those_written_by_hand(example: Example) -> None:
    for output, expected in zip(called(example, tensors_of(example)), example.reference(example.arrays()), strict=True):
        np.testing.assert_allclose(output.detach(), expected, atol=1e-13)


@each_example
def test_gradients_are_the_slopes_of_what_is_written_by_hand(example: Example) -> None:
    cotangents = example.cotangents()

    def scalar(arrays: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, example.reference(arrays), strict=True)))

    tensors = tensors_of(example)
    found = torch.autograd.grad(called(example, tensors), tuple(tensors.values()), tuple(map(torch.from_numpy, cotangents)))
    for (name, expected), gradient in zip(central_differences(scalar, example.arrays()).items(), found, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-8, err_msg=name)


@each_example
def test_second_derivatives_are_what_the_gradient_changes_by(example: Example) -> None:
    cotangents = tuple(map(torch.from_numpy, example.cotangents()))
    direction = {name: torch.from_numpy(array) for name, array in random_arrays(7, **example.shapes).items()}

    def gradients(step: float) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        tensors = {n: (x + step * direction[n]).detach().requires_grad_() for n, x in tensors_of(example).items()}
        outputs = called(example, tensors)
        inputs = list(tensors.values())
        return inputs, torch.autograd.grad(outputs, inputs, cotangents, create_graph=True)

    inputs, at = gradients(0.0)
    along = sum((gradient * direction[name]).sum() for name, gradient in zip(direction, at, strict=True))
    assert isinstance(along, Tensor)
    changes = torch.autograd.grad(along, inputs, materialize_grads=True)
    (_, ahead), (_, behind) = gradients(1e-5), gradients(-1e-5)
    for change, a, b in zip(changes, ahead, behind, strict=True):
        torch.testing.assert_close(change, (a - b) / 2e-5, atol=1e-5, rtol=1e-6)


@each_example
def test_autocast_reaches_every_argument(example: Example) -> None:
    """List members and the weights of a layer are lowered too: no dtype clash, outputs in the lower precision."""
    tensors = {name: tensor.float() for name, tensor in tensors_of(example).items()}
    with torch.autocast("cpu", torch.bfloat16):
        outputs = called(example, tensors)
    for output, expected in zip(outputs, example.reference(example.arrays()), strict=True):
        assert output.dtype == torch.bfloat16
        np.testing.assert_allclose(output.detach().float(), expected, atol=0.5)


def test_a_layer_has_its_weights_under_their_documented_names_with_the_documented_distributions() -> None:
    torch.manual_seed(0)
    layer = capability("projected_layer", "torch").projected_layer(E=60, N=6, H=10, K=3, V=20)
    state = layer.state_dict()
    assert {name: tuple(weight.shape) for name, weight in state.items()} == {
        "query_kernel": (60, 6, 10), "key_kernel": (60, 3, 10), "value_kernel": (60, 3, 20), "output_kernel": (6, 20, 60),
        "query_bias": (6, 10), "key_bias": (3, 10), "value_bias": (3, 20), "output_bias": (60,),
    }  # fmt: skip
    assert all((state[name] == 0).all() for name in state if name.endswith("bias"))
    limits = {"query_kernel": (6 / 120) ** 0.5, "key_kernel": (6 / 90) ** 0.5, "output_kernel": (6 / 180) ** 0.5}
    for name, limit in limits.items():
        assert 0.97 * limit < state[name].abs().max() <= limit
        assert state[name].std() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_a_layer_without_biases_has_none() -> None:
    layer = capability("projected_layer", "torch").projected_layer(use_bias=False, E=E, N=N, H=H, K=K, V=V)
    assert sorted(layer.state_dict()) == ["key_kernel", "output_kernel", "query_kernel", "value_kernel"]
