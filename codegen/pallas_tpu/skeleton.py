"""The kernels for TPUs and what launches them, written out for causal attention. Generated files are copies of this module.

A spec fills its holes as it does those of `codegen/pallas/skeleton.py`, where the placeholders are explained. What differs is
the schedule: a kernel is called once for each block of queries and keys that sees something, in the order of a list, and what
it adds up lies in scratch memory from the first block of a row of blocks to the last.

`tensor_specs` stands for what a step has of `tensors`, `laid_out` for these as they then have to be. `block_tensors` are those
that decide which blocks are visited; what is under `if LOOKED_UP` is there where some do, and under `if HEADS` where a head has
numbers of its own. `known` stands for what a call has besides query, key and value where only that is known of a tensor: its
shape and its dtype.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

FACTOR = 1.0
NUMBERS = (3,)
Shares = Array
LOOKED_UP = OPERANDS = UNIFORM = ROWS = SINK = DROPOUT = HEADS = False
logit_parameters = mask_parameters = row_parameters = block_parameters = block_tensors = tensor_specs = laid_out = ()
sink_parameters = dropout_parameters = ()
tensors: Any = None
operand: Any = None
numbers = named_numbers = given = known = tensor_gradients = None


# -- kernels: every tile is keys by queries, so that what a query has one of lies along the lanes --


def _forward_kernel(
    rows, columns, kinds, query, key, value, tensors, output, lse, shares, top, total, summed,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys for a block of queries of one head: a softmax that is rescaled as keys raise its greatest logit."""
    b = pl.program_id(0)
    if HEADS:
        n = pl.program_id(1)
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)

    @pl.when(kind & FIRST > 0)
    def begin():
        top[...] = jnp.full(top.shape, -jnp.inf, jnp.float32)  # of every query the greatest logit so far
        total[...] = jnp.zeros(total.shape, jnp.float32)  # the sum of its weights
        if SINK:
            top[...] = _sink(top[...], sink_parameters)  # what every query begins with
            total[...] = (top[...] > -jnp.inf).astype(jnp.float32)
        summed[...] = jnp.zeros(summed.shape, jnp.float32)  # the sum of the values with these weights

    def add(tested):
        logits = _logits(_dot_rows(key[...], query[...]), t, s, logit_parameters)
        if tested:
            logits = jnp.where(_attends(t, s, mask_parameters) & (s < S), logits, -jnp.inf)
        raised = jnp.maximum(top[...], logits.max(0, keepdims=True))
        base = jnp.where(raised == -jnp.inf, 0.0, raised)  # where a query has seen no key yet
        weights = jnp.exp(logits - base)
        rescale = jnp.exp(top[...] - base)
        total[...] = total[...] * rescale + weights.sum(0, keepdims=True)
        if DROPOUT:
            weights = _dropped(weights, t, s, dropout_parameters)
        summed[...] = summed[...] * rescale + _dot(value[...].T, weights.astype(value.dtype))
        top[...] = raised

    _either(kind, add)

    @pl.when(kind & LAST > 0)
    def end():
        empty = total[...] == 0.0
        found = summed[...] / jnp.where(empty, 1.0, total[...])
        log_total = jnp.where(empty, jnp.inf, top[...] + jnp.log(total[...]))  # backward, exp(logit - inf) is 0
        if ROWS:
            kept = _keeps(t[:1], row_parameters)
            found, log_total, empty = jnp.where(kept, found, 0.0), jnp.where(kept, log_total, jnp.inf), empty & kept
        output[...] = found.T.astype(output.dtype)
        lse[...] = log_total
        if UNIFORM:
            shares[...] = empty.astype(jnp.float32)


def _hidden_kernel(
    rows, columns, kinds, value, tensors, output, total, summed,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys for a block of queries of one head: how many keys are hidden from each, and their mean."""
    b = pl.program_id(0)
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)

    @pl.when(kind & FIRST > 0)
    def begin():
        total[...] = jnp.zeros(total.shape, jnp.float32)
        summed[...] = jnp.zeros(summed.shape, jnp.float32)

    weights = (~_attends(t, s, mask_parameters) & (s < S)).astype(jnp.float32)
    total[...] += weights.sum(0, keepdims=True)
    summed[...] += _dot(value[...].T, weights.astype(value.dtype))

    @pl.when(kind & LAST > 0)
    def end():
        output[...] = (summed[...] / total[...]).T.astype(output.dtype)


def _hidden_gradient_kernel(
    rows, columns, kinds, d_output, shares, tensors, d_value, summed,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head for a block of keys: what those of them give that share their row with hidden keys."""
    b = pl.program_id(0)
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)
    head, heads = pl.program_id(3), pl.num_programs(3)

    @pl.when((kind & FIRST > 0) & (head == 0))
    def begin():
        summed[...] = jnp.zeros(summed.shape, jnp.float32)

    weights = jnp.where(_attends(t, s, mask_parameters), 0.0, shares[...])
    summed[...] += _dot(weights.astype(d_output.dtype), d_output[...])

    @pl.when((kind & LAST > 0) & (head == heads - 1))
    def end():
        d_value[...] = summed[...]


def _query_gradient_kernel(
    rows, columns, kinds, query, key, value, tensors, output, d_output, lse, d_query, delta, summed,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys for a block of queries of one head: the weights are computed again.

    `delta` is of every row the sum of its weights times their gradients, which is that of the output times its own.
    """
    b = pl.program_id(0)
    if HEADS:
        n = pl.program_id(1)
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)

    @pl.when(kind & FIRST > 0)
    def begin():
        summed[...] = jnp.zeros(summed.shape, jnp.float32)
        products = output[...].astype(jnp.float32) * d_output[...].astype(jnp.float32)
        delta[...] = products.T.sum(0, keepdims=True)

    def add(tested):
        product = _dot_rows(key[...], query[...])
        weights = jnp.exp(_logits(product, t, s, logit_parameters) - lse[...])
        if tested:
            weights = jnp.where(_attends(t, s, mask_parameters) & (s < S) & (t < T), weights, 0.0)
        d_weights = _dot_rows(value[...], d_output[...])
        if DROPOUT:
            d_weights = _dropped(d_weights, t, s, dropout_parameters)
        d_logits = weights * (d_weights - delta[...])
        d_product = _d_product(d_logits, product, t, s, logit_parameters)
        summed[...] += _dot(key[...].T, d_product.astype(key.dtype))

    _either(kind, add)

    @pl.when(kind & LAST > 0)
    def end():
        d_query[...] = (summed[...] * FACTOR).T.astype(d_query.dtype)


def _key_gradients_kernel(
    rows, columns, kinds, query, key, value, tensors, d_output, lse, delta, d_key, d_value, summed_keys, summed_values,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of queries of one head for a block of keys, whose sums go through all heads of its group."""
    head, heads = pl.program_id(3), pl.num_programs(3)
    b = pl.program_id(0)
    if HEADS:
        n = pl.program_id(1) * heads + head
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)

    @pl.when((kind & FIRST > 0) & (head == 0))
    def begin():
        summed_keys[...] = jnp.zeros(summed_keys.shape, jnp.float32)
        summed_values[...] = jnp.zeros(summed_values.shape, jnp.float32)

    def add(tested):
        product = _dot_rows(key[...], query[...])
        weights = jnp.exp(_logits(product, t, s, logit_parameters) - lse[...])
        if tested:
            weights = jnp.where(_attends(t, s, mask_parameters) & (s < S) & (t < T), weights, 0.0)
        if DROPOUT:
            shown = _dropped(weights, t, s, dropout_parameters)
            summed_values[...] += _dot(shown.astype(d_output.dtype), d_output[...])
        else:
            summed_values[...] += _dot(weights.astype(d_output.dtype), d_output[...])
        d_weights = _dot_rows(value[...], d_output[...])
        if DROPOUT:
            d_weights = _dropped(d_weights, t, s, dropout_parameters)
        d_logits = weights * (d_weights - delta[...])
        d_product = _d_product(d_logits, product, t, s, logit_parameters)
        summed_keys[...] += _dot(d_product.astype(query.dtype), query[...])

    _either(kind, add)

    @pl.when((kind & LAST > 0) & (head == heads - 1))
    def end():
        d_key[...] = (summed_keys[...] * FACTOR).astype(d_key.dtype)
        d_value[...] = summed_values[...].astype(d_value.dtype)


def _operand_gradient_kernel(
    rows, columns, kinds, query, key, value, tensors, d_output, lse, delta, d_operand, summed,
    *, numbers, T, S, BLOCK_T, BLOCK_S,
):  # fmt: skip
    """One block of keys by queries of one head: what it adds to a gradient that batch rows and heads share."""
    b = pl.program_id(0) * pl.num_programs(3) + pl.program_id(3)
    if HEADS:
        n = pl.program_id(1) * pl.num_programs(4) + pl.program_id(4)
    kind, t, s = _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S)
    head, heads = pl.program_id(3) * pl.num_programs(4) + pl.program_id(4), pl.num_programs(3) * pl.num_programs(4)

    @pl.when((kind & FIRST > 0) & (head == 0))
    def begin():
        summed[...] = jnp.zeros(summed.shape, jnp.float32)

    def add(tested):
        product = _dot_rows(key[...], query[...])
        weights = jnp.exp(_logits(product, t, s, logit_parameters) - lse[...])
        if tested:
            weights = jnp.where(_attends(t, s, mask_parameters) & (s < S) & (t < T), weights, 0.0)
        d_weights = _dot_rows(value[...], d_output[...])
        if DROPOUT:
            d_weights = _dropped(d_weights, t, s, dropout_parameters)
        d_logits = weights * (d_weights - delta[...])
        found = _d_operand(d_logits, product, t, s, logit_parameters)
        for axis, size in enumerate(summed.shape):
            found = found.sum(axis, keepdims=True) if size == 1 else found
        summed[...] += found

    _either(kind, add)

    @pl.when((kind & LAST > 0) & (head == heads - 1))
    def end():
        d_operand[...] = summed[...].T if summed.shape[0] > 1 < summed.shape[1] else _as_row(summed[...])


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


# -- what the kernels share --

FIRST, LAST, SEEN, TESTED = 1, 2, 4, 8  # of a step: its sums begin, its sums end, some query sees some key, not all see all


def _step(b, rows, columns, kinds, BLOCK_T, BLOCK_S):
    """The kind of a step, and the positions of its block of keys by queries."""
    at = (b * (kinds.shape[0] > 1), pl.program_id(2))
    t = rows[at] * BLOCK_T + lax.broadcasted_iota(jnp.int32, (BLOCK_S, BLOCK_T), 1)
    s = columns[at] * BLOCK_S + lax.broadcasted_iota(jnp.int32, (BLOCK_S, BLOCK_T), 0)
    return kinds[at], t, s


def _either(kind, add):
    """Adds what a step sees; `add` is compiled twice: what is seen in full needs no test."""
    pl.when(kind & (SEEN | TESTED) == SEEN)(lambda: add(False))
    pl.when(kind & (SEEN | TESTED) == SEEN | TESTED)(lambda: add(True))


def _dot(a, b):
    """The product of two matrices, summed in float32."""
    return lax.dot(a, b, precision=_precision(a), preferred_element_type=jnp.float32)


def _dot_rows(a, b):
    """The products of every row of a with every row of b."""
    dimensions = (((1,), (1,)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision=_precision(a), preferred_element_type=jnp.float32)


def _precision(a):
    """float32 is multiplied as such, and not in bfloat16, which is what the hardware has."""
    return lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT


def _entry_of_head(tensor, b, n):
    """tensor[b, n], the only row of what all batch rows share."""
    return tensor[b * (tensor.shape[0] > 1), n]


def _square(x):
    return x * x


def _first(origin, b, place):
    """The position of the first query or of the first key: 0, but in a shard."""
    return 0 if origin is None else origin[b, place]


def _column(row):
    """A row as a column."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def _as_row(sums):
    """A column as a row, and a row as it is."""
    return sums if sums.shape[0] == 1 else jnp.broadcast_to(sums, (sums.shape[0], LANES)).T[:1]


def _entries_of_pairs(tensor, t, s, T, S):
    """tensor[t, s] of a tile, 0 beyond its ends; along an axis that it is broadcast over, its only entry."""
    entries = tensor[...].astype(jnp.int32 if tensor.dtype == jnp.int8 else jnp.float32)
    if entries.ndim == 3:
        entries = entries[0]  # a row already
    elif entries.shape[1] > 1:
        entries = _column(entries) if entries.shape[0] == 1 else entries.T
    entries = jnp.where((t < T) & (s < S), entries, 0)
    return entries > 0 if tensor.dtype == jnp.int8 else entries


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


# -- which blocks are visited --


def _meets(low, high, first, stop, already, BLOCK):
    """Whether the block at `low` holds some of `first <= position < stop`, or did `already`; and up to where that is so."""
    begun = first < low + BLOCK
    inside = begun & (low < stop) & (first < stop)
    change = jnp.where(inside, stop + (BLOCK - 1), jnp.where(begun, high, first))
    return already | inside, jnp.minimum(high, change)


def _meets_where(test, low, high, first, stop, already, BLOCK):
    """The same of this block alone, where it passes a test of its own."""
    inside, high = _meets(low, high, first, stop, False, BLOCK)
    return already | (inside & test), jnp.minimum(high, low + BLOCK)


def _lowest(tensor, b, first, stop, BLOCK):
    """The least of tensor[b, first : stop]."""
    return tensor[b, jnp.minimum(first + jnp.arange(BLOCK), stop - 1)].min()


def _highest(tensor, b, first, stop, BLOCK):
    """The greatest of tensor[b, first : stop]."""
    return tensor[b, jnp.minimum(first + jnp.arange(BLOCK), stop - 1)].max()


def _steps(B: int, T: int, S: int, blocks: tuple[int, int], by: str, given: Any) -> tuple[list[Any], Any]:
    """The steps of a kernel, as its scalars, and how many there are: of a batch row, where a tensor decides, the most."""
    if LOOKED_UP:
        looked_up = (None, block_tensors)
        if any(isinstance(each, Array) for each in looked_up):
            *steps, count = _listed((B, T, S), blocks, by, given)
            return steps, count
    return _known_steps(T, S, blocks, by, known)


@functools.cache
def _known_steps(T: int, S: int, blocks: tuple[int, int], by: str, given: Any) -> tuple[list[Any], int]:
    """The same of numbers alone: compiled and run at once, whatever is being traced."""
    listed = jax.jit(lambda: _listed((1, T, S), blocks, by, given)).lower().compile()
    *steps, count = jax.device_get(listed())
    return [each[:, :count] for each in steps], int(count)


def _listed(sizes: tuple[int, int, int], blocks: tuple[int, int], by: str, given: Any) -> tuple[Array, ...]:
    """The blocks that each block of a result is made of, one after another; where it is of none, one that writes zeros."""
    seen, hidden = _looks(*sizes, *blocks, given)
    if UNIFORM:
        seen = hidden | ~seen if by.startswith("hidden") else seen
    if by.endswith("columns"):
        seen, hidden = seen.mT, hidden.mT
    if OPERANDS:
        across = seen.shape[2]
        if by == "blocks":
            seen, hidden = (each.reshape(each.shape[0], -1, 1) for each in (seen, hidden))
    batches, _, others = seen.shape
    visited = (seen | (~seen.any(2, keepdims=True) & (jnp.arange(others) == 0))).reshape(batches, -1)
    counts, place = visited.sum(1, keepdims=True), jnp.arange(visited.shape[1])
    found = jnp.argsort(~visited, axis=1, stable=True)  # the visited ones first, in their order
    found = jnp.take_along_axis(found, jnp.minimum(place, counts - 1), 1)  # where a batch row has fewer, its last again
    owner, other = found // others, found % others
    edges = jnp.diff(jnp.where(place < counts, owner, -1), axis=1, prepend=-1, append=-1) != 0
    kinds = jnp.take_along_axis((SEEN * seen + TESTED * hidden).reshape(batches, -1), found, 1)
    kinds = jnp.where(place < counts, kinds + FIRST * edges[:, :-1] + LAST * edges[:, 1:], 0)
    rows, columns = (other, owner) if by.endswith("columns") else (owner, other)
    if OPERANDS:
        rows, columns = (owner // across, owner % across) if by == "blocks" else (rows, columns)
    return rows.astype(jnp.int32), columns.astype(jnp.int32), kinds.astype(jnp.int32), counts.max()


def _looks(B: int, T: int, S: int, BLOCK_T: int, BLOCK_S: int, given: Any) -> tuple[Array, Array]:
    """Of every block of queries and keys whether some query sees some key, and whether some is hidden from some."""

    def block(b: Any, start: Any, low: Any) -> tuple[Array, Array]:
        _, seen, hidden = _run_of_keys(low, start, jnp.minimum(start + BLOCK_T, T), T, S, block_parameters, BLOCK_S)
        return seen, hidden | (start + BLOCK_T > T)

    for axis in ((None, None, 0), (None, 0, None), (0, None, None)):
        block = jax.vmap(block, axis)
    every: tuple[Array, Array] = block(*(jnp.arange(0, end, size) for end, size in ((B, 1), (T, BLOCK_T), (S, BLOCK_S))))
    return every


# -- launches --

INTERPRET = os.environ.get("PALLAS_INTERPRET") == "1"  # kernels as programs of any device: very slow, and to be checked

LANES = 128  # what head dims are filled up to

LAUNCHES = {  # of a kernel, its blocks of queries and of keys; never timed
    "forward": (512, 512),
    "query_gradient": (512, 512),
    "key_gradients": (512, 512),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=NUMBERS)
def _attention(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array, Shares]:
    """The output; and of every row the logarithm of the sum of its exponentials, for the backward pass."""
    return _forward(query, key, value, given)


def _forward(query: Array, key: Array, value: Array, given: Any) -> tuple[Array, Array, Shares]:
    """One kernel, over blocks of queries."""
    (B, T, N, H), (S, K, V) = query.shape, value.shape[1:]
    if 0 in (B, T, N, S, V):
        return _nothing(query, value)
    BLOCK_T, BLOCK_S = blocks = _launch("forward", query, value)
    steps, count = _steps(B, T, S, blocks, "rows", given)
    place = functools.partial(_of_query_head, N // K)
    length, width = _up(T, BLOCK_T), _up(V, LANES)
    rows: Any = jax.ShapeDtypeStruct((B, N, 1, length), jnp.float32)
    of_row = _per_query(place, BLOCK_T)
    if UNIFORM:
        shares, of_shares = rows, of_row
    output, lse, shares = pl.pallas_call(
        functools.partial(_forward_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
        (jax.ShapeDtypeStruct((B, length, N * width), query.dtype), rows, shares),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(B, N, count),
            in_specs=[_queries(place, BLOCK_T, H), _keys(place, BLOCK_S, H), _keys(place, BLOCK_S, V), tensor_specs],
            out_specs=(_queries(place, BLOCK_T, V), of_row, of_shares),
            scratch_shapes=[_sums(1, BLOCK_T), _sums(1, BLOCK_T), _sums(width, BLOCK_T)],
        ),
        **_options(3),
    )(*steps, _flat(query, BLOCK_T), _flat(key, BLOCK_S), _flat(value, BLOCK_S), laid_out)
    output, lse = _heads(output, T, N, V), lse[..., :T]
    if UNIFORM:
        output, lse, shares = _with_hidden(query, value, output, lse, shares[..., :T], given)
    return output, lse, shares


def _nothing(query: Array, value: Array) -> tuple[Array, Array, Shares]:
    """What rows are without keys."""
    (B, T, N, _), V = query.shape, value.shape[3]
    lse = jnp.full((B, N, 1, T), jnp.inf, jnp.float32)
    if UNIFORM:
        shares = jnp.zeros(lse.shape, jnp.float32)
    return jnp.zeros((B, T, N, V), query.dtype), lse, shares


def _with_hidden(
    query: Array, value: Array, output: Array, lse: Array, shares: Array, given: Any
) -> tuple[Array, Array, Array]:
    """The same with the rows that see nothing: hidden keys share them. One more kernel, where there are such rows."""
    (B, T, N, _), (S, K, V) = query.shape, value.shape[1:]
    BLOCK_T, BLOCK_S = blocks = _launch("forward", query, value)
    steps, count = _steps(B, T, S, blocks, "hidden rows", given)
    place = functools.partial(_of_query_head, N // K)
    length, width = _up(T, BLOCK_T), _up(V, LANES)

    def visited() -> tuple[Array, Array, Array]:
        mean, total = pl.pallas_call(
            functools.partial(_hidden_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
            (
                jax.ShapeDtypeStruct((B, length, N * width), output.dtype),
                jax.ShapeDtypeStruct((B, N, 1, length), jnp.float32),
            ),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=3,
                grid=(B, N, count),
                in_specs=[_keys(place, BLOCK_S, V), tensor_specs],
                out_specs=(_queries(place, BLOCK_T, V), _per_query(place, BLOCK_T)),
                scratch_shapes=[_sums(width, BLOCK_T)],
            ),
            **_options(3),
        )(*steps, _flat(value, BLOCK_S), laid_out)
        spread, hidden = shares > 0, total[..., :T]
        found = jnp.where(spread.transpose(0, 3, 1, 2), _heads(mean, T, N, V), output)
        log_total = jnp.where(spread & (hidden == 0.0), jnp.nan, lse)  # it sees all keys, and their logits are -inf
        return found, log_total, jnp.where(spread, 1.0 / hidden, 0.0)

    found: tuple[Array, Array, Array] = lax.cond((shares > 0).any(), visited, lambda: (output, lse, shares))
    return found


def _saved(query: Array, key: Array, value: Array, given: Any) -> tuple[tuple[Array, Array, Shares], tuple[Any, ...]]:
    output, lse, shares = _forward(query, key, value, given)
    return (output, lse, shares), (query, key, value, tensors, output, lse, shares)


def _gradients(numbers: Any, saved: tuple[Any, ...], d_outputs: tuple[Array, ...]) -> tuple[Array | None, ...]:
    """Gradients of query, key and value: one kernel goes over queries and one over keys, so that nothing is added twice."""
    (query, key, value, tensors, output, lse, shares), d_output = saved, d_outputs[0]
    if 0 in (*query.shape, *value.shape):
        return tuple(map(_zeros, (query, key, value, tensors)))
    d_query, delta = _query_gradient(query, key, value, output, d_output, lse, given)
    d_key, d_value = _key_gradients(query, key, value, d_output, lse, delta, given)
    if UNIFORM:
        d_value = _with_hidden_gradient(query, value, d_output, shares, d_value, given).astype(value.dtype)
    return d_query, d_key, d_value, tensor_gradients


def _query_gradient(
    query: Array, key: Array, value: Array, output: Array, d_output: Array, lse: Array, given: Any
) -> tuple[Array, Array]:
    """One kernel, over blocks of queries; and what the other one needs of every row."""
    (B, T, N, H), (S, K, V) = query.shape, value.shape[1:]
    BLOCK_T, BLOCK_S = blocks = _launch("query_gradient", query, value)
    steps, count = _steps(B, T, S, blocks, "rows", given)
    place = functools.partial(_of_query_head, N // K)
    queries = _flat(query, BLOCK_T)
    rows: Any = jax.ShapeDtypeStruct((B, N, 1, queries.shape[1]), jnp.float32)
    d_query, delta = pl.pallas_call(
        functools.partial(_query_gradient_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
        (jax.ShapeDtypeStruct(queries.shape, query.dtype), rows),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(B, N, count),
            in_specs=[
                _queries(place, BLOCK_T, H), _keys(place, BLOCK_S, H), _keys(place, BLOCK_S, V), tensor_specs,
                _queries(place, BLOCK_T, V), _queries(place, BLOCK_T, V), _per_query(place, BLOCK_T),
            ],
            out_specs=(_queries(place, BLOCK_T, H), _per_query(place, BLOCK_T)),
            scratch_shapes=[_sums(_up(H, LANES), BLOCK_T)],
        ),
        **_options(3),
    )(
        *steps, queries, _flat(key, BLOCK_S), _flat(value, BLOCK_S), laid_out,
        _flat(output, BLOCK_T), _flat(d_output, BLOCK_T), _filled(lse, BLOCK_T),
    )  # fmt: skip
    return _heads(d_query, T, N, H), delta[..., :T]


def _key_gradients(
    query: Array, key: Array, value: Array, d_output: Array, lse: Array, delta: Array, given: Any
) -> tuple[Array, Array]:
    """One kernel, over blocks of keys."""
    (B, T, N, H), (S, K, V) = query.shape, value.shape[1:]
    BLOCK_T, BLOCK_S = blocks = _launch("key_gradients", query, value)
    steps, count = _steps(B, T, S, blocks, "columns", given)
    place = functools.partial(_of_key_head, N // K)
    keys, values = _flat(key, BLOCK_S), _flat(value, BLOCK_S)
    of_value = value.dtype
    if UNIFORM:
        of_value = jnp.dtype(jnp.float32)  # there may be more to add
    d_key, d_value = pl.pallas_call(
        functools.partial(_key_gradients_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
        (jax.ShapeDtypeStruct(keys.shape, key.dtype), jax.ShapeDtypeStruct(values.shape, of_value)),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(B, K, count, N // K),
            in_specs=[
                _queries(place, BLOCK_T, H), _keys(place, BLOCK_S, H), _keys(place, BLOCK_S, V), tensor_specs,
                _queries(place, BLOCK_T, V), _per_query(place, BLOCK_T), _per_query(place, BLOCK_T),
            ],
            out_specs=(_keys(place, BLOCK_S, H), _keys(place, BLOCK_S, V)),
            scratch_shapes=[_sums(BLOCK_S, _up(H, LANES)), _sums(BLOCK_S, _up(V, LANES))],
        ),
        **_options(4),
    )(
        *steps, _flat(query, BLOCK_T), keys, values, laid_out,
        _flat(d_output, BLOCK_T), _filled(lse, BLOCK_T), _filled(delta, BLOCK_T),
    )  # fmt: skip
    return _heads(d_key, S, K, H), _heads(d_value, S, K, V)


def _with_hidden_gradient(query: Array, value: Array, d_output: Array, shares: Array, d_value: Array, given: Any) -> Array:
    """The gradient of values with what rows give that see nothing: one more kernel, where there are such rows."""
    (B, T, N, _), (S, K, V) = query.shape, value.shape[1:]
    BLOCK_T, BLOCK_S = blocks = _launch("key_gradients", query, value)
    steps, count = _steps(B, T, S, blocks, "hidden columns", given)
    place = functools.partial(_of_key_head, N // K)

    def visited() -> Array:
        more = pl.pallas_call(
            functools.partial(_hidden_gradient_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
            jax.ShapeDtypeStruct((B, _up(S, BLOCK_S), K * _up(V, LANES)), jnp.float32),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=3,
                grid=(B, K, count, N // K),
                in_specs=[_queries(place, BLOCK_T, V), _per_query(place, BLOCK_T), tensor_specs],
                out_specs=_keys(place, BLOCK_S, V),
                scratch_shapes=[_sums(BLOCK_S, _up(V, LANES))],
            ),
            **_options(4),
        )(*steps, _flat(d_output, BLOCK_T), _filled(shares, BLOCK_T), laid_out)
        return d_value + _heads(more, S, K, V)

    found: Array = lax.cond((shares > 0).any(), visited, lambda: d_value)
    return found


def _operand_gradient(
    query: Array, key: Array, value: Array, output: Array, lse: Array, d_output: Array, given: Any
) -> Array | None:
    """The gradient of `operand`: blocks of T by S where it has both axes, else sums of rows or of columns for every head."""
    if operand is None or not jnp.issubdtype(operand.dtype, jnp.floating):
        return None
    (B, T, N, H), (S, K, V) = query.shape, value.shape[1:]
    has_queries, has_keys = operand.shape[2] == T > 1, operand.shape[3] == S > 1
    by = "blocks" if has_queries and has_keys else "columns" if has_keys else "rows"
    shape = operand.shape if by == "blocks" else (B, N, 1, S if has_keys else T)
    BLOCK_T, BLOCK_S = blocks = _launch("query_gradient", query, value)
    steps, count = _steps(B, T, S, blocks, by, given)
    rows, columns = 1 if by == "columns" else BLOCK_T, 1 if by == "rows" else BLOCK_S
    batches, heads = B // shape[0], N // shape[1]
    place = functools.partial(_of_every_head, N // K, batches, heads)
    d_operand = pl.pallas_call(
        functools.partial(_operand_gradient_kernel, named_numbers, T=T, S=S, BLOCK_T=BLOCK_T, BLOCK_S=BLOCK_S),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(*shape[:2], count, batches, heads),
            in_specs=[
                _queries(place, BLOCK_T, H), _keys(place, BLOCK_S, H), _keys(place, BLOCK_S, V), tensor_specs,
                _queries(place, BLOCK_T, V), _per_query(place, BLOCK_T), _per_query(place, BLOCK_T),
            ],
            out_specs=_of_result(place, batches, heads, rows, columns),
            scratch_shapes=[_sums(columns, rows)],
        ),
        **_options(5),
    )(
        *steps, _flat(query, BLOCK_T), _flat(key, BLOCK_S), _flat(value, BLOCK_S), laid_out,
        _flat(d_output, BLOCK_T), _filled(lse, BLOCK_T), _filled(_delta(output, d_output), BLOCK_T),
    )  # fmt: skip
    found: Array = d_operand if has_keys else d_operand.mT
    axes = tuple(axis for axis, size in enumerate(operand.shape) if size < found.shape[axis])
    return found.sum(axes, keepdims=True).astype(operand.dtype)


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
    return (output.astype(jnp.float32) * d_output.astype(jnp.float32)).sum(-1).transpose(0, 2, 1)[:, :, None]


def _sink_gradient(sink: Array, output: Array, lse: Array, d_output: Array) -> Array:
    """Its weight in a row times what that takes from the others: the weights of a row add up to less by it."""
    weights = jnp.exp(sink.astype(jnp.float32) - lse)
    found = -(weights * _delta(output, d_output)).sum(3, keepdims=True)
    axes = tuple(axis for axis, size in enumerate(sink.shape) if size < found.shape[axis])
    return found.sum(axes, keepdims=True).astype(sink.dtype)


def _exponential(lse: Array) -> Array:
    """Of what is kept of a row."""
    return jnp.exp(lse)


def _logarithm(total: Array) -> Array:
    """What would be kept of it."""
    return jnp.log(total)


def _log_sum_exp(lse: Array, shares: Array) -> Array:
    """The logarithm of the sum of a row's exponentials."""
    found = jnp.where(lse == jnp.inf, -jnp.inf, lse)
    if UNIFORM:
        hidden = -0.7 * jnp.finfo(jnp.float32).max  # the logit of a hidden key, which no number of keys changes
        found = jnp.where((lse == jnp.inf) | (shares > 0), hidden, found)
        found = jnp.where(shares == jnp.inf, -jnp.inf, found)
    return lax.stop_gradient(found[:, :, 0])


# -- what a step has --


def _of_query_head(G, b, n, i, rows, columns, kinds):
    """Batch row, head of the queries and of the keys, block of queries and block of keys of a step."""
    at = (b * (kinds.shape[0] > 1), i)
    return b, n, lax.div(n, jnp.int32(G)), rows[at], columns[at]


def _of_key_head(G, b, k, i, head, rows, columns, kinds):
    """The same where a step has one head of a group."""
    at = (b * (kinds.shape[0] > 1), i)
    return b, k * G + head, k, rows[at], columns[at]


def _of_every_head(G, batches, heads, b, n, i, batch, head, rows, columns, kinds):
    """The same where a step has one of the batch rows and one of the heads that a block of a result is made of."""
    b, n = b * batches + batch, n * heads + head
    at = (b * (kinds.shape[0] > 1), i)
    return b, n, lax.div(n, jnp.int32(G)), rows[at], columns[at]


def _queries(place, BLOCK_T, width):
    """A block of queries of a head, or of what has their shape."""

    def at(*step):
        b, n, _, row, _ = place(*step)
        return b, row, n

    return pl.BlockSpec((None, BLOCK_T, _up(width, LANES)), at)


def _keys(place, BLOCK_S, width):
    """A block of keys of a head, or of what has their shape."""

    def at(*step):
        b, _, k, _, column = place(*step)
        return b, column, k

    return pl.BlockSpec((None, BLOCK_S, _up(width, LANES)), at)


def _per_query(place, BLOCK_T):
    """A number for each query of a block of a head."""

    def at(*step):
        b, n, _, row, _ = place(*step)
        return b, n, 0, row

    return pl.BlockSpec((None, None, 1, BLOCK_T), at)


def _row_of_queries(place, array, BLOCK_T):
    """What a block of queries looks up, as a row."""

    def at(*step):
        b, _, _, row, _ = place(*step)
        return b, 0, row

    return None if array is None else pl.BlockSpec((None, 1, BLOCK_T), at)


def _row_of_keys(place, array, BLOCK_S):
    """What a block of keys looks up, as a row."""

    def at(*step):
        b, _, _, _, column = place(*step)
        return b, 0, column

    return None if array is None else pl.BlockSpec((None, 1, BLOCK_S), at)


def _of_pairs(place, array, BLOCK_T, BLOCK_S):
    """The entries of a block of queries and keys, as `_pairs` lays them out."""
    if array is None:
        return None
    B, N, T, S = (size > 1 for size in array.shape)

    def at(*step):
        b, n, _, row, column = place(*step)
        return (b * B, n * N, 0, 0, row) if T and not S else (b * B, n * N, row * T, column * S)

    block = (1, 1, BLOCK_T) if T and not S else (BLOCK_T if T else 1, BLOCK_S if S else 1)
    return pl.BlockSpec((None, None, *block), at)


def _pairs(array: Array | None) -> Array | None:
    """(B|1, N|1, T|1, S|1), truth values in bytes; what queries have alone lies along the lanes, behind one more axis."""
    if array is None:
        return None
    array = array.astype({jnp.bool_: jnp.int8, jnp.float16: jnp.float32}.get(array.dtype.type, array.dtype))
    return array.mT[:, :, None] if array.shape[2] > 1 == array.shape[3] else array


def _shape_of(array: Array | None) -> jax.ShapeDtypeStruct | None:
    """What is known of a tensor when a kernel is traced."""
    return None if array is None else jax.ShapeDtypeStruct(array.shape, array.dtype)


def _of_result(place, batches, heads, rows, columns):
    """A block of the gradient of what pairs read."""

    def at(*step):
        b, n, _, row, column = place(*step)
        b, n = lax.div(b, jnp.int32(batches)), lax.div(n, jnp.int32(heads))
        return (b, n, row, column) if rows > 1 < columns else (b, n, 0, column if columns > 1 else row)

    return pl.BlockSpec((None, None, rows, columns) if columns > 1 else (None, None, 1, rows), at)


def _of_heads(array: Array | None) -> Array | None:
    """(B|1, N, 1, 1) as scalars, which are in 32 bits."""
    if array is None:
        return None
    return array[:, :, 0, 0].astype(jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32)


def _scalars(array):
    """All of an array of numbers, as scalars."""
    return None if array is None else pl.BlockSpec(memory_space=pltpu.SMEM)


def _row(array: Array | None) -> Array | None:
    """(B, T) or (B, S), a row for each batch row."""
    return None if array is None else array[:, None].astype(jnp.int32)


def _sums(*shape: int) -> Any:
    """What is added up from step to step."""
    return pltpu.VMEM(shape, jnp.float32)


def _flat(tensor: Array, BLOCK: int) -> Array:
    """(B, T, N, H) as (B, T, N * H): a head is a column of blocks. Zeros fill up whole blocks."""
    B, T, N, H = tensor.shape
    return jnp.pad(tensor, ((0, 0), (0, -T % BLOCK), (0, 0), (0, -H % LANES))).reshape(B, _up(T, BLOCK), N * _up(H, LANES))


def _heads(tensor: Array, T: int, N: int, H: int) -> Array:
    """Such a tensor as it was."""
    return tensor.reshape(*tensor.shape[:2], N, -1)[:, :T, :, :H]


def _filled(row: Array, BLOCK: int) -> Array:
    """A number for each query, and zeros up to a whole block."""
    return jnp.pad(row, ((0, 0), (0, 0), (0, 0), (0, -row.shape[3] % BLOCK)))


def _up(size: int, block: int) -> int:
    """The next multiple."""
    return -(-size // block) * block


def _options(axes: int) -> dict[str, Any]:
    """Batch rows and heads come in any order, the steps of each one after another.

    Interpreted, memory is NaN until it is written, reads beyond an end raise, and races are found.
    """
    if INTERPRET:  # without an order: jax 0.10 forgets there that vmap adds an axis
        return {"interpret": pltpu.InterpretParams(detect_races=True)}
    order = (pltpu.PARALLEL, pltpu.PARALLEL, *(pltpu.ARBITRARY,) * (axes - 2))
    return {"compiler_params": pltpu.CompilerParams(dimension_semantics=order)}


def _launch(kernel: str, query: Array, value: Array) -> tuple[int, int]:
    """Its blocks of queries and of keys. Raises NotImplementedError, with the reason, where none can run."""
    H, V = query.shape[3], value.shape[3]
    if query.dtype not in (jnp.bfloat16, jnp.float32):
        raise NotImplementedError(f"pallas_tpu: {query.dtype} is not supported; bfloat16 and float32 are")
    if jnp.result_type(float) == jnp.float64:
        raise NotImplementedError("pallas_tpu: jax_enable_x64 is not supported")
    if not 0 < max(H, V) <= 256 or H == 0:
        raise NotImplementedError(f"pallas_tpu: head dims {H} and {V} are not supported; 1 to 256 are")
    BLOCK_T, BLOCK_S = LAUNCHES[kernel]
    return min(BLOCK_T, _up(query.shape[1], LANES)), min(BLOCK_S, _up(value.shape[1], LANES))
