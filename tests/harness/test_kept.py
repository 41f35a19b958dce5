"""`attnspec check --state FILE`: a run that is interrupted goes on where it was, and ends as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnspec.harness import kept
from attnspec.harness.cli import main
from attnspec.harness.conductor import Conductor
from attnspec.harness.plan import Item

FEW = ["--targets", "numpy", "--dtypes", "float32,float16", "--cases", "6", "--gradient-cases", "3"]
SPECS = ["causal_gqa", "gemma2", "packed_documents"]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Generated files, one with a fault: its finding is kept, too."""
    folder = tmp_path / "generated"
    assert main(["generate", "--out", str(folder), "--target", "numpy"]) == 0
    file = folder / "numpy" / "causal_gqa.py"
    text = file.read_text(encoding="utf-8")
    assert "s <= t" in text
    file.write_text(text.replace("s <= t", "s < t"), encoding="utf-8")
    return folder


def run(*options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = main(["check", *SPECS, *FEW, "--format", "full", "--checks", "answers,oracle,gradients,preconditions", *options])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def test_an_interrupted_run_ends_as_one_that_was_not(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.json"
    options = ["--generated", str(broken)]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        whole, tried = Conductor._run_item, []

        def interrupted(self: Conductor, item: Item) -> None:
            tried.append(item.spec.name)
            if len(tried) == 3:
                raise KeyboardInterrupt
            whole(self, item)

        patch.setattr(Conductor, "_run_item", interrupted)
        assert run(*options, "--state", str(state), "--seed", "3", capsys=capsys) == (130, None)
        tried.clear()
        code, resumed = run(*options, "--state", str(state), capsys=capsys)
        assert tried == ["packed_documents"]
    again, at_once = run(*options, "--seed", "3", capsys=capsys)
    assert (code, again) == (1, 1)
    assert resumed.pop("seconds") > 0 < at_once.pop("seconds")
    assert resumed.pop("command") != at_once.pop("command")
    assert resumed["findings"]
    assert resumed == at_once


def test_another_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    command = ["check", "causal_gqa", "--targets", "numpy", "--dtypes", "float32", "--cases", "2", "--gradient-cases", "0"]
    command += ["--checks", "oracle", "--state", str(state)]
    assert main([*command, "--seed", "1"]) == 0
    assert kept.read(state).done == ("causal_gqa",)
    capsys.readouterr()
    assert main([*command, "--seed", "2"]) == 2
    said = f"{state}: is of a run with another seed, other specs, options or versions\n"
    assert capsys.readouterr().err == said
    assert main([*command, "--seed", "1"]) == 0  # nothing is left to do: the same report again
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"is": "Case"}', '{"is": "Nobody"}', "[" * 100_000])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    state.write_text(text, encoding="utf-8")
    assert main(["check", "causal_gqa", "--targets", "numpy", "--state", str(state)]) == 2
    assert capsys.readouterr().err == f"{state}: expected what an interrupted run left there, got something else\n"
    assert state.read_text(encoding="utf-8") == text


def test_a_run_that_could_not_be_kept_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = tmp_path / "no" / "state.json"
    few = ["check", "causal_gqa", "--targets", "numpy", "--cases", "1"]
    assert main([*few, "--state", str(nowhere)]) == 2
    assert capsys.readouterr().err == f"{nowhere}: No such file or directory\n"
    assert main([*few, "--state", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: Is a directory\n"
    assert main([*few, "--state", "state.json", "--inputs", "case.npz"]) == 2
    assert "--state: a run with --inputs cannot be kept" in capsys.readouterr().err
