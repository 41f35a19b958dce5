"""Hypothesis profiles: random examples at a desk, the same examples every time in continuous integration."""

import os

import pytest
from hypothesis import settings

settings.register_profile("desk", print_blob=True, deadline=None)
settings.register_profile("ci", print_blob=True, deadline=None, derandomize=True, database=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "desk")
settings.load_profile(PROFILE)


def pytest_report_header(config: pytest.Config) -> str:
    """Say which examples this run draws, so that a failure can be drawn again."""
    seed = config.getoption("hypothesis_seed", default=None)
    source = "derandomized" if PROFILE == "ci" else f"seed {seed}" if seed is not None else "random"
    return f"hypothesis: profile {PROFILE}, {source}"
