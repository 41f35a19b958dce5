"""The kernels and what launches them, written out for causal attention. Generated files are copies of this module.

A spec fills its holes. The functions under "holes" get other bodies. `tensors` and `numbers` stand for what a call has besides
query, key and value, `given` for both, `NUMBERS` for the places of the numbers, `tensor_gradients` for gradients of the
tensors. `logit_parameters`, `mask_parameters`, `block_parameters` and `row_parameters` stand for what the logits, the masks,
the runs of blocks and the rows of a spec read. `FACTOR` is what the gradients of the products still have to be multiplied by.

What is under `if UNIFORM` (hidden keys share a row that sees nothing), `if ROWS` (rows become zero), `if SINK` (a logit that
holds no value), `if DROPOUT` or `if OPERANDS` (logits read tensors) is there, without the `if`, where a spec has that, and so
are `shares`. What has `operand` in its name is there for each tensor that logits read, under the tensor's name. `FUNCTION` is
the name of the documented function.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

FACTOR = 1.0
UNIFORM = ROWS = SINK = DROPOUT = OPERANDS = False
NUMBERS = (3,)
Shares = Array
logit_parameters = mask_parameters = block_parameters = row_parameters = sink_parameters = dropout_parameters = ()
tensors: Any = None
operand: Any = None
numbers = named_numbers = given = tensor_gradients = None


# -- kernels --


def _forward_kernel(
    query, key, value, tensors, output, lse, shares,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head: a softmax that is rescaled as blocks of keys raise the greatest logit of a row."""
    T, S, b, n = query.shape[1], key.shape[1], jnp.int32(0), jnp.int32(0)
    start = (pl.num_programs(0) - 1 - pl.program_id(0)) * BLOCK_T  # the last queries first: under a causal mask they see most
    t = _positions(start, BLOCK_T)
    query_block = _load(query, b, start, BLOCK_T, T, n, H)

    def add(low, sums, tested):
        top, total, summed = sums
        s = _positions(low, BLOCK_S)
        key_block = _load(key, b, low, BLOCK_S, S, n, H, tested)
        logits = _logits(_dot(query_block, key_block.T), t[:, None], s[None, :], logit_parameters)
        if tested:
            attends = _attends(t[:, None], s[None, :], mask_parameters)
            logits = jnp.where(attends & (s[None, :] < S), logits, -jnp.inf)
        raised = jnp.maximum(top, logits.max(1) * LOG2_E)
        base = jnp.where(raised == -jnp.inf, 0.0, raised)  # where a row has seen no key yet
        weights = jnp.exp2(logits * LOG2_E - base[:, None])
        rescale = jnp.exp2(top - base)
        value_block = _load(value, b, low, BLOCK_S, S, n, V, tested)
        total = total * rescale + weights.sum(1)
        if DROPOUT:
            weights = _dropped(weights, t[:, None], s[None, :], dropout_parameters)
        summed = summed * rescale[:, None] + _dot(weights.astype(value_block.dtype), value_block)
        return raised, total, summed

    top = jnp.full(BLOCK_T, -jnp.inf, jnp.float32)  # of every row the greatest logit so far, over log(2)
    total = jnp.zeros(BLOCK_T, jnp.float32)  # the sum of its weights
    summed = jnp.zeros((BLOCK_T, value.shape[3]), jnp.float32)  # the sum of the values with these weights
    if SINK:
        top = _sink(top, sink_parameters) * LOG2_E  # what every row begins with
        total = (top > -jnp.inf).astype(jnp.float32)
    stop = jnp.minimum(start + BLOCK_T, T)

    def run(low):
        return _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK_S)

    top, total, summed = _over_blocks(run, 0, S, BLOCK_S, add, (top, total, summed))
    empty = total == 0.0
    log_total = jnp.where(empty, jnp.inf, top + jnp.log2(total))  # backward, exp2(logit - inf) is 0
    if ROWS:
        kept = _keeps(t, row_parameters)
        log_total = jnp.where(kept, log_total, jnp.inf)
    if UNIFORM:
        spread = empty & (t < T)
        if ROWS:
            spread = spread & kept
        shown = spread.astype(jnp.float32)  # a number, as conditions cannot lie in shared memory

        def add_hidden(i, sums):
            total, summed = sums
            s = _positions(i * BLOCK_S, BLOCK_S)
            attends = _attends(t[:, None], s[None, :], mask_parameters)
            weights = (~attends & (s[None, :] < S)).astype(jnp.float32)
            value_block = _load(value, b, i * BLOCK_S, BLOCK_S, S, n, V)
            total = total + weights.sum(1) * shown
            return total, summed + _dot(weights.astype(value_block.dtype), value_block) * shown[:, None]

        blocks = jnp.where(shown.max() > 0.0, pl.cdiv(S, BLOCK_S), jnp.int32(0))
        total, summed = _repeated(blocks, add_hidden, (total, summed))
        empty = empty & ~spread
        _store_row(shares, start, T, jnp.where(spread, 1.0 / total, 0.0))
        log_total = jnp.where(spread & (total == 0.0), jnp.nan, log_total)  # it sees all keys, and their logits are -inf
    summed = summed / jnp.where(empty, 1.0, total)[:, None]
    if ROWS:
        summed = jnp.where(kept[:, None], summed, 0.0)
    _store(output, start, T, V, summed)
    _store_row(lse, start, T, log_total)


def _query_gradient_kernel(
    query, key, value, tensors, d_output, lse, delta, d_query,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head: the weights are computed again, block of keys by block of keys."""
    T, S, b, n = query.shape[1], key.shape[1], jnp.int32(0), jnp.int32(0)
    start = (pl.num_programs(0) - 1 - pl.program_id(0)) * BLOCK_T
    t = _positions(start, BLOCK_T)
    query_block = _load(query, b, start, BLOCK_T, T, n, H)
    d_output_block = _load(d_output, b, start, BLOCK_T, T, n, V)
    lse_block, delta_block = _row(lse, b, n, start, BLOCK_T, T, jnp.inf), _row(delta, b, n, start, BLOCK_T, T, 0.0)

    def add(low, summed, tested):
        s = _positions(low, BLOCK_S)
        key_block = _load(key, b, low, BLOCK_S, S, n, H, tested)
        value_block = _load(value, b, low, BLOCK_S, S, n, V, tested)
        product = _dot(query_block, key_block.T)
        logits = _logits(product, t[:, None], s[None, :], logit_parameters)
        weights = jnp.exp2(logits * LOG2_E - lse_block[:, None])
        if tested:
            attends = _attends(t[:, None], s[None, :], mask_parameters)
            weights = jnp.where(attends & (s[None, :] < S), weights, 0.0)
        d_weights = _dot(d_output_block, value_block.T)
        if DROPOUT:
            d_weights = _dropped(d_weights, t[:, None], s[None, :], dropout_parameters)
        d_logits = weights * (d_weights - delta_block[:, None])
        d_product = _d_product(d_logits, product, t[:, None], s[None, :], logit_parameters)
        return summed + _dot(d_product.astype(key_block.dtype), key_block)

    stop = jnp.minimum(start + BLOCK_T, T)

    def run(low):
        return _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK_S)

    summed = _over_blocks(run, 0, S, BLOCK_S, add, jnp.zeros((BLOCK_T, query.shape[3]), jnp.float32))
    _store(d_query, start, T, H, summed * FACTOR)


def _key_gradients_kernel(
    query, key, value, tensors, d_output, lse, shares, delta, d_key, d_value,
    *, numbers, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys of one head: sums over the queries of its whole group. Every tile is keys by queries."""
    T, S, b, k = query.shape[1], key.shape[1], jnp.int32(0), jnp.int32(0)
    first = pl.program_id(0) * BLOCK_S
    s = _positions(first, BLOCK_S)
    key_block = _load(key, b, first, BLOCK_S, S, k, H)
    value_block = _load(value, b, first, BLOCK_S, S, k, V)
    stop = jnp.minimum(first + BLOCK_S, S)

    def run(low):
        return _run_of_queries(low, first, stop, T, S, block_parameters, BLOCK_T)

    def add_head(n, sums):
        def add(low, sums, tested):
            summed_keys, summed_values = sums
            t = _positions(low, BLOCK_T)
            query_block = _load(query, b, low, BLOCK_T, T, n, H, tested)
            d_output_block = _load(d_output, b, low, BLOCK_T, T, n, V, tested)
            lse_block, delta_block = _row(lse, b, n, low, BLOCK_T, T, jnp.inf), _row(delta, b, n, low, BLOCK_T, T, 0.0)
            product = _dot(key_block, query_block.T)
            logits = _logits(product, t[None, :], s[:, None], logit_parameters)
            weights = jnp.exp2(logits * LOG2_E - lse_block[None, :])
            if tested:
                attends = _attends(t[None, :], s[:, None], mask_parameters)
                weights = jnp.where(attends & (t[None, :] < T), weights, 0.0)
            if DROPOUT:
                shown = _dropped(weights, t[None, :], s[:, None], dropout_parameters)
                summed_values += _dot(shown.astype(d_output_block.dtype), d_output_block)
            else:
                summed_values += _dot(weights.astype(d_output_block.dtype), d_output_block)
            d_weights = _dot(value_block, d_output_block.T)
            if DROPOUT:
                d_weights = _dropped(d_weights, t[None, :], s[:, None], dropout_parameters)
            d_logits = weights * (d_weights - delta_block[None, :])
            d_product = _d_product(d_logits, product, t[None, :], s[:, None], logit_parameters)
            summed_keys += _dot(d_product.astype(query_block.dtype), query_block)
            return summed_keys, summed_values

        summed_keys, summed_values = _over_blocks(run, 0, T, BLOCK_T, add, sums)
        if UNIFORM:

            def add_hidden(i, summed_values):
                t, share = _positions(i * BLOCK_T, BLOCK_T), _row(shares, b, n, i * BLOCK_T, BLOCK_T, T, 0.0)
                d_output_block = _load(d_output, b, i * BLOCK_T, BLOCK_T, T, n, V)
                attends = _attends(t[None, :], s[:, None], mask_parameters)
                weights = jnp.where(attends, 0.0, share[None, :])
                return summed_values + _dot(weights.astype(d_output_block.dtype), d_output_block)

            def look(i, summed_values):
                spread = _row(shares, b, n, i * BLOCK_T, BLOCK_T, T, 0.0).max() > 0.0
                return lax.cond(spread, lambda: add_hidden(i, summed_values), lambda: summed_values)

            summed_values = _repeated(pl.cdiv(T, BLOCK_T), look, summed_values)
        return summed_keys, summed_values

    sums = tuple(jnp.zeros((BLOCK_S, tensor.shape[3]), jnp.float32) for tensor in (key, value))
    summed_keys, summed_values = _repeated(query.shape[2], add_head, sums)
    _store(d_key, first, S, H, summed_keys * FACTOR)
    _store(d_value, first, S, V, summed_values)


def _operand_gradient_kernel(
    query, key, value, tensors, d_output, lse, delta, d_operand,
    *, numbers, QUERIES, KEYS, H, V, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of the gradient: sums over all batch rows, heads, QUERIES and KEYS that read it."""
    (B, T, N, _), (S, K) = query.shape, key.shape[1:3]
    row, column = _divided(pl.program_id(0), pl.cdiv(S, KEYS))
    own_t, own_s = row * QUERIES, column * KEYS

    def add_queries(i, summed):
        head, block = _divided(i, QUERIES // BLOCK_T)
        (b, n), start = _divided(head, N), own_t + block * BLOCK_T
        k, _ = _divided(n, N // K)
        t = _positions(start, BLOCK_T)
        query_block = _load(query, b, start, BLOCK_T, T, n, H)
        d_output_block = _load(d_output, b, start, BLOCK_T, T, n, V)
        lse_block, delta_block = _row(lse, b, n, start, BLOCK_T, T, jnp.inf), _row(delta, b, n, start, BLOCK_T, T, 0.0)

        def add(low, summed, tested):
            s = _positions(low, BLOCK_S)
            key_block = _load(key, b, low, BLOCK_S, S, k, H, tested)
            value_block = _load(value, b, low, BLOCK_S, S, k, V, tested)
            product = _dot(query_block, key_block.T)
            logits = _logits(product, t[:, None], s[None, :], logit_parameters)
            weights = jnp.exp2(logits * LOG2_E - lse_block[:, None])
            if tested:
                attends = _attends(t[:, None], s[None, :], mask_parameters)
                weights = jnp.where(attends & (s[None, :] < S), weights, 0.0)
            d_weights = _dot(d_output_block, value_block.T)
            if DROPOUT:
                d_weights = _dropped(d_weights, t[:, None], s[None, :], dropout_parameters)
            d_logits = weights * (d_weights - delta_block[:, None])
            return summed + _d_operand(d_logits, product, t[:, None], s[None, :], logit_parameters)

        stop = jnp.minimum(start + BLOCK_T, T)

        def run(low):
            return _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK_S)

        return _over_blocks(run, own_s, own_s + KEYS, BLOCK_S, add, summed)

    count = B * N * (QUERIES // BLOCK_T)
    summed = _repeated(count, add_queries, jnp.zeros((BLOCK_T, BLOCK_S), jnp.float32))
    rows, columns = d_operand.shape
    if rows < T:
        summed = summed.sum(0)[None, :]
    if columns < S:
        summed = summed.sum(1)[:, None]
    _store_block(d_operand, own_t, own_s, summed)


# -- holes --


def _logits(logits, t, s, logit_parameters):
    """The logits of queries t and keys s, from the products of the two."""
    return logits


def _d_product(d_logits, logits, t, s, logit_parameters):
    """The gradient of the products, but for a factor that is left to the end."""
    return d_logits


def _d_operand(d_logits, logits, t, s, logit_parameters):
    """The gradient of what the logits read of `operand`."""
    return d_logits


def _sink(rows, sink_parameters):
    """The logit that holds no value, for every row."""
    return rows


def _dropped(weights, t, s, dropout_parameters):
    """What dropout makes of weights, or of their gradients: seed and place alone decide, forward and backward."""
    return weights


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


def _repeated(count, add, sums):
    """`sums` after `add(i, sums)` for every i below count, which has 32 bits whatever jax counts in."""
    return lax.fori_loop(jnp.int32(0), jnp.int32(count), add, sums)


def _over_blocks(run, low, end, BLOCK, add, sums):
    """`sums` after every block that some run holds and is seen; `add` is compiled twice: what is seen in full needs no test."""
    end = (end + BLOCK - 1) // BLOCK * BLOCK

    def add_run(state):
        low, sums = state
        high, seen, hidden = run(low)
        high = jnp.minimum(high, end)
        for tested in (False, True):
            count = jnp.where(seen & (hidden == tested), (high - low) // BLOCK, 0)
            sums = _repeated(count, lambda i, sums, tested=tested: add(low + i * BLOCK, sums, tested), sums)
        return high, sums

    return lax.while_loop(lambda state: state[0] < end, add_run, (jnp.int32(low), sums))[1]


def _meets(low, high, first, stop, already, BLOCK):
    """Whether the block at `low` holds some of `first <= position < stop`, or did `already`; and up to where that is so."""
    first, stop, high = (jnp.int32(bound) for bound in (first, stop, high))  # typed: jax 0.10 lowers Python's numbers wrongly
    begun = first < low + BLOCK
    inside = begun & (low < stop) & (first < stop)
    change = jnp.where(inside, stop + (BLOCK - 1), jnp.where(begun, high, first))  # in a later block: a loop gets on
    return already | inside, jnp.minimum(high, change)


def _meets_where(test, low, high, first, stop, already, BLOCK):
    """The same of this block alone, where it passes a test of its own."""
    inside, high = _meets(low, high, first, stop, False, BLOCK)
    return already | (inside & test), jnp.minimum(high, low + BLOCK)


def _divided(x, y):
    """Quotient and remainder of what is not negative: jax 0.10's lowering to Triton fails on `%` by a Python number."""
    return lax.div(x, jnp.int32(y)), lax.rem(x, jnp.int32(y))


def _square(x):
    return x * x


def _positions(first, count):
    """first, first + 1, and so on."""
    return first + lax.iota(jnp.int32, count)


def _first(origin, b, place):
    """The position of the first query or of the first key: 0, but in a shard."""
    return jnp.int32(0) if origin is None else origin[b, place]


def _entry_of_head(tensor, b, n):
    """tensor[b, n], the first entry along axes that it is broadcast over."""
    return tensor[b * (tensor.shape[0] > 1), n * (tensor.shape[1] > 1), 0, 0]


def _lowest(tensor, b, first, stop, BLOCK):
    """The least of tensor[b, first : stop]."""
    return _entries(tensor, b, jnp.minimum(_positions(first, BLOCK), stop - 1), stop).min()


def _highest(tensor, b, first, stop, BLOCK):
    """The greatest of tensor[b, first : stop]."""
    return _entries(tensor, b, jnp.minimum(_positions(first, BLOCK), stop - 1), stop).max()


def _drawn(seed, t, s):
    """A number of [0, 1) for every place, from a counter (Threefry, of 20 rounds)."""
    keys = seed, jnp.int32(0), seed ^ jnp.int32(0x1BD11BDA)
    t, s = t + keys[0], s + keys[1]
    for block in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            t = t + s
            s = t ^ (_shifted(lax.shift_left, s, distance) | _shifted(lax.shift_right_logical, s, 32 - distance))
        t, s = t + keys[(block + 1) % 3], s + keys[(block + 2) % 3] + jnp.int32(block + 1)
    return _shifted(lax.shift_right_logical, t, 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def _shifted(shift, x, distance):
    return shift(x, jnp.full(x.shape, distance, x.dtype))


def _entries(tensor, b, at, length):
    """tensor[b, at], 0 beyond its end."""
    return plgpu.load(tensor.at[b, at], mask=at < length, other=0)


def _entries_of_pairs(tensor, b, n, t, s, T, S):
    """tensor[b, n, t, s], 0 beyond its end; the first entry along axes that it is broadcast over."""
    at = (place * (size > 1) for place, size in zip((b, n, t, s), tensor.shape, strict=True))
    return plgpu.load(tensor.at[tuple(at)], mask=(t < T) & (s < S), other=jnp.zeros((), tensor.dtype))


def _dot(a, b):
    """The product of two matrices, summed in float32."""
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _row(tensor, b, n, first, count, length, other):
    """tensor[b, n, first : first + count], `other` beyond its end."""
    return plgpu.load(tensor.at[b, n, pl.ds(first, count)], mask=_positions(first, count) < length, other=other)


def _load(tensor, b, first, count, length, n, width, at_end=True):
    """tensor[b, first : first + count, n], zero beyond its ends; rows are looked at only where they may be."""
    there = lax.iota(jnp.int32, tensor.shape[3])[None, :] < width
    if at_end:
        there = there & (_positions(first, count)[:, None] < length)
    return plgpu.load(tensor.at[b, pl.ds(first, count), n, :], mask=there, other=0.0)


def _store(tensor, first, length, width, values):
    """tensor[first :, :] = values, up to its ends."""
    rows, columns = _positions(first, values.shape[0]), lax.iota(jnp.int32, values.shape[1])
    there = (rows[:, None] < length) & (columns[None, :] < width)
    plgpu.store(tensor.at[pl.ds(first, values.shape[0]), :], values.astype(tensor.dtype), mask=there)


def _store_row(tensor, first, length, values):
    """tensor[first :] = values, up to its end."""
    rows = _positions(first, values.shape[0])
    plgpu.store(tensor.at[pl.ds(first, values.shape[0])], values, mask=rows < length)


def _store_block(tensor, first_row, first_column, values):
    """tensor[first_row :, first_column :] = values, up to its ends."""
    (length, width), (count, across) = tensor.shape, values.shape
    there = (_positions(first_row, count)[:, None] < length) & (_positions(first_column, across)[None, :] < width)
    plgpu.store(tensor.at[pl.ds(first_row, count), pl.ds(first_column, across)], values, mask=there)


# -- launches --

INTERPRET = os.environ.get("PALLAS_INTERPRET") == "1"  # kernels as programs of any device, a CPU too: slow, and to be checked

LAUNCHES = {  # of a kernel, by the dtype's bytes and up to a head dim: blocks of queries and keys, warps, stages; never timed
    "forward": ((2, 128, (128, 64, 8, 3)), (2, 256, (128, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 128, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=NUMBERS)
def _attention(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array, Shares]:
    """The output; and of every row log2 of the sum of its exponentials, for the backward pass."""
    return _forward(query, key, value, given)


def _forward(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array, Shares]:
    """One kernel, over blocks of queries."""
    (B, T, N, _), (S, K, V) = query.shape, value.shape[1:]
    if 0 in (B, T, N, S, V):
        return _nothing(query, value)
    output, lse = jax.ShapeDtypeStruct((B, T, N, V), query.dtype), jax.ShapeDtypeStruct((B, N, T), jnp.float32)
    if UNIFORM:
        shares = lse  # what a row that sees nothing gives to every hidden key
    blocks, options = _launch("forward", query, value)
    found: tuple[Array, Array, Shares] = pl.pallas_call(
        functools.partial(_forward_kernel, named_numbers, **blocks),
        (output, lse, shares),
        grid=(pl.cdiv(T, blocks["BLOCK_T"]), N, B),
        in_specs=[
            _heads(query), _heads(key, share=N // K), _heads(value, share=N // K),
            *_shared(1, 1, tensors),
        ],
        out_specs=(_own(output), _own(lse), _own(shares)),
        **options,
    )(query, key, value, tensors)  # fmt: skip
    return found


def _nothing(query: Array, value: Array) -> tuple[Array, Array, Shares]:
    """What rows are without keys."""
    (B, T, N, _), V = query.shape, value.shape[3]
    lse = jnp.full((B, N, T), jnp.inf, jnp.float32)
    if UNIFORM:
        shares = jnp.zeros(lse.shape, jnp.float32)
    return jnp.zeros((B, T, N, V), query.dtype), lse, shares


def _saved(query: Array, key: Array, value: Array, given: Any) -> tuple[tuple[Array, Array, Shares], tuple[Any, ...]]:
    output, lse, shares = _forward(query, key, value, given)
    return (output, lse, shares), (query, key, value, tensors, output, lse, shares)


def _gradients(numbers: Any, saved: tuple[Any, ...], d_outputs: tuple[Array, ...]) -> tuple[Array | None, ...]:
    """Gradients of query, key and value: one kernel goes over queries and one over keys, so that nothing is added twice."""
    query, key, value, tensors, output, lse, shares = saved
    (B, T, N, _), (S, K, V), d_output = query.shape, value.shape[1:], d_outputs[0]
    if 0 in (B, T, N, S, V):
        return tuple(map(_zeros, (query, key, value, tensors)))
    delta = _delta(output, d_output)
    blocks, options = _launch("query_gradient", query, value)
    d_query = pl.pallas_call(
        functools.partial(_query_gradient_kernel, named_numbers, **blocks),
        jax.ShapeDtypeStruct(query.shape, query.dtype),
        grid=(pl.cdiv(T, blocks["BLOCK_T"]), N, B),
        in_specs=[
            _heads(query), _heads(key, share=N // K), _heads(value, share=N // K),
            *_shared(1, 1, tensors),
            _heads(d_output), _rows(lse), _rows(delta),
        ],
        out_specs=_own(query),
        **options,
    )(query, key, value, tensors, d_output, lse, delta)  # fmt: skip
    blocks, options = _launch("key_gradients", query, value)
    d_key, d_value = pl.pallas_call(
        functools.partial(_key_gradients_kernel, named_numbers, **blocks),
        tuple(jax.ShapeDtypeStruct(tensor.shape, tensor.dtype) for tensor in (key, value)),
        grid=(pl.cdiv(S, blocks["BLOCK_S"]), K, B),
        in_specs=[
            _heads(query, N // K), _heads(key), _heads(value),
            *_shared(1, N // K, tensors),
            _heads(d_output, N // K), _rows(lse, N // K), _rows(shares, N // K), _rows(delta, N // K),
        ],
        out_specs=(_own(key), _own(value)),
        **options,
    )(query, key, value, tensors, d_output, lse, shares, delta)  # fmt: skip
    return d_query, d_key, d_value, tensor_gradients


def _operand_gradient(
    query: Array, key: Array, value: Array, output: Array, lse: Array, d_output: Array, given: Any
) -> Array | None:
    """The gradient of `operand`: blocks of T by S where it has both axes, else sums of rows or of columns for every head."""
    if operand is None or not jnp.issubdtype(operand.dtype, jnp.floating):
        return None
    (B, T, N, _), (S, K) = query.shape, key.shape[1:3]
    has_queries, has_keys = operand.shape[2] == T, operand.shape[3] == S
    shape = operand.shape if has_queries and has_keys else (B, N, 1, S) if has_keys else (B, N, T, 1)
    batches, heads, delta = B // shape[0], N // shape[1], _delta(output, d_output)
    blocks, options = _launch("query_gradient", query, value)
    BLOCK_T, BLOCK_S = blocks["BLOCK_T"], blocks["BLOCK_S"]
    queries = BLOCK_T if shape[2] == T else pl.cdiv(T, BLOCK_T) * BLOCK_T
    keys = BLOCK_S if shape[3] == S else pl.cdiv(S, BLOCK_S) * BLOCK_S
    key_heads, share = (K, 1) if heads == N else (1, N // K)
    d_operand = pl.pallas_call(
        functools.partial(_operand_gradient_kernel, named_numbers, QUERIES=queries, KEYS=keys, **blocks),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        grid=(pl.cdiv(T, queries) * pl.cdiv(S, keys), shape[1], shape[0]),
        in_specs=[
            _heads(query, heads, batches=batches),
            *(_heads(tensor, key_heads, share, batches) for tensor in (key, value)),
            *_shared(batches, heads, tensors),
            _heads(d_output, heads, batches=batches), _rows(lse, heads, batches), _rows(delta, heads, batches),
        ],
        out_specs=pl.BlockSpec((None, None, *shape[2:]), lambda i, n, b: (b, n, 0, 0)),
        **options,
    )(query, key, value, tensors, d_output, lse, delta)  # fmt: skip
    axes = tuple(axis for axis, size in enumerate(operand.shape) if size < shape[axis])
    found: Array = d_operand.sum(axes, keepdims=True).astype(operand.dtype)
    return found


_attention.defvjp(_saved, _gradients)


def _seeds(seed: Any, query: Array) -> Array:
    """For every head a number, which decides what it drops. Raises NotImplementedError where there is nothing to draw from."""
    if seed is None:
        raise NotImplementedError("pallas: dropout needs a seed, another one in every step: FUNCTION_seeded(seed)")
    bits = jax.random.bits(jax.random.key(seed), (query.shape[0], query.shape[2], 1, 1), jnp.uint32)
    return lax.bitcast_convert_type(bits, jnp.int32)


def _zeros(array: Array | None) -> Array | None:
    """The gradient of what nothing depends on."""
    return None if array is None or not jnp.issubdtype(array.dtype, jnp.floating) else jnp.zeros_like(array)


def _delta(output: Array, d_output: Array) -> Array:
    """Of every row the sum of its weights times their gradients, which is that of the output times its own."""
    return (output.astype(jnp.float32) * d_output.astype(jnp.float32)).sum(-1).transpose(0, 2, 1)


def _sink_gradient(sink: Array, output: Array, lse: Array, d_output: Array) -> Array:
    """Its weight in a row times what that takes from the others: the weights of a row add up to less by it."""
    weights = jnp.exp2(sink[..., 0].astype(jnp.float32) * LOG2_E - lse)
    found = -(weights * _delta(output, d_output)).sum(2)[..., None, None]
    axes = tuple(axis for axis, size in enumerate(sink.shape) if size < found.shape[axis])
    return found.sum(axes, keepdims=True).astype(sink.dtype)


def _exponential(lse: Array) -> Array:
    """Of what is kept of a row."""
    return jnp.exp2(lse)


def _logarithm(total: Array) -> Array:
    """What would be kept of it."""
    return jnp.log2(total)


def _log_sum_exp(lse: Array, shares: Array) -> Array:
    """The logarithm of the sum of a row's exponentials."""
    found = jnp.where(lse == jnp.inf, -jnp.inf, lse * math.log(2))
    if UNIFORM:
        hidden = -0.7 * jnp.finfo(jnp.float32).max  # the logit of a hidden key, which no number of keys changes
        found = jnp.where((lse == jnp.inf) | (shares > 0), hidden, found)
        found = jnp.where(shares == jnp.inf, -jnp.inf, found)
    return lax.stop_gradient(found)


def _heads(tensor: Array, heads: int = 1, share: int = 1, batches: int = 1) -> pl.BlockSpec:
    """What a program has of a tensor: all rows of that many heads, which `share` programs have in common."""
    _, length, _, width = tensor.shape
    return pl.BlockSpec((batches, length, heads, _padded(width)), lambda i, n, b: (b, 0, n // share, 0))


def _rows(tensor: Array, heads: int = 1, batches: int = 1) -> pl.BlockSpec:
    """The same of numbers per row."""
    return pl.BlockSpec((batches, heads, tensor.shape[2]), lambda i, n, b: (b, n, 0))


def _own(tensor: Array | jax.ShapeDtypeStruct) -> pl.BlockSpec:
    """The head of a result that a program makes."""
    if len(tensor.shape) == 3:
        return pl.BlockSpec((None, None, tensor.shape[2]), lambda i, n, b: (b, n, 0))
    return pl.BlockSpec((None, tensor.shape[1], None, _padded(tensor.shape[3])), lambda i, n, b: (b, 0, n, 0))


def _shared(batches: int, heads: int, *arrays: Array | None) -> Iterator[pl.BlockSpec | None]:
    """The same of tensors that masks and logits read, which may be broadcast over batch rows and heads."""
    for array in arrays:
        yield None if array is None else _part(array, (batches, heads) if array.ndim == 4 else (batches,))


def _part(array: Array, parts: tuple[int, ...]) -> pl.BlockSpec:
    """So many batch rows, or so many of them and of heads."""
    rest = array.shape[len(parts) :]
    block = (*map(min, parts, array.shape), *rest)

    def place(i: Any, n: Any, b: Any) -> tuple[Any, ...]:
        return (*(at * (size > 1) for at, size in zip((b, n), array.shape[: len(parts)], strict=False)), *(0 for _ in rest))

    return pl.BlockSpec(block, place)


def _padded(width: int) -> int:
    """The power of two that a head dim is padded to."""
    return max(16, pl.next_power_of_2(width))


def _launch(kernel: str, query: Array, value: Array) -> tuple[dict[str, int], dict[str, Any]]:
    """What a kernel is written for, and what it is compiled with. Raises NotImplementedError, with the reason, where none can
    run."""
    H, V = query.shape[3], value.shape[3]
    if query.dtype not in (jnp.float16, jnp.bfloat16, jnp.float32):
        raise NotImplementedError(f"pallas: {query.dtype} is not supported; float16, bfloat16 and float32 are")
    if INTERPRET and jnp.result_type(float) == jnp.float64:
        raise NotImplementedError("pallas: jax_enable_x64 is not supported where kernels are interpreted")
    fitting = (launch for size, widest, launch in LAUNCHES[kernel] if size == query.dtype.itemsize and max(H, V) <= widest)
    BLOCK_T, BLOCK_S, warps, stages = next(fitting, (0, 0, 0, 0))
    if not warps or H == 0:
        raise NotImplementedError(f"pallas: head dims {H} and {V} are not supported; 1 to 256 are")
    blocks = {"H": H, "V": V, "BLOCK_T": BLOCK_T, "BLOCK_S": BLOCK_S}
    return blocks, {"compiler_params": plgpu.CompilerParams(num_warps=warps, num_stages=stages), "interpret": INTERPRET}
