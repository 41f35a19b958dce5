"""Subjects by name: which lanes a framework has."""

from __future__ import annotations

from attnspec.harness.check_command import _lanes
from attnspec.harness.subjects import lanes_of, target_of


def test_keras_has_a_lane_for_each_backend() -> None:
    assert lanes_of("keras") == ("keras-jax", "keras-tensorflow", "keras-torch")
    assert {target_of(lane) for lane in lanes_of("keras")} == {"keras"}
    assert lanes_of("torch") == ("torch",)


def test_a_target_stands_for_its_lanes() -> None:
    assert _lanes("keras,torch,keras-torch") == ("keras-jax", "keras-tensorflow", "keras-torch", "torch")
