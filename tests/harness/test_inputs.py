"""A user's saved tensors: read as the call that they are, refused with a reason, judged like any other case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness import check, inputs
from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.cli import main
from attnspec.harness.inputs import InputsError
from attnspec.harness.scripts.verdict import shows
from attnspec.spec.loader import builtin
from planted_bugs.faults import FAULTS, HERE

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
RIGHT = f"{HERE / 'numpy_attention.py'}:dot_product_attention"
ONLY_THEM = ["--as", API, "--seed", "1", "--cases", "0", "--gradient-cases", "0", "--checks", "answers,oracle,gradients"]
Q, K, V = (np.random.default_rng(n).standard_normal((1, size, 2, 4), np.float32) for n, size in enumerate((3, 5, 5)))


def saved(folder: Path, **entries: object) -> Path:
    np.savez(folder / "case.npz", **entries)  # type: ignore[arg-type]
    return folder / "case.npz"


@pytest.mark.parametrize("name", builtin())
def test_every_call_can_be_saved(name: str, tmp_path: Path) -> None:
    spec = builtin()[name]
    for configuration in pool(spec, "float32", 12):
        given = arrays(Case(configuration, 7), spec)
        settings = [
            f"{key}={value!r}" for key, value in configuration.values if not spec.argument(key).role.startswith("tensor")
        ]
        placed = any(spec.argument(key).role.startswith("tensor") for key, _ in configuration.values)
        if placed:  # one array in two places would be saved twice
            continue
        found = inputs.read(saved(tmp_path, **given), settings, spec)
        assert dict(found.case.configuration.tensors) == dict(configuration.tensors)
        assert dict(found.case.configuration.values) == dict(configuration.values)
        assert found.given.keys() == given.keys()
        for key, array in given.items():
            np.testing.assert_array_equal(found.given[key], array)


@pytest.mark.parametrize(
    ("entries", "settings", "message"),
    [
        (
            {"query": Q, "keys": K, "value": V},
            [],
            "`keys` is no argument of jax.nn.dot_product_attention that may be given here.",
        ),
        ({"query": Q, "key": K}, [], "`value` is missing; there are `query`, `key`"),
        ({"query": Q, "key": K[..., :3], "value": V}, [], "`key` must have shape (B, S, K, H), got (1, 5, 2, 3)"),
        ({"query": Q, "key": K, "value": V.astype(float)}, [], "`value` is float64"),
        ({"query": Q.astype(int), "key": K, "value": V}, [], "`query` is int64"),
        ({"query": Q, "key": K, "value": V, "mask": K}, [], "`mask` must be bool, got float32"),
        (
            {"query": Q, "key": K, "value": V, "d_output": Q[:, :1]},
            [],
            "`d_output` must have shape (1, 3, 2, 4), got (1, 1, 2, 4)",
        ),
        ({"query": Q, "key": K, "value": V}, ["scal=2"], 'Did you mean "scale"?'),
        ({"query": Q, "key": K, "value": V}, ["key=2"], "`key` is no argument of"),
        ({"query": Q, "key": K, "value": V}, ["scale"], "--set: expected name=value, got 'scale'"),
        ({"query": Q, "key": K, "value": V}, ["local_window_size=-1"], "the call breaks `window-not-negative`"),
    ],
)
def test_what_is_no_call_is_refused(
    entries: dict[str, object], settings: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, **entries)
    with pytest.raises(InputsError) as raised:
        inputs.read(file, settings, SPEC)
    assert message in str(raised.value)
    more = [word for each in settings for word in ("--set", each)]
    assert main(["check", RIGHT, *ONLY_THEM, "--inputs", str(file), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "case.npz").write_text("no")
    for name in ("case.npz", "gone.npz"):
        with pytest.raises(InputsError, match=r"expected an \.npz file with one array for each argument"):
            inputs.read(tmp_path / name, [], SPEC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "scale=2"], "--set: there is no --inputs whose call it is about"),
        (["causal_gqa", "gemma2", "--inputs", "case.npz"], "--inputs: expected one SPEC or SUBJECT, got 2"),
    ],
)
def test_wrong_usage_is_2(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_answer_to_them_is_a_finding_with_its_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "causal-aligned-bottom-right")
    subject, file = f"{fault.write(tmp_path)}:{fault.function}", saved(tmp_path, query=Q, key=K, value=V, is_causal=True)
    command = ["check", subject, *ONLY_THEM, "--inputs", str(file), "--set", "scale=0.5", "--format", "full"]
    assert main(command) == 1
    run = json.loads(capsys.readouterr().out)
    (finding,) = run["findings"]
    assert finding["cause"].endswith("`mask.causal` is aligned bottom-right (`s <= t + (S - T)`), declared `s <= t`")
    assert finding["case"].endswith("scale=0.5, is_causal=True")
    assert finding["replay"] == f"attnspec check {subject} --as {API} --inputs {file} --set scale=0.5"
    exec(compile(run["evidence"][0]["script"], "script", "exec"), {})
    assert shows(capsys.readouterr().out)


def test_a_right_answer_passes(tmp_path: Path) -> None:
    file = saved(tmp_path, query=Q, key=K, value=V)
    run = check(RIGHT, API, cases=0, gradient_cases=0, checks=("oracle", "gradients"), inputs=[file], settings={"scale": 0.25})
    assert run.passed, run.findings
    assert run.tally.cases == 2, "forward, and with gradients"
