"""The kernels and what launches them, written out for causal attention. Generated files are copies of this module.

A spec fills its holes. The functions under "holes" get other bodies. `parameters`, `logit_parameters`, `mask_parameters`,
`block_parameters` and `row_parameters` stand for what a kernel, its logits, its masks, its runs of blocks and its rows read,
`given` for what a call of the spec has besides query, key and value. `FACTOR` is what the gradients of the products still have
to be multiplied by.

What is under `if UNIFORM` (hidden keys share a row that sees nothing), `if ROWS` (rows become zero), `if SINK` (a logit that
holds no value), `if DROPOUT`, `if OPERANDS` (logits read tensors) or `if SPLITS` (programs may share a row's keys) is there,
without the `if`, where a spec has that, and so are `shares`. What has `operand` in its name is there for each tensor that
logits read, under the tensor's name.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

FACTOR = 1.0
UNIFORM = ROWS = SINK = DROPOUT = OPERANDS = SPLITS = False
OPERAND_PLACES: dict[int, Any] = {}
SINK_PLACE = 0
operand = torch.empty(0)
logit_parameters = mask_parameters = block_parameters = row_parameters = sink_parameters = dropout_parameters = ()
Shares = Tensor


# -- kernels --


@triton.jit
def _forward_kernel(
    query, query_strides, key, key_strides, value, value_strides, output, output_strides, lse, shares, T, S, N, G,
    parameters,
    H: tl.constexpr, V: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: a softmax that is rescaled as blocks of keys raise the greatest logit of a row."""
    b, n = tl.program_id(0) // N, tl.program_id(0) % N
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * BLOCK_T  # the last queries first: under a causal mask they see most
    t, h, v = start + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_V)
    query_block = _load(query, query_strides, b, t, T, n, h, H)
    top = tl.full([BLOCK_T], float("-inf"), tl.float32)  # of every row the greatest logit so far, over log(2)
    total = tl.zeros([BLOCK_T], tl.float32)  # the sum of its weights
    summed = tl.zeros([BLOCK_T, BLOCK_V], tl.float32)  # the sum of the values with these weights
    if SINK:
        top = _sink(top, sink_parameters) * LOG2_E  # what every row begins with
        if SPLITS:
            top = tl.where(tl.program_id(2) == 0, top, float("-inf"))
        total = tl.where(top == float("-inf"), 0.0, 1.0)
    if SPLITS:
        low, end = _own_keys(S, BLOCK_S)
    else:
        low, end = 0, S
    while low < end:
        high, seen, hidden = _run_of_keys(low, start, tl.minimum(start + BLOCK_T, T), T, S, block_parameters, BLOCK_S)
        if SPLITS:
            high = tl.minimum(high, end)
        for TESTED in tl.static_range(2):  # compiled twice: what every query sees in full needs no test
            if seen & (hidden == (TESTED == 1)):
                for first in tl.range(low, high, BLOCK_S):
                    s = first + tl.arange(0, BLOCK_S)
                    key_block = _load(key, key_strides, b, s, S, n // G, h, H, TESTED)
                    product = tl.dot(query_block, key_block.T, input_precision="ieee")
                    logits = _logits(product, t[:, None], s[None, :], logit_parameters)
                    if TESTED:
                        attends = _attends(t[:, None], s[None, :], mask_parameters)
                        attends = attends & (s[None, :] < S)
                        logits = tl.where(attends, logits, float("-inf"))
                    raised = tl.maximum(top, tl.max(logits, 1) * LOG2_E)
                    base = tl.where(raised == float("-inf"), 0.0, raised)  # where a row has seen no key yet
                    weights = tl.exp2(logits * LOG2_E - base[:, None])
                    rescale = tl.exp2(top - base)
                    value_block = _load(value, value_strides, b, s, S, n // G, v, V, TESTED)
                    total = total * rescale + tl.sum(weights, 1)
                    if DROPOUT:
                        weights = _dropped(weights, t[:, None], s[None, :], dropout_parameters)
                    summed = summed * rescale[:, None]
                    summed = tl.dot(weights.to(value_block.dtype), value_block, summed, input_precision="ieee")
                    top = raised
        low = high
    part = b
    if SPLITS:
        part += tl.program_id(2) * (tl.num_programs(0) // N)  # what comes of the same share of keys is one batch
    rows = (part * N + n).to(tl.int64) * T + t
    empty = total == 0.0
    log_total = tl.where(empty, float("inf"), top + tl.log2(total))  # backward, exp2(logit - inf) is 0
    if ROWS:
        kept = _keeps(t, row_parameters)
        log_total = tl.where(kept, log_total, float("inf"))
    if UNIFORM:
        spread = empty & (t < T) & (S > 0)
        if ROWS:
            spread = spread & kept
        if tl.max(spread.to(tl.int32), 0) > 0:
            for first in tl.range(0, S, BLOCK_S):
                s = first + tl.arange(0, BLOCK_S)
                attends = _attends(t[:, None], s[None, :], mask_parameters)
                weights = tl.where(spread[:, None] & ~attends & (s[None, :] < S), 1.0, 0.0)
                value_block = _load(value, value_strides, b, s, S, n // G, v, V)
                summed = tl.dot(weights.to(value_block.dtype), value_block, summed, input_precision="ieee")
                total += tl.sum(weights, 1)
        empty = empty & ~spread
        tl.store(shares + rows, tl.where(spread, 1.0 / total, 0.0), mask=t < T)
        log_total = tl.where(spread & (total == 0.0), float("nan"), log_total)  # it sees all keys, and their logits are -inf
    summed = summed / tl.where(empty, 1.0, total)[:, None]
    if ROWS:
        summed = tl.where(kept[:, None], summed, 0.0)
    _store(output, output_strides, part, t, T, n, v, V, summed)
    tl.store(lse + rows, log_total, mask=t < T)


@triton.jit
def _query_gradient_kernel(
    query, query_strides, key, key_strides, value, value_strides, d_output, d_output_strides, lse, delta,
    d_query, d_query_strides, T, S, N, G,
    parameters,
    H: tl.constexpr, V: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: the weights are computed again, block of keys by block of keys."""
    b, n = tl.program_id(0) // N, tl.program_id(0) % N
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * BLOCK_T
    t, h, v = start + tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_V)
    query_block = _load(query, query_strides, b, t, T, n, h, H)
    d_output_block = _load(d_output, d_output_strides, b, t, T, n, v, V)
    rows = tl.program_id(0).to(tl.int64) * T + t
    lse_block = tl.load(lse + rows, mask=t < T, other=float("inf"))
    delta_block = tl.load(delta + rows, mask=t < T, other=0.0)
    summed = tl.zeros([BLOCK_T, BLOCK_H], tl.float32)
    low = 0
    while low < S:
        high, seen, hidden = _run_of_keys(low, start, tl.minimum(start + BLOCK_T, T), T, S, block_parameters, BLOCK_S)
        for TESTED in tl.static_range(2):
            if seen & (hidden == (TESTED == 1)):
                for first in tl.range(low, high, BLOCK_S):
                    s = first + tl.arange(0, BLOCK_S)
                    key_block = _load(key, key_strides, b, s, S, n // G, h, H, TESTED)
                    value_block = _load(value, value_strides, b, s, S, n // G, v, V, TESTED)
                    product = tl.dot(query_block, key_block.T, input_precision="ieee")
                    logits = _logits(product, t[:, None], s[None, :], logit_parameters)
                    weights = tl.exp2(logits * LOG2_E - lse_block[:, None])
                    if TESTED:
                        attends = _attends(t[:, None], s[None, :], mask_parameters)
                        attends = attends & (s[None, :] < S)
                        weights = tl.where(attends, weights, 0.0)
                    d_weights = tl.dot(d_output_block, value_block.T, input_precision="ieee")
                    if DROPOUT:
                        d_weights = _dropped(d_weights, t[:, None], s[None, :], dropout_parameters)
                    d_logits = weights * (d_weights - delta_block[:, None])
                    d_product = _d_product(d_logits, product, t[:, None], s[None, :], logit_parameters)
                    summed = tl.dot(d_product.to(key_block.dtype), key_block, summed, input_precision="ieee")
        low = high
    _store(d_query, d_query_strides, b, t, T, n, h, H, summed * FACTOR)


@triton.jit
def _key_gradients_kernel(
    query, query_strides, key, key_strides, value, value_strides, d_output, d_output_strides, lse, shares, delta,
    d_key, d_key_strides, d_value, d_value_strides, T, S, N, G,
    parameters,
    H: tl.constexpr, V: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One block of keys of one head: sums over the queries of its whole group. Every tile is keys by queries."""
    K = N // G
    b, k = tl.program_id(0) // K, tl.program_id(0) % K
    first = tl.program_id(1) * BLOCK_S
    s, h, v = first + tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_V)
    key_block = _load(key, key_strides, b, s, S, k, h, H)
    value_block = _load(value, value_strides, b, s, S, k, v, V)
    summed_keys = tl.zeros([BLOCK_S, BLOCK_H], tl.float32)
    summed_values = tl.zeros([BLOCK_S, BLOCK_V], tl.float32)
    for n in range(k * G, k * G + G):
        low = 0
        while low < T:
            high, seen, hidden = _run_of_queries(low, first, tl.minimum(first + BLOCK_S, S), T, S, block_parameters, BLOCK_T)
            for TESTED in tl.static_range(2):
                if seen & (hidden == (TESTED == 1)):
                    for start in tl.range(low, high, BLOCK_T):
                        t = start + tl.arange(0, BLOCK_T)
                        query_block = _load(query, query_strides, b, t, T, n, h, H, TESTED)
                        d_output_block = _load(d_output, d_output_strides, b, t, T, n, v, V, TESTED)
                        rows = (b * N + n).to(tl.int64) * T + t
                        lse_block = tl.load(lse + rows, mask=t < T, other=float("inf"))
                        delta_block = tl.load(delta + rows, mask=t < T, other=0.0)
                        product = tl.dot(key_block, query_block.T, input_precision="ieee")
                        logits = _logits(product, t[None, :], s[:, None], logit_parameters)
                        weights = tl.exp2(logits * LOG2_E - lse_block[None, :])
                        if TESTED:
                            attends = _attends(t[None, :], s[:, None], mask_parameters)
                            attends = attends & (t[None, :] < T)
                            weights = tl.where(attends, weights, 0.0)
                        if DROPOUT:
                            shown = _dropped(weights, t[None, :], s[:, None], dropout_parameters).to(d_output_block.dtype)
                        else:
                            shown = weights.to(d_output_block.dtype)
                        summed_values = tl.dot(shown, d_output_block, summed_values, input_precision="ieee")
                        d_weights = tl.dot(value_block, d_output_block.T, input_precision="ieee")
                        if DROPOUT:
                            d_weights = _dropped(d_weights, t[None, :], s[:, None], dropout_parameters)
                        d_logits = weights * (d_weights - delta_block[None, :])
                        d_product = _d_product(d_logits, product, t[None, :], s[:, None], logit_parameters)
                        summed_keys = tl.dot(d_product.to(query_block.dtype), query_block, summed_keys, input_precision="ieee")
            low = high
        if UNIFORM:
            for start in tl.range(0, T, BLOCK_T):
                t = start + tl.arange(0, BLOCK_T)
                share = tl.load(shares + (b * N + n).to(tl.int64) * T + t, mask=t < T, other=0.0)
                if tl.max(share, 0) > 0.0:
                    d_output_block = _load(d_output, d_output_strides, b, t, T, n, v, V)
                    attends = _attends(t[None, :], s[:, None], mask_parameters)
                    weights = tl.where(attends, 0.0, share[None, :])
                    summed_values = tl.dot(
                        weights.to(d_output_block.dtype), d_output_block, summed_values, input_precision="ieee"
                    )
    _store(d_key, d_key_strides, b, s, S, k, h, H, summed_keys * FACTOR)
    _store(d_value, d_value_strides, b, s, S, k, v, V, summed_values)


@triton.jit
def _operand_gradient_kernel(
    query, query_strides, key, key_strides, value, value_strides, d_output, d_output_strides, lse, delta,
    d_operand, d_operand_strides, N_OWN, BATCHES, HEADS, QUERIES, KEYS, T, S, N, G,
    parameters,
    ADDS_QUERIES: tl.constexpr, ADDS_KEYS: tl.constexpr, H: tl.constexpr, V: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One block of the gradient: sums over all BATCHES, HEADS, QUERIES and KEYS that read it."""
    own_b, own_n = tl.program_id(0) // N_OWN, tl.program_id(0) % N_OWN
    blocks_of_keys = tl.cdiv(S, KEYS)
    own_t, own_s = tl.program_id(1) // blocks_of_keys * QUERIES, tl.program_id(1) % blocks_of_keys * KEYS
    h, v = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_V)
    summed = tl.zeros([BLOCK_T, BLOCK_S], tl.float32)
    for b in range(own_b * BATCHES, own_b * BATCHES + BATCHES):
        for n in range(own_n * HEADS, own_n * HEADS + HEADS):
            for start in range(own_t, tl.minimum(own_t + QUERIES, T), BLOCK_T):
                t = start + tl.arange(0, BLOCK_T)
                query_block = _load(query, query_strides, b, t, T, n, h, H)
                d_output_block = _load(d_output, d_output_strides, b, t, T, n, v, V)
                rows = (b * N + n).to(tl.int64) * T + t
                lse_block = tl.load(lse + rows, mask=t < T, other=float("inf"))
                delta_block = tl.load(delta + rows, mask=t < T, other=0.0)
                low, end = own_s, tl.minimum(own_s + KEYS, S)
                while low < end:
                    high, seen, _ = _run_of_keys(low, start, tl.minimum(start + BLOCK_T, T), T, S, block_parameters, BLOCK_S)
                    if seen:
                        for first in tl.range(low, tl.minimum(high, end), BLOCK_S):
                            s = first + tl.arange(0, BLOCK_S)
                            key_block = _load(key, key_strides, b, s, S, n // G, h, H)
                            value_block = _load(value, value_strides, b, s, S, n // G, v, V)
                            product = tl.dot(query_block, key_block.T, input_precision="ieee")
                            logits = _logits(product, t[:, None], s[None, :], logit_parameters)
                            attends = _attends(t[:, None], s[None, :], mask_parameters)
                            attends = attends & (s[None, :] < S)
                            weights = tl.where(attends, tl.exp2(logits * LOG2_E - lse_block[:, None]), 0.0)
                            d_weights = tl.dot(d_output_block, value_block.T, input_precision="ieee")
                            if DROPOUT:
                                d_weights = _dropped(d_weights, t[:, None], s[None, :], dropout_parameters)
                            d_logits = weights * (d_weights - delta_block[:, None])
                            summed += _d_operand(d_logits, product, t[:, None], s[None, :], logit_parameters)
                    low = high
    if ADDS_QUERIES:
        summed = tl.sum(summed, 0)[None, :]
    if ADDS_KEYS:
        summed = tl.sum(summed, 1)[:, None]
    t = tl.arange(0, 1) if ADDS_QUERIES else own_t + tl.arange(0, BLOCK_T)
    s = tl.arange(0, 1) if ADDS_KEYS else own_s + tl.arange(0, BLOCK_S)
    _store(d_operand, d_operand_strides, own_b, t, T, own_n, s, S, summed)


# -- holes --


@triton.jit
def _logits(logits, t, s, logit_parameters):
    """The logits of queries t and keys s, from the products of the two."""
    return logits


@triton.jit
def _d_product(d_logits, logits, t, s, logit_parameters):
    """The gradient of the products, but for a factor that is left to the end."""
    return d_logits


@triton.jit
def _d_operand(d_logits, logits, t, s, logit_parameters):
    """The gradient of what the logits read of `operand`."""
    return d_logits


@triton.jit
def _attends(t, s, mask_parameters):
    """Whether query t attends to key s."""
    return s <= t


@triton.jit
def _sink(rows, sink_parameters):
    """The logit that holds no value, for every row."""
    return rows


@triton.jit
def _dropped(weights, t, s, dropout_parameters):
    """What dropout makes of weights, or of their gradients: seed and place alone decide, forward and backward."""
    return weights


@triton.jit
def _keeps(t, row_parameters):
    """Whether the row of query t is not made zero."""
    return t >= 0


@triton.jit
def _run_of_keys(low, start, stop, T, S, block_parameters, BLOCK: tl.constexpr):
    """From the block of keys at `low`, those that are alike to the queries `start <= t < stop`.

    Where they end, whether some of the queries see them, and whether some of them are hidden from some query.
    """
    end = tl.cdiv(S, BLOCK) * BLOCK
    seen, high = _meets(low, end, 0, stop, False, BLOCK)
    hidden, high = _meets(low, high, start + 1, end, False, BLOCK)
    return high // BLOCK * BLOCK, seen, hidden


@triton.jit
def _run_of_queries(low, start, stop, T, S, block_parameters, BLOCK: tl.constexpr):
    """The same of blocks of queries, to the keys `start <= s < stop`."""
    end = tl.cdiv(T, BLOCK) * BLOCK
    seen, high = _meets(low, end, start, T, False, BLOCK)
    hidden, high = _meets(low, high, 0, stop - 1, False, BLOCK)
    hidden, high = _meets(low, high, T, end, hidden, BLOCK)
    return high // BLOCK * BLOCK, seen, hidden


# -- what the kernels share --


@triton.jit
def _own_keys(S, BLOCK: tl.constexpr):
    """Of a row's keys those of this program: whole blocks, as many for each that shares the row."""
    blocks = tl.cdiv(tl.cdiv(S, BLOCK), tl.num_programs(2))
    low = tl.program_id(2) * blocks * BLOCK
    return low, tl.minimum(low + blocks * BLOCK, S)


LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)  # exp2 is what the hardware has: exp(x) = exp2(x * LOG2_E)


@triton.jit
def _meets(low, high, first, stop, already, BLOCK: tl.constexpr):
    """Whether the block at `low` holds some of `first <= position < stop`, or did `already`; and up to where that is so."""
    begun = first < low + BLOCK
    inside = begun & (low < stop) & (first < stop)
    change = tl.where(inside, stop + (BLOCK - 1), tl.where(begun, high, first))  # in a later block: a loop gets on
    return already | inside, tl.minimum(high, change)


@triton.jit
def _meets_where(test, low, high, first, stop, already, BLOCK: tl.constexpr):
    """The same of this block alone, where it passes a test of its own."""
    inside, high = _meets(low, high, first, stop, False, BLOCK)
    return already | (inside & test), tl.minimum(high, low + BLOCK)


@triton.jit
def _lowest(tensor, b, first, stop, BLOCK: tl.constexpr):
    """The least of tensor[b, first : stop]."""
    at = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    return tl.min(_entries(tensor, b, at, stop), 0)


@triton.jit
def _highest(tensor, b, first, stop, BLOCK: tl.constexpr):
    """The greatest of tensor[b, first : stop]."""
    at = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    return tl.max(_entries(tensor, b, at, stop), 0)


@triton.jit
def _entries(tensor, b, at, length):
    """tensor[b, at], 0 beyond its end. Such a tensor is a pair, its storage and its strides."""
    storage, strides = tensor
    return tl.load(storage + tl.cast(b, tl.int64) * strides[0] + at * strides[1], mask=at < length, other=0)


@triton.jit
def _entries_of_pairs(tensor, b, n, t, s, T, S):
    """tensor[b, n, t, s], 0 beyond its end; strides are 0 along axes that it is broadcast over."""
    storage, strides = tensor
    head = storage + tl.cast(b, tl.int64) * strides[0] + tl.cast(n, tl.int64) * strides[1]
    return tl.load(head + t.to(tl.int64) * strides[2] + s.to(tl.int64) * strides[3], mask=(t < T) & (s < S), other=0)


@triton.jit
def _entry_of_table(table, b, i, j=None, k=None):
    """table[b, i], or table[b, i, j, k], 0 where there is no such entry. A table comes with its strides and its sizes."""
    storage, strides, sizes = table
    if j is not None:
        i += j * 0  # a number among tiles, which makes no mask in the interpreter
    row = storage + tl.cast(b, tl.int64) * strides[0]
    place, there = i * strides[1], (i >= 0) & (i < sizes[1])
    if j is not None:
        place, there = place + j * strides[2] + k * strides[3], there & (j >= 0) & (j < sizes[2]) & (k >= 0) & (k < sizes[3])
    return tl.load(row + place, mask=there, other=0)


@triton.jit
def _interval_of(bounds, b, position):
    """The number of the interval that a position lies in, by bisection: bounds[b, i] <= position < bounds[b, i + 1]."""
    _, _, sizes = bounds
    step = 1
    while step * 2 <= sizes[1]:
        step *= 2
    found = position * 0 - 1
    while step > 0:
        further = found + step
        found = tl.where((further < sizes[1]) & (_entry_of_table(bounds, b, further) <= position), further, found)
        step = step // 2
    return found


@triton.jit
def _tile(tensor, strides, b, rows, n, columns):
    """Where tensor[b, rows, n, columns] is."""
    head = tensor + tl.cast(b, tl.int64) * strides[0] + tl.cast(n, tl.int64) * strides[2]
    return head + rows.to(tl.int64)[:, None] * strides[1] + columns.to(tl.int64)[None, :] * strides[3]


@triton.jit
def _load(tensor, strides, b, rows, length, n, columns, WIDTH: tl.constexpr, AT_END: tl.constexpr = True):
    """tensor[b, rows, n, columns], zero beyond its end; rows are looked at only where they may be."""
    there = columns[None, :] < WIDTH
    if AT_END:
        there = there & (rows[:, None] < length)
    return tl.load(_tile(tensor, strides, b, rows, n, columns), mask=there, other=0.0)


@triton.jit
def _store(tensor, strides, b, rows, length, n, columns, WIDTH: tl.constexpr, values):
    """tensor[b, rows, n, columns] = values, up to its end."""
    there = (rows[:, None] < length) & (columns[None, :] < WIDTH)
    tl.store(_tile(tensor, strides, b, rows, n, columns), values.to(tensor.dtype.element_ty), mask=there)


@triton.jit
def _drawn(seed, b, n, t, s, N):
    """A number of [0, 1) for every place, from a counter (Philox)."""
    t, s = tl.broadcast(t, s)
    draw, _, _, _ = tl.philox(tl.load(seed), s, t, t * 0 + (b * N + n), t * 0)
    return tl.uint_to_uniform_float(draw)


@triton.jit
def _tanh(x):
    """tanh: a polynomial near 0, where the difference of exponentials would cancel (Cephes, tanhf)."""
    square = x * x
    series = ((-5.70498872745e-3 * square + 2.06390887954e-2) * square - 5.37397155531e-2) * square + 1.33314422036e-1
    small = (series * square - 3.33332819422e-1) * square * x + x
    size = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, small, tl.where(x < 0.0, -size, size))


@triton.jit
def _square(x):
    return x * x


@triton.jit
def _floor_divide(x, y):
    """x // y rounded down; Triton's own operator rounds to 0."""
    return x // y - tl.where((x % y != 0) & ((x < 0) != (y < 0)), 1, 0)


@triton.jit
def _remainder(x, y):
    """x % y with the sign of y; Triton's own operator has that of x."""
    return x - _floor_divide(x, y) * y


# -- launches --

# Of each kernel, by the dtype's bytes and up to a head dim: blocks of queries and of keys, warps, stages. Chosen by compiling
# for sm_90, where up to head dim 128 all keep to its registers; none was ever timed.
LAUNCHES = {
    "forward": ((2, 128, (128, 64, 8, 3)), (2, 256, (128, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "decode": ((2, 256, (16, 64, 4, 2)), (4, 256, (16, 32, 4, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 128, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}
# The same where logits read tensors, which takes registers.
LAUNCHES_WITH_OPERANDS = {
    "forward": ((2, 128, (128, 64, 8, 3)), (2, 256, (128, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "decode": ((2, 128, (16, 32, 4, 3)), (2, 256, (16, 32, 4, 2)), (4, 256, (16, 32, 4, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 64, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}
# And where masks look positions up in bounds, or whole tiles in a layout.
LAUNCHES_WITH_BOUNDS = {
    "forward": ((2, 128, (128, 64, 8, 3)), (2, 256, (128, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "decode": ((2, 256, (16, 32, 4, 2)), (4, 256, (16, 32, 4, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 64, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}
LAUNCHES_WITH_LAYOUTS = {
    "forward": ((2, 64, (128, 64, 8, 3)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "decode": ((2, 256, (16, 32, 4, 2)), (4, 256, (16, 32, 4, 2))),
    "query_gradient": ((2, 128, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 64, (32, 64, 8, 2)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}
# And with dropout, whose counters take more.
LAUNCHES_WITH_DROPOUT = {
    "forward": ((2, 128, (128, 32, 8, 3)), (2, 256, (128, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "decode": ((2, 128, (16, 32, 4, 3)), (2, 256, (16, 32, 4, 2)), (4, 256, (16, 32, 4, 2))),
    "query_gradient": ((2, 64, (128, 32, 8, 2)), (2, 256, (64, 32, 8, 2)), (4, 256, (32, 32, 8, 2))),
    "key_gradients": ((2, 64, (32, 64, 8, 2)), (2, 128, (16, 64, 8, 3)), (2, 256, (16, 64, 8, 2)), (4, 256, (32, 32, 8, 2))),
}


FEW = 16  # queries up to which the kernel of a forward pass is that for decoding
SHARE = 512  # keys that each of several programs which share a row has at least


# Each copy of this file has operators of its own: the last one registered under a name would stand in for all of them.
OPERATOR = "attnspec::" + "".join(letter if letter.isalnum() else "_" for letter in __name__)


@torch.library.custom_op(OPERATOR, mutates_args=())
def _forward(query: Tensor, key: Tensor, value: Tensor, given: Any) -> tuple[Tensor, Tensor, Shares]:
    """The output; and of every row log2 of the sum of its exponentials, for the backward pass."""
    (B, T, N, _), S, K, V = query.shape, key.shape[1], key.shape[2], value.shape[3]
    launch = _launch("forward" if T > FEW else "decode", query, value)
    blocks = triton.cdiv(T, launch["BLOCK_T"])
    if SPLITS:
        splits = _splits(B * N * blocks, S, query.device)
        output = query.new_empty(splits * B, T, N, V, dtype=query.dtype if splits == 1 else torch.float32)
        lse = query.new_empty(splits * B, N, T, dtype=torch.float32)
    else:
        output, lse = query.new_empty(B, T, N, V), query.new_empty(B, N, T, dtype=torch.float32)
    if UNIFORM:
        shares = torch.empty_like(lse)  # what a row that sees nothing gives to every hidden key
    tensors = [argument for tensor in (query, key, value, output) for argument in (tensor, tensor.stride())]
    if SPLITS:
        _forward_kernel[(B * N, blocks, splits)](*tensors, lse, shares, T, S, N, N // K, given, **launch)
        if splits > 1:
            output, lse = _merged(output, lse, splits, query.dtype)
    else:
        _forward_kernel[(B * N, blocks)](*tensors, lse, shares, T, S, N, N // K, given, **launch)
    return output, lse, shares


@torch.library.custom_op(f"{OPERATOR}_backward", mutates_args=())
def _backward(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, shares: Tensor, d_output: Tensor, given: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value: one kernel goes over queries and one over keys, so that nothing is added twice."""
    (B, T, N, _), S, K = query.shape, key.shape[1], key.shape[2]
    d_query, d_key, d_value = (tensor.new_empty(tensor.shape) for tensor in (query, key, value))
    delta = _delta(output, d_output)
    inputs = [argument for tensor in (query, key, value, d_output) for argument in (tensor, tensor.stride())]
    sizes = (T, S, N, N // K, given)
    launch = _launch("query_gradient", query, value)
    blocks = triton.cdiv(T, launch["BLOCK_T"])
    _query_gradient_kernel[(B * N, blocks)](*inputs, lse, delta, d_query, d_query.stride(), *sizes, **launch)
    launch = _launch("key_gradients", query, value)
    blocks = triton.cdiv(S, launch["BLOCK_S"])
    outputs = d_key, d_key.stride(), d_value, d_value.stride()
    _key_gradients_kernel[(B * K, blocks)](*inputs, lse, shares, delta, *outputs, *sizes, **launch)
    return d_query, d_key, d_value


@torch.library.custom_op(f"{OPERATOR}_operand_gradient", mutates_args=())
def _operand_gradient(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, d_output: Tensor, given: Any
) -> Tensor:
    """The gradient of `operand`: blocks of T by S where it has both axes, else sums of rows or of columns for every head."""
    (B, T, N, _), S, K = query.shape, key.shape[1], key.shape[2]
    has_queries, has_keys = operand.shape[2] == T, operand.shape[3] == S
    parts = (B, N, 1, S) if has_keys else (B, N, T, 1)
    sums = query.new_zeros(operand.shape if has_queries and has_keys else parts, dtype=torch.float32)
    inputs = [argument for tensor in (query, key, value, d_output) for argument in (tensor, tensor.stride())]
    launch = _launch("query_gradient", query, value)
    adds_queries, adds_keys = sums.shape[2] < T, sums.shape[3] < S
    queries, keys = T if adds_queries else launch["BLOCK_T"], max(1, S) if adds_keys else launch["BLOCK_S"]
    owned = (sums.shape[1], B // max(1, sums.shape[0]), N // max(1, sums.shape[1]), queries, keys)
    programs = (sums.shape[0] * sums.shape[1], triton.cdiv(T, max(1, queries)) * triton.cdiv(S, keys))
    sizes = (*owned, T, S, N, N // K, given, adds_queries, adds_keys)
    outputs = sums, sums.transpose(1, 2).stride()  # rows before heads
    _operand_gradient_kernel[programs](*inputs, lse, _delta(output, d_output), *outputs, *sizes, **launch)
    return sums.sum_to_size(operand.shape).to(operand.dtype)


def _splits(programs: int, S: int, device: torch.device) -> int:
    """How many programs share a row's keys: one, unless many processors were idle."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 32
    return max(1, min(processors // max(1, programs), S // SHARE))


def _merged(output: Tensor, lse: Tensor, splits: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The output of whole rows and the logarithms of their sums, from those of the programs that share them."""
    parts, sums = output.unflatten(0, (splits, -1)), lse.unflatten(0, (splits, -1))
    sums = torch.where(sums == float("inf"), float("-inf"), sums)  # of these keys the row sees none
    total = torch.logsumexp(sums * math.log(2), 0) / math.log(2)
    weights = torch.exp2(sums - torch.where(total == float("-inf"), 0.0, total))
    whole = (parts * weights.transpose(2, 3)[..., None]).sum(0)
    return whole.to(dtype), torch.where(total == float("-inf"), float("inf"), total)


def _delta(output: Tensor, d_output: Tensor) -> Tensor:
    """Of every row the sum of its weights times their gradients, which is that of the output times its own."""
    return (output.float() * d_output.float()).sum(-1).transpose(1, 2).contiguous()


def _sink_gradient(sink: Tensor, output: Tensor, lse: Tensor, d_output: Tensor) -> Tensor:
    """Its weight in a row times what that takes from the others: the weights of a row add up to less by it."""
    weights = torch.exp2(sink[..., 0].float() * LOG2_E.value - lse)
    return -(weights * _delta(output, d_output)).sum(2)[..., None, None].sum_to_size(sink.shape).to(sink.dtype)


def _log_sum_exp(lse: Tensor, shares: Tensor) -> Tensor:
    """The logarithm of the sum of a row's exponentials."""
    found = torch.where(lse == float("inf"), float("-inf"), lse * math.log(2))
    if UNIFORM:
        hidden = -0.7 * torch.finfo(torch.float32).max  # the logit of a hidden key, which no number of keys changes
        found = torch.where((lse == float("inf")) | (shares > 0), hidden, found)
        found = torch.where(shares == float("inf"), float("-inf"), found)
    return found.detach()


def _with_strides(tensor: Tensor | None) -> tuple[Tensor, tuple[int, ...]] | None:
    """What a kernel needs to look into a tensor: strides are 0 along axes that it is broadcast over."""
    if tensor is None:
        return None
    return tensor, tuple(0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _with_sizes(table: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """The same of a table, with its sizes: entries are read where there are some."""
    strides = tuple(0 if size == 1 else stride for size, stride in zip(table.shape, table.stride(), strict=True))
    return table, strides, tuple(table.shape)


def _launch(kernel: str, query: Tensor, value: Tensor) -> dict[str, int]:
    """What a kernel is compiled for. Raises NotImplementedError, with the reason, where none can run."""
    H, V = query.shape[3], value.shape[3]
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise NotImplementedError(f"triton: {query.dtype} is not supported; float16, bfloat16 and float32 are")
    if triton.knobs.runtime.interpret and query.dtype == torch.bfloat16:
        raise NotImplementedError("triton: bfloat16 is not supported in Triton's interpreter, which computes nonsense in it")
    if query.device.type == "cpu" and not triton.knobs.runtime.interpret:
        raise NotImplementedError("triton: kernels run on a GPU; on a CPU, set TRITON_INTERPRET=1 before Triton is imported")
    fitting = (launch for size, widest, launch in LAUNCHES[kernel] if size == query.itemsize and max(H, V) <= widest)
    BLOCK_T, BLOCK_S, warps, stages = next(fitting, (0, 0, 0, 0))
    if not warps:
        raise NotImplementedError(f"triton: head dim {max(H, V)} is not supported; up to 256 is")
    stages = min(stages, 2) if torch.version.hip else stages  # 64 KiB of shared memory
    widths = [max(16, triton.next_power_of_2(width)) for width in (H, V)]
    blocks = {"BLOCK_T": BLOCK_T, "BLOCK_S": BLOCK_S, "BLOCK_H": widths[0], "BLOCK_V": widths[1]}
    return {"H": H, "V": V, **blocks, "num_warps": warps, "num_stages": stages}


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, given: Any) -> tuple[Tensor, Tensor, Shares]:
    (B, T, N, _), V = query.shape, value.shape[3]
    output, lse = query.new_empty(B, T, N, V), query.new_empty(B, N, T, dtype=torch.float32)
    if UNIFORM:
        shares = torch.empty_like(lse)
    return output, lse, shares


@_backward.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, shares: Tensor, d_output: Tensor, given: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


@_operand_gradient.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, d_output: Tensor, given: Any) -> Tensor:
    return operand.new_empty(operand.shape)


def _saved(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.rest = [None if isinstance(argument, Tensor) else argument for argument in inputs]
    ctx.save_for_backward(*(argument if isinstance(argument, Tensor) else None for argument in inputs), *output)


def _gradients(ctx: Any, d_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    tensors, count = ctx.saved_tensors, len(ctx.rest)
    inputs = [other if tensor is None else tensor for tensor, other in zip(tensors[:count], ctx.rest, strict=True)]
    (query, key, value, *given), (output, lse, *shares) = inputs, tensors[count:]
    gradients: list[Tensor | None] = [*_backward(query, key, value, output, lse, *shares, d_output, *given)]
    gradients += [None for _ in given]
    if OPERANDS:
        for place, gradient in OPERAND_PLACES.items():
            if ctx.needs_input_grad[place]:
                gradients[place] = gradient(query, key, value, output, lse, d_output, *given)
    if SINK:
        gradients[SINK_PLACE] = _sink_gradient(inputs[SINK_PLACE], output, lse, d_output)
    return tuple(gradients)


_forward.register_autograd(_gradients, setup_context=_saved)


@_forward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, tuple[int, ...]]:
    """One call for all: the mapped axis joins the batch axis, which is the first one of every tensor."""
    count, batch = info.batch_size, arguments[0].shape[1 if in_dims[0] == 0 else 0]
    joined = [
        _joined(argument, dim, count, batch) if isinstance(argument, Tensor) else argument
        for argument, dim in zip(arguments, in_dims, strict=True)
    ]
    results = tuple(result.unflatten(0, (count, batch)) for result in _forward(*joined))
    return results, (0,) * len(results)


def _joined(tensor: Tensor, dim: int | None, count: int, batch: int) -> Tensor:
    """The tensor with the mapped axis and the batch axis as one."""
    mapped = tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return mapped.expand(count, batch, *mapped.shape[2:]).flatten(0, 1)
