"""Every spec, the built-in ones and the small ones under tests/specs, on every installed framework, in the harness itself.

`make check` does the same with more cases and every dtype; here a run is short enough for each change.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from attnspec.codegen.kernels.coverage import reasons
from attnspec.codegen.module import covers
from attnspec.codegen.targets import TARGETS
from attnspec.codegen.targets.r import R
from attnspec.codegen.triton.language import LANGUAGE
from attnspec.codegen.write import changes
from attnspec.harness import known_deviations
from attnspec.harness.checks import NAMES
from attnspec.harness.conductor import Conductor
from attnspec.harness.plan import PROFILES, Item, Plan, is_spared, without_spared
from attnspec.harness.subjects import LANES, subjects_of, target_of
from attnspec.spec.loader import builtin, find
from attnspec.spec.model import Spec
from in_r import needs_r

SMALL = sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))
PROFILE = replace(PROFILES["quick"], compiled_pool=2, compiled_gradient_pool=1, shrink_seconds=5.0)
HALVES = ("float16", "bfloat16")
ALONE = ("r", "triton", "pallas", "pallas_tpu")
INSTALLED = tuple(lane for lane in LANES if lane not in ALONE and all(map(importlib.util.find_spec, lane.split("-"))))
KERAS = tuple(lane for lane in INSTALLED if lane.startswith("keras-"))


def test_specs(tmp_path: Path) -> None:
    """In one run: importing the frameworks takes longer than a spec.

    Each spec has float32 and, most of them, a half by turns: how a half is rounded is no matter of the spec. The small ones are
    on one of Keras's backends by turns: on all of them tests/codegen/test_capabilities_keras.py compares them with what is
    written by hand. Layers of other frameworks, and blockwise forms, are on one of them, as in any short run: on all of them
    tests/generated/test_keras_port.py, test_keras_attention.py and test_keras_blocks.py compare them with NumPy.
    """
    small = {str(file): find(str(file)) for file in SMALL}
    changes(small.values(), None, tmp_path, False).apply()
    items = []
    for (name, spec), half in zip(builtin().items(), cycle(HALVES)):
        items.append(item(spec, name, None, half, tuple(lane for lane in INSTALLED if not is_spared(spec, lane))))
    halves, backends = cycle(("", *HALVES)), cycle(KERAS[::-1] or ("",))
    for (name, spec), half, backend in zip(small.items(), halves, backends, strict=False):
        items.append(item(spec, name, tmp_path, half, _with_one_of(KERAS, backend)))
    plan = Plan(tuple(items), PROFILE, seed=1, lanes=INSTALLED, deviations=known_deviations.load())
    finished = Conductor(plan).run()
    assert finished.passed, "\n".join([*("\n".join(f.lines()) for f in finished.findings), *finished.errors])


def _with_one_of(several: Sequence[str], one: str) -> tuple[str, ...]:
    """The lanes that are here, of several only one."""
    return tuple(lane for lane in INSTALLED if lane == one or lane not in several)


def item(spec: Spec, reference: str, folder: Path | None, half: str, lanes: Sequence[str]) -> Item:
    """A spec on every one of these lanes, under what finds it again."""
    subjects = without_spared(subjects_of(spec, lanes, folder=folder))
    own = {subject.lane for subject in subjects if not subject.is_native}
    assert own == {lane for lane in lanes if covers(TARGETS[target_of(lane)], spec)}
    return Item(spec, reference, subjects, str(folder or ""), dtypes=(half, "float32") if half else ("float32",))


@needs_r
def test_r(tmp_path: Path) -> None:
    """Every spec in R, by one lane: it has float64, and no gradients."""
    check_alone("r", lambda spec: covers(R, spec), tmp_path, ("float64",), ("coverage", "arguments"))


def test_kernels(tmp_path: Path) -> None:
    """Every spec that has a kernel, by Triton's interpreter, which takes its time: what needs most calls `make check` does."""
    left_out = ("coverage", "arguments", "relations")
    check_alone("triton", lambda spec: not any(reasons(spec, LANGUAGE)), tmp_path, ("float16", "float32"), left_out)


def check_alone(
    lane: str, is_covered: Callable[[Spec], bool], folder: Path, dtypes: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    """The specs that a lane covers, by that lane alone, with fewer cases."""
    small = [spec for spec in (find(str(file)) for file in SMALL) if is_covered(spec)]
    changes(small, [lane], folder, False).apply()
    items = [Item(spec, spec.name, subjects_of(spec, (lane,))) for spec in builtin().values() if is_covered(spec)]
    items += [Item(spec, spec.name, subjects_of(spec, (lane,), folder=folder)) for spec in small]
    assert len(items) > len(small) > 0
    assert all(len(item.subjects) == 1 for item in items)
    checks = tuple(name for name in NAMES if name not in left_out)
    profile = replace(PROFILE, cases=16, gradient_cases=8)
    plan = Plan(tuple(items), profile, seed=1, lanes=(lane,), dtypes=dtypes, checks=checks)
    finished = Conductor(plan).run()
    assert finished.passed, "\n".join([*("\n".join(f.lines()) for f in finished.findings), *finished.errors])
