"""Hypothesis profiles: random examples at a desk, the same ones in continuous integration. Files that run alone."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from attnspec.harness.lanes import compiled
from own_process import OwnProcess, asked_for_alone, is_alone, joined

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # most of the time goes into compiling what runs once
os.environ.setdefault("JAX_TRACEBACK_FILTERING", "off")  # and much of a call that must raise into shortening its traceback
for name, value in compiled.environment().items():  # what was compiled in the run before need not be compiled again
    os.environ.setdefault(name, value)
settings.register_profile("desk", print_blob=True, deadline=None)
settings.register_profile("ci", print_blob=True, deadline=None, derandomize=True, database=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "desk")
settings.load_profile(PROFILE)


def pytest_report_header(config: pytest.Config) -> str:
    """Say which examples this run draws, so that a failure can be drawn again."""
    seed = config.getoption("hypothesis_seed", default=None)
    source = "derandomized" if PROFILE == "ci" else f"seed {seed}" if seed is not None else "random"
    return f"hypothesis: profile {PROFILE}, {source}"


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """One test for a file that has to have a process to itself."""
    if not is_alone(module_path) or asked_for_alone(parent.config):
        return None
    return OwnProcess.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process for all files of a framework: importing it takes longer than most tests."""
    items[:] = joined(items)
