"""jax's side of a lane: one compiled function per call, x64 only while a float64 call runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import BFLOAT16, Call
from attnspec.harness.lanes.messages import Array, Tensor


class JaxFramework:
    """Calls in jax."""

    name = "jax"

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "numpy": np.__version__}

    def seed(self, number: int) -> None:
        """There is no global generator."""

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        with jax.enable_x64(_is_double(request)):
            natives = _natives(request, call.inputs(arrays))
            if request.is_attempt:  # refused or not is known from tracing alone, without compiling anything
                jax.eval_shape(lambda tensors: _apply(request, tensors), natives)
                return {}
            if request.turned:
                return _tensors(_apply(request, {name: jnp.asarray(array) for name, array in natives.items()}))
            if "forward" not in request.compiled:
                request.compiled["forward"] = jax.jit(lambda tensors: _apply(request, tensors))
            return _tensors(request.compiled["forward"](natives))

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        with jax.enable_x64(_is_double(request)):
            natives = _natives(request, call.inputs(arrays))
            given = _natives(request, call.cotangents(arrays))
            if request.second:
                return _tensors(jax.jit(lambda tensors, d: _pull_back_again(request, tensors, d))(natives, given))
            if "backward" not in request.compiled:
                request.compiled["backward"] = jax.jit(lambda tensors, d: _pull_back(request, tensors, d))
            return _tensors(request.compiled["backward"](natives, given))


def _is_double(request: Call) -> bool:
    return bool(request.configuration.dtype == "float64")


def _natives(request: Call, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """NumPy arrays in the dtypes that the subject gets: a compiled function takes them without a copy of ours."""
    return {name: array.astype(request.dtype(name), copy=False) for name, array in arrays.items()}


def _apply(request: Call, tensors: Mapping[str, Any]) -> dict[str, Any]:
    args, keywords = call.bind(request.spec, request.values, tensors)
    if request.spec.form == "layer":
        args.insert(0, call.weights_of(request.spec, tensors))
        keywords |= call.constructor_arguments(request.spec, request.values)
    return call.named(request.outputs, request.subject.function(*args, **keywords))


def _pull_back(request: Call, tensors: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    leaves = _leaves(tensors)
    fixed = {name: value for name, value in tensors.items() if name not in leaves}

    def forward(leaves: Mapping[str, Any]) -> dict[str, Any]:
        outputs = _apply(request, {**fixed, **leaves})
        return {name: outputs[name] for name in (*given, *call.detached(request.spec, outputs))}

    outputs, pull = jax.vjp(forward, leaves)
    (found,) = pull({name: given.get(name, jnp.ones_like(value)).astype(value.dtype) for name, value in outputs.items()})
    return dict(found)


def _pull_back_again(request: Call, tensors: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """How the gradients change along the inputs."""
    leaves = _leaves(tensors)
    _, pull = jax.vjp(lambda leaves: _pull_back(request, {**tensors, **leaves}, given), leaves)
    return dict(pull(leaves)[0])


def _leaves(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tensors.items() if jnp.issubdtype(value.dtype, jnp.floating)}


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: _tensor(value) for name, value in values.items()}


def _tensor(value: Any) -> Tensor:
    name = str(value.dtype)
    array = np.asarray(value)
    return Tensor(array.astype(np.float32) if name == BFLOAT16 else array, name)
