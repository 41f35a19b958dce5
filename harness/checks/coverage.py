"""The run itself: every argument varied, and few enough cases judged nobody. A test that cannot fail is a defect."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from attnspec.harness.subjects import is_brought
from attnspec.harness.tally import Share, Tally, can_vary
from attnspec.spec.model import Spec

MOST_ILL_CONDITIONED = 0.05
MOST_VACUOUS = 0.05
ENOUGH = 40  # below this many cases a share says nothing
SIGMAS = 3.0  # a run is not wrong for what chance draws from a share that is right


def check(spec: Spec, tally: Tally) -> Iterator[str]:
    """The faults of the run for `spec`, one line each."""
    yield from _constant_arguments(spec, tally)
    yield from _unanswered(spec, tally)
    shares = {dtype: share for (name, dtype), share in tally.shares.items() if name == spec.name}
    for dtype, share in shares.items():
        yield from _shares(f"{spec.name} in {dtype}", share)
    sampled, vacuous = sum(share.sampled for share in shares.values()), sum(share.vacuous for share in shares.values())
    yield from _too_many(spec.name, "vacuous", vacuous, sampled, MOST_VACUOUS)


def _unanswered(spec: Spec, tally: Tally) -> Iterator[str]:
    """A user's function that refused every call passed nothing."""
    for (name, subject, dtype), cell in tally.cells.items():
        calls = cell.cases + cell.gradient_cases
        if name == spec.name and is_brought(subject) and calls and cell.unanswered == calls:
            yield f"{subject} in {dtype}: not one of {calls} calls was answered"


def _constant_arguments(spec: Spec, tally: Tally) -> Iterator[str]:
    taken = tally.taken[spec.name]
    for argument in (*spec.constructor, *spec.arguments):
        for member in argument.elements or (argument,):
            values = taken[member.name]
            if len(values) == 1 and can_vary(member):
                yield f"{spec.name}: `{member.name}` was {next(iter(values))} in every case of the run"


def _shares(where: str, share: Share) -> Iterator[str]:
    if share.invalid:
        yield f"{where}: {share.invalid} of {share.cases} cases are invalid calls, which the generator must not draw"
    yield from _too_many(where, "ill-conditioned", share.ill_conditioned, share.cases, MOST_ILL_CONDITIONED)


def _too_many(where: str, name: str, count: int, cases: int, most: float) -> Iterator[str]:
    if cases >= ENOUGH and count > most * cases + SIGMAS * sqrt(most * (1 - most) * cases):
        yield f"{where}: {count} of {cases} cases are {name}, more than {most:.0%}"
