"""Test files that need a process of their own: some frameworks abort the process when another one is loaded after them.

Such a file is one test to whoever collects it beside others, `python -m pytest FILE` in a new process; a file for Keras is one
per backend. Where pytest is asked for such files alone, they are collected as any others are, so that `FILE::test_name`, `-k`
and `--pdb` work, with Keras on `KERAS_BACKEND`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ALONE = re.compile(r"test_(?:.*_)?(tensorflow|keras)(?:_.*)?\.py")
BACKENDS = ("jax", "tensorflow", "torch")  # Keras has one per process


def is_alone(path: Path) -> bool:
    """Whether the file is one that shares its process with no other framework."""
    return bool(ALONE.fullmatch(path.name))


def asked_for_alone(config: pytest.Config) -> bool:
    """Whether nothing but such files was asked for."""
    return all(is_alone(Path(argument.partition("::")[0])) for argument in config.args)


class OwnProcess(pytest.File):
    """A file that is run and not imported."""

    def collect(self) -> Iterator[pytest.Item]:
        found = ALONE.fullmatch(self.path.name)
        for backend in BACKENDS if found and found[1] == "keras" else ("",):
            yield Run.from_parent(self, name=f"in a process of its own{backend and f', on {backend}'}", backend=backend)


class Run(pytest.Item):
    """One run of pytest on the file."""

    def __init__(self, *, backend: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._backend = backend

    def runtest(self) -> None:
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(self.config.rootpath), str(self.path)]
        environment = {**os.environ, **({"KERAS_BACKEND": self._backend} if self._backend else {})}
        run = subprocess.run(command, cwd=self.config.rootpath, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise Failed(f"{run.stdout}\n{run.stderr}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo, style)


class Failed(Exception):
    """What the process printed."""
