"""NumPy's side of a lane: arrays go in as they are, read-only; gradients come from the `<function>_vjp` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import Call
from attnspec.harness.lanes.memory import laid_out
from attnspec.harness.lanes.messages import Array, Tensor


class NumpyFramework:
    """Calls in NumPy."""

    name = "numpy"

    def __init__(self) -> None:
        np.seterr(all="ignore")  # cases overflow on purpose; what comes of it is judged, not printed

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def seed(self, number: int) -> None:
        np.random.seed(number)  # the global generator, which functions without a seed of their own draw from

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        args, keywords = _arguments(request, arrays)
        result = request.subject.function(*args, **keywords)
        return {name: _tensor(value) for name, value in call.named(request.outputs, result).items()}

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        if request.subject.vjp is None:
            raise NotImplementedError("no `<function>_vjp` beside the function")
        given = list(call.cotangents(arrays).values())
        args, keywords = _arguments(request, arrays)
        result = request.subject.vjp(given[0] if len(given) == 1 else tuple(given), *args, **keywords)
        return {name: _tensor(value) for name, value in _joined(request, result).items()}


def _joined(request: Call, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Where one array was given in several places, its gradient is the sum of theirs."""
    found = dict(gradients)
    for name in [name for name in found if name in request.values]:
        other = str(request.values[name])
        found[other] = (found[other].astype(np.float64) + found.pop(name)).astype(found[other].dtype)
    return found


def _arguments(request: Call, arrays: Mapping[str, Array]) -> tuple[list[Any], dict[str, Any]]:
    if request.layout:
        arrays = {name: _read_only(laid_out(array, request.layout)) for name, array in arrays.items()}
    args, keywords = call.bind(request.spec, request.values, arrays)
    if request.spec.form == "layer":
        args.insert(0, call.weights_of(request.spec, arrays))
        keywords |= call.constructor_arguments(request.spec, request.values)
    return args, keywords


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _tensor(value: Any) -> Tensor:
    array = np.asarray(value)
    return Tensor(array, str(array.dtype))
