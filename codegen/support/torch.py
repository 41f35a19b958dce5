"""Helpers that generated torch files carry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnspec.codegen.support.common import _bind, _LayoutError


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> Tensor:
    """`value`, checked to be a tensor of that kind of dtype and one of those layouts."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a Tensor, got {type(value).__name__}")
    if not _is_kind(value.dtype, dtype):
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {value.dtype}")
    _bind(sizes, name, value.shape, *layouts)
    return value


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


def _softmax_vjp(weights: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the logits: every row's gradient less its mean under the weights."""
    return weights * (gradient - (gradient * weights).sum(dim=-1, keepdim=True))


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
