"""What jax has compiled is kept for the next run, for one kind of processor, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnspec.harness.cases import Case, pool
from attnspec.harness.lanes import compiled
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.lanes.messages import Returned
from attnspec.harness.subjects import generated
from attnspec.spec.loader import builtin


def test_a_lane_keeps_what_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in compiled.environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = builtin()["causal_gqa"]
    with Lane("jax") as lane:
        ((answer,),) = lane.run(Job(spec, (next(generated(spec, "jax")),), (Case(pool(spec, "float32", 1)[0], 1),)))
    assert isinstance(answer, Returned)
    assert list(compiled.folder().iterdir())
    assert compiled.folder().is_relative_to(tmp_path)


def test_another_processor_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here = compiled.folder()
    monkeypatch.setattr(compiled, "_processor", lambda: "another one")
    assert compiled.folder().parent == here.parent
    assert compiled.folder() != here


def test_the_oldest_half_makes_way_where_there_is_too_much(tmp_path: Path) -> None:
    for number in range(8):
        file = tmp_path / str(number)
        file.write_bytes(bytes(10))
        os.utime(file, (number, number))
    compiled.make_room(tmp_path, most=80)
    assert len(list(tmp_path.iterdir())) == 8
    compiled.make_room(tmp_path, most=79)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["5", "6", "7"]
    compiled.make_room(tmp_path / "nowhere")
