"""Kernels in Triton, on torch's tensors, which come with their strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attnspec.codegen.kernels.holes import DRAWN
from attnspec.codegen.kernels.language import Language, Parameter, is_table
from attnspec.codegen.printer import Target
from attnspec.codegen.targets.torch import TORCH

_AROUND = replace(TORCH, imports=("import torch", "import triton", "import triton.language as tl", "from torch import Tensor"))
"""What is around the kernels is torch's, checks of arguments and all."""
_KERNEL = Target(
    name="triton",
    ops={
        "not": "~{0}",
        "where": "tl.where({0}, {1}, {2})",
        "min": "tl.minimum({0}, {1})",
        "max": "tl.maximum({0}, {1})",
        "floor": "tl.floor({0})",
        "exp": "tl.exp({0})",
        "log": "tl.log({0})",
        "tanh": "_tanh({0})",
        "sigmoid": "tl.sigmoid({0})",
        "abs": "tl.abs({0})",
    },
    guards={
        "is_floating": "{0}[0].dtype.element_ty.is_floating()",
        "is_boolean": "{0}[0].dtype.element_ty.is_bool()",
    },
    infinity='float("-inf")',
    float32="tl.float32",
    fill_max="",
    array_type="",
    imports=(),
)


def _listed(parameters: Sequence[Parameter]) -> dict[str, tuple[str, ...]]:
    """In the signature of a kernel, and as it is called: flags are compiled for, a tensor is a pair with its strides."""
    return {
        "parameters": tuple(f"{p.name}: tl.constexpr" if p.argument.role == "flag" else p.name for p in parameters),
        "given": tuple(map(_given, parameters)),
    }


def _given(parameter: Parameter) -> str:
    """What the kernels are given of an argument."""
    if not parameter.is_tensor or parameter is DRAWN:
        return parameter.name
    return f"_{'with_sizes' if is_table(parameter.argument) else 'with_strides'}({parameter.name})"


LANGUAGE = Language(
    name="triton",
    around=_AROUND,
    target=_KERNEL,
    entries={
        ("b",): "tl.load({tensor}[0] + b * {tensor}[1][0])",
        ("n",): "tl.load({tensor}[0] + b * {tensor}[1][0] + n * {tensor}[1][1])",
        ("b", "t"): "_entries({tensor}, b, t, T)",
        ("b", "s"): "_entries({tensor}, b, s, S)",
        ("b", "n", "t", "s"): "_entries_of_pairs({tensor}, b, n, t, s, T, S)",
    },
    extreme="_{function}({tensor}, b, {range})",
    int32="torch.int32",
    table_entry="_entry_of_table({tensor}, b, {indices})",
    some_entry="tl.max({entries}.to(tl.int32)) > 0",
    interval="_interval_of({tensor}, b, {position})",
    to_float32="{0}.to(tl.float32)",
    functions="tl",
    ceiling="tl.cdiv",
    permute="permute",
    to_dtype="to",
    entry_point="_forward",
    checked={"integer": "_countable", "sizes": "_countable"},
    tiles={
        "t": "start + tl.arange(0, {other})[:, None]",
        "s": "low + tl.arange(0, {own})[None, :]",
    },
    indices=("b", "n", "T", "S"),
    block_indices=("b", "n"),
    listed=_listed,
    seed="torch.randint(2**31, (1,), device=query.device)",
    drawn="_drawn(seed, b, n, {t}, {s}, N)",
)
