"""`attnspec mutate`: what it plants, that it tells the dead from the living, and its exit codes."""

from __future__ import annotations

import tomllib

import pytest

from attnspec.harness import mutate_command
from attnspec.harness.cli import main
from attnspec.harness.mutants import mutants

SOURCE = '''
def attend(query, key, scale=1.0):
    """Attend: 2 < 3."""
    query = _tensor(query, 4)
    if scale <= 0:
        raise ValueError("`scale` must be over 0")
    logits = query @ key.T * scale
    return _softmax(logits)


def _tensor(array, rank):
    if array.ndim != rank:
        raise ValueError(rank + 1)
    return array


def _softmax(logits):
    return logits.astype(float)


def attend_vjp(d_output, scale):
    if scale <= 0:
        raise ValueError("`scale` must be over 0")
    return -d_output
'''


def test_mutants_are_one_change_each_of_what_computes() -> None:
    """Neither docstrings, defaults and error texts, nor what refuses; a gradient's refusals are those of the call."""
    found = list(mutants(SOURCE))
    assert [(mutant.line, mutant.change) for mutant in found] == [
        (5, "`0` becomes `1`"),
        (5, "`scale <= 0` becomes `scale < 0`"),
        (7, "`query @ key.T * scale` becomes `query @ key.T / scale`"),
        (18, "the cast in `logits.astype(float)` is dropped"),
        (24, "`-d_output` becomes `d_output`"),
    ]
    assert len({mutant.source for mutant in found}) == len(found)


def test_faults_of_the_code_are_found_and_what_lives_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["mutate", "causal_gqa", "--cases", "32", "--every", "9", "--kind", "code"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "causal_gqa for numpy, faults of the code: " in said
    assert "survived" not in said
    assert "  equivalent  line " in said


def test_more_survivors_than_the_limit_are_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutate_command, "survivors", lambda crew, spec, subjects, cases, seed: tuple(subjects))
    assert main(["mutate", "causal_gqa", "--kind", "code", "--every", "9"]) == 1
    assert "  survived    line " in capsys.readouterr().out


def test_an_implementation_that_fails_as_it_is_judges_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutate_command, "survivors", lambda crew, spec, subjects, cases, seed: ())
    assert main(["mutate", "causal_gqa", "--kind", "code", "--every", "9"]) == 1
    assert "the implementation itself fails" in capsys.readouterr().out


def test_a_fault_of_the_spec_is_compiled_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", "causal_gqa", "--cases", "32", "--every", "4", "--kind", "spec"]) == 0
    said = capsys.readouterr().out
    assert "faults of the spec: " in said
    assert "survived" not in said


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", "no such spec"]) == 2
    assert "no such spec" in capsys.readouterr().err


def test_every_known_equivalent_says_why() -> None:
    for entry in tomllib.loads(mutate_command.EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]:
        assert entry.keys() <= {"change", "why", "spec", "target"}
        assert entry["change"]
        assert entry["why"]
