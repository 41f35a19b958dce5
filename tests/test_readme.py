"""What README.md shows is what the tool prints, and its example compiles and passes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from attnspec.harness.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_commands_are_check_and_test() -> None:
    assert re.findall(r"^    (\S+ \S+)", README, flags=re.MULTILINE)[:2] == ["make check", "make test"]


@pytest.mark.parametrize("block", [block for block in blocks("console") if block.startswith("$ attnspec compare")])
def test_the_compared_answers_are_the_tools_own(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, _, printed = block.partition("\n")
    assert main(command.removeprefix("$ attnspec ").split()) == 0
    assert capsys.readouterr().out.strip() == printed.strip()


def test_the_differences_are_the_tools_own(capsys: pytest.CaptureFixture[str]) -> None:
    """`...` stands for what is left out."""
    (block,) = (block for block in blocks("console") if block.startswith("$ attnspec differences"))
    command, _, shown = block.partition("\n")
    assert main(command.removeprefix("$ attnspec ").split()) == 0
    printed = capsys.readouterr().out
    parts = [part.strip() for part in shown.split("...\n")]
    places = [printed.index(part) for part in parts]
    assert len(parts) == 4
    assert places == sorted(places)


def test_the_explained_blocks_are_the_tools_own(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("console") if block.startswith("$ attnspec explain"))
    command, _, printed = block.partition("\n")
    assert main(command.removeprefix("$ attnspec ").split()) == 0
    assert capsys.readouterr().out == printed


def test_the_users_variant_has_15_lines_compiles_and_passes(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 15
    file, folder = tmp_path / "my_attention.toml", tmp_path / "mine"
    file.write_text(text, encoding="utf-8")
    assert main(["generate", str(file), "--out", str(folder)]) == 0
    few = ["--cases", "32", "--gradient-cases", "32", "--targets", "numpy,torch", "--dtypes", "float32"]
    assert main(["check", str(file), "--generated", str(folder), *few]) == 0


def test_the_shares_of_time_are_those_that_were_measured() -> None:
    """Every number of the table is one of the committed results."""
    cases = json.loads((ROOT / "benchmarks" / "results" / "blockwise.json").read_text(encoding="utf-8"))["cases"]
    rows = [line for line in README.splitlines() if re.match(r"\| (torch|jax|TensorFlow|Keras on \w+|NumPy), ", line)]
    shown = {
        (row.split(",")[0][2:].lower().replace(" on ", "_"), number)
        for row in rows
        for number in re.findall(r"\d\.\d\d(?= )", row)
    }
    measured = {(name.partition("-")[0], f"{case['ratio']:.2f}") for name, case in cases.items()}
    assert len(rows) == 25
    assert shown <= measured
