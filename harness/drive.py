"""Hypothesis chooses what to try: batches of cases, the whole pool once first, then as it likes.

A batch rather than a case is Hypothesis's example: it costs a lane one message, and the oracle works while the lanes do.
Arrays are never drawn: a case is a configuration and a 64-bit seed, and the seed makes them (95 against 1,600 a second).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attnspec.harness.configuration import Case, Configuration

BATCH = 32
SPARE = 8  # Hypothesis begins with the simplest batch, one case repeated, and repeats itself at times: those count once
SEEDS = st.integers(0, 2**64 - 1)

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
    cases = st.lists(st.builds(Case, st.sampled_from(pool), SEEDS), min_size=BATCH, max_size=BATCH)

    @hypothesis.seed(seed)
    @settings(QUIET, max_examples=-(-left // BATCH) + SPARE)
    @given(cases)
    def explore(batch: list[Case]) -> None:
        nonlocal left
        taken = list(dict.fromkeys(batch))[:left]
        left -= len(taken)
        if taken:
            handle(taken)

    if left > 0:
        explore()


def derive(seed: int, *path: object) -> int:
    """A 64-bit seed for one part of a run, different for every path."""
    text = repr((seed, *path)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
