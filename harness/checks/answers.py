"""A valid call is answered: it neither raises nor takes its process with it, by crashing, hanging or eating the memory.

A user's function may say that it does not support a call: `NotImplementedError` is a refusal, and judges nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure
from attnspec.harness.lanes.messages import Answer, Lost, Raised
from attnspec.harness.subjects import is_brought

REFUSAL = "NotImplementedError"


def check(evidence: Evidence) -> Iterator[Failure]:
    """One failure per subject that did not return."""
    for subject, answer in evidence.answers.items():
        said = None if is_brought(subject) and is_refusal(answer) else _unanswered(answer)
        if said is not None:
            clause, seen, message = said
            yield Failure(subject, "answers", clause, seen, message, evidence.spec.name, evidence.case)


def is_refusal(answer: Answer) -> bool:
    """Whether the subject said that it does not support the call."""
    return isinstance(answer, Raised) and REFUSAL in answer.types


def _unanswered(answer: Answer) -> tuple[str, str, str] | None:
    """Clause, what was seen and the message; None for a call that returned, or was not made for an earlier failure."""
    match answer:
        case Raised(where=where):
            return where, f"raised {answer.type}", f"raised {answer}"
        case Lost(how="not run"):
            return None
        case Lost(how=how):
            return "lane", how, str(answer)
    return None
