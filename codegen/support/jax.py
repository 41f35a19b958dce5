"""Helpers that generated JAX files carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from attnspec.codegen.support.common import _bind, _LayoutError


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> jax.Array:
    """`value` as an array of that kind of dtype and one of those layouts."""
    array = jnp.asarray(value)
    if not _is_kind(array.dtype, dtype):
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {array.dtype}")
    _bind(sizes, name, array.shape, *layouts)
    return array


def _truth(mask: Any) -> jax.Array:
    """A mask of numbers as one of bools: True unless 0."""
    array = jnp.asarray(mask)
    return array != 0 if jnp.issubdtype(array.dtype, jnp.number) else array


def _sizes_of(array: Any) -> Any:
    return jnp.shape(array)


def _reshaped(array: Any, shape: Sequence[int]) -> jax.Array:
    return jnp.reshape(array, tuple(shape))


def _transposed(array: Any, order: Sequence[int]) -> jax.Array:
    return jnp.transpose(array, tuple(order))


def _spread(array: Any, shape: Sequence[int]) -> jax.Array:
    return jnp.broadcast_to(array, tuple(shape))


def _is_kind(dtype: Any, kind: str) -> bool:
    if dtype == jnp.bool_:
        return "bool" in kind
    return (
        "floating" in kind if jnp.issubdtype(dtype, jnp.floating) else kind == "integer" and jnp.issubdtype(dtype, jnp.integer)
    )


def _same_dtype(**arrays: jax.Array) -> None:
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.dtype != reference.dtype:
            raise _LayoutError(f"`{name}` must have the dtype of `{first}`, {reference.dtype}, got {array.dtype}")


def _number(name: str, value: Any) -> Any:
    if isinstance(value, (bool, str)) or jnp.ndim(value) != 0:
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return value


def _integer(name: str, value: Any) -> Any:
    if isinstance(value, (bool, str)) or jnp.ndim(value) != 0 or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    return value


def _known(name: str, value: Any) -> Any:
    """A number that kernels are written for."""
    if isinstance(value, jax.core.Tracer):
        raise NotImplementedError(f"pallas: a traced `{name}` is not supported; it is a part of the kernels")
    return value.item() if hasattr(value, "item") else value


def _countable(name: str, value: Any) -> int:
    """An integer that kernels can count with: sums of a few of them fit into 32 bits."""
    known: int = _known(name, value)
    if not -(2**29) < known < 2**29:
        raise NotImplementedError(f"pallas: `{name}` = {known} is not supported; kernels count in 32 bits")
    return known


def _leading(sizes: dict[str, Any]) -> tuple[int, ...]:
    """The axes before those of a layout, after they are broadcast together."""
    axes: tuple[int, ...] = sizes.get("...", ((), ""))[0]
    return axes


def _with_one_batch_axis(array: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """The leading axes as one."""
    return jnp.broadcast_to(array, (*leading, *array.shape[-3:])).reshape(math.prod(leading), *array.shape[-3:])


def _with_four_axes(array: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """(B|1, N|1, T|1, S|1): axes that are lacking are 1, and so is the batch axis where none of the leading ones is longer."""
    shape = (1,) * (len(leading) + 3 - array.ndim) + array.shape
    whole = leading if any(size != 1 for size in shape[:-3]) else shape[:-3]
    return jnp.broadcast_to(array.reshape(shape), (*whole, *shape[-3:])).reshape(math.prod(whole), *shape[-3:])


def _concrete(*values: Any) -> bool:
    """Whether Python knows the values: under jit they may be traced."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def _within_reach(number: Any) -> jax.Array:
    """An integer that positions are compared with, near enough to them that sums fit into 32 bits."""
    return jnp.clip(number, -(2**29), 2**29)


def _block_length(length: int, most: int) -> int:
    """The length of blocks that are at most so long, even so that little is filled up."""
    return -(-length // max(1, -(-length // most))) or 1


def _extremes(entries: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest entry of every block of the last axis, over all rows."""
    limits = jnp.iinfo(entries.dtype)  # type: ignore[no-untyped-call]
    blocks = max(1, -(-entries.shape[1] // size))
    least, greatest = (
        jnp.pad(entries, ((0, 0), (0, blocks * size - entries.shape[1])), constant_values=filled).reshape(-1, blocks, size)
        for filled in (limits.max, limits.min)
    )
    return least.min(axis=(0, 2), initial=limits.max), greatest.max(axis=(0, 2), initial=limits.min)


def _block_of(entries: jax.Array, start: Any, size: int) -> jax.Array:
    """The entries of a block, (B, size), filled up with zeros where the sequence ends before."""
    return jax.lax.dynamic_slice_in_dim(jnp.pad(entries, ((0, 0), (0, size))), start, size, axis=1)


def _in_blocks(array: jax.Array, length: int) -> jax.Array:
    """(B, N, T, H) in blocks of T, (blocks, B, N, length, H), the last one filled up with zeros; one at least."""
    B, N, T, H = array.shape
    blocks = max(1, -(-T // length))
    whole = jnp.pad(array, ((0, 0), (0, 0), (0, blocks * length - T), (0, 0)))
    return jnp.moveaxis(whole.reshape(B, N, blocks, length, H), 2, 0)


def _joined(blocks: jax.Array, length: int) -> jax.Array:
    """The blocks as one array, (B, N, T, H), without what filled up the last one."""
    count, B, N, rows, H = blocks.shape
    return jnp.moveaxis(blocks, 0, 2).reshape(B, N, count * rows, H)[:, :, :length]


def _added(blocks: jax.Array, at: Any, block: jax.Array) -> jax.Array:
    """The blocks with one of them increased."""
    added: jax.Array = jax.lax.dynamic_update_index_in_dim(blocks, blocks[at] + block, at, 0)
    return added


def _dropout(weights: jax.Array, rate: Any, seed: Any = None) -> jax.Array:
    """Zero a share of the weights and rescale the rest; the same for the same seed."""
    if seed is None:
        raise NotImplementedError("jax: dropout needs a `seed`, another one in every step")
    kept = jnp.asarray(1 - rate, weights.dtype)
    scale = jnp.where(kept > 0, 1 / jnp.where(kept > 0, kept, 1), 0)
    return jnp.where(jax.random.bernoulli(jax.random.key(seed), 1 - rate, weights.shape), weights * scale, 0)


def _interval(bounds: jax.Array, position: jax.Array) -> jax.Array:
    """The number of the interval that a position lies in: `bounds[i] <= position < bounds[i + 1]`."""
    return jnp.searchsorted(bounds, position, side="right") - 1


def _pad_last(array: jax.Array) -> jax.Array:
    """The array with a zero (False) appended to its last axis."""
    padded: jax.Array = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, 1)])
    return padded


def _glorot_normal(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    drawn: jax.Array = jax.random.normal(key, shape) * (2 / (fan_in + fan_out)) ** 0.5
    return drawn


def _linear_uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)


def _glorot_uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
