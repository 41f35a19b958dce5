"""Helpers that generated torch files carry."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnspec.codegen.support.common import _bind, _LayoutError, _Run


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> Tensor:
    """`value`, checked to be a tensor of that kind of dtype and one of those layouts."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a Tensor, got {type(value).__name__}")
    if not _is_kind(value.dtype, dtype):
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {value.dtype}")
    _bind(sizes, name, value.shape, *layouts)
    return value


def _truth(mask: Any) -> Any:
    """A mask of numbers as one of bools: True unless 0."""
    return mask != 0 if isinstance(mask, Tensor) else mask


def _sizes_of(tensor: Any) -> Any:
    return tuple(tensor.shape) if isinstance(tensor, Tensor) else ()


def _reshaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor.reshape(tuple(shape))


def _transposed(tensor: Tensor, order: Sequence[int]) -> Tensor:
    return tensor.permute(tuple(order))


def _spread(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor.expand(tuple(shape))


def _is_kind(dtype: torch.dtype, kind: str) -> bool:
    if dtype == torch.bool:
        return "bool" in kind
    return "floating" in kind if dtype.is_floating_point else kind == "integer" and not dtype.is_complex


def _same_dtype(**tensors: Tensor) -> None:
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.dtype != reference.dtype:
            raise _LayoutError(f"`{name}` must have the dtype of `{first}`, {reference.dtype}, got {tensor.dtype}")


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return value


def _integer(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    return value


def _countable(name: str, value: int) -> int:
    """An integer that kernels can count with: sums of a few of them fit into 32 bits."""
    if not -(2**29) < value < 2**29:
        raise NotImplementedError(f"triton: `{name}` = {value} is not supported; kernels count in 32 bits")
    return value


def _leading(sizes: dict[str, Any]) -> tuple[int, ...]:
    """The axes before those of a layout, after they are broadcast together."""
    axes: tuple[int, ...] = sizes.get("...", ((), ""))[0]
    return axes


def _with_one_batch_axis(tensor: Tensor, leading: tuple[int, ...]) -> Tensor:
    """The leading axes as one; a copy only where several are, and some of them broadcast."""
    return tensor.expand(*leading, *tensor.shape[-3:]).reshape(math.prod(leading), *tensor.shape[-3:])


def _with_four_axes(tensor: Tensor, leading: tuple[int, ...]) -> Tensor:
    """(B|1, N|1, T|1, S|1): axes that are lacking are 1, and so is the batch axis where none of the leading ones is longer."""
    shape = (1,) * (len(leading) + 3 - tensor.ndim) + tensor.shape
    whole = leading if any(size != 1 for size in shape[:-3]) else shape[:-3]
    return tensor.expand(*whole, *shape[-3:]).reshape(math.prod(whole), *shape[-3:])


def _softmax_vjp(weights: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the logits: every row's gradient less its mean under the weights."""
    return weights * (gradient - (gradient * weights).sum(dim=-1, keepdim=True))


def _taken(tensor: Tensor, dim: int, runs: list[_Run]) -> Tensor:
    """The part of a tensor at the keys of the runs; a view where one follows on the other."""
    if all(one[1] == other[0] for one, other in itertools.pairwise(runs)):
        low, high = (runs[0][0], runs[-1][1]) if runs else (0, 0)
        return tensor.narrow(dim, low, high - low)
    return torch.cat([tensor.narrow(dim, low, high - low) for low, high, _ in runs], dim)


def _extremes(entries: Tensor, size: int) -> tuple[list[int], list[int]]:
    """The least and the greatest entry of every block of the last axis, over all rows; 0 where there is none."""
    if entries.shape[0] == 0:
        entries = entries.new_zeros((1, entries.shape[1]))
    blocks = [entries[:, start : start + size] for start in range(0, entries.shape[1], size)]
    return [int(block.min()) for block in blocks], [int(block.max()) for block in blocks]


def _add(total: Tensor, dim: int, runs: list[_Run], part: Tensor) -> None:
    """Add the columns of the runs to where they were taken from."""
    column = 0
    for low, high, _ in runs:
        total.narrow(dim, low, high - low).add_(part.narrow(dim, column, high - low))
        column += high - low


def _dropout(weights: Tensor, rate: float, seed: int | torch.Generator | None) -> Tensor:
    """Zero a share of the weights and rescale the rest; the same for the same seed, the next draw of a generator."""
    if seed is None or rate == 1:
        return torch.dropout(weights, rate, train=True)
    source = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    drawn = torch.rand(weights.shape, generator=source, device=source.device).to(weights.device)
    return torch.where(drawn >= rate, weights / (1 - rate), 0)


def _interval(bounds: Tensor, position: Tensor) -> Tensor:
    """The number of the interval that a position lies in: `bounds[i] <= position < bounds[i + 1]`."""
    return torch.searchsorted(bounds.contiguous(), position.to(bounds.dtype), right=True) - 1


def _pad_last(tensor: Tensor) -> Tensor:
    """The tensor with a zero (False) appended to its last axis."""
    return nn.functional.pad(tensor, (0, 1))


def _glorot_normal_(weight: Tensor, fan_in: int, fan_out: int) -> None:
    nn.init.normal_(weight, std=(2 / (fan_in + fan_out)) ** 0.5)


def _linear_uniform_(weight: Tensor, fan_in: int, fan_out: int) -> None:
    nn.init.uniform_(weight, -(fan_in**-0.5), fan_in**-0.5)


def _merge_masks(
    layer: Any, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
) -> tuple[Tensor | None, int | None]:
    """The masks as one, and its kind: 1 only key_padding_mask (B, S), 2 of shape (B, N, T, T); None where there is none."""
    if attn_mask is None:
        return key_padding_mask, None if key_padding_mask is None else 1
    B, T = query.shape[:2]
    merged = attn_mask.reshape(B, -1, T, T) if attn_mask.ndim == 3 else attn_mask.expand(B, layer.num_heads, T, T)
    if key_padding_mask is not None:
        merged = merged + key_padding_mask.reshape(B, 1, 1, T)
    return merged, 2


def _glorot_uniform_(weight: Tensor, fan_in: int, fan_out: int) -> None:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    nn.init.uniform_(weight, -limit, limit)


def _autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Under autocast, run on tensors of its dtype, as the framework's own attention does."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        first = next(_tensors([*arguments, *named.values()]), None)
        kind = "cpu" if first is None else first.device.type
        if not torch.is_autocast_enabled(kind):
            return function(*arguments, **named)
        dtype = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            return function(*_lowered(list(arguments), dtype), **_lowered(named, dtype))

    return call


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, dict)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _tensors(member)


def _lowered(value: Any, dtype: torch.dtype) -> Any:
    """Floating tensors in nested lists and dicts in `dtype`; autocast leaves float64 alone."""
    if isinstance(value, list):
        return [_lowered(member, dtype) for member in value]
    if isinstance(value, dict):
        return {name: _lowered(member, dtype) for name, member in value.items()}
    floating = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
    return value.to(dtype) if floating else value
