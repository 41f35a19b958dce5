"""`attnspec generate` as a user calls it: exit codes, messages, and a variant of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attnspec.codegen.command import DRIFT, OK, USAGE, main
from compiling import SPECS

OWN = """
variant = "last_keys"
summary = "Attention to the last few keys."
masks   = ["window"]
[parameters]
left = { default = 3, examples = [3, 0] }
"""
ISOLATED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("attnspec", "pydantic", "torch", "jax"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import numpy as np
from last_keys import last_keys, last_keys_vjp
query = key = value = np.ones((1, 4, 2, 3), np.float32)
print(last_keys(query, key, value, left=1).sum(), sorted(last_keys_vjp(query, query, key, value)))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "last_keys.toml"
    path.write_text(OWN, encoding="utf-8")
    return path


def test_a_variant_of_ones_own_is_compiled_to_a_folder_and_runs_without_attnspec(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(own), "--out", str(out)]) == OK
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.py") if path.name != "__init__.py")
    direct = [f"{target}/last_keys.py" for target in ("jax", "keras", "numpy", "pallas", "pallas_tpu", "tensorflow", "torch")]
    blockwise = [f"{target}/last_keys_blockwise.py" for target in ("jax", "keras", "numpy", "tensorflow", "torch")]
    assert written == sorted([*direct, *blockwise, "triton/last_keys.py"])
    run = subprocess.run(
        [sys.executable, "-I", "-c", ISOLATED, str(out / "numpy")], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout == "24.0 ['key', 'query', 'value']\n"


@pytest.mark.parametrize(
    ("form", "suffixes"), [("direct", [""]), ("blockwise", ["_blockwise"]), ("both", ["", "_blockwise"]), ("auto", [""])]
)
def test_a_form_is_written_alone_where_it_is_asked_for(own: Path, tmp_path: Path, form: str, suffixes: list[str]) -> None:
    out = tmp_path / "out"
    assert main([str(own), "--target", "numpy", "--form", form, "--out", str(out)]) == OK
    assert sorted(path.stem for path in out.rglob("last*.py")) == [f"last_keys{suffix}" for suffix in suffixes]


def test_the_blockwise_form_alone_is_for_the_targets_that_have_it(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(own), "--form", "blockwise", "--out", str(out)]) == OK
    assert sorted(path.parent.name for path in out.rglob("last*")) == ["jax", "keras", "numpy", "tensorflow", "torch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bigbird"], "bigbird: blockwise: `block_layout` is not supported; "),
        (["causal_gqa", "--target", "r"], "r has no blockwise form, only numpy, torch, jax, tensorflow, keras have"),
    ],
)
def test_what_has_no_blockwise_form_is_refused_by_name(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--form", "blockwise", "--out", str(tmp_path)]) == USAGE
    assert capsys.readouterr().err.startswith(message)


def test_a_second_run_says_that_nothing_changed(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(own), "--target", "numpy", "--out", str(tmp_path / "out")]
    assert main(arguments) == OK
    assert main(arguments) == OK
    assert capsys.readouterr().out.splitlines() == ["4 files changed", "nothing to change"]


def test_drift_is_exit_code_1_with_a_diff_and_the_command_that_mends_it(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(own), "--target", "numpy", "--out", str(tmp_path / "out")]
    main(arguments)
    stale = tmp_path / "out" / "numpy" / "last_keys.py"
    stale.write_text(stale.read_text() + "# edited\n", encoding="utf-8")
    capsys.readouterr()
    assert main([*arguments, "--check"]) == DRIFT
    printed = capsys.readouterr()
    assert printed.err == f"out/numpy/last_keys.py is stale; run `attnspec generate {own} --out {tmp_path / 'out'}`\n"
    assert "-# edited\n" in printed.out
    assert stale.read_text().endswith("# edited\n")


def test_a_diff_is_no_failure_and_writes_nothing(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([str(own), "--target", "numpy", "--out", str(out), "--diff"]) == OK
    assert "+++ from the spec/numpy/last_keys.py" in capsys.readouterr().out
    assert not out.exists()


def test_no_drift_is_exit_code_0_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == OK
    assert capsys.readouterr() == ("", "")


def test_a_check_of_one_target_or_one_spec_leaves_the_rest_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--target", "numpy", "--api", "causal_gqa"]) == OK
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("spelling", [["gemma2"], ["--api", "gemma2"], ["--api", "causal_gqa", "gemma2"]])
def test_specs_are_named_either_way(spelling: list[str], tmp_path: Path) -> None:
    assert main([*spelling, "--target", "jax", "--out", str(tmp_path)]) == OK
    assert (tmp_path / "jax" / "gemma2.py").exists()


def test_a_file_of_ones_own_needs_a_folder(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(own)]) == USAGE
    assert capsys.readouterr().err == "attnspec generate: a TOML file needs --out FOLDER\n"


def test_an_unknown_name_is_a_usage_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gema2"]) == USAGE
    printed = capsys.readouterr().err
    assert "gema2" in printed
    assert "gemma2" in printed


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.toml"), "--out", str(tmp_path)]) == USAGE
    assert "none.toml" in capsys.readouterr().err


def test_all_errors_of_a_broken_spec_are_told(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own.write_text(OWN.replace('["window"]', '["windw"]\nmodifiers = ["softcp"]'), encoding="utf-8")
    assert main([str(own), "--out", str(tmp_path / "out")]) == USAGE
    told = capsys.readouterr().err
    assert "windw" in told
    assert "softcp" in told
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none_or_somebody_elses_is_a_usage_error(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(own), "--out", str(tmp_path / "file")]) == USAGE
    assert str(tmp_path / "file") in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text('{"name": "an app"}', encoding="utf-8")
    assert main([str(own), "--out", str(tmp_path)]) == USAGE
    assert capsys.readouterr().err == f"{tmp_path / 'manifest.json'} is not a manifest of generated files\n"


def test_an_unknown_option_or_target_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--tagret", "numpy"], ["--target", "mxnet"], ["--check", "--diff"]):
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == USAGE
    assert "invalid choice: 'mxnet'" in capsys.readouterr().err


def test_a_spec_that_no_target_can_express_is_refused_by_its_clause(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_text(
        OWN.replace(
            "[parameters]",
            '[policies]\nempty_row = "zero"\n"mask.fill" = {value = "replace", with = "-0.7 * max(float32)"}\n[parameters]',
        ),
        encoding="utf-8",
    )
    assert main([str(own), "--out", str(tmp_path / "out")]) == USAGE
    assert "last_keys: policy.empty_row: 'zero' needs the fill -inf" in capsys.readouterr().err


def test_a_layer_goes_to_every_target_but_that_of_another_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = str(SPECS / "projected_layer.toml")
    assert main([layer, "--out", str(tmp_path)]) == OK
    written = sorted(path.parent.name for path in tmp_path.glob("*/projected_layer.py"))
    assert written == ["jax", "keras", "numpy", "tensorflow", "torch"]
    assert main([layer, "--out", str(tmp_path), "--target", "tf_keras"]) == USAGE
    said = "tf_keras has layers of its own APIs alone; its programs take tensorflow's files"
    assert capsys.readouterr().err == f"projected_layer: {said}\n"
