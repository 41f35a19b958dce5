"""Helpers that blockwise Keras files carry: the loops over blocks, with heads in front, and their derivative.

Where operations run one by one, a block of queries takes all the keys that some of them see, and its softmax is that of whole
rows. Where a program is traced it is a loop over tiles of one shape, which jax and XLA can compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keras import ops

from attnspec.codegen.support.keras import _INTEGER, Tensor, _concrete, _dtype, _shape, _softmax

# What hidden logits are: beside others as good as -inf, and a row of it alone still has a softmax.
_LOWEST = -3.4028234663852886e38


class _Stages(NamedTuple):
    """The attention on blocks of queries and keys, (B, N, T, H)."""

    # (rows, columns): for every block of queries, which blocks of keys some of them see
    visible: Callable[..., Tensor]
    # (query_block, key_block, t, s): masked logits; hidden ones are the least number of float32
    logits: Callable[..., Tensor]
    # (weights, value_block): their product
    output: Callable[..., Tensor]
    # (query_block, key_block, value_block, d_output, t, s, weigh, mean): gradients of these blocks
    gradients: Callable[..., tuple[Tensor, ...]]


def _by_blocks(stages: _Stages, size: int, query: Tensor, key: Tensor, value: Tensor, **numbers: Any) -> Tensor:
    """The loops as one step with a derivative of its own, which keeps nothing of T times S; by numbers it has none."""
    if not all(_concrete(size) or ops.is_tensor(size) for size in (*_shape(query), *_shape(key))):
        return _whole(stages, query, key, value)  # symbols of jax's, for which a graph of Keras or an export holds a place
    loops: Any = (_tiles, _gradients_of_tiles) if _is_traced() else (_rows, _gradients_of_rows)
    forward, backward = loops
    watched = [_without(f"derivative by `{name}`", number) for name, number in numbers.items() if ops.is_tensor(number)]

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def attend(*given: Tensor) -> tuple[Tensor, Callable[..., tuple[Tensor, ...]]]:
        # An eager tape of TensorFlow's would keep every turn of the loops.
        output, *kept = forward(stages, size, *map(ops.stop_gradient, given[:3]))

        def pulled_back(*at: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, ...]:
            """On torch the gradient that comes in has a name, and what was given is given again."""
            inputs, d_output = (given[:3], at[0]) if upstream is None else (at[:3], upstream)
            return (*backward(stages, size, *inputs, d_output, *kept), *map(ops.zeros_like, watched))

        return output, pulled_back

    return attend(query, key, value, *watched)


def _is_traced() -> bool:
    """Whether what runs now is a program for later: what has its values already has `numpy`, but for jax, which compiles it."""
    return not hasattr(ops.zeros(()), "numpy")


def _without(derivative: str, tensor: Tensor) -> Tensor:
    """What a derivative cannot be by: asking for it is an error, and not 0."""

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def guarded(value: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        def refused(*_: Tensor, **__: Tensor) -> Tensor:
            raise NotImplementedError(f"keras: the blockwise form has no {derivative}; the direct form has")

        return value * 1, refused

    return guarded(tensor)


def _within_reach(number: Any) -> Any:
    """An integer that positions are compared with, near enough to them that sums fit into 32 bits."""
    return max(-(2**29), min(number, 2**29)) if _concrete(number) else ops.clip(number, -(2**29), 2**29)


def _entries(entries: Tensor, positions: Tensor) -> Tensor:
    """The entries at positions, (B, T); 0 beyond the end, where no query and no key is."""
    return ops.take(ops.pad(entries, ((0, 0), (0, 1))), ops.minimum(positions, _shape(entries)[1]), axis=1)


def _extremes(entries: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest entry of every block of the last axis, over all rows; the last is filled up with its own."""
    B, T = _shape(entries)
    blocks = _count(T, size)
    if 0 in (B, T):
        none = _filled(0, entries.dtype, blocks)
        return none, none
    positions = ops.minimum(ops.arange(blocks * size, dtype=_INTEGER), T - 1)
    pieces = ops.reshape(ops.take(entries, positions, axis=1), (B, blocks, size))
    return ops.min(pieces, axis=(0, 2)), ops.max(pieces, axis=(0, 2))


def _filled(number: Any, dtype: Any, *sizes: Any) -> Tensor:
    """A tensor of one number; TensorFlow takes sizes of one dtype alone."""
    shape = sizes if _concrete(*sizes) else ops.stack([ops.cast(size, _INTEGER) for size in sizes])
    return ops.full(shape, number, dtype=dtype)


def _count(length: Any, size: Any) -> Any:
    """How many blocks a length has; one at least."""
    blocks = -(-length // size)
    return max(1, blocks) if _concrete(blocks) else ops.maximum(blocks, 1)


def _starts(length: Any, size: Any) -> Tensor:
    """Where blocks begin."""
    return ops.arange(_count(length, size), dtype=_INTEGER) * size


def _whole(stages: _Stages, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The output with everything in one block."""
    t, s = (ops.arange(_shape(each)[2], dtype=_INTEGER) for each in (query, key))
    return _output_of_rows(stages, query, key, value, t, s)


def _output_of_rows(stages: _Stages, query: Tensor, key: Tensor, value: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The output of a block of queries and all keys that they visit."""
    weights, empty = _softmax_and_empty(stages.logits(query, key, t, s))
    output = ops.cast(stages.output(weights, value), query.dtype)
    # policy.empty_row: zero
    return ops.where(empty, ops.zeros_like(output), output)


def _softmax_and_empty(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax of every row, and whether all of the row is hidden: then it says nothing."""
    if 0 in _shape(logits):
        return logits, ops.ones((*_shape(logits)[:-1], 1), "bool")
    return _softmax(logits), ops.max(logits, axis=-1, keepdims=True) <= _LOWEST


# -- whole rows: operations run one by one, so that sizes may differ from turn to turn -----------------------------------

_Run = tuple[int, int]


def _rows(stages: _Stages, size: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor]:
    """The output."""
    parts = [
        _output_of_rows(stages, query[:, :, start : start + size], _taken(key, runs), _taken(value, runs), t, s)
        for start, t, s, runs in _turns(stages, size, query, key)
    ]
    return (ops.concatenate(parts, axis=2),)


def _gradients_of_rows(
    stages: _Stages, size: int, query: Tensor, key: Tensor, value: Tensor, d_output: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of query, key and value; the weights are computed again, from the inputs alone, as second derivatives need."""

    def weigh(logits: Tensor, d_output: Tensor) -> tuple[Tensor, Tensor]:
        weights, empty = _softmax_and_empty(logits)
        return weights, ops.where(empty, ops.zeros_like(d_output), d_output)

    def mean(weights: Tensor, d_weights: Tensor) -> Tensor:
        return ops.sum(weights * d_weights, axis=-1, keepdims=True)

    d_queries, d_keys, d_values = [], _zeros(key, size), _zeros(value, size)
    for start, t, s, runs in _turns(stages, size, query, key):
        block = query[:, :, start : start + size], _taken(key, runs), _taken(value, runs)
        change = ops.cast(d_output[:, :, start : start + size], d_keys[0].dtype)
        d_query, d_key, d_value = stages.gradients(*block, change, t, s, weigh, mean)
        d_queries.append(d_query)
        _add(d_keys, size, runs, d_key)
        _add(d_values, size, runs, d_value)
    return tuple(ops.cast(ops.concatenate(parts, axis=2), query.dtype) for parts in (d_queries, d_keys, d_values))


def _turns(stages: _Stages, size: int, query: Tensor, key: Tensor) -> Iterator[tuple[int, Tensor, Tensor, list[_Run]]]:
    """Block by block: the first query, the positions of queries and of the keys that they visit, and these as ranges."""
    T, S = _shape(query)[2], _shape(key)[2]
    for at, seen in enumerate(ops.convert_to_numpy(stages.visible(size, size)).tolist()):
        start, runs = at * size, _runs(seen, size, S)
        s = _joined_runs([ops.arange(low, high, dtype=_INTEGER) for low, high in runs], axis=0)
        yield start, ops.arange(start, min(start + size, T), dtype=_INTEGER), s, runs


def _runs(seen: list[bool], size: int, length: int) -> list[_Run]:
    """The blocks that are seen, as ranges of keys; one at least."""
    runs: list[_Run] = []
    for low in (size * at for at, each in enumerate(seen) if each):
        first = runs.pop()[0] if runs and runs[-1][1] == low else low
        runs.append((first, min(low + size, length)))
    return runs or [(0, 0)]


def _taken(tensor: Tensor, runs: list[_Run]) -> Tensor:
    """The part of a tensor at the keys of the runs."""
    return _joined_runs([tensor[:, :, low:high] for low, high in runs], axis=2)


def _joined_runs(parts: list[Tensor], axis: int) -> Tensor:
    """One part is taken as it is."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=axis)


def _zeros(tensor: Tensor, size: int) -> list[Tensor]:
    """Zeros for the blocks of a tensor, in the dtype of sums."""
    B, N, S, H = _shape(tensor)
    compute = "float64" if _dtype(tensor) == "float64" else "float32"
    return [ops.zeros((B, N, min(size, S - low), H), compute) for low in range(0, S or 1, size)]


def _add(totals: list[Tensor], size: int, runs: list[_Run], part: Tensor) -> None:
    """Add the columns of the runs to the blocks that they were taken from."""
    column = 0
    for low in (low for first, last in runs for low in range(first, last, size)):
        width = _shape(totals[low // size])[2]
        totals[low // size] = totals[low // size] + part[:, :, column : column + width]
        column += width


# -- tiles: one program for all turns, whose softmax is kept as a running peak and total ---------------------------------


def _tiles(stages: _Stages, size: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The output; then in blocks again, with the log-sum-exp of every row, 0 where it is empty."""
    tiles = _Tiles(stages, size, query, key, value)

    def of_queries(i: Any, made: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        query_block = tiles.queries[i]

        def add_keys(j: Any, carried: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (peak, total, attended), (at, t, s) = carried, tiles.positions(i, j)
            logits = tiles.inside(stages.logits(query_block, tiles.keys[at], t, s), t, s)
            new_peak = ops.maximum(peak, ops.max(logits, axis=-1, keepdims=True))
            weights, shrink = ops.exp(logits - new_peak), ops.exp(peak - new_peak)
            total = total * shrink + ops.sum(weights, axis=-1, keepdims=True)
            return new_peak, total, attended * shrink + stages.output(weights, tiles.values[at])

        none = _filled(0, tiles.compute, *_shape(query)[:2], tiles.rows, 1)
        attended = _filled(0, tiles.compute, *_shape(query)[:2], tiles.rows, _shape(value)[3])
        peak, total, attended = ops.fori_loop(0, tiles.counts[i], add_keys, (none + _LOWEST, none, attended))
        # policy.empty_row: zero
        empty = peak <= _LOWEST
        total = ops.where(empty, ops.ones_like(total), total)
        output = ops.where(empty, ops.zeros_like(attended), attended / total)
        residual = ops.where(empty, none, peak + ops.log(total))
        return _put(made[0], i, ops.cast(output, query.dtype)), _put(made[1], i, residual)

    B, N, T, _ = _shape(query)
    outputs = _filled(0, query.dtype, tiles.count, B, N, tiles.rows, _shape(value)[3])
    residuals = _filled(0, tiles.compute, tiles.count, B, N, tiles.rows, 1)
    outputs, residuals = ops.fori_loop(0, tiles.count, of_queries, (outputs, residuals))
    return _joined(outputs, T), outputs, residuals


def _gradients_of_tiles(
    stages: _Stages,
    size: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    d_output: Tensor,
    outputs: Tensor,
    residuals: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of query, key and value; the weights are computed again, tile by tile."""
    tiles = _Tiles(stages, size, query, key, value)
    d_outputs = _in_blocks(d_output, tiles.rows)

    def of_queries(i: Any, totals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        query_block, residual, change = tiles.queries[i], residuals[i], ops.cast(d_outputs[i], tiles.compute)
        # The gradient of a row of weights has this mean under them.
        mean = ops.sum(change * ops.cast(outputs[i], tiles.compute), axis=-1, keepdims=True)

        def add_keys(j: Any, totals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            at, t, s = tiles.positions(i, j)

            def weigh(logits: Tensor, d_output: Tensor) -> tuple[Tensor, Tensor]:
                return ops.exp(tiles.inside(logits, t, s) - residual), d_output

            blocks = query_block, tiles.keys[at], tiles.values[at]
            found = stages.gradients(*blocks, change, t, s, weigh, lambda *_: mean)
            return tuple(_added(total, place, each) for total, place, each in zip(totals, (i, at, at), found, strict=True))

        sums: tuple[Tensor, ...] = ops.fori_loop(0, tiles.counts[i], add_keys, totals)
        return sums

    totals = tuple(_filled(0, tiles.compute, *_shape(each)) for each in (tiles.queries, tiles.keys, tiles.values))
    totals = ops.fori_loop(0, tiles.count, of_queries, totals)
    lengths = (_shape(each)[2] for each in (query, key, value))
    found = (ops.cast(_joined(total, length), query.dtype) for total, length in zip(totals, lengths, strict=True))
    return tuple(_without("second derivative where it is traced", each) for each in found)


class _Tiles:
    """A call in tiles: its blocks, and which of them are visited."""

    def __init__(self, stages: _Stages, size: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.T, self.S = _shape(query)[2], _shape(key)[2]
        self.rows, self.columns = (_block_length(length, size) for length in (self.T, self.S))
        self.queries, self.keys, self.values = (
            _in_blocks(each, length) for each, length in ((query, self.rows), (key, self.columns), (value, self.columns))
        )
        self.count = ops.cast(count, "int32") if ops.is_tensor(count := _count(self.T, self.rows)) else count
        self.compute = "float64" if _dtype(query) == "float64" else "float32"
        seen = ops.cast(stages.visible(self.rows, self.columns), "int32")
        # For every block of queries the blocks of keys, those that some see first, and how many these are.
        self.order, self.counts = ops.argsort(-seen, axis=1), ops.sum(seen, axis=1)

    def positions(self, i: Any, j: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Of a turn: which block of keys it visits, and the positions of its queries and keys."""
        at = self.order[i, j]
        t = ops.cast(i, _INTEGER) * self.rows + ops.arange(self.rows, dtype=_INTEGER)
        return at, t, ops.cast(at, _INTEGER) * self.columns + ops.arange(self.columns, dtype=_INTEGER)

    def inside(self, logits: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Logits, but for what the last blocks are filled up with, which is no query and no key."""
        if _concrete(self.T, self.S) and self.T % self.rows == self.S % self.columns == 0:
            return logits
        return ops.where((s < self.S) & (t[:, None] < self.T), logits, float("-inf"))


def _block_length(length: Any, most: int) -> Any:
    """The length of blocks that are at most so long, even so that little is filled up."""
    if not _concrete(length):
        return most
    return -(-length // max(1, -(-length // most))) or 1


def _in_blocks(tensor: Tensor, length: Any) -> Tensor:
    """(B, N, T, H) in blocks of T, (blocks, B, N, length, H), the last one filled up with zeros; one at least."""
    B, N, T, H = _shape(tensor)
    blocks = _count(T, length)
    whole = ops.concatenate((tensor, _filled(0, tensor.dtype, B, N, blocks * length - T, H)), axis=2)
    return ops.transpose(ops.reshape(whole, (B, N, blocks, length, H)), (2, 0, 1, 3, 4))


def _joined(blocks: Tensor, length: Any) -> Tensor:
    """The blocks as one tensor, (B, N, T, H), without what filled up the last one."""
    count, B, N, rows, H = _shape(blocks)
    return ops.reshape(ops.transpose(blocks, (1, 2, 0, 3, 4)), (B, N, count * rows, H))[:, :, :length]


def _put(blocks: Tensor, at: Any, block: Tensor) -> Tensor:
    """The blocks with another one in a place."""
    return ops.slice_update(blocks, (at, 0, 0, 0, 0), block[None])


def _added(blocks: Tensor, at: Any, block: Tensor) -> Tensor:
    """The blocks with one of them increased."""
    return _put(blocks, at, blocks[at] + block)
