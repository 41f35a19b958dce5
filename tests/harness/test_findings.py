"""Findings: their text, and that a replay token brings everything back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import oracle
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.findings import (
    Finding,
    Replay,
    ReplayError,
    Shown,
    answers_at,
    case_text,
    read_replay,
    size_of,
    worst_text,
)
from attnspec.harness.lanes.messages import Answer, Lost, Raised, Returned, Tensor
from attnspec.harness.oracle import Gold, Verdict
from attnspec.harness.subjects import Subject
from attnspec.spec.loader import builtin

SPEC = builtin()["jax.nn.dot_product_attention"]
POOL = pool(SPEC, "float32", 24)
CASE = Case(POOL[0], 2**64 - 1)
SUBJECT = Subject("numpy:x", SPEC.name, "numpy", "/somewhere/x.py", "f")
FAILURE = Failure(
    "numpy:x", "oracle", "output", "outside the bound", "`output` is outside the bound", SPEC.name, CASE,
    Worst((0, 1), 0.5, 0.25, 1e-3, 250.0),
)  # fmt: skip


def test_a_finding_begins_with_its_cause_and_ends_with_its_command() -> None:
    answers = Shown("numpy:x", "0.5  (error/bound at most 250)"), Shown("native:y", "0.25  (error/bound at most 0.1)")
    finding = Finding(FAILURE, "query float32 1x1", 3, 96, ("float32",), {"numpy": "2"}, answers, "attnspec replay abc")
    assert list(finding.lines()) == [
        "numpy:x: oracle: `output` is outside the bound",
        "  call     query float32 1x1",
        "  worst    output[0, 1]: got 0.5, want 0.25 +- 0.001, error/bound 250",
        "  answers  numpy:x   0.5  (error/bound at most 250)",
        "           native:y  0.25  (error/bound at most 0.1)",
        "  shown by 3 of 96 cases (float32)",
        "  versions numpy 2",
        "  replay   attnspec replay abc",
    ]


def test_a_scalar_has_no_index() -> None:
    assert worst_text("output", Worst((), 1.0, 2.0, 0.5, 2.0)) == "output[]: got 1, want 2 +- 0.5, error/bound 2"


def test_every_answer_is_shown_at_the_worst_element() -> None:
    verdict = Verdict({"output": Gold(np.array([1.0, 2.0]), np.array([0.5, 0.5]), "float32", None)}, {}, False)

    def output(*values: float) -> Returned:
        return Returned({"output": Tensor(np.array(values, np.float32), "float32")})

    answers: dict[str, Answer] = {
        "wrong": output(1.0, 4.0),
        "right": output(1.0, 2.25),
        "misshapen": output(1.0),
        "raises": Raised(("ValueError",), "no"),
        "lost": Lost("hung", "no sign of life for 2 s"),
        "silent": Returned({}),
    }
    evidence = Evidence(SPEC, CASE, verdict, answers)
    failure = next(iter(oracle.check(evidence)))
    assert [(shown.subject, shown.text) for shown in answers_at(evidence, failure)] == [
        ("wrong", "4  (error/bound at most 4)"),
        ("right", "2.25  (error/bound at most 0.5)"),
        ("misshapen", "shape (1,), expected (2,)"),
        ("raises", "raised ValueError: no"),
        ("lost", "hung (no sign of life for 2 s)"),
        ("silent", "nothing"),
    ]


def test_the_call_shows_only_what_is_not_default() -> None:
    causal = next(c for c in POOL if dict(c.values).get("is_causal"))
    text = case_text(SPEC, Case(causal, 1))
    assert "is_causal=True" in text
    assert "return_residual=False" not in text
    assert text.startswith("query float32 ")


# -- replay -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configuration", [*POOL, None])
def test_a_token_brings_everything_back(configuration: object) -> None:
    case = Case(configuration, 2**64 - 1) if configuration else None  # type: ignore[arg-type]
    replay = Replay("some/spec.toml", SUBJECT, "oracle", "output", case, "/generated")
    assert read_replay(replay.to_token()) == replay
    assert read_replay(replay.to_text()) == replay


def test_a_token_may_be_in_a_file(tmp_path: Path) -> None:
    replay = Replay(SPEC.name, SUBJECT, "oracle", "output", CASE)
    for text in (replay.to_token(), replay.to_text(), f"{replay.to_token()}\n"):
        (tmp_path / "finding").write_text(text)
        assert read_replay(str(tmp_path / "finding")) == replay


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", json.dumps({"spec": "x"}), "eJw"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ReplayError, match="Expected the token of a finding or a file that holds one, got "):
        read_replay(text)


def test_fewer_numbers_are_smaller() -> None:
    sizes = [size_of(Case(configuration, 0))[0] for configuration in POOL]
    assert min(sizes) == sizes[sizes.index(min(sizes))] > 0
    assert size_of(Case(POOL[0], 1)) < size_of(Case(POOL[0], 2))
