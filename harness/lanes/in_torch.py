"""torch's side of a lane: one thread, gradients through autograd, a layer's weights set by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import BFLOAT16, Call
from attnspec.harness.lanes.memory import laid_out
from attnspec.harness.lanes.messages import Array, Tensor


class InputWritten(RuntimeError):
    """A subject changed one of its inputs in place."""


class TorchFramework:
    """Calls in torch."""

    name = "torch"

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def natives(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Copies: a subject that writes to its inputs spoils no other subject's."""
        dtypes = {name: getattr(torch, request.dtype(name)) for name in arrays}
        return {n: torch.from_numpy(laid_out(np.array(array), request.layout)).to(dtypes[n]) for n, array in arrays.items()}

    def seed(self, number: int) -> None:
        torch.manual_seed(number)

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        natives = self.natives(request, call.inputs(arrays))
        with torch.no_grad():
            outputs = _forward(request, natives)
        for name, value in natives.items():
            if value._version:  # counts what is written in place; NumPy's arrays are read-only, and jax's cannot change
                raise InputWritten(f"`{name}` was written to")
        return {name: _tensor(value) for name, value in outputs.items()}

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        natives = self.natives(request, call.inputs(arrays))
        leaves = {name: value.requires_grad_() for name, value in natives.items() if value.is_floating_point()}
        outputs = _forward(request, natives)
        given = {name: torch.from_numpy(np.array(array)) for name, array in call.cotangents(arrays).items()}
        followed = (name for name in call.detached(request.spec, outputs) if outputs[name].requires_grad)
        given |= {name: torch.ones_like(outputs[name]) for name in followed}
        found: Sequence[torch.Tensor | None] = torch.autograd.grad(
            [outputs[name] for name in given],
            list(leaves.values()),
            [value.to(outputs[name].dtype) for name, value in given.items()],
            create_graph=request.second,
            allow_unused=True,  # an argument that nothing depends on has gradient 0, and the oracle says the same
        )
        found = _once_more(list(leaves.values()), found) if request.second else found
        pairs = zip(leaves.items(), found, strict=True)
        return {name: _tensor(torch.zeros_like(leaf) if grad is None else grad) for (name, leaf), grad in pairs}


def _once_more(leaves: Sequence[torch.Tensor], found: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor | None]:
    """How gradients change along the inputs; not at all where autograd knows of nothing that they hang on."""
    pairs = [(each, leaf.detach()) for leaf, each in zip(leaves, found, strict=True) if each is not None and each.requires_grad]
    if not pairs:
        return [None] * len(leaves)
    gradients, along = zip(*pairs, strict=True)
    again: Sequence[torch.Tensor | None] = torch.autograd.grad(gradients, leaves, along, allow_unused=True)
    return again


def _forward(request: Call, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    function = request.subject.function
    layer = request.spec.form == "layer" and isinstance(function, type)
    args, keywords = call.bind(request.spec, request.values, tensors, modes=not layer)
    if layer and isinstance(function, type):
        keys = {weight.name: request.spec.state_key(weight) for weight in request.spec.weights}
        weights = {keys[name]: value for name, value in call.weights_of(request.spec, tensors).items()}
        result = _called(_module(request, function), weights, args, keywords)
    elif request.spec.form == "layer":
        weights = call.weights_of(request.spec, tensors)
        result = function(weights, *args, **keywords, **call.constructor_arguments(request.spec, request.values))
    else:
        result = (_compiled(request) if request.turned else function)(*args, **keywords)
    return call.named(request.outputs, result)


def _compiled(request: Call) -> Callable[..., Any]:
    """The function as torch.compile traces it, for this configuration alone: after eight it would be called as it is."""
    if "function" not in request.compiled:
        torch.compiler.reset()
        request.compiled["function"] = torch.compile(request.subject.function, backend="eager", dynamic=False)
    return request.compiled["function"]


def _module(request: Call, layer: type) -> torch.nn.Module:
    """The layer, constructed, for inference; the sizes that its weights need are keywords beside the documented arguments."""
    keywords: dict[str, Any] = dict(call.constructor_arguments(request.spec, request.values))
    keywords |= call.layer_sizes(request.spec, request.configuration)
    module = layer(**keywords)
    assert isinstance(module, torch.nn.Module)
    module.train(any(request.values.get(a.name) for a in request.spec.arguments if a.mode))
    return module.to(getattr(torch, request.configuration.dtype))


def _called(module: torch.nn.Module, weights: dict[str, torch.Tensor], args: list[Any], keywords: dict[str, Any]) -> Any:
    """The module's call with these weights: its own parameters where no gradient is wanted, as a user would."""
    if torch.is_grad_enabled():
        return torch.func.functional_call(module, weights, tuple(args), keywords)
    module.load_state_dict(weights)
    return module(*args, **keywords)


def _tensor(value: torch.Tensor) -> Tensor:
    name = str(value.dtype).removeprefix("torch.")
    detached = value.detach()
    return Tensor((detached.float() if name == BFLOAT16 else detached).cpu().numpy(), name)
