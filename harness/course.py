"""How far a run has come, how fast its lanes are, and how long it will take: what the live display shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Course:
    """`total` cases are planned. What is left is guessed from what is done: everything else that a run does goes along."""

    total: int
    now: Callable[[], float] = time.monotonic
    done: int = 0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.now()

    def add(self, cases: int) -> None:
        """So many more are done."""
        self.done += cases

    @property
    def left(self) -> float:
        """Seconds, or infinity where nothing is done yet."""
        if self.done == 0:
            return float("inf")
        return (self.now() - self.started) / self.done * (self.total - self.done)
