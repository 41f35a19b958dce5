"""tensorflow's side of a lane: eager calls on one thread, gradients through a tape, a layer's weights set by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import BFLOAT16, Call
from attnspec.harness.lanes.messages import Array, Tensor


class TensorflowFramework:
    """Calls in tensorflow."""

    name = "tensorflow"

    def __init__(self) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def versions(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__, "numpy": np.__version__}

    def seed(self, number: int) -> None:
        tf.random.set_seed(number)

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        natives = _natives(request, call.inputs(arrays))
        outputs = _traced(request)(natives) if request.turned else _forward(request, natives)
        return {name: _tensor(value) for name, value in outputs.items()}

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        natives = _natives(request, call.inputs(arrays))
        leaves = {name: value for name, value in natives.items() if value.dtype.is_floating}
        found = (self._again if request.second else self._found)(request, natives, leaves, arrays)
        return {name: _tensor(tf.convert_to_tensor(gradient)) for name, gradient in found.items()}

    def _again(self, request: Call, natives: Mapping[str, Any], leaves: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
        """How the gradients change along the inputs."""
        with tf.GradientTape() as tape:
            tape.watch(list(leaves.values()))
            found = self._found(request, natives, leaves, arrays)
        along = list(leaves.values())
        return tape.gradient(list(found.values()), leaves, along, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _found(self, request: Call, natives: Mapping[str, Any], leaves: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(list(leaves.values()))
            outputs = _forward(request, natives)
        given = {name: tf.cast(array, outputs[name].dtype) for name, array in call.cotangents(arrays).items()}
        given |= {name: tf.ones_like(outputs[name]) for name in call.detached(request.spec, outputs)}
        return tape.gradient(
            [outputs[name] for name in given],
            leaves,
            output_gradients=list(given.values()),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,  # what nothing depends on: the oracle says the same
        )


def _natives(request: Call, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Copies: a subject that writes to its inputs spoils no other subject's."""
    return {name: tf.cast(tf.constant(array), request.dtype(name)) for name, array in arrays.items()}


def _forward(request: Call, tensors: Mapping[str, Any]) -> dict[str, Any]:
    args, keywords = call.bind(request.spec, request.values, tensors)
    function = request.subject.function
    if request.spec.form == "layer" and isinstance(function, type):
        function = _module(request, function, call.weights_of(request.spec, tensors))
    elif request.spec.form == "layer":
        args.insert(0, call.weights_of(request.spec, tensors))
        keywords |= call.constructor_arguments(request.spec, request.values)
    return call.named(request.outputs, function(*args, **keywords))


def _traced(request: Call) -> Callable[..., dict[str, Any]]:
    """The call as a graph."""
    if "graph" not in request.compiled:
        request.compiled["graph"] = tf.function(lambda tensors: _forward(request, tensors))
    return request.compiled["graph"]


def _module(request: Call, layer: type, weights: Mapping[str, Any]) -> Any:
    """The layer, constructed once, with tensors for variables: a tape watches them like any other input."""
    if "module" not in request.compiled:
        keywords: dict[str, Any] = dict(call.constructor_arguments(request.spec, request.values))
        request.compiled["module"] = _made(request, layer, keywords)
    for name, weight in weights.items():
        setattr(*_place(request.compiled["module"], name), weight)
    return request.compiled["module"]


def _place(layer: Any, weight: str) -> tuple[Any, str]:
    """The layer that holds a weight, and its name there: of Keras 2's projections, `query` with a `kernel`."""
    owner, _, name = weight.rpartition("_")
    projections = {each.name: each for each in getattr(layer, "_self_tracked_trackables", ())}
    return (projections[owner], name) if owner in projections else (layer, weight)


def _made(request: Call, layer: type, keywords: dict[str, Any]) -> Any:
    """A generated layer is told the sizes of its weights; one of Keras 2 reads them off the shapes of its inputs."""
    if not hasattr(layer, "build"):
        return layer(**keywords, **call.layer_sizes(request.spec, request.configuration))
    plans = dict(request.configuration.tensors)
    made = layer(**keywords, dtype=request.configuration.dtype)
    if request.spec.arguments[0].elements:
        made.build([plans[each.name].shape for each in request.spec.arguments[0].elements if each.name in plans])
    else:
        given = (plans[a.name].shape for a in request.spec.tensor_arguments if a.dtype == "floating" and a.name in plans)
        made(*(tf.zeros(shape, request.configuration.dtype) for shape in given))
    for weight in (weight for weight in request.spec.weights if weight.name in plans):
        holder, name = _place(made, weight.name)
        own = tuple(getattr(holder, name).shape)
        if own != plans[weight.name].shape:
            raise ValueError(f"the layer makes `{weight.name}` of shape {own}, documented {plans[weight.name].shape}")
    return made


def _tensor(value: Any) -> Tensor:
    name = value.dtype.name
    return Tensor((tf.cast(value, tf.float32) if name == BFLOAT16 else value).numpy(), name)
