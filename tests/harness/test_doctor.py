"""doctor: what is there with its version, what is missing with the command that installs it."""

from __future__ import annotations

import numpy as np
import pytest

from attnspec.harness.cli import main
from attnspec.harness.doctor_command import how_to_install
from attnspec.harness.subjects import LANES


def test_what_is_there_and_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnspec.harness.doctor_command.LANES", ("numpy", "torch"))
    assert main(["doctor", "--python", "torch=/no/such/python"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("attnspec ") and "Python 3." in lines[0]
    assert any(line.startswith(f"  numpy  numpy {np.__version__}  (") for line in lines)
    assert "  torch  missing: there is no interpreter /no/such/python" in lines
    assert "         install: pip install 'attnspec[torch]'" in lines
    assert lines[-1] == "Not covered here: torch."


def test_all_is_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnspec.harness.doctor_command.LANES", ("numpy",))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Every lane is there."


@pytest.mark.parametrize("text", ["python3", "nothing=python3"])
def test_an_interpreter_is_a_lanes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--python", text]) == 2
    assert f"got {text!r}" in capsys.readouterr().err


@pytest.mark.parametrize("lane", LANES)
def test_every_lane_can_be_installed(lane: str) -> None:
    assert how_to_install(lane).startswith(("pip install ", "apt-get install "))
    if lane.startswith("keras"):
        assert how_to_install(lane) == f"pip install 'attnspec[keras,{lane.removeprefix('keras-')}]'"
