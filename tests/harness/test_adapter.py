"""Adapters: how they are read, what is wrong with one, and that arrays come out as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import brought
from attnspec.harness import adapter
from attnspec.harness.adapter import AdapterError
from attnspec.harness.lanes.messages import Tensor
from attnspec.spec.loader import builtin

SPEC = builtin()["jax.nn.dot_product_attention"]
SDPA = builtin()["torch.nn.functional.scaled_dot_product_attention"]


@pytest.mark.parametrize("value", [brought.adapted, brought.as_dataclass, brought.as_namespace])
def test_a_dict_a_dataclass_and_a_namespace_are_adapters(value: Any) -> None:
    read = adapter.read(value)
    assert read is not None
    assert read.described()["arguments"] == brought.NAMES
    assert read.described()["layouts"] == brought.LAYOUTS


@pytest.mark.parametrize("value", [brought.heads_first, brought.Attention, brought.Described, 3])
def test_anything_else_is_called(value: Any) -> None:
    assert adapter.read(value) is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"functoin": print}, "the adapter has an unknown entry 'functoin'. Did you mean \"function\"?"),
        ({}, "the adapter's `function` must be callable, got None"),
        ({"function": print, "arguments": "query"}, "the adapter's `arguments` must be a list of texts, got 'query'"),
        ({"function": print, "layouts": ["B"]}, "the adapter's `layouts` must map names to texts, got ['B']"),
        ({"function": print, "requires": [1]}, "the adapter's `requires` must be a list of texts, got [1]"),
    ],
)
def test_what_is_wrong_is_named(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as raised:
        adapter.read(entries)
    assert str(raised.value) == message


def test_the_function_gets_its_own_names() -> None:
    seen: dict[str, Any] = {}
    read = adapter.read({"function": lambda **given: seen.update(given), "arguments": brought.NAMES})
    assert read is not None
    read.called(SPEC)(1, 2, 3, is_causal=True)
    assert seen == {"q": 1, "k": 2, "v": 3, "causal": True}
    with pytest.raises(NotImplementedError, match="the adapter does not offer `bias`"):
        read.called(SPEC)(1, 2, 3, bias=4)


def test_gradients_come_back_under_the_apis_names() -> None:
    read = adapter.read({"function": print, "vjp": lambda d, q, k, v: {"q": d + q}, "arguments": brought.NAMES})
    assert read is not None
    vjp = read.pulled_back(SPEC)
    assert vjp is not None
    assert vjp(10, 1, 2, 3) == {"query": 11}


@pytest.mark.parametrize(
    ("spec", "text", "shape", "moved"),
    [
        (SPEC, "B N T H", (2, 3, 4, 5), (2, 4, 3, 5)),
        (SPEC, "B N T H", (3, 4, 5), (4, 3, 5)),
        (SPEC, "H B T N", (2, 3, 4, 5), (5, 2, 3, 4)),
        (SDPA, "B T N H", (7, 2, 3, 4, 5), (7, 2, 4, 3, 5)),
        (SDPA, "B T N H", (4, 5), (4, 5)),
        (SPEC, "B N T H", (5,), (5,)),  # a rank that no layout has stays: the call is invalid anyway
    ],
)
def test_axes_move_there_and_back(spec: Any, text: str, shape: tuple[int, ...], moved: tuple[int, ...]) -> None:
    read = adapter.read({"function": print, "layouts": {"query": text}})
    assert read is not None
    array = np.arange(np.prod(shape)).reshape(shape)
    there = read.into(spec, {"query": array, "key": array})
    assert there["query"].shape == moved
    assert there["query"].flags.c_contiguous
    assert not there["query"].flags.writeable
    assert there["key"].shape == shape
    back = read.back(spec, {"query": Tensor(there["query"], "int64")})["query"]
    np.testing.assert_array_equal(back.array, array)
