"""Test files that need a process of their own: some frameworks abort the process when another one is loaded after them.

Such files are one test to whoever collects them beside others, `python -m pytest FILES` in a new process, which imports the
framework once; those for Keras are one test per backend. Where pytest is asked for such files alone, they are collected as
any others are, so that `FILE::test_name`, `-k` and `--pdb` work, with Keras on `KERAS_BACKEND`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ALONE = re.compile(r"test_(?:.*_)?(tensorflow|keras|triton)(?:_.*)?\.py")
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
        assert found is not None
        for backend in BACKENDS if found[1] == "keras" else ("",):
            name = f"{found[1]} in a process of its own{backend and f', on {backend}'}"
            yield Run.from_parent(self, name=name, backend=backend)


class Run(pytest.Item):
    """One run of pytest on the files."""

    def __init__(self, *, backend: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._backend = backend
        self._files = [str(self.path)]

    def join(self, other: Run) -> None:
        """Run the other's files too."""
        self._files += other._files

    def runtest(self) -> None:
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(self.config.rootpath), *self._files]
        environment = {**os.environ, **({"KERAS_BACKEND": self._backend} if self._backend else {})}
        run = subprocess.run(command, cwd=self.config.rootpath, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise Failed(f"{run.stdout}\n{run.stderr}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo, style)


def joined(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The items with one run for each framework and backend, in the place of its first."""
    kept: dict[str, pytest.Item] = {}
    for item in items:
        first = kept.setdefault(item.name if isinstance(item, Run) else item.nodeid, item)
        if first is not item and isinstance(first, Run) and isinstance(item, Run):
            first.join(item)
    return list(kept.values())


class Failed(Exception):
    """What the process printed."""
