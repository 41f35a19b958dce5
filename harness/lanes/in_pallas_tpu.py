"""The side of a lane for Pallas's kernels for TPUs: jax's own, with kernels interpreted as on a TPU.

There memory is NaN until it is written, reads beyond the end of a buffer raise, copies happen when they are waited for, and
accesses that nothing orders are found.
"""

from __future__ import annotations

from collections.abc import Mapping

from jax._src.pallas.mosaic.interpret import interpret_pallas_call as interpreter
from jax.experimental.pallas import tpu as pltpu

from attnspec.harness.lanes.framework import Call
from attnspec.harness.lanes.in_pallas import PallasFramework
from attnspec.harness.lanes.messages import Array, Tensor


class PallasTpuFramework(PallasFramework):
    """Calls of jax functions whose kernels Pallas interprets as on a TPU."""

    name = "pallas_tpu"

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        _forget()
        return _without_races(super().run(request, arrays))

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        _forget()
        return _without_races(super().gradients(request, arrays))


def _forget() -> None:
    """A call that raised leaves its memory behind."""
    pltpu.reset_tpu_interpret_mode_state()  # type: ignore[no-untyped-call]


def _without_races(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a call gave. Raises RuntimeError where the last of its kernels has a race."""
    if interpreter.races is not None and interpreter.races.races_found:
        raise RuntimeError("race: a kernel reads what another access writes, and nothing orders the two")
    return found
