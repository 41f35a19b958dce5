"""Pallas's side of a lane: jax's own, with kernels interpreted: as programs of XLA in which memory beyond a tensor is NaN.

A function that drops weights has a `<function>_seeded`, for what it draws from: the number that the lane was given last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from attnspec.harness.lanes.framework import Call
from attnspec.harness.lanes.in_jax import JaxFramework
from attnspec.harness.lanes.messages import Array, Tensor

os.environ["PALLAS_INTERPRET"] = "1"  # files ask when they are imported


class PallasFramework(JaxFramework):
    """Calls of jax functions whose kernels Pallas interprets."""

    name = "pallas"
    number = 0

    def seed(self, number: int) -> None:
        self.number = number

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        return super().run(self._seeded(request), arrays)

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        return super().gradients(self._seeded(request), arrays)

    def _seeded(self, request: Call) -> Call:
        """The call with what its dropout draws from."""
        function = request.subject.function
        seeded = getattr(function, "__globals__", {}).get(f"{function.__name__}_seeded")
        return replace(request, subject=replace(request.subject, function=seeded(self.number))) if seeded else request
