"""Pallas's side of a lane: jax's own, with kernels interpreted: as programs of XLA in which memory beyond a tensor is NaN."""

from __future__ import annotations

import os

from attnspec.harness.lanes.in_jax import JaxFramework

os.environ["PALLAS_INTERPRET"] = "1"  # files ask when they are imported


class PallasFramework(JaxFramework):
    """Calls of jax functions whose kernels Pallas interprets."""

    name = "pallas"
