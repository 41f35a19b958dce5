"""Answers of a lane and how they travel: one JSON header plus one block of bytes per request.

Array by array, execnet would spend more time on serialising than the subjects on computing; here a batch of a few dozen
cases is two objects, whatever it holds. bfloat16 values travel as float32 and keep their name in `dtype`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array that a subject returned. `dtype` is the framework's name for it; bfloat16 is held as float32."""

    array: Array
    dtype: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A call that returned: its outputs in order by name, and the gradients by argument where they were asked for."""

    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raised:
    """A call that raised. `types` are the names of the exception's classes, most derived first."""

    types: tuple[str, ...]
    message: str
    where: Literal["forward", "gradients"] = "forward"

    @property
    def type(self) -> str:
        return self.types[0]

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class Lost:
    """A call whose lane died, hung, or was given up: it has no result."""

    how: Literal["crashed", "hung", "not run"]
    detail: str

    def __str__(self) -> str:
        return f"{self.how} ({self.detail})" if self.detail else self.how


Answer = Returned | Raised | Lost


def pack(answers: Sequence[Answer]) -> tuple[str, bytes]:
    """Header and block of `answers`; `unpack` gives them back."""
    blocks: list[bytes] = []
    end = 0

    def place(tensor: Tensor) -> list[Any]:
        nonlocal end
        data = tensor.array.tobytes()
        blocks.append(data)
        end += len(data)
        return [tensor.dtype, tensor.array.dtype.str, tensor.array.shape, end - len(data)]

    def encode(answer: Answer) -> dict[str, Any]:
        match answer:
            case Returned(outputs, gradients):
                return {
                    "outputs": {name: place(tensor) for name, tensor in outputs.items()},
                    "gradients": {name: place(tensor) for name, tensor in gradients.items()},
                }
            case Raised(types, message, where):
                return {"raised": [types, message, where]}
            case Lost(how, detail):
                return {"lost": [how, detail]}

    header = json.dumps([encode(answer) for answer in answers])
    return header, b"".join(blocks)


def unpack(header: str, block: bytes) -> list[Answer]:
    """The answers of `pack`; their arrays are read-only views of `block`."""

    def tensors(entries: Mapping[str, Any]) -> dict[str, Tensor]:
        return {name: _tensor(entry, block) for name, entry in entries.items()}

    def decode(entry: Mapping[str, Any]) -> Answer:
        if "raised" in entry:
            types, message, where = entry["raised"]
            return Raised(tuple(types), message, where)
        if "lost" in entry:
            return Lost(*entry["lost"])
        return Returned(tensors(entry["outputs"]), tensors(entry["gradients"]))

    return [decode(entry) for entry in json.loads(header)]


def _tensor(entry: Sequence[Any], block: bytes) -> Tensor:
    dtype, stored, shape, start = entry
    count = 1
    for size in shape:
        count *= size
    return Tensor(np.frombuffer(block, np.dtype(stored), count, start).reshape(shape), dtype)
