"""What a run is asked to do: which specs and subjects, how many cases, which checks, at which seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnspec.harness import checks
from attnspec.harness.inputs import Inputs
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.lanes.process import GIB
from attnspec.harness.subjects import LANES, Subject
from attnspec.spec.model import Spec


@dataclass(frozen=True, slots=True)
class Profile:
    """How much a run tries. The compiled pools are what a lane gets that compiles each configuration anew."""

    name: str
    pool: int
    compiled_pool: int
    compiled_gradient_pool: int
    cases: int
    gradient_cases: int
    shrink_seconds: float
    shrink_examples: int

    @property
    def is_short(self) -> bool:
        """Whether it spares what takes long: compiling."""
        return self.compiled_pool < self.pool


PROFILES: Mapping[str, Profile] = {
    "quick": Profile("quick", 24, 4, 2, 48, 24, 8.0, 200),
    "ci": Profile("ci", 24, 24, 24, 512, 256, 20.0, 500),
    "full": Profile("full", 48, 48, 48, 2048, 2048, 60.0, 2000),
    "nightly": Profile("nightly", 96, 96, 96, 16384, 8192, 60.0, 2000),
}
COMPILED: Mapping[str, int] = {"jax": 1, "keras-jax": 2, "triton": 2, "pallas": 1, "pallas_tpu": 4}
"""Lanes that take long over each configuration, as they compile it or interpret every step, and what part of the compiled
pools they get: 2 is a half."""
FIRST: Mapping[str, int] = {"triton": 7, "pallas": 7, "pallas_tpu": 7}
"""Where that part begins: sizes around the blocks of kernels, not the smallest."""
ON_REQUEST = ("pallas", "pallas_tpu")
"""Lanes that a short run has only where they are asked for: of each spec they compile some programs, for seconds each."""
ONE_BACKEND = ("keras-jax", "keras-tensorflow")
"""Lanes that a short run spares the layers of other frameworks, and blockwise forms: these are the same operations on all of
Keras's backends, and torch compiles nothing."""
DTYPES = ("float16", "bfloat16", "float32", "float64")


def is_spared(spec: Spec, lane: str) -> bool:
    """Whether a short run that names no lanes has the spec without this one."""
    return lane in ON_REQUEST or (lane in ONE_BACKEND and spec.form == "layer" and spec.owner != "keras")


def without_spared(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """The subjects of a short run that names no lanes: other forms than the direct one are on one of Keras's backends."""
    return tuple(each for each in subjects if each.is_native or each.lane not in ONE_BACKEND or "@" not in each.name)


@dataclass(frozen=True, slots=True)
class Item:
    """One spec with its subjects. `reference` finds the spec again: a built-in's name or a file's path."""

    spec: Spec
    reference: str
    subjects: tuple[Subject, ...]
    generated: str = ""
    dtypes: tuple[str, ...] = DTYPES


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `inputs` are a user's own tensors, for the only item; `command` is what does the same again;
    in `state` it keeps what it is done with.

    `interpreters` gives a lane another Python; `lanes` lists the ones to start.
    """

    items: tuple[Item, ...]
    profile: Profile
    seed: int
    lanes: tuple[str, ...] = LANES
    dtypes: tuple[str, ...] = DTYPES
    checks: tuple[str, ...] = checks.NAMES
    deviations: tuple[Deviation, ...] = ()
    inputs: tuple[Inputs, ...] = ()
    interpreters: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 120.0
    memory: int = 8 * GIB
    command: str = ""
    state: Path | None = None
