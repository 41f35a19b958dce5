"""torch's own inputs for its layer and its function, which its wheel has: answered alike, every one of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


def test_every_input_of_torchs_own_tests_is_answered_alike() -> None:
    """In a process of its own: torch's test helpers change settings of torch and of Hypothesis."""
    script = Path(__file__).with_name("torch_owner_inputs.py")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    print(run.stdout)
    counts = {name: list(map(int, numbers)) for name, *numbers in re.findall(r"(\w+): (\d+)\D+(\d+)\D+(\d+)", run.stdout)}
    assert {name: len(set(numbers)) for name, numbers in counts.items()} == {"layer": 1, "function": 1}
    assert counts["layer"][0] >= 128 and counts["function"][0] >= 2
