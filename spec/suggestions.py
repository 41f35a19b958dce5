"""Did you mean: one place for the suggestions that errors end with."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 80  # difflib takes quadratic time; no name of ours is longer


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean "scale"?`, or nothing when no known word is near."""
    close = closest(word, known)
    return f' Did you mean "{close}"?' if close else ""


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest, or nothing."""
    close = get_close_matches(word, sorted(set(known)), n=1) if len(word) <= _LONGEST else []
    return close[0] if close else ""
