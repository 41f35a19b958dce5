"""The command line: exit codes, messages, and a replay in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnspec.harness import check_command
from attnspec.harness.cli import main
from planted_bugs.faults import FAULTS, HERE

API = "jax.nn.dot_product_attention"
RIGHT = f"{HERE / 'numpy_attention.py'}:dot_product_attention"
SHORT = ["--seed", "1", "--cases", "48", "--gradient-cases", "24", "--dtypes", "float32"]


def wrong(folder: Path, name: str = "window-edge-off-by-one") -> str:
    fault = next(fault for fault in FAULTS if fault.name == name)
    return f"{fault.write(folder)}:{fault.function}"


def test_a_right_subject_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", RIGHT, "--as", API, *SHORT]) == 0
    out = capsys.readouterr().out
    assert out.startswith("attnspec check, profile quick, seed 1: numpy ")
    assert "\npassed in " in out


def test_a_wrong_subject_is_found_and_replayed_by_the_printed_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", wrong(tmp_path), "--as", API, *SHORT]) == 1
    out = capsys.readouterr().out
    assert "oracle: `output` is outside the bound" in out
    token = next(line for line in out.splitlines() if line.startswith("  replay")).split()[-1]
    command = [sys.executable, "-m", "attnspec.harness.cli", "replay", token, "--alone"]
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.returncode == 1, again.stderr
    assert "`output` is outside the bound" in again.stdout
    assert "  call     query float32 " in again.stdout


def test_a_finding_that_was_repaired_does_not_show_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = wrong(tmp_path)
    main(["check", text, "--as", API, *SHORT, "--checks", "oracle", "--format", "json"])
    token = json.loads(capsys.readouterr().out)["findings"][0]["replay"].split()[-1]
    Path(text.rpartition(":")[0]).write_text((HERE / "numpy_attention.py").read_text())
    assert main(["replay", token, "--alone"]) == 0
    assert "it does not show any more" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["negative-window-accepted", "refusal-leaves-state", "scale-may-be-positional"])
def test_findings_without_an_array_replay_too(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", wrong(tmp_path, name), "--as", API, *SHORT, "--checks", "preconditions,signature", "--format", "json"])
    finding, *_ = json.loads(capsys.readouterr().out)["findings"]
    assert main(["replay", finding["replay"].split()[-1], "--alone"]) == 1
    assert finding["cause"].split(": ", 2)[2] in capsys.readouterr().out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", RIGHT, "--as", API, *SHORT, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["passed"], data["seed"]) == (1, True, 1)


@pytest.mark.parametrize(("name", "first"), [("json-lines", '{"event": "started"'), ("junit", "<?xml version="), ("full", "{")])
def test_every_format_is_written(name: str, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", RIGHT, "--as", API, *SHORT, "--checks", "oracle", "--format", name]) == 0
    assert capsys.readouterr().out.startswith(first)


def test_a_builtin_spec_is_checked_on_the_chosen_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "causal_gqa", "--targets", "numpy", *SHORT, "--format", "full"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {cell["subject"] for cell in data["matrix"]} == {"numpy:causal_gqa", "numpy:causal_gqa@blockwise"}


@pytest.mark.parametrize(
    ("arguments", "runs"), [([], False), (["--profile", "ci"], True), (["--targets", "numpy,pallas"], True)]
)
def test_a_quick_run_has_pallas_where_it_is_asked_for(arguments: list[str], runs: bool) -> None:
    parser = argparse.ArgumentParser()
    check_command.add_arguments(parser)
    lanes = check_command.plan_of(parser.parse_args(["causal_gqa", *arguments])).lanes
    assert "numpy" in lanes
    assert ("pallas" in lanes) == runs
    assert ("pallas_tpu" in lanes) == (runs and not arguments[-1].endswith("pallas"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "no.such.api"], "no.such.api"),
        (["check", "--as", API], "Expected one SUBJECT with --as, got 0"),
        (["check", "--generated", "nowhere"], "--generated: there is no folder nowhere"),
        (["check", "a:b"], "a:b: a function is checked as an API: add --as API"),
        (["check", "a:b", "c:d", "--as", API], "Expected one SUBJECT with --as, got 2: a:b c:d"),
        (["check", "attention", "--as", API], "Expected a subject like `my_module:my_attention`, got 'attention'"),
        (["check", "gone.py:f", "--as", API], "gone.py:f: there is no file gone.py"),
        (["check", "--python", "torch"], "--python: expected FRAMEWORK=PATH with one of numpy, torch, jax, "),
        (["replay", "nonsense"], "Expected the token of a finding or a file that holds one, got 'nonsense'"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["chekc"], ["check", "--checks", "orakel"], ["check", "--cases", "-1"], ["check", "--dtypes", "int8"], ["replay"]],
)
def test_argparse_refuses_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: attnspec" in capsys.readouterr().err


def test_a_broken_spec_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('variant = "mine"\nsummary = "Mine."\nmasks = ["causl"]\n')
    assert main(["check", str(tmp_path / "mine.toml")]) == 2
    assert "causl" in capsys.readouterr().err


def test_a_spec_without_implementations_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('variant = "mine"\nsummary = "Mine."\nmasks = ["causal"]\n')
    assert main(["check", str(tmp_path / "mine.toml"), *SHORT]) == 1
    out = capsys.readouterr().out
    assert "not covered: mine: no subject" in out
    assert "error of the run: nothing was checked" in out


def test_the_compiler_hangs_on_the_same_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["generate", "--help"])
    assert left.value.code == 0
    assert "usage: attnspec generate" in capsys.readouterr().out


def test_bench_measures_every_subject_of_a_spec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnspec.harness.bench_command._one_core", lambda: None)
    assert main(["bench", "causal_gqa", "--cases", "24", "--targets", "numpy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "numpy:causal_gqa"
    assert main(["bench", "no.such.api"]) == 2
