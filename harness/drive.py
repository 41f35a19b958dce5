"""Hypothesis chooses what to try: batches of cases, the whole pool once first, then as it likes.

A batch rather than a case is Hypothesis's example: it costs a lane one message, and the oracle works while the lanes do.
It is two choices, a byte string that picks the configurations and a first seed: drawing each case by itself takes longer
than judging it. Arrays are never drawn, for a case's seed makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attnspec.harness.configuration import Case, Configuration

BATCH = 32
SPARE = 8  # Hypothesis may draw the same batch twice, and does not count it then
WEYL = 0x9E3779B97F4A7C15  # odd: the seeds of a batch are all different
SEEDS = st.binary(min_size=8, max_size=8).map(lambda drawn: int.from_bytes(drawn, "big"))
"""Bytes, for among integers Hypothesis mixes those in the source of whatever modules are loaded: a seed would not give the same
cases in every process."""

QUIET = settings(
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def drive(pool: Sequence[Configuration], count: int, seed: int, handle: Callable[[Sequence[Case]], None]) -> None:
    """Call `handle` with batches of `count` cases in all. The same pool, count and seed give the same batches."""
    first = [Case(configuration, derive(seed, number)) for number, configuration in enumerate(pool[:count])]
    for start in range(0, len(first), BATCH):
        handle(first[start : start + BATCH])
    left = count - len(first)

    @hypothesis.seed(seed)
    @settings(QUIET, max_examples=-(-left // BATCH) + SPARE)
    @given(st.binary(min_size=BATCH, max_size=BATCH), SEEDS)
    def explore(picks: bytes, start: int) -> None:
        nonlocal left
        batch = [Case(pool[(pick + n) % len(pool)], (start + WEYL * n) % 2**64) for n, pick in enumerate(picks)]
        taken = batch[:left]
        left -= len(taken)
        if taken:
            handle(taken)

    if left > 0:
        explore()


def derive(seed: int, *path: object) -> int:
    """A 64-bit seed for one part of a run, different for every path."""
    text = repr((seed, *path)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
