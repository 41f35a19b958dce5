"""Every spec, the built-in ones and the small ones under tests/specs, on every installed framework, in the harness itself.

`make check` does the same with more cases and every dtype; here a run is short enough for each change.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from attnspec.codegen.targets import TARGETS
from attnspec.codegen.write import changes
from attnspec.harness import known_deviations
from attnspec.harness.conductor import Conductor
from attnspec.harness.plan import PROFILES, Item, Plan
from attnspec.harness.subjects import LANES, subjects_of
from attnspec.spec.loader import builtin, find
from attnspec.spec.model import Spec

SMALL = sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))
PROFILE = replace(PROFILES["quick"], cases=48, gradient_cases=24, compiled_pool=3, compiled_gradient_pool=2, shrink_seconds=5.0)
INSTALLED = tuple(lane for lane in LANES if importlib.util.find_spec(lane))


def check(spec: Spec, reference: str, folder: Path | None, dtypes: tuple[str, ...]) -> None:
    subjects = subjects_of(spec, INSTALLED, folder=folder)
    assert {subject.lane for subject in subjects} == set(INSTALLED)
    plan = Plan(
        (Item(spec, reference, subjects, str(folder or "")),),
        PROFILE,
        seed=1,
        lanes=INSTALLED,
        dtypes=dtypes,
        deviations=known_deviations.load(),
    )
    finished = Conductor(plan).run()
    assert finished.passed, "\n".join([*("\n".join(f.lines()) for f in finished.findings), *finished.errors])


@pytest.mark.parametrize("name", builtin())
def test_built_in_spec(name: str) -> None:
    check(builtin()[name], name, None, ("float16", "bfloat16", "float32"))


@pytest.mark.parametrize("file", SMALL, ids=lambda file: file.stem)
def test_small_spec(file: Path, tmp_path: Path) -> None:
    spec = find(str(file))
    changes([spec], list(TARGETS), tmp_path, False).apply()
    check(spec, str(file), tmp_path, ("bfloat16", "float32"))
