"""Helpers that generated Keras files carry."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import backend, ops

from attnspec.codegen.support.common import _bind, _LayoutError

Tensor = Any

# TensorFlow's operators refuse integers of two widths; jax has 64 bits only where it is told to.
_INTEGER = "int64" if backend.backend() == "tensorflow" else "int32"


def _operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Called on symbolic tensors, the function is one operation of their graph, which a saved model finds by its name."""

    @keras.saving.register_keras_serializable(function.__module__, function.__name__)
    class Call(keras.Operation):
        def call(self, *arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named)

    Call.__name__ = function.__name__

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given = keras.tree.flatten((arguments, named))
        symbolic = any(isinstance(value, keras.KerasTensor) for value in given)
        return (Call() if symbolic else function)(*arguments, **named)

    return call


class _EinsumDense(keras.layers.EinsumDense):
    """Adds the bias in at least float32: the bias's gradient is a sum over batch and length, which half precision rounds."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        product = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            wide = "float64" if _dtype(product) == "float64" else "float32"
            product = ops.cast(ops.cast(product, wide) + ops.cast(self.bias, wide), product.dtype)
        return product if self.activation is None else self.activation(product)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.supports_masking = True  # of the inputs; the layer around it reads them

    def quantize(self, mode: str | None = None, type_check: bool = True, **settings: Any) -> None:
        super().quantize(mode, type_check=False, **settings)


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> Tensor:
    """`value` as a dense tensor of the backend, of that kind of dtype and one of those layouts."""
    if type(value).__name__ in ("RaggedTensor", "SparseTensor", "IndexedSlices", "BCOO"):
        raise TypeError(f"`{name}` must be a dense tensor, got {type(value).__name__}")
    tensor = ops.convert_to_tensor(value)
    if not _is_kind(_dtype(tensor), dtype):
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {_dtype(tensor)}")
    _bind(sizes, name, _shape(tensor), *layouts)
    return ops.cast(tensor, _INTEGER) if dtype == "integer" and _INTEGER == "int64" else tensor


def _truth(mask: Any) -> Tensor:
    """A mask of numbers as one of bools: True unless 0."""
    return ops.cast(mask, "bool")


def _sizes_of(tensor: Any) -> Any:
    return _shape(ops.convert_to_tensor(tensor))


def _reshaped(tensor: Any, shape: Sequence[Any]) -> Tensor:
    return ops.reshape(tensor, tuple(shape))


def _transposed(tensor: Any, order: Sequence[int]) -> Tensor:
    return ops.transpose(tensor, tuple(order))


def _spread(tensor: Any, shape: Sequence[Any]) -> Tensor:
    return ops.broadcast_to(tensor, tuple(shape))


def _dtype(tensor: Tensor) -> str:
    return str(backend.standardize_dtype(tensor.dtype))


def _is_kind(dtype: str, kind: str) -> bool:
    if dtype == "bool":
        return "bool" in kind
    return "floating" in kind if backend.is_float_dtype(dtype) else kind == "integer" and backend.is_int_dtype(dtype)


def _shape(tensor: Tensor) -> tuple[Any, ...]:
    """The sizes of a tensor's axes: Python ints, or what stands for them while they are unknown."""
    return tuple(ops.cast(size, _INTEGER) if ops.is_tensor(size) else size for size in ops.shape(tensor))


def _maximum(size: Any, other: Any) -> Any:
    return ops.maximum(size, other)


def _same_dtype(**tensors: Tensor) -> None:
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.dtype != reference.dtype:
            raise _LayoutError(f"`{name}` must have the dtype of `{first}`, {_dtype(reference)}, got {_dtype(tensor)}")


def _number(name: str, value: Any) -> Any:
    """A Python number, or a scalar tensor."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if not ops.is_tensor(value) or value.ndim != 0 or _dtype(value) == "bool":
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return value


def _integer(name: str, value: Any) -> Any:
    """A Python int, or a scalar tensor of integers."""
    number = _number(name, value)
    if isinstance(number, float) or (ops.is_tensor(number) and not backend.is_int_dtype(number.dtype)):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    return ops.cast(number, _INTEGER) if ops.is_tensor(number) else number


def _concrete(*values: Any) -> bool:
    """Whether Python knows the values: tensors are not looked into, for they may be traced."""
    return all(isinstance(value, numbers.Number) for value in values)


def _float(size: Any) -> Any:
    """A size for arithmetic on floats."""
    return size if _concrete(size) else ops.cast(size, "float64" if ops.is_tensor(size) else "float32")


def _scalar(value: Any, dtype: str) -> Any:
    """A number that tensors of `dtype` meet: Python's take their dtype by themselves."""
    return ops.cast(value, dtype) if ops.is_tensor(value) else value


def _fit(**shapes: tuple[Any, str]) -> None:
    """Shapes have the axes of their layouts; a dim that several have is of one size."""
    sizes: dict[str, tuple[Any, str]] = {}
    received = ", ".join(f"{name}={shape}" for name, (shape, _) in shapes.items())
    for name, (shape, layout) in shapes.items():
        dims = layout.split()
        if len(shape) != len(dims):
            raise ValueError(f"The axes of `{name}` and ({', '.join(dims)}) must be equal in number. Received: {received}")
        for dim, size in zip(dims, shape, strict=True):
            known, owner = sizes.setdefault(dim, (size, name))
            if known is None:
                sizes[dim] = (size, name)
            elif size not in (None, known):
                raise ValueError(f"{dim} of `{owner}` and of `{name}` must be equal. Received: {received}")


def _equal_but_last(**shapes: Any) -> None:
    """Two shapes have the same axes before the last one."""
    one, other = (tuple(shape)[:-1] for shape in shapes.values())
    if len(one) != len(other) or any(None not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True)):
        received = ", ".join(f"{name}={shape}" for name, shape in shapes.items())
        raise ValueError(
            f"All axes of {' and '.join(f'`{name}`' for name in shapes)} but the last must be equal. Received: {received}"
        )


def _plain_shape(shape: Any, spans: dict[str, Any]) -> Any:
    """The shape with an axis for each dim, of the size of none but the last."""
    return (None, None, shape[-1]) if spans else shape


def _alike(**tensors: tuple[Tensor | None, int]) -> None:
    """Tensors have the same leading axes, before so many of their own."""
    leading = {name: tuple(tensor.shape)[: tensor.ndim - own] for name, (tensor, own) in tensors.items() if tensor is not None}
    (first, wanted), *others = leading.items()
    for name, axes in others:
        if len(axes) != len(wanted) or any(None not in pair and pair[0] != pair[1] for pair in zip(axes, wanted, strict=True)):
            raise _LayoutError(f"`{name}` must have the leading axes of `{first}`, {wanted}, got {axes}")


def _all_of(masks: list[Tensor | None]) -> Tensor | None:
    """What all masks that are there leave visible; where one has an axis of heads, the others get one too."""
    given = [mask for mask in masks if mask is not None]
    rank = max((len(mask.shape) for mask in given), default=0)
    wide = [mask[:, None] if rank == 4 and len(mask.shape) == 3 else mask for mask in given]
    return functools.reduce(ops.logical_and, wide) if wide else None


def _dropout(weights: Tensor, rate: float, seed: Any = None) -> Tensor:
    """Zero a share of the weights and rescale the rest; a generator goes on from call to call."""
    return ops.zeros_like(weights) if rate == 1 else keras.random.dropout(weights, rate, seed=seed)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis; `ops.softmax` warns where there is one key, whose weight is 1."""
    return ops.exp(logits - logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


def _interval(bounds: Tensor, position: Tensor) -> Tensor:
    """The number of the interval that a position lies in: `bounds[i] <= position < bounds[i + 1]`."""
    return ops.cast(ops.searchsorted(bounds, ops.cast(position, bounds.dtype), side="right"), _INTEGER) - 1


def _pad_last(tensor: Tensor) -> Tensor:
    """The tensor with a zero (False) appended to its last axis."""
    return ops.concatenate((tensor, ops.zeros((*_shape(tensor)[:-1], 1), tensor.dtype)), axis=-1)


def _glorot_uniform(fan_in: int, fan_out: int) -> Any:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return keras.initializers.RandomUniform(-limit, limit)


def _glorot_normal(fan_in: int, fan_out: int) -> Any:
    return keras.initializers.RandomNormal(stddev=(2 / (fan_in + fan_out)) ** 0.5)


def _linear_uniform(fan_in: int, fan_out: int) -> Any:
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
