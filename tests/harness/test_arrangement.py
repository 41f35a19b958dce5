"""Tensors with more axes than dims: what a subject gets of a case, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from attnspec.harness.arrangement import Arrangement, split
from attnspec.harness.arrays import arrays
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.messages import Tensor
from attnspec.harness.pool import pool
from attnspec.spec.loader import builtin
from attnspec.spec.model import Default

SPEC = builtin()["keras.layers.MultiHeadAttention"]
SPREAD = [each for each in pool(SPEC, "float32", 40) if Arrangement.of(SPEC, each)]


def called(axes: Default) -> Configuration:
    """A call over those axes."""
    return Configuration(SPEC.name, "float32", (("B", 2), ("T", 6), ("E", 8)), (("attention_axes", axes),))


@pytest.mark.parametrize(("size", "sizes"), [(12, (2, 6)), (7, (7, 1)), (1, (1, 1)), (0, (1, 0))])
def test_a_size_is_split_by_its_smallest_factor(size: int, sizes: tuple[int, int]) -> None:
    assert split(size, 2) == sizes


@pytest.mark.parametrize("axes", [None, 1, -2], ids=str)
def test_a_call_with_one_axis_for_each_dim_stays_as_it_is(axes: Default) -> None:
    assert Arrangement.of(SPEC, called(axes)) is None


@pytest.mark.parametrize(
    ("axes", "shape", "place"),
    [
        (2, (2, 1, 6, 8), (1, 0, 4)),
        (-3, (2, 6, 1, 8), (1, 4, 0)),
        ((2, 1), (2, 3, 2, 8), (1, 1, 1)),
        ((1, 3), (2, 2, 1, 3, 8), (1, 1, 0, 1)),
    ],
    ids=str,
)
def test_the_axes_that_are_named_are_the_length(axes: Default, shape: tuple[int, ...], place: tuple[int, ...]) -> None:
    arrangement = Arrangement.of(SPEC, called(axes))
    assert arrangement is not None
    query = np.arange(96.0).reshape(2, 6, 8)
    spread = arrangement.apart({"query": query})["query"]
    assert spread.shape == shape
    np.testing.assert_array_equal(spread[place], query[1, 4])


@pytest.mark.parametrize("configuration", SPREAD[:12], ids=lambda each: str(dict(each.values).get("attention_axes")))
def test_every_tensor_comes_back_and_its_elements_are_found(configuration: Configuration) -> None:
    arrangement = Arrangement.of(SPEC, configuration)
    assert arrangement is not None
    given = arrays(Case(configuration, 3), SPEC)
    spread = arrangement.apart(given)
    shapes = {name: plan.shape for name, plan in arrangement.configuration(configuration).tensors}
    assert shapes == {name: spread[name].shape for name in shapes}
    for name, tensor in arrangement.together({name: Tensor(each, "float32") for name, each in spread.items()}).items():
        np.testing.assert_array_equal(tensor.array, given[name])
    for name in ("query", "value", "attention_output_kernel", "d_output"):
        index = tuple(size // 2 for size in given[name].shape)
        assert spread[name][arrangement.place(name, index)] == given[name][index]


def test_an_axis_that_no_layout_has_stays_in_front() -> None:
    arrangement = Arrangement.of(SPEC, called((2, 1)))
    assert arrangement is not None
    assert arrangement.apart({"query": np.zeros((1, 2, 6, 8))})["query"].shape == (1, 2, 3, 2, 8)
