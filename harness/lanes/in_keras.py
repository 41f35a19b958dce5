"""Keras's side of a lane, one backend per process: its tensors are the backend's own, so the backend makes the calls."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace

from attnspec.harness.lanes.framework import Call, framework
from attnspec.harness.lanes.messages import Array, Tensor


class KerasFramework:
    """Calls in the backend's framework, of code that is written for Keras."""

    def __init__(self, backend: str) -> None:
        self.name = f"keras-{backend}"
        self._backend = framework(backend)
        self._keras = _version_on(backend)

    def versions(self) -> dict[str, str]:
        return {"keras": self._keras, **self._backend.versions()}

    def seed(self, number: int) -> None:
        import keras

        keras.utils.set_random_seed(number)

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        return self._backend.run(_prepared(request), arrays)

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        return self._backend.gradients(_prepared(request), arrays)


def _prepared(request: Call) -> Call:
    """The request with a layer's class as a function of its weights, made once."""
    if request.spec.form != "layer" or not isinstance(request.subject.function, type):
        return request
    from attnspec.harness.lanes.keras_layer import as_function

    if "layer" not in request.compiled:
        request.compiled["layer"] = as_function(request)
    return replace(request, subject=replace(request.subject, function=request.compiled["layer"], vjp=None))


def _version_on(backend: str) -> str:
    """Import Keras on that backend, for good; the user's settings are neither read nor written."""
    os.environ["KERAS_BACKEND"] = backend
    with tempfile.TemporaryDirectory() as home:
        os.environ["KERAS_HOME"] = home
        import keras
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # a call that Keras then makes another way leaves a traceback there
    return str(keras.__version__)
