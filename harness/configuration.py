"""What a case is: a configuration, which fixes everything static about a call, and a seed, which makes its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnspec.spec.model import Default, Spec


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor that a call is given. What it holds is the seed's matter, so that nothing compiled depends on it."""

    shape: tuple[int, ...]
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"shape": list(self.shape), "dtype": self.dtype}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TensorPlan:
        """The inverse of `to_dict`."""
        return cls(tuple(data["shape"]), data["dtype"])


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything static about a call: shapes, dtypes and Python values, constructor arguments among them.

    `sizes` are the dims by letter. `values` holds what differs from its default, `tensors` the tensors that are given
    and, for a layer, its weights. Pairs in a fixed order, so that equal configurations are equal and hashable.
    """

    spec: str
    dtype: str
    sizes: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, Default], ...] = ()
    tensors: tuple[tuple[str, TensorPlan], ...] = ()

    @classmethod
    def empty(cls, spec: Spec, dtype: str = "float32") -> Configuration:
        """No tensors, every argument at its default: for checks that make no call."""
        return cls(spec.name, dtype)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "spec": self.spec,
            "dtype": self.dtype,
            "sizes": dict(self.sizes),
            "values": {name: list(v) if isinstance(v, tuple) else v for name, v in self.values},
            "tensors": {name: plan.to_dict() for name, plan in self.tensors},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Configuration:
        """The inverse of `to_dict`."""
        return cls(
            data["spec"],
            data["dtype"],
            tuple(data["sizes"].items()),
            tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in data["values"].items()),
            tuple((name, TensorPlan.from_dict(plan)) for name, plan in data["tensors"].items()),
        )


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration and a 64-bit seed, which also chooses how values and masks are distributed (`profiles.py`).

    The same case gives the same arrays in any process. Seed 0 is the plainest, so that a shrunk case is plain.
    """

    configuration: Configuration
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"configuration": self.configuration.to_dict(), "seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """The inverse of `to_dict`."""
        return cls(Configuration.from_dict(data["configuration"]), data["seed"])
