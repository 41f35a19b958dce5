"""What a check reports: one failure of one subject. Findings gather failures; known deviations match them."""

from __future__ import annotations

from dataclasses import dataclass

from attnspec.harness.configuration import Case

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Worst:
    """The element that is furthest outside its bound; of `tensor`, where the failure's clause is none."""

    index: tuple[int, ...]
    got: float
    want: float
    bound: float
    error_over_bound: float
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """`clause` is the output, the argument of a gradient, the precondition or the parameter that is wrong.

    `seen` says what happened instead in a few words without numbers, for known deviations to name; `message` says it in
    full. Failures of one (subject, check, clause) are one finding, however many cases show them.
    """

    subject: str
    check: str
    clause: str
    seen: str
    message: str
    api: str = ""
    case: Case | None = None
    worst: Worst | None = None

    @property
    def key(self) -> Key:
        return self.subject, self.check, self.clause
