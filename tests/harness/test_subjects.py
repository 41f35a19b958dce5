"""Subjects by name: which lanes a framework has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from attnspec.harness.check_command import _usual_lanes, lanes_named
from attnspec.harness.plan import COMPILED, PROFILES, without_spared
from attnspec.harness.sizes import SHAPES
from attnspec.harness.subjects import (
    SMALL_BLOCK,
    SMALL_BLOCKS,
    Subject,
    generated,
    is_brought,
    lanes_of,
    load,
    natives,
    subjects_of,
    target_of,
)
from attnspec.spec.loader import builtin

needs_tf_keras = pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="tf_keras is not installed")


def test_keras_has_a_lane_for_each_backend() -> None:
    assert lanes_of("keras") == ("keras-jax", "keras-tensorflow", "keras-torch")
    assert {target_of(lane) for lane in lanes_of("keras")} == {"keras"}
    assert lanes_of("torch") == ("torch",)


def test_a_target_stands_for_its_lanes() -> None:
    assert lanes_named("keras,torch,keras-torch") == ("keras-jax", "keras-tensorflow", "keras-torch", "torch")


def test_a_short_run_has_layers_of_other_frameworks_on_one_of_keras_backends() -> None:
    def backends(profile: str, name: str) -> list[str]:
        return [lane for lane in _usual_lanes(PROFILES[profile], builtin()[name]) if target_of(lane) == "keras"]

    assert backends("quick", "torch.nn.MultiheadAttention") == ["keras-torch"]
    for profile, name in (("ci", "torch.nn.MultiheadAttention"), ("quick", "keras.layers.Attention"), ("quick", "causal_gqa")):
        assert backends(profile, name) == list(lanes_of("keras"))


@needs_tf_keras
@pytest.mark.parametrize("api", ["tf_keras.layers.Attention", "tf_keras.layers.AdditiveAttention"])
def test_the_lane_of_tensorflow_has_the_layers_of_tf_keras_too(api: str) -> None:
    spec = builtin()[api]
    found = {subject.name: subject for subject in (*generated(spec, "tensorflow"), *natives(spec))}
    assert [*found] == [f"tensorflow:{api}", f"tf_keras:{api}", f"native:{api}"]
    assert {subject.lane for subject in found.values()} == {"tensorflow"}
    assert {Path(subject.module).parent.name for subject in [*found.values()][:2]} == {"tensorflow", "tf_keras"}
    assert not any(is_brought(name) for name in found)
    assert not any(subject.name.startswith("tf_keras:") for lane in ("numpy", "keras-jax") for subject in generated(spec, lane))


@pytest.mark.parametrize(("lane", "block"), [("torch", SMALL_BLOCK), ("jax", SMALL_BLOCKS["jax"])])
def test_a_blockwise_form_works_in_blocks_that_the_sizes_of_the_pool_lie_around(lane: str, block: int, tmp_path: Path) -> None:
    """One of 128 would hold every call of the pool, and nothing of the loop would be checked."""
    file = tmp_path / "attend_blockwise.py"
    file.write_text("BLOCK = 128\n\ndef attend():\n    return BLOCK\n", encoding="utf-8")
    assert load(Subject(f"{lane}:attend@blockwise", "attend", lane, str(file), "attend")).function() == block
    shapes = SHAPES[: PROFILES["quick"].compiled_pool] if lane in COMPILED else SHAPES
    lengths = {shape[dim] for shape in shapes for dim in "TS"}
    assert {block, block + 1, 2 * block + 1} <= lengths


def test_the_sizes_of_the_pool_lie_around_several_edges() -> None:
    lengths = {shape[dim] for shape in SHAPES for dim in "TS"}
    assert {SMALL_BLOCK - 1, SMALL_BLOCK, SMALL_BLOCK + 1, 2 * SMALL_BLOCK - 1, 2 * SMALL_BLOCK + 1} <= lengths


def test_a_short_run_has_blockwise_keras_on_torch_alone() -> None:
    """Natives keep their lanes: theirs is a backend, not a form."""
    every = subjects_of(builtin()["causal_gqa"], ("jax", "keras-jax", "keras-tensorflow", "keras-torch"))
    spared = {subject.name for subject in every} - {subject.name for subject in without_spared(every)}
    assert spared == {"keras-jax:causal_gqa@blockwise", "keras-tensorflow:causal_gqa@blockwise"}
    layers = subjects_of(builtin()["keras.layers.MultiHeadAttention"], ("keras-jax",))
    assert without_spared(layers) == tuple(layers)
