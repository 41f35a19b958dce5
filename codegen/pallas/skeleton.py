"""The kernels and what launches them, written out for causal attention. Generated files are copies of this module.

A spec fills its holes. The functions under "holes" get other bodies. `tensors` and `numbers` stand for what a call has besides
query, key and value, `given` for both, `NUMBERS` for the places of the numbers, `no_gradients` for gradients of the tensors.
`logit_parameters`, `mask_parameters`, `block_parameters` and `row_parameters` stand for what the logits, the masks, the runs of
blocks and the rows of a spec read. `FACTOR` is what the gradients of the products still have to be multiplied by.

What is under `if ROWS` (rows become zero) is there, without the `if`, where a spec has that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

FACTOR = 1.0
ROWS = False
NUMBERS = (3,)
logit_parameters = mask_parameters = block_parameters = row_parameters = ()
tensors: Any = None
numbers = named_numbers = given = no_gradients = None


# -- kernels --


def _forward_kernel(
    query, key, value, tensors, output, lse,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head: a softmax that is rescaled as blocks of keys raise the greatest logit of a row."""
    T, S = query.shape[0], key.shape[0]
    n = pl.program_id(1)
    start = (pl.num_programs(0) - 1 - pl.program_id(0)) * BLOCK_T  # the last queries first: under a causal mask they see most
    t = _positions(start, BLOCK_T)
    query_block = _load(query, start, BLOCK_T, T, H)

    def add(low, sums, tested):
        top, total, summed = sums
        s = _positions(low, BLOCK_S)
        key_block = _load(key, low, BLOCK_S, S, H, tested)
        logits = _logits(_dot(query_block, key_block.T), t[:, None], s[None, :], logit_parameters)
        if tested:
            attends = _attends(t[:, None], s[None, :], mask_parameters)
            logits = jnp.where(attends & (s[None, :] < S), logits, -jnp.inf)
        raised = jnp.maximum(top, logits.max(1) * LOG2_E)
        base = jnp.where(raised == -jnp.inf, 0.0, raised)  # where a row has seen no key yet
        weights = jnp.exp2(logits * LOG2_E - base[:, None])
        rescale = jnp.exp2(top - base)
        value_block = _load(value, low, BLOCK_S, S, V, tested)
        total = total * rescale + weights.sum(1)
        summed = summed * rescale[:, None] + _dot(weights.astype(value_block.dtype), value_block)
        return raised, total, summed

    top = jnp.full(BLOCK_T, -jnp.inf, jnp.float32)  # of every row the greatest logit so far, over log(2)
    total = jnp.zeros(BLOCK_T, jnp.float32)  # the sum of its weights
    summed = jnp.zeros((BLOCK_T, value.shape[-1]), jnp.float32)  # the sum of the values with these weights
    stop = jnp.minimum(start + BLOCK_T, T)

    def run(low):
        return _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK_S)

    top, total, summed = _over_blocks(run, S, BLOCK_S, add, (top, total, summed))
    empty = total == 0.0
    log_total = jnp.where(empty, jnp.inf, top + jnp.log2(total))  # backward, exp2(logit - inf) is 0
    summed = summed / jnp.where(empty, 1.0, total)[:, None]
    if ROWS:
        kept = _keeps(t, row_parameters)
        log_total = jnp.where(kept, log_total, jnp.inf)
        summed = jnp.where(kept[:, None], summed, 0.0)
    _store(output, start, T, V, summed)
    plgpu.store(lse.at[pl.ds(start, BLOCK_T)], log_total, mask=t < T)


def _query_gradient_kernel(
    query, key, value, tensors, d_output, lse, delta, d_query,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head: the weights are computed again, block of keys by block of keys."""
    T, S = query.shape[0], key.shape[0]
    n = pl.program_id(1)
    start = (pl.num_programs(0) - 1 - pl.program_id(0)) * BLOCK_T
    t = _positions(start, BLOCK_T)
    query_block = _load(query, start, BLOCK_T, T, H)
    d_output_block = _load(d_output, start, BLOCK_T, T, V)
    lse_block, delta_block = _rows(lse, start, BLOCK_T, T, jnp.inf), _rows(delta, start, BLOCK_T, T, 0.0)

    def add(low, summed, tested):
        s = _positions(low, BLOCK_S)
        key_block = _load(key, low, BLOCK_S, S, H, tested)
        value_block = _load(value, low, BLOCK_S, S, V, tested)
        product = _dot(query_block, key_block.T)
        logits = _logits(product, t[:, None], s[None, :], logit_parameters)
        weights = jnp.exp2(logits * LOG2_E - lse_block[:, None])
        if tested:
            attends = _attends(t[:, None], s[None, :], mask_parameters)
            weights = jnp.where(attends & (s[None, :] < S), weights, 0.0)
        d_weights = _dot(d_output_block, value_block.T)
        d_logits = weights * (d_weights - delta_block[:, None])
        d_product = _d_product(d_logits, product, t[:, None], s[None, :], logit_parameters)
        return summed + _dot(d_product.astype(key_block.dtype), key_block)

    stop = jnp.minimum(start + BLOCK_T, T)

    def run(low):
        return _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK_S)

    summed = _over_blocks(run, S, BLOCK_S, add, jnp.zeros((BLOCK_T, query.shape[-1]), jnp.float32))
    _store(d_query, start, T, H, summed * FACTOR)


def _key_gradients_kernel(
    query, key, value, tensors, d_output, lse, delta, d_key, d_value,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys of one head: sums over the queries of its whole group. Every tile is keys by queries."""
    T, S, G = query.shape[0], key.shape[0], query.shape[1]
    k = pl.program_id(1)
    first = pl.program_id(0) * BLOCK_S
    s = _positions(first, BLOCK_S)
    key_block = _load(key, first, BLOCK_S, S, H)
    value_block = _load(value, first, BLOCK_S, S, V)
    stop = jnp.minimum(first + BLOCK_S, S)

    def run(low):
        return _run_of_queries(low, first, stop, T, S, block_parameters, BLOCK_T)

    def of_head(g, sums):
        def add(low, sums, tested):
            n = k * G + g
            summed_keys, summed_values = sums
            t = _positions(low, BLOCK_T)
            query_block = _load(query, low, BLOCK_T, T, H, tested, g)
            d_output_block = _load(d_output, low, BLOCK_T, T, V, tested, g)
            lse_block, delta_block = _rows(lse, low, BLOCK_T, T, jnp.inf, g), _rows(delta, low, BLOCK_T, T, 0.0, g)
            product = _dot(key_block, query_block.T)
            logits = _logits(product, t[None, :], s[:, None], logit_parameters)
            weights = jnp.exp2(logits * LOG2_E - lse_block[None, :])
            if tested:
                attends = _attends(t[None, :], s[:, None], mask_parameters)
                weights = jnp.where(attends & (t[None, :] < T), weights, 0.0)
            summed_values += _dot(weights.astype(d_output_block.dtype), d_output_block)
            d_weights = _dot(value_block, d_output_block.T)
            d_logits = weights * (d_weights - delta_block[None, :])
            d_product = _d_product(d_logits, product, t[None, :], s[:, None], logit_parameters)
            summed_keys += _dot(d_product.astype(query_block.dtype), query_block)
            return summed_keys, summed_values

        return _over_blocks(run, T, BLOCK_T, add, sums)

    sums = tuple(jnp.zeros((BLOCK_S, tensor.shape[-1]), jnp.float32) for tensor in (key, value))
    summed_keys, summed_values = lax.fori_loop(0, G, of_head, sums)
    _store(d_key, first, S, H, summed_keys * FACTOR)
    _store(d_value, first, S, V, summed_values)


# -- holes --


def _logits(logits, t, s, logit_parameters):
    """The logits of queries t and keys s, from the products of the two."""
    return logits


def _d_product(d_logits, logits, t, s, logit_parameters):
    """The gradient of the products, but for a factor that is left to the end."""
    return d_logits


def _attends(t, s, mask_parameters):
    """Whether query t attends to key s."""
    return s <= t


def _keeps(t, row_parameters):
    """Whether the row of query t is not made zero."""
    return t >= 0


def _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK):
    """From the block of keys at `low`, those that are alike to the queries `start <= t < stop`.

    Where they end, whether some of the queries see them, and whether some of them are hidden from some query.
    """
    end = pl.cdiv(S, BLOCK) * BLOCK
    seen, high = _meets(low, end, 0, stop, False, BLOCK)
    hidden, high = _meets(low, high, start + 1, end, False, BLOCK)
    return high // BLOCK * BLOCK, seen, hidden


def _run_of_queries(low, start, stop, T, S, block_parameters, BLOCK):
    """The same of blocks of queries, to the keys `start <= s < stop`."""
    end = pl.cdiv(T, BLOCK) * BLOCK
    seen, high = _meets(low, end, start, T, False, BLOCK)
    hidden, high = _meets(low, high, 0, stop - 1, False, BLOCK)
    hidden, high = _meets(low, high, T, end, hidden, BLOCK)
    return high // BLOCK * BLOCK, seen, hidden


# -- what the kernels share --

LOG2_E = 1.4426950408889634  # exp2 is what the hardware has: exp(x) = exp2(x * LOG2_E)


def _over_blocks(run, end, BLOCK, add, sums):
    """`sums` after every block that some run holds and is seen; `add` is compiled twice: what is seen in full needs no test."""

    def add_run(state):
        low, sums = state
        high, seen, hidden = run(low)
        for tested in (False, True):
            count = jnp.where(seen & (hidden == tested), (high - low) // BLOCK, 0)
            sums = lax.fori_loop(0, count, lambda i, sums, tested=tested: add(low + i * BLOCK, sums, tested), sums)
        return high, sums

    return lax.while_loop(lambda state: state[0] < end, add_run, (jnp.int32(0), sums))[1]


def _meets(low, high, first, stop, already, BLOCK):
    """Whether the block at `low` holds some of `first <= position < stop`, or did `already`; and up to where that is so."""
    begun = first < low + BLOCK
    inside = begun & (low < stop) & (first < stop)
    change = jnp.where(inside, stop + (BLOCK - 1), jnp.where(begun, high, first))  # in a later block: a loop gets on
    return already | inside, jnp.minimum(high, change)


def _meets_where(test, low, high, first, stop, already, BLOCK):
    """The same of this block alone, where it passes a test of its own."""
    inside, high = _meets(low, high, first, stop, False, BLOCK)
    return already | (inside & test), jnp.minimum(high, low + BLOCK)


def _square(x):
    return x * x


def _positions(first, count):
    """first, first + 1, and so on."""
    return first + lax.iota(jnp.int32, count)


def _lowest(tensor, first, stop, BLOCK):
    """The least of tensor[first : stop]."""
    return _entries(tensor, jnp.minimum(_positions(first, BLOCK), stop - 1), stop).min()


def _highest(tensor, first, stop, BLOCK):
    """The greatest of tensor[first : stop]."""
    return _entries(tensor, jnp.minimum(_positions(first, BLOCK), stop - 1), stop).max()


def _entries(tensor, at, length):
    """tensor[at], 0 beyond its end."""
    return plgpu.load(tensor.at[at], mask=at < length, other=0)


def _dot(a, b):
    """The product of two matrices, summed in float32."""
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _rows(tensor, first, count, length, other, *head):
    """tensor[first : first + count] of a head, `other` beyond its end."""
    return plgpu.load(tensor.at[(*head, pl.ds(first, count))], mask=_positions(first, count) < length, other=other)


def _load(tensor, first, count, length, width, at_end=True, *head):
    """tensor[first : first + count] of a head, zero beyond its ends; rows are looked at only where they may be."""
    there = lax.iota(jnp.int32, tensor.shape[-1])[None, :] < width
    if at_end:
        there = there & (_positions(first, count)[:, None] < length)
    return plgpu.load(tensor.at[(pl.ds(first, count), *head, slice(None))], mask=there, other=0.0)


def _store(tensor, first, length, width, values):
    """tensor[first :] = values, up to its ends."""
    rows, columns = _positions(first, values.shape[0]), lax.iota(jnp.int32, values.shape[1])
    there = (rows[:, None] < length) & (columns[None, :] < width)
    plgpu.store(tensor.at[pl.ds(first, values.shape[0]), :], values.astype(tensor.dtype), mask=there)


# -- launches --

INTERPRET = os.environ.get("PALLAS_INTERPRET") == "1"  # kernels as programs of any device, a CPU too: slow, and to be checked

LAUNCHES = {  # of a kernel, by the dtype's bytes and up to a head dim: blocks of queries and keys, warps, stages; never timed
    "forward": ((2, 128, (128, 64, 8, 3)), (2, 256, (128, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 128, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=NUMBERS)
def _attention(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array]:
    """The output; and of every row log2 of the sum of its exponentials, for the backward pass."""
    return _forward(query, key, value, given)


def _forward(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array]:
    """One kernel, over blocks of queries."""
    (B, T, N, _), (S, K, V) = query.shape, value.shape[1:]
    output, lse = jax.ShapeDtypeStruct((B, T, N, V), query.dtype), jax.ShapeDtypeStruct((B, N, T), jnp.float32)
    if 0 in (*query.shape, S, V):
        return jnp.zeros_like(output), jnp.full_like(lse, jnp.inf)
    blocks, options = _launch("forward", query, value)
    found: tuple[Array, Array] = pl.pallas_call(
        functools.partial(_forward_kernel, named_numbers, **blocks),
        (output, lse),
        grid=(pl.cdiv(T, blocks["BLOCK_T"]), N, B),
        in_specs=[
            _heads(query), _heads(key, share=N // K), _heads(value, share=N // K),
            *_shared(None, tensors),
        ],
        out_specs=(_heads(output), _numbers(lse)),
        **options,
    )(query, key, value, tensors)  # fmt: skip
    return found


def _saved(query: Array, key: Array, value: Array, given: Any) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    output, lse = _forward(query, key, value, given)
    return (output, lse), (query, key, value, tensors, output, lse)


def _gradients(numbers: Any, saved: tuple[Any, ...], d_outputs: tuple[Array, Array]) -> tuple[Array | None, ...]:
    """Gradients of query, key and value: one kernel goes over queries and one over keys, so that nothing is added twice."""
    query, key, value, tensors, output, lse = saved
    (B, T, N, _), (S, K, V), d_output = query.shape, value.shape[1:], d_outputs[0]
    if 0 in (*query.shape, S, V):
        return jnp.zeros_like(query), jnp.zeros_like(key), jnp.zeros_like(value), no_gradients
    delta = _delta(output, d_output)
    inputs = query, key, value, tensors, d_output, lse, delta
    blocks, options = _launch("query_gradient", query, value)
    d_query = pl.pallas_call(
        functools.partial(_query_gradient_kernel, named_numbers, **blocks),
        jax.ShapeDtypeStruct(query.shape, query.dtype),
        grid=(pl.cdiv(T, blocks["BLOCK_T"]), N, B),
        in_specs=[
            _heads(query), _heads(key, share=N // K), _heads(value, share=N // K),
            *_shared(None, tensors),
            _heads(d_output), _numbers(lse), _numbers(delta),
        ],
        out_specs=_heads(query),
        **options,
    )(*inputs)  # fmt: skip
    blocks, options = _launch("key_gradients", query, value)
    d_key, d_value = pl.pallas_call(
        functools.partial(_key_gradients_kernel, named_numbers, **blocks),
        tuple(jax.ShapeDtypeStruct(tensor.shape, tensor.dtype) for tensor in (key, value)),
        grid=(pl.cdiv(S, blocks["BLOCK_S"]), K, B),
        in_specs=[
            _heads(query, N // K), _heads(key), _heads(value),
            *_shared(N // K, tensors),
            _heads(d_output, N // K), _numbers(lse, N // K), _numbers(delta, N // K),
        ],
        out_specs=(_heads(key), _heads(value)),
        **options,
    )(*inputs)  # fmt: skip
    return d_query, d_key, d_value, no_gradients


_attention.defvjp(_saved, _gradients)


def _delta(output: Array, d_output: Array) -> Array:
    """Of every row the sum of its weights times their gradients, which is that of the output times its own."""
    return (output.astype(jnp.float32) * d_output.astype(jnp.float32)).sum(-1).transpose(0, 2, 1)


def _heads(tensor: Array | jax.ShapeDtypeStruct, count: int | None = None, share: int = 1) -> pl.BlockSpec:
    """What a program has of a tensor: all rows of a head, which `share` programs have in common, or of `count` heads."""
    _, length, _, width = tensor.shape
    return pl.BlockSpec((None, length, count, _padded(width)), lambda i, n, b: (b, 0, n // share, 0))


def _numbers(tensor: Array | jax.ShapeDtypeStruct, count: int | None = None) -> pl.BlockSpec:
    """The same of numbers per row."""
    return pl.BlockSpec((None, count, tensor.shape[2]), lambda i, n, b: (b, n, 0))


def _shared(count: int | None, *arrays: Array | None) -> Iterator[pl.BlockSpec | None]:
    """The same of what masks look up."""
    for tensor in arrays:
        rest = () if tensor is None else tensor.shape[1:]
        yield None if tensor is None else pl.BlockSpec((None, *rest), lambda i, n, b, rest=rest: (b, *(0 for _ in rest)))


def _padded(width: int) -> int:
    """The power of two that a head dim is padded to."""
    return max(16, pl.next_power_of_2(width))


def _launch(kernel: str, query: Array, value: Array) -> tuple[dict[str, int], dict[str, Any]]:
    """What a kernel is written for, and what it is compiled with. Raises NotImplementedError, with the reason, where none can
    run."""
    H, V = query.shape[3], value.shape[3]
    if query.dtype not in (jnp.float16, jnp.bfloat16, jnp.float32):
        raise NotImplementedError(f"pallas: {query.dtype} is not supported; float16, bfloat16 and float32 are")
    fitting = (launch for size, widest, launch in LAUNCHES[kernel] if size == query.dtype.itemsize and max(H, V) <= widest)
    BLOCK_T, BLOCK_S, warps, stages = next(fitting, (0, 0, 0, 0))
    if not warps:
        raise NotImplementedError(f"pallas: head dim {max(H, V)} is not supported; up to 256 is")
    blocks = {"H": H, "V": V, "BLOCK_T": BLOCK_T, "BLOCK_S": BLOCK_S}
    return blocks, {"compiler_params": plgpu.CompilerParams(num_warps=warps, num_stages=stages), "interpret": INTERPRET}
