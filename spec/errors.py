"""What is wrong with a spec file: every error of the file in one exception, one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_SHOWN = 50
"""Errors that are written out; a file with more of them is summed up."""

Key = tuple[str | int, ...]


class SpecError(ValueError):
    """All errors of one spec file. `str` has one line per error, each `file: key: what is wrong`."""

    def __init__(self, file: str, errors: Iterable[str]) -> None:
        self.file = file
        self.errors = tuple(errors)
        super().__init__(file, self.errors)  # as they are, so that the exception can cross a process

    def __str__(self) -> str:
        return "\n".join(f"{self.file}: {error}" for error in self.errors)


@dataclass
class Errors:
    """Collects the errors of one file; `add` never stops, `raise_any` does."""

    file: str
    found: dict[str, None] = field(default_factory=dict)
    left_out: int = 0
    renamed: Callable[[Key], Key] = lambda key: key
    """How the file itself writes a key: a variant has no `path.variant.stage`, it has `parameters`."""

    def add(self, key: Key, message: str) -> None:
        """Note one error at a key. The same text is noted once."""
        if len(self.found) >= MAX_SHOWN:
            self.left_out += 1
        else:
            self.found[f"{key_text(self.renamed(key))}: {message}"] = None

    def raise_any(self) -> None:
        """Raise SpecError if there is any error."""
        if self.found:
            more = [f"{self.left_out} more errors"] if self.left_out else []
            raise SpecError(self.file, [*self.found, *more])


def key_text(key: Key) -> str:
    """A key as TOML writes it: `path.xla.policies."mask.fill".value`; an item without a name is `argument[3]`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part[:80] if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", part) else quoted(part)
            text += f".{word}" if text else word
    return text


def quoted(word: str) -> str:
    """A text from the file, in quotes on one line, cut when it is long."""
    safe = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in word[:80])
    return f'"{safe}{"..." if len(word) > 80 else ""}"'


def described(value: Any) -> str:
    """A value from the file, as an error shows it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case dict():
            return "a table"
        case list() | tuple():
            return f"a list of {len(value)}"
        case int() if abs(value) > 10**30:
            return "a huge integer"
    return str(value)[:80]


def alternatives(words: Iterable[str]) -> str:
    """`"a"`, `"a" or "b"`, `one of "a", "b", "c"`."""
    shown = [f'"{word}"' for word in words]
    return " or ".join(shown) if len(shown) < 3 else f"one of {', '.join(shown)}"
