"""Known deviations: where an installed framework departs from its own documents, as strict data.

An entry of `known_deviations.toml` excuses exactly one failure: one subject, version range, check, guard, and one thing seen
instead, in one clause, or in several that one cause reaches (the gradients of a layer's weights). Strict: an entry that
applies and no longer shows is an error of the run, one that the run never tried is reported. A documented difference between
two APIs is no deviation, and neither is a fault of ours.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from attnspec.harness import checks
from attnspec.harness.checks.failure import Failure
from attnspec.harness.configuration import Configuration
from attnspec.harness.facts import facts_as_meant
from attnspec.spec.expression import Expression, parse
from attnspec.spec.model import Spec
from attnspec.spec.resolve import EvaluationError, holds

FILE = Path(__file__).with_name("known_deviations.toml")


class DeviationError(ValueError):
    """A known-deviations file that is not one; the message names the entry and the key."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One entry. `versions` is a range such as `>=2.13,<2.14` of the subject's framework; `when` and `dtype` guard the call.

    `clause` may name several, `query,key`: each is excused, and one has to show; none of those that show `seldom`, which says
    why: where rounding is just over a bound, say.
    `shortcut` names one of the spec's, whose guard then holds too.
    """

    subject: str
    versions: str
    check: str
    clause: str
    seen: str
    why: str
    link: str = ""
    when: str = ""
    dtype: str = ""
    seldom: str = ""
    shortcut: str = ""

    def __str__(self) -> str:
        return f"{self.subject} {self.versions}: {self.check}, `{self.clause}`: {self.seen}. {self.why}"

    @property
    def guard(self) -> Expression | None:
        return parse(self.when) if self.when else None

    @property
    def clauses(self) -> tuple[str, ...]:
        return tuple(self.clause.split(","))

    def holds(self, spec: Spec, configuration: Configuration | None) -> bool:
        """Whether the guard holds for a call, or for what makes no call."""
        if configuration is None:
            return not (self.when or self.dtype or self.shortcut)
        return _holds(self, spec, configuration)

    def excuses(self, failure: Failure) -> bool:
        """Whether it is this failure, wherever the guard holds."""
        found = failure.subject, failure.check, failure.seen
        return found == (self.subject, self.check, self.seen) and failure.clause in self.clauses


def load(file: Path = FILE) -> tuple[Deviation, ...]:
    """The entries of a file; DeviationError names the first one that is wrong."""
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    unknown = set(data) - {"deviation"}
    if unknown:
        raise DeviationError(f"{file}: {sorted(unknown)[0]}: expected [[deviation]] entries only")
    return tuple(_entry(file, number, entry) for number, entry in enumerate(data.get("deviation", [])))


def _entry(file: Path, number: int, entry: Mapping[str, object]) -> Deviation:
    where = f"{file}: deviation[{number}]"
    names = {field.name for field in fields(Deviation)}
    for key, value in entry.items():
        if key not in names:
            raise DeviationError(f"{where}.{key}: unknown key; there are {', '.join(sorted(names))}")
        if not isinstance(value, str):
            raise DeviationError(f"{where}.{key}: expected text, got {value!r}")
    for key in ("subject", "versions", "check", "clause", "seen", "why"):
        if not entry.get(key):
            raise DeviationError(f"{where}.{key}: is missing")
    if entry["check"] not in checks.NAMES:
        raise DeviationError(f"{where}.check: expected one of {', '.join(checks.NAMES)}, got {entry['check']!r}")
    deviation = Deviation(**{key: str(value) for key, value in entry.items()})
    try:
        within("0", deviation.versions)
        deviation.guard  # noqa: B018  parses
    except ValueError as error:
        raise DeviationError(f"{where}: {error}") from None
    return deviation


_COMPARISON = re.compile(r"(==|>=|<=|<|>)\s*(\d+(?:\.\d+)*)")


def within(version: str, versions: str) -> bool:
    """Whether `version` is in the range, by its numbers alone: `2.13.0+cpu` is in `>=2.13,<2.14`."""
    have = _numbers(version)
    return all(_compares(have, part.strip()) for part in versions.split(","))


def _compares(have: tuple[int, ...], part: str) -> bool:
    match = _COMPARISON.fullmatch(part)
    if match is None:
        raise ValueError(f"versions: expected comparisons like `>=2.13`, got {part!r}")
    want = tuple(int(number) for number in match[2].split("."))
    width = max(len(have), len(want))
    left = have + (0,) * (width - len(have))
    right = want + (0,) * (width - len(want))
    return {"==": left == right, ">=": left >= right, "<=": left <= right, "<": left < right, ">": left > right}[match[1]]


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else (0,)


class Ledger:
    """The deviations that apply to a run, and what became of each."""

    def __init__(self, deviations: Iterable[Deviation], versions: Mapping[str, str], checks: Iterable[str]) -> None:
        """`versions` gives each subject of the run the version of its framework."""
        enabled = set(checks)
        self._open = [
            each
            for each in deviations
            if each.check in enabled and each.subject in versions and within(versions[each.subject], each.versions)
        ]
        self.seen: Counter[Deviation] = Counter()
        self._tried: set[Deviation] = set()
        self._holds: dict[tuple[Deviation, Configuration], bool] = {}

    def tried(self, subject: str, check: str, spec: Spec, configuration: Configuration | None, clause: str = "") -> None:
        """A check looked at the subject here: deviations whose guard holds ought to show. No clause means every one."""
        for each in self._open:
            concerned = (each.subject, each.check) == (subject, check) and clause in ("", *each.clauses)
            if concerned and each not in self._tried and self._guard_holds(each, spec, configuration):
                self._tried.add(each)

    @property
    def looked_for(self) -> tuple[Deviation, ...]:
        """Those that a check had an occasion to see."""
        return tuple(each for each in self._open if each in self._tried)

    def remember(self, seen: Mapping[Deviation, int], tried: Iterable[Deviation]) -> None:
        """What an earlier part of the run saw and tried."""
        self.seen.update(seen)
        self._tried.update(tried)

    def excuses(self, failure: Failure, spec: Spec) -> bool:
        """Whether the failure is a known deviation; it is counted then."""
        for each in self._open:
            if each.excuses(failure) and self._failure_in_guard(each, failure, spec):
                self.seen[each] += 1
                self._tried.add(each)
                return True
        return False

    @property
    def stale(self) -> tuple[Deviation, ...]:
        """Those that were tried and did not show: the framework changed, or the entry was never right."""
        return tuple(each for each in self._open if each in self._tried and not self.seen[each] and not each.seldom)

    @property
    def untried(self) -> tuple[Deviation, ...]:
        """Those that match nothing in the run."""
        return tuple(each for each in self._open if each not in self._tried)

    def _failure_in_guard(self, deviation: Deviation, failure: Failure, spec: Spec) -> bool:
        return self._guard_holds(deviation, spec, failure.case.configuration if failure.case else None)

    def _guard_holds(self, deviation: Deviation, spec: Spec, configuration: Configuration | None) -> bool:
        if configuration is None:
            return deviation.holds(spec, None)
        key = deviation, configuration
        if key not in self._holds:
            self._holds[key] = deviation.holds(spec, configuration)
        return self._holds[key]


def _holds(deviation: Deviation, spec: Spec, configuration: Configuration) -> bool:
    if deviation.dtype and configuration.dtype not in deviation.dtype.split(","):
        return False
    guards = [deviation.guard, *(each.when for each in spec.shortcuts if each.name == deviation.shortcut)]
    if deviation.shortcut and len(guards) == 1:
        return False
    known = facts_as_meant(spec, configuration)
    try:
        return all(holds(guard, known) for guard in guards)
    except EvaluationError:  # an invalid call need not have what the guard asks for
        return False
