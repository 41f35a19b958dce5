"""Every spec, the built-in ones and the small ones under tests/specs, on every installed framework, in the harness itself.

`make check` does the same with more cases and every dtype; here a run is short enough for each change.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from attnspec.codegen.module import covers
from attnspec.codegen.targets import TARGETS
from attnspec.codegen.targets.r import R
from attnspec.codegen.triton.coverage import reasons
from attnspec.codegen.write import changes
from attnspec.harness import known_deviations
from attnspec.harness.checks import NAMES
from attnspec.harness.conductor import Conductor
from attnspec.harness.plan import PROFILES, Item, Plan
from attnspec.harness.subjects import LANES, subjects_of, target_of
from attnspec.spec.loader import builtin, find
from attnspec.spec.model import Spec
from in_r import needs_r

SMALL = sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))
PROFILE = replace(PROFILES["quick"], cases=48, gradient_cases=24, compiled_pool=3, compiled_gradient_pool=2, shrink_seconds=5.0)
INSTALLED = tuple(lane for lane in LANES if all(map(importlib.util.find_spec, lane.split("-"))))


def is_covered(spec: Spec, target: str) -> bool:
    """Whether generated files of the target are there for the spec."""
    return not any(reasons(spec)) if target == "triton" else covers(TARGETS[target], spec)


def check(specs: Mapping[str, Spec], folder: Path | None, dtypes: tuple[str, ...]) -> None:
    """One run of the specs, each under what finds it again: importing the frameworks takes longer than a spec."""
    items = []
    for reference, spec in specs.items():
        subjects = subjects_of(spec, INSTALLED, folder=folder)
        own = {subject.lane for subject in subjects if not subject.is_native}
        assert own == {lane for lane in INSTALLED if is_covered(spec, target_of(lane))}
        items.append(Item(spec, reference, subjects, str(folder or "")))
    plan = Plan(
        tuple(items),
        PROFILE,
        seed=1,
        lanes=INSTALLED,
        dtypes=dtypes,
        deviations=known_deviations.load(),
    )
    finished = Conductor(plan).run()
    assert finished.passed, "\n".join([*("\n".join(f.lines()) for f in finished.findings), *finished.errors])


def test_built_in_specs() -> None:
    check(builtin(), None, ("float16", "bfloat16", "float32"))


def test_small_specs(tmp_path: Path) -> None:
    specs = {str(file): find(str(file)) for file in SMALL}
    changes(specs.values(), None, tmp_path, False).apply()
    check(specs, tmp_path, ("bfloat16", "float32"))


@needs_r
def test_r(tmp_path: Path) -> None:
    """Every spec in R, by one lane: it has float64, and no gradients."""
    small = [find(str(file)) for file in SMALL]
    changes(small, ["r"], tmp_path, False).apply()
    items = [Item(spec, spec.name, subjects_of(spec, ("r",))) for spec in builtin().values() if covers(R, spec)]
    items += [Item(spec, spec.name, subjects_of(spec, ("r",), folder=tmp_path)) for spec in small]
    assert all(len(item.subjects) == 1 for item in items)
    checks = tuple(name for name in NAMES if name not in ("coverage", "arguments"))
    plan = Plan(tuple(items), replace(PROFILE, cases=24), seed=1, lanes=("r",), dtypes=("float64",), checks=checks)
    finished = Conductor(plan).run()
    assert finished.passed, "\n".join([*("\n".join(f.lines()) for f in finished.findings), *finished.errors])
