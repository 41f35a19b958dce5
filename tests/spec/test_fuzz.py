"""A sample of the mutated specs; `python -m tests.spec.fuzz --count 100000` loads them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mutated_specs_load_or_are_refused() -> None:
    seed = "0" if os.environ.get("CI") else str(os.getpid())
    command = [sys.executable, "-m", "tests.spec.fuzz", "--count", "2000", "--processes", "1", "--seed", seed]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"seed {seed}\n{run.stdout}{run.stderr}"
    assert "2000 mutants of" in run.stdout
    assert "0 failures" in run.stdout
