"""What a framework has to offer to run subjects, and which ones there are. A framework is imported only in its lane."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from attnspec.harness.arrangement import Arrangement
from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes.messages import Array, Tensor
from attnspec.harness.subjects import Loaded
from attnspec.spec.model import Default, Spec

BFLOAT16 = "bfloat16"

# What each lane can be asked for, known without importing its framework.
_ALL = ("float16", "bfloat16", "float32", "float64")
DTYPES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("float16", "float32", "float64"),
    "torch": _ALL,
    "jax": _ALL,
    "tensorflow": _ALL,
    "keras-jax": ("float16", "bfloat16", "float32"),  # Keras's rules make float32 of float64 on jax, x64 or not
    "keras-tensorflow": _ALL,
    "keras-torch": _ALL,
    "r": ("float64",),
    "triton": ("float16", "float32"),  # its interpreter computes nonsense in bfloat16, without a word
    "pallas": ("float16", "bfloat16", "float32"),
    "pallas_tpu": ("bfloat16", "float32"),
}
FORWARD_ONLY = ("r",)  # lanes that give no gradients
MODES: Mapping[str, tuple[str, str]] = {
    "torch": ("called eagerly", "compiled by torch.compile"),
    "jax": ("compiled by jax.jit", "called without jax.jit"),
    "tensorflow": ("called eagerly", "traced by tf.function"),
}
"""How lanes make a call of a function: as they usually do, and turned. Of torch's compiler it is what traces and guards alone,
which generates no code."""


@dataclass(frozen=True, eq=False)
class Call:
    """One subject under one configuration. Made once and kept; a framework keeps what it compiles in `compiled`.

    An attempt only asks whether the call is refused: its arrays mean nothing, and its outputs have no names (`outputs` is
    None), for an invalid call does not resolve.
    """

    subject: Loaded
    spec: Spec
    configuration: Configuration
    values: Mapping[str, Default]
    outputs: tuple[str, ...] | None
    dtypes: Mapping[str, str]
    arrangement: Arrangement | None = None  # how the axes of its tensors are spread
    layout: str = ""  # how its inputs lie in memory (memory.py)
    turned: bool = False  # whether it is made in the lane's other mode
    second: bool = False  # whether gradients are those of the gradients, along the inputs
    compiled: dict[str, Callable[..., dict[str, Any]]] = field(default_factory=dict)

    def dtype(self, name: str) -> str:
        """The dtype in which the subject gets a tensor: for bfloat16 not the array's. A cotangent has its output's."""
        return self.dtypes.get(name, self.configuration.dtype)

    @property
    def is_attempt(self) -> bool:
        return self.outputs is None


class Framework(Protocol):
    """Runs calls on NumPy arrays and gives NumPy arrays back; bfloat16 travels as float32 both ways."""

    name: str

    def versions(self) -> dict[str, str]:
        """Version by distribution, the framework's own first."""

    def seed(self, number: int) -> None:
        """Set the global generator, where there is one."""

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        """The outputs by name."""

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        """Gradients of the floating tensors by argument name; cotangents are among `arrays`."""


def framework(name: str) -> Framework:
    """The framework of that name; ImportError where it is not installed."""
    if name == "numpy":
        from attnspec.harness.lanes.in_numpy import NumpyFramework

        return NumpyFramework()
    if name == "torch":
        from attnspec.harness.lanes.in_torch import TorchFramework

        return TorchFramework()
    if name == "jax":
        from attnspec.harness.lanes.in_jax import JaxFramework

        return JaxFramework()
    if name == "tensorflow":
        with _silence():
            from attnspec.harness.lanes.in_tensorflow import TensorflowFramework

        return TensorflowFramework()
    if name == "r":
        from attnspec.harness.lanes.in_r import RFramework

        return RFramework()
    if name == "triton":
        from attnspec.harness.lanes.in_triton import TritonFramework

        return TritonFramework()
    if name == "pallas":
        from attnspec.harness.lanes.in_pallas import PallasFramework

        return PallasFramework()
    if name == "pallas_tpu":
        from attnspec.harness.lanes.in_pallas_tpu import PallasTpuFramework

        return PallasTpuFramework()
    if name in DTYPES:
        from attnspec.harness.lanes.in_keras import KerasFramework

        return KerasFramework(name.removeprefix("keras-"))
    raise ValueError(f"Expected a lane of {', '.join(DTYPES)}, got {name!r}")


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on standard error: tensorflow's C++ side greets there, whatever its log level."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
