"""Rounding to the dtypes that tensors are stored in, half to even; by integer arithmetic where NumPy has no such dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def bfloat16(values: Array) -> NDArray[np.float32]:
    """Rounded to bfloat16, half to even, by integer arithmetic on the bits of float32."""
    bits = values.astype(np.float32).view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)).view(np.float32)


def stored(values: Array, dtype: str) -> Array:
    """The values as a tensor of `dtype` holds them; bfloat16 as float32 that bfloat16 can hold."""
    return bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)
