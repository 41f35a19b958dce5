"""One subject's call under one configuration: what is static is filled in, tensors come by name.

A required argument is passed by position, as a user would; any other by keyword, and only where it differs from its
default, so that the defaults are part of what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnspec.harness.configuration import Configuration
from attnspec.harness.facts import facts_as_meant
from attnspec.spec.model import Argument, Default, Spec
from attnspec.spec.resolve import resolve

COTANGENT = "d_"


def bind(
    spec: Spec, values: Mapping[str, Default], tensors: Mapping[str, Any], *, modes: bool = True
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a call of `spec` (for a layer: of its call, not of its constructor).

    `modes` says whether there are arguments for what an object of a framework knows by itself.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for argument in spec.arguments:
        given, value = _value(argument, values, tensors)
        if not given and not argument.nullable:
            continue
        if argument.mode and not modes:
            continue
        if argument.required and argument.kind == "positional" and not keywords:
            positional.append(value)
        else:
            keywords[argument.name] = value
    return positional, keywords


def constructor_arguments(spec: Spec, values: Mapping[str, Default]) -> dict[str, Default]:
    """The constructor arguments that `values` sets to something else than their defaults."""
    chosen = {}
    for argument in spec.constructor:
        given, value = _value(argument, values, {})
        if given:
            chosen[argument.name] = value
    return chosen


def layer_sizes(spec: Spec, configuration: Configuration) -> dict[str, int]:
    """The sizes of a layer's weights that no documented argument tells."""
    sizes = dict(configuration.sizes)
    dims = dict.fromkeys(dim for weight in spec.weights for dim in weight.layout.dims)
    return {dim: sizes[dim] for dim in dims if dim not in spec.told}


def weights_of(spec: Spec, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's weights among `tensors`."""
    return {weight.name: tensors[weight.name] for weight in spec.weights if weight.name in tensors}


def _value(argument: Argument, values: Mapping[str, Default], tensors: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether the call passes `argument`, and what."""
    if argument.role == "tensor":
        name = values.get(argument.name, argument.name)  # it may be another tensor, in this place too
        return name in tensors, tensors.get(str(name))
    if argument.role == "tensors":
        members = _members(argument, tensors)
        return argument.required or any(member is not None for member in members), members
    if argument.name not in values:
        return False, None
    value = values[argument.name]
    default = not argument.required and type(value) is type(argument.default) and value == argument.default
    return not default, value


def _members(argument: Argument, tensors: Mapping[str, Any]) -> list[Any]:
    """A list input: absent members are None, except at the end, where they are left off if the list may be so short."""
    members = [tensors.get(element.name) for element in argument.elements]
    while len(members) > argument.least and members[-1] is None:
        members.pop()
    return members


def output_names(spec: Spec, configuration: Configuration) -> tuple[str, ...]:
    """What a call returns under `configuration`, in order; nothing stands for a value that is None.

    A call whose tensors do not fit together is not refused here: its subject has to.
    """
    held = {output.name for output in resolve(spec, facts_as_meant(spec, configuration)).outputs}
    every = dict.fromkeys(output.name for output in spec.outputs if output.name in held or output.otherwise)
    return tuple(name if name in held else "" for name in every)


def named(names: tuple[str, ...] | None, result: Any) -> dict[str, Any]:
    """The returned value or tuple by output name; a wrong count is an error of the subject. No names: an attempt."""
    values = result if isinstance(result, (tuple, list)) else (result,)
    if names is None:
        return {str(position): value for position, value in enumerate(values) if value is not None}
    if len(values) != len(names):
        raise WrongCount(
            f"returned {len(values)} value(s), expected {len(names)}: {', '.join(name or 'None' for name in names)}"
        )
    by_name = dict(zip(names, values, strict=True))
    if by_name.pop("", None) is not None:
        raise WrongCount(f"returned a value where None belongs: {', '.join(name or 'None' for name in names)}")
    return by_name


class WrongCount(TypeError):
    """A subject returned another number of values than its API documents."""


def filler(configuration: Configuration) -> dict[str, NDArray[Any]]:
    """Arrays for an attempt: an invalid call need not have values that mean anything, only shapes and dtypes."""
    stored = {name: "float32" if plan.dtype == "bfloat16" else plan.dtype for name, plan in configuration.tensors}
    return {name: np.ones(plan.shape, stored[name]) for name, plan in configuration.tensors}


def cotangents(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The cotangents among a case's arrays, by output name."""
    return {name[len(COTANGENT) :]: array for name, array in arrays.items() if name.startswith(COTANGENT)}


def detached(spec: Spec, outputs: Mapping[str, Any]) -> list[str]:
    """The returned values that pass no gradient on: where a framework follows them, cotangents of ones count nothing."""
    return [output.name for output in spec.outputs if output.stop_gradient and output.name in outputs]


def inputs(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """A case's arrays without the cotangents."""
    return {name: array for name, array in arrays.items() if not name.startswith(COTANGENT)}
