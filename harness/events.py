"""What a run tells its reporters, as it happens. Reporters subscribe; nothing else prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnspec.harness.findings import Finding
    from attnspec.harness.known_deviations import Deviation
    from attnspec.harness.plan import Item
    from attnspec.harness.tally import Tally


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins. `versions` holds each lane's distributions, `not_covered` why a lane or spec is left out, `missing` why
    a lane that was asked for is not there, `command` what was typed, with the run's seed."""

    seed: int
    profile: str
    checks: tuple[str, ...]
    versions: Mapping[str, Mapping[str, str]]
    not_covered: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A batch was judged: `done` of `total` cases of this spec, dtype and kind.

    Of the run so far: cases per second of each lane, the worst error over bound but for known deviations, what will be findings
    where causes are not shared, and the seconds that are `left`.
    """

    spec: str
    dtype: str
    gradient: bool
    done: int
    total: int
    pace: Mapping[str, float] = field(default_factory=dict)
    worst: float = 0.0
    findings: int = 0
    left: float = inf


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, in its smallest form."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. `errors` are the run's own faults (nothing varied, ill-conditioned, stale deviations)."""

    seconds: float
    tally: Tally
    findings: tuple[Finding, ...]
    deviations: Mapping[Deviation, int]
    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not self.findings and not self.errors


Event = Started | Progress | Found | Finished
Subscriber = Callable[[Event], None]
