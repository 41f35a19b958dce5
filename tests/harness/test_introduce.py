"""A user's own function: which framework it needs, what keeps it from being called, and what of its API it offers."""

from __future__ import annotations

import json
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brought
from attnspec.harness.cli import main
from attnspec.harness.introduce import lane_of
from attnspec.harness.subjects import SubjectError
from attnspec.spec.loader import builtin

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
BROUGHT = brought.__file__
SHORT = ["--seed", "1", "--cases", "40", "--gradient-cases", "16", "--dtypes", "float32,float64"]


def checked(subject: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    code = main(["check", f"{BROUGHT}:{subject}", "--as", API, *SHORT, "--format", "full", *options])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else err


# -- what is checked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["adapted", "as_dataclass", "as_namespace"])
def test_an_adapter_covers_names_and_layouts(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [] if subject == "adapted" else ["--skip-check", "gradients"]  # the dataclass has no vjp
    code, data = checked(subject, capsys, *options)
    assert (code, data["findings"], data["errors"]) == (0, [], [])
    assert set(data["coverage"][API]["is_causal"]) == {"True", "False"}
    assert set(data["coverage"][API]["bias"]) == {"None"}


def test_only_supported_calls_are_judged_and_the_others_must_raise(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = checked("picky", capsys, "--skip-check", "gradients")
    assert (code, data["findings"], data["errors"]) == (0, [], [])
    assert {cell["dtype"] for cell in data["matrix"]} == {"float32"}
    code, data = checked("careless", capsys, "--skip-check", "gradients")
    assert code == 1
    assert [(each["check"], each["clause"], each["seen"]) for each in data["findings"]] == [
        ("preconditions", "N == K", "accepted")
    ]


def test_what_a_plain_function_lacks_is_not_asked_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = checked("plain_only", capsys, "--skip-check", "gradients,preconditions")
    assert (code, data["findings"], data["errors"]) == (0, [], [])
    assert set(data["coverage"][API]["mask"]) == {"None"}
    assert data["matrix"][0]["unanswered"] > 0  # grouped heads: NotImplementedError is a refusal


def test_a_subject_that_refuses_every_call_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = checked("refuses_everything", capsys, "--skip-check", "gradients,preconditions")
    assert (code, data["findings"]) == (1, [])
    assert data["errors"][0].endswith("refuses_everything in float32: not one of 40 calls was answered")


@pytest.mark.parametrize("subject", ["make()", "Attention()"])
def test_factories_and_classes_are_called_for_the_subject(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, data = checked(subject, capsys, "--checks", "oracle,answers")
    assert (code, data["findings"]) == (0, [])
    assert set(data["coverage"][API]["scale"]) == {"None", "0.5", "1.75"}


def test_an_adapters_finding_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(BROUGHT).read_text().replace("is_causal=causal", "is_causal=False")
    (tmp_path / "wrong.py").write_text(source)
    command = ["check", f"{tmp_path / 'wrong.py'}:adapted", "--as", API, *SHORT, "--checks", "oracle", "--format", "full"]
    assert main(command) == 1
    token = json.loads(capsys.readouterr().out)["findings"][0]["replay"].split()[-1]
    assert main(["replay", token, "--alone"]) == 1
    assert "`output` is outside the bound" in capsys.readouterr().out


# -- what cannot be checked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("gone", "there is no `gone` in "),
        ("not_a_function", "expected a function, a class or an adapter, got int"),
        ("Attention", "is a class and jax.nn.dot_product_attention a function: write"),
        ("needs_more", "requires `window`, which jax.nn.dot_product_attention does not have: give it a default"),
        ("two_tensors", "takes 2 argument(s) by position; jax.nn.dot_product_attention passes `query`, `key`, `value`"),
    ],
)
def test_what_cannot_be_called_is_2(subject: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = checked(subject, capsys)
    assert code == 2
    assert message in error


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"arguments": {"query": "q"}}, "the adapter's `arguments` lacks `key`"),
        ({"arguments": ["query", "key", "value", "biass"]}, 'lacks. Did you mean "bias"?'),
        ({"arguments": brought.NAMES | {"scale": "scale"}}, "a parameter 'scale' that the function lacks."),
        (
            {"layouts": {"query": "B N T"}},
            "the adapter's layout of `query` must have the letters B H N T or H N T, got 'B N T'",
        ),
        ({"layouts": {"queries": "B"}}, 'lacks. Did you mean "query"?'),
        ({"requires": ["N = K"]}, "the adapter's `requires`: 'N = K': not a complete expression"),
        ({"dtypes": ["bfloat15"]}, "the adapter's `dtypes` has none of float16, bfloat16, float32, float64"),
    ],
)
def test_a_wrong_adapter_is_2(
    entries: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"import brought\nadapter = brought.adapted | {entries!r}\n")
    assert main(["check", f"{file}:adapter", "--as", API, *SHORT]) == 2
    assert message in capsys.readouterr().err


# -- where it runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "lane"),
    [("import numpy", "numpy"), ("import hypothesis, numpy", "numpy"), ("", "jax"), ("import tensorflow", "tensorflow")],
)
def test_the_framework_is_what_importing_brings_along(source: str, lane: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    pytest.importorskip(lane)
    assert lane_of(f"{file}:f", SPEC) == lane


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os._exit(7)", "cannot be imported: the process ended with 7"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(source: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(SubjectError, match=error):
        lane_of(f"{file}:f", SPEC)
    with pytest.raises(SubjectError, match="there is no interpreter /nowhere/python"):
        lane_of(f"{file}:f", SPEC, "/nowhere/python")


def test_another_interpreter_needs_numpy_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment with NumPy and nothing else: no pydantic, no execnet, no hypothesis, no attnspec."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    packages = next((tmp_path / "env").glob("lib/python*/site-packages"))
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    python = str(tmp_path / "env" / "bin" / "python")
    file = tmp_path / "mine.py"
    file.write_text(
        "import importlib.util, sys\n"
        "assert not any(map(importlib.util.find_spec, ('pydantic', 'execnet', 'hypothesis')))\n"
        f"sys.path.append({str(Path(BROUGHT).parent)!r})\n"
        "from brought import adapted\n"
        f"assert sys.executable == {python!r}\n"
    )
    command = ["check", f"{file}:adapted", "--as", API, *SHORT, "--python", python, "--format", "full"]
    assert main(command) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["matrix"][0]["cases"] == 40
    assert sys.executable != python
