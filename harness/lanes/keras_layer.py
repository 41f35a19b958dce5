"""A Keras layer as a function of its weights: what a lane differentiates and compiles like any other subject.

The layer is built once for a configuration, and nobody draws its first weights, which takes longer than all else on jax:
a call replaces the variables by the case's arrays (`StatelessScope`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import Call
from attnspec.spec.model import Spec


def as_function(request: Call) -> Callable[..., Any]:
    """`layer(*inputs)` as `function(weights, *inputs, **constructor)`; the constructor's arguments are the request's."""
    layer = _built(request.subject.function, request)
    variables = {_name(variable.path, request.spec): variable for variable in layer.weights}
    own = {argument.name for argument in request.spec.constructor}

    def function(weights: Mapping[str, Any], *inputs: Any, **keywords: Any) -> Any:
        mapping = [(variables[name], weight) for name, weight in weights.items()]
        passed = {name: value for name, value in keywords.items() if name not in own}
        with keras.StatelessScope(state_mapping=mapping, initialize_variables=False):
            return layer(*inputs, **passed)

    return function


def _built(layer: Callable[..., Any], request: Call) -> Any:
    """The layer of a configuration, constructed with its dtype and built for its shapes."""
    settings: dict[str, Any] = dict(call.constructor_arguments(request.spec, request.values))
    asked = inspect.signature(layer).parameters
    sizes = {name: n for name, n in call.layer_sizes(request.spec, request.configuration).items() if name in asked}
    made = layer(**settings, **sizes, dtype=request.configuration.dtype)
    with keras.StatelessScope(initialize_variables=False):
        made.build(**_shapes(made.build, request.spec, request.configuration))
    return made


def _shapes(build: Callable[..., Any], spec: Spec, configuration: Configuration) -> dict[str, Any]:
    """The shapes that `build` asks for, `query_shape` of `query`, or those of a list input; an absent tensor has none."""
    plans = dict(configuration.tensors)
    asked = inspect.signature(build).parameters
    if "input_shape" in asked:
        return {"input_shape": [plans[each.name].shape for each in spec.arguments[0].elements if each.name in plans]}
    given = {f"{a.name}_shape": plans[a.name].shape for a in spec.tensor_arguments if a.name in plans}
    return {name: shape for name, shape in given.items() if name in asked}


def _name(path: str, spec: Spec) -> str:
    """The spec's name of a variable: `query_kernel` of `group_query_attention/query/kernel`, `scale` of `attention/scale`."""
    *_, owner, name = path.split("/")
    return name if any(weight.name == name for weight in spec.weights) else f"{owner}_{name}"
