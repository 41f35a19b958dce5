"""R for tests: skipped where it is not installed, except in continuous integration, where it has to be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from attnspec.codegen.r.module import module_text
from attnspec.harness.lanes.in_r import RFunction
from attnspec.spec.loader import load
from attnspec.spec.model import Spec
from compiling import GENERATED, SPECS

HAS_R = shutil.which("Rscript") is not None or bool(os.environ.get("CI"))
needs_r = pytest.mark.skipif(not HAS_R, reason="R is not installed")
PACKAGE = GENERATED / "r"


def r_function(spec: Spec, folder: Path) -> RFunction:
    """The function of a spec, compiled into `folder`."""
    file = folder / f"{spec.module_name}.R"
    file.write_text(module_text(spec), encoding="utf-8")
    return RFunction(str(file), spec.module_name)


def r_capability(name: str, folder: Path) -> RFunction:
    """The function of one of `tests/specs`."""
    return r_function(load(SPECS / f"{name}.toml"), folder)


def run_r(code: str) -> str:
    """What R prints. A failure of R is one of the test."""
    command = ["Rscript", "--vanilla", "/dev/stdin"]  # an argument would be cut off after some 10,000 characters
    ended = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
