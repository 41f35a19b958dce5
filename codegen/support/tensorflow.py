"""Helpers that generated TensorFlow files carry.

A size that is not known while a function is traced is a scalar integer tensor: it fits any size, and gives way to a known one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from attnspec.codegen.support.common import _bind, _LayoutError, _shapes


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> tf.Tensor:
    """`value` as a dense tensor of that kind of dtype and one of those layouts; integers as int64, like positions."""
    if isinstance(value, tf.RaggedTensor):
        raise TypeError(f"`{name}` must be a dense tensor, got a RaggedTensor: pad it with `.to_tensor()` and mask the padding")
    if isinstance(value, (tf.SparseTensor, tf.IndexedSlices)):
        raise TypeError(f"`{name}` must be a dense tensor, got {type(value).__name__}")
    tensor = tf.convert_to_tensor(value)
    if not _is_kind(tensor.dtype, dtype):
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {tensor.dtype.name}")
    if tensor.shape.rank is None:
        raise _LayoutError(f"`{name}` must have shape {_shapes(layouts)}, got one of unknown rank")
    _bind(sizes, name, _shape(tensor), *layouts)
    return tf.cast(tensor, tf.int64) if tensor.dtype.is_integer else tensor


def _truth(mask: Any) -> Any:
    """A mask of numbers as one of bools: True unless 0."""
    return tf.cast(mask, tf.bool)


def _sizes_of(tensor: Any) -> Any:
    return _shape(tf.convert_to_tensor(tensor))


def _reshaped(tensor: Any, shape: Sequence[Any]) -> tf.Tensor:
    return tf.reshape(tensor, list(shape))


def _transposed(tensor: Any, order: Sequence[int]) -> tf.Tensor:
    return tf.transpose(tensor, order)


def _spread(tensor: Any, shape: Sequence[Any]) -> tf.Tensor:
    return tf.broadcast_to(tensor, list(shape))


def _is_kind(dtype: tf.DType, kind: str) -> bool:
    if dtype == tf.bool:
        return "bool" in kind
    return "floating" in kind if dtype.is_floating else kind == "integer" and dtype.is_integer


def _shape(tensor: tf.Tensor) -> list[Any]:
    """The sizes of a tensor's axes: Python ints, or scalar tensors where they are unknown while tracing."""
    static: list[Any] = tensor.shape.as_list()
    if None not in static:
        return static
    traced = tf.shape(tensor, out_type=tf.int64)
    return [traced[axis] if size is None else size for axis, size in enumerate(static)]


def _maximum(size: Any, other: Any) -> Any:
    return tf.maximum(size, other)


def _same_dtype(**tensors: tf.Tensor) -> None:
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.dtype != reference.dtype:
            raise _LayoutError(f"`{name}` must have the dtype of `{first}`, {reference.dtype.name}, got {tensor.dtype.name}")


def _number(name: str, value: Any) -> Any:
    """A Python number, or a scalar tensor."""
    if tf.is_tensor(value):
        value = tf.convert_to_tensor(value)
        fits = value.shape.rank == 0 and (value.dtype.is_floating or value.dtype.is_integer)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits:
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return value


def _integer(name: str, value: Any) -> Any:
    """A Python int, or a scalar tensor of integers, as int64."""
    value = _number(name, value)
    if tf.is_tensor(value) and value.dtype.is_integer:
        return tf.cast(value, tf.int64)
    if not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    return value


def _concrete(*values: Any) -> bool:
    """Whether Python knows the values: under `tf.function` they may be traced."""
    return not any(tf.is_symbolic_tensor(value) for value in values)


def _float(size: Any) -> Any:
    """A size for arithmetic on floats."""
    return tf.cast(size, tf.float64) if tf.is_tensor(size) else size


def _scalar(value: Any, dtype: tf.DType) -> Any:
    """A number that tensors of `dtype` meet: Python's take their dtype by themselves."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else value


def _within_reach(number: Any) -> tf.Tensor:
    """An integer that positions are compared with, near enough to them that sums fit into 64 bits."""
    return tf.clip_by_value(tf.cast(number, tf.int64), -(2**61), 2**61)


def _without_derivative(name: str, number: Any) -> tf.Tensor:
    """A number that the derivative cannot be by: using one is an error, and not 0. A graph may hold what nobody uses."""
    missing = f"tensorflow: the blockwise form has no derivative by `{name}`; the direct form has"

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def guarded(value: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.identity(value), lambda gradient: tf.debugging.check_numerics(gradient + float("nan"), missing)

    return guarded(number if tf.is_tensor(number) else tf.constant(number, tf.float64))


def _in_blocks(seen: Any, size: int, length: Any) -> tf.Tensor:
    """The positions in those blocks of a length that are seen."""
    blocks = tf.range(0, length, size, tf.int64)
    places = tf.boolean_mask(blocks, tf.broadcast_to(seen, tf.shape(blocks)))[:, None] + tf.range(size, dtype=tf.int64)
    places = tf.reshape(places, (-1,))
    return tf.boolean_mask(places, places < length)


def _extremes(entries: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The least and the greatest entry of every block of the last axis, over all rows."""
    blocks = tf.range(_shape(entries)[1], dtype=tf.int64) // size
    columns = tf.transpose(entries)
    least, greatest = tf.math.segment_min(columns, blocks), tf.math.segment_max(columns, blocks)
    return tf.reduce_min(least, axis=1), tf.reduce_max(greatest, axis=1)


def _softmax_and_empty(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The softmax of every row, and whether all of the row is hidden: then it says nothing."""
    return tf.nn.softmax(logits, axis=-1), tf.reduce_max(logits, axis=-1, keepdims=True) <= logits.dtype.min


def _by_blocks(of_block: Any, size: int, shape: Sequence[Any], dtype: tf.DType, *totals: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """An array of that shape, (T, B, N, H), and totals, from `of_block(start, stop, *totals)` of one block after another.

    It returns its part of the array, (B, N, T, H), and the new totals.
    """
    blocks = -(-shape[0] // size)
    blocks = max(1, blocks) if _concrete(blocks) else tf.maximum(tf.constant(1, tf.int64), blocks)

    def turn(i: tf.Tensor, array: tf.TensorArray, totals: Any) -> tuple[tf.Tensor, Any, Any]:
        start = i * size
        part, totals = of_block(start, tf.minimum(start + size, shape[0]), *totals)
        return i + 1, array.write(tf.cast(i, tf.int32), _filled_up(part, size)), totals

    array = tf.TensorArray(dtype, tf.cast(blocks, tf.int32), infer_shape=False)
    first = tf.constant(0, tf.int64), array, totals
    _, array, totals = tf.while_loop(lambda i, *_: i < blocks, turn, first, parallel_iterations=1)
    return tf.reshape(array.stack(), (blocks * size, *shape[1:]))[: shape[0]], totals


def _filled_up(part: tf.Tensor, rows: int) -> tf.Tensor:
    """A block, (B, N, T, H), with its positions in front and zeros up to so many of them."""
    return tf.pad(tf.transpose(part, (2, 0, 1, 3)), ((0, rows - _shape(part)[2]), (0, 0), (0, 0), (0, 0)))


def _added(total: tf.Tensor, places: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """The total, (S, B, N, H), with a part, (B, N, S, H), added to some of its positions."""
    return tf.tensor_scatter_nd_add(total, places[:, None], tf.transpose(part, (2, 0, 1, 3)))


def _dropout(weights: tf.Tensor, rate: Any, seed: Any = None) -> tf.Tensor:
    """Zero a share of the weights and rescale the rest; the same for the same seed, the next draw of a generator."""
    if rate == 1:
        return tf.zeros_like(weights)
    if seed is None:
        return tf.nn.dropout(weights, _scalar(rate, weights.dtype))
    shape = tf.shape(weights)
    drawn = seed.uniform(shape) if isinstance(seed, tf.random.Generator) else tf.random.stateless_uniform(shape, [seed, 0])
    return tf.where(drawn >= tf.cast(rate, tf.float32), weights / _scalar(1 - rate, weights.dtype), tf.zeros_like(weights))


def _interval(bounds: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The number of the interval that a position lies in: `bounds[i] <= position < bounds[i + 1]`."""
    return tf.searchsorted(bounds, position, side="right", out_type=tf.int64) - 1


def _pad_last(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor with a zero (False) appended to its last axis."""
    return tf.concat((tensor, tf.zeros((*_shape(tensor)[:-1], 1), tensor.dtype)), axis=-1)


def _glorot_normal(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.normal(shape, stddev=(2 / (fan_in + fan_out)) ** 0.5), dtype)


def _linear_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.uniform(shape, -(fan_in**-0.5), fan_in**-0.5), dtype)


def _glorot_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: tf.DType) -> tf.Tensor:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return tf.cast(tf.random.uniform(shape, -limit, limit), dtype)
