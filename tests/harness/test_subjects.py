"""Subjects by name: which lanes a framework has, and where a user's function runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnspec.harness.check_command import _lanes
from attnspec.harness.subjects import lanes_of, target_of, user
from attnspec.spec.loader import builtin

SPEC = builtin()["causal_gqa"]


def test_keras_has_a_lane_for_each_backend() -> None:
    assert lanes_of("keras") == ("keras-jax", "keras-tensorflow", "keras-torch")
    assert {target_of(lane) for lane in lanes_of("keras")} == {"keras"}
    assert lanes_of("torch") == ("torch",)


def test_a_target_stands_for_its_lanes() -> None:
    assert _lanes("keras,torch,keras-torch") == ("keras-jax", "keras-tensorflow", "keras-torch", "torch")


@pytest.mark.parametrize(
    ("source", "backend", "lane"),
    [
        ("import numpy as np\nimport torch", "", "torch"),
        ("from jax import numpy", "", "jax"),
        ("from keras import ops", "", "keras-tensorflow"),
        ("from keras import ops", "torch", "keras-torch"),
        ("import numpy", "", "numpy"),
        ("import kerastuner", "", "numpy"),
    ],
)
def test_a_function_runs_where_its_source_belongs(
    source: str, backend: str, lane: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    (tmp_path / "own.py").write_text(source)
    assert user(f"{tmp_path / 'own.py'}:attend", SPEC).lane == lane
