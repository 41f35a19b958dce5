"""A seed gives the same cases in every process, whatever else is loaded there."""

import subprocess
import sys
from pathlib import Path

DRAW = """
import sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2:]:
    __import__(sys.argv[2])
from attnspec.harness.drive import drive
seeds = []
drive(("a configuration",), 6400, 1, lambda cases: seeds.extend(case.seed for case in cases))
print(seeds[1::32])
"""


def drawn(folder: Path, *modules: str) -> str:
    command = [sys.executable, "-c", DRAW, str(folder), *modules]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_numbers_in_a_users_modules_do_not_change_what_a_seed_draws(tmp_path: Path) -> None:
    numbers = ", ".join(str(7**n) for n in range(3, 22))
    (tmp_path / "full_of_numbers.py").write_text(f"NUMBERS = ({numbers})\n")
    assert drawn(tmp_path) == drawn(tmp_path, "full_of_numbers")
