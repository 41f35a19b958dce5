"""A sequence that lies in shards on several devices: what the skeletons of Pallas have for it. It is filled as they are.

`travelling` stands for tensors with an axis of keys, which go round with these. `pairs=pairs` stands for those that pairs of
query and key read, of which no device has what it needs; under `if PAIRS` is what refuses them. `no_gradients` is a None for
each tensor besides query, key and value.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from attnspec.codegen.pallas.skeleton import _exponential, _forward, _gradients, _logarithm, _nothing

RING_NUMBERS = (3, 4)
UNIFORM = PAIRS = False
Shares = Array
tensors: Any = None
numbers = given = travelling = pairs = no_gradients = None


@functools.partial(jax.custom_vjp, nondiff_argnums=RING_NUMBERS)
def _ring_attention(query: Array, key: Array, value: Array, given: Any, axis: str) -> tuple[Array, ...]:
    """The same of a sequence in shards along `axis`."""
    return _ring_forward(query, key, value, given, axis)


def _ring_forward(query: Array, key: Array, value: Array, given: Any, axis: str) -> tuple[Array, ...]:
    """Keys and values go round the devices; what the queries of each find in one shard after the other is merged."""
    if PAIRS:
        _refuse_in_shards(pairs=pairs)

    def visit(i: Any, state: Any) -> Any:
        (key, value, travelling), found = state
        origin = _origin(query, key, axis, i)
        found = _merged(found, _forward(query, key, value, given))
        return _passed_on((key, value, travelling), axis), found

    output, *rows = _nothing(query, value)
    state = (key, value, travelling), (output.astype(jnp.float32), *rows)
    output, *rows = lax.fori_loop(0, lax.axis_size(axis), visit, state)[1]
    return output.astype(query.dtype), *rows


def _ring_saved(query: Array, key: Array, value: Array, given: Any, axis: str) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    found = _ring_forward(query, key, value, given, axis)
    return found, (query, key, value, tensors, *found)


def _ring_gradients(numbers: Any, axis: str, saved: tuple[Any, ...], d_outputs: tuple[Array, ...]) -> tuple[Array | None, ...]:
    """Every shard goes round once more, with the sums of its gradients: by the log-sum-exp over all keys they just add up."""
    query, key, value, tensors, *found = saved

    def visit(i: Any, state: Any) -> Any:
        (key, value, travelling), d_shard, d_query = state
        origin = _origin(query, key, axis, i)
        gradients: Any = _gradients(numbers, (query, key, value, tensors, *found), d_outputs)
        more, *of_shard = gradients[:3]
        d_shard = [summed + own.astype(jnp.float32) for summed, own in zip(d_shard, of_shard, strict=True)]
        shard, d_shard = _passed_on(((key, value, travelling), d_shard), axis)
        return shard, d_shard, d_query + more.astype(jnp.float32)

    d_query, *d_shard = (jnp.zeros(tensor.shape, jnp.float32) for tensor in (query, key, value))
    state = (key, value, travelling), d_shard, d_query
    _, (d_key, d_value), d_query = lax.fori_loop(0, lax.axis_size(axis), visit, state)
    return d_query.astype(query.dtype), d_key.astype(key.dtype), d_value.astype(value.dtype), no_gradients


_ring_attention.defvjp(_ring_saved, _ring_gradients)


def _merged(one: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
    """The softmax over the keys of both: either counts as much as its exponentials sum up to."""
    logs = jnp.stack([jnp.where(lse == jnp.inf, -jnp.inf, lse) for _, lse, *_ in (one, other)])
    top = logs.max(0)
    empty = top == -jnp.inf
    base = jnp.where(empty, 0.0, top)
    counts = _exponential(logs - base)
    rows = [jnp.where(empty, jnp.inf, base + _logarithm(counts.sum(0)))]
    if UNIFORM:
        hidden = jnp.stack([jnp.where(shares > 0, 1 / shares, 0.0) for *_, shares in (one, other)])  # keys that share a row
        counts = jnp.where(empty, hidden, counts)
        rows.append(jnp.where(empty & (counts.sum(0) > 0), 1 / counts.sum(0), 0.0))
    total = counts.sum(0)
    weights = (counts / jnp.where(total == 0.0, 1.0, total)).reshape(*counts.shape[:3], -1).mT[..., None]
    parts = zip(weights, (one, other), strict=True)
    output, more = (jnp.where(weight == 0.0, 0.0, weight * part) for weight, (part, *_) in parts)
    return output + more, *rows


def _origin(query: Array, key: Array, axis: str, i: Any) -> Array:
    """The positions of the first query and of the first key that a device has after i steps, for every batch row."""
    device = lax.axis_index(axis)
    first = device * query.shape[1], (device - i) % lax.axis_size(axis) * key.shape[1]
    return jnp.full((query.shape[0], 2), jnp.stack(first), jnp.int32)


def _passed_on(shard: Any, axis: str) -> Any:
    """What the device before had."""
    devices = lax.axis_size(axis)
    pass_on: Any = functools.partial(lax.ppermute, axis_name=axis, perm=[(i, (i + 1) % devices) for i in range(devices)])
    return jax.tree.map(pass_on, shard)


def _refuse_in_shards(**refused: Array | None) -> None:
    """Raises NotImplementedError."""
    for name, tensor in refused.items():
        if tensor is not None:
            raise NotImplementedError(f"pallas: `{name}` is not supported where a sequence is in shards")
