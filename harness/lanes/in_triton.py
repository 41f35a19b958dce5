"""Triton's side of a lane: torch's own, with kernels interpreted and every input laid into storage that is full of NaN."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from attnspec.harness.lanes.framework import Call
from attnspec.harness.lanes.in_torch import TorchFramework
from attnspec.harness.lanes.messages import Array

os.environ["TRITON_INTERPRET"] = "1"  # Triton asks when it is imported, and for every kernel that is defined

import triton
import triton.language as tl
from triton.runtime import interpreter

MARGIN = 2


class TritonFramework(TorchFramework):
    """Calls of torch functions whose kernels Triton interprets."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__()
        np.seterr(all="ignore")  # the interpreter computes in NumPy, hidden keys too, which may overflow
        warnings.simplefilter("ignore", RuntimeWarning)
        interpreter._patch_lang = _once(interpreter._patch_lang)
        # At every sum of integers it looks for an overflow, at a third of the time: files refuse what could, sizes here cannot.
        interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)

    def versions(self) -> dict[str, str]:
        return {"triton": triton.__version__, **super().versions()}

    def natives(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Copies inside of NaN: the interpreter checks no bounds, and what is read beyond them shows."""
        return {name: _surrounded(array) for name, array in arrays.items()}


def _surrounded(array: Array) -> torch.Tensor:
    """The array with a margin on all sides, so that no axis is laid out densely either."""
    around = np.full([size + 2 * MARGIN for size in array.shape], np.nan if array.dtype.kind == "f" else 1, array.dtype)
    inside = tuple(slice(MARGIN, MARGIN + size) for size in array.shape)
    around[inside] = array
    return torch.from_numpy(around)[inside]


def _once(patch: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The interpreter patches Triton's language for a kernel and, at half of the time, again for every function it calls."""

    def patched(function: Any) -> Any:
        read = [module for module in (tl, tl.core) if module in function.__globals__.values()]
        there = all(not isinstance(module.range, type) for module in read)  # a patched `range` is a function
        return interpreter._LangPatchScope() if there else patch(function)

    return patched
