"""Texts of a spec file to expressions and layouts; what cannot be read is noted with its key and column."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attnspec.spec.errors import Errors, Key
from attnspec.spec.expression import Expression, ExpressionError, Number, Unary, parse
from attnspec.spec.layouts import LayoutError, parse_layout
from attnspec.spec.model import Default, Layout


@dataclass
class Reading:
    """Reads texts, notes errors and carries on: what could not be read is None."""

    errors: Errors
    failed: bool = False
    """Some expression could not be read, so what is missing or unused cannot be told."""

    def expression(self, text: str, key: Key) -> Expression | None:
        """The expression of a text."""
        try:
            return parse(text)
        except ExpressionError as error:
            self.errors.add(key, f"column {error.column}: {error.message}")
            self.failed = True
            return None

    def optional(self, text: str | None, key: Key) -> Expression | None:
        """The expression of a text, None where there is no text."""
        return None if text is None else self.expression(text, key)

    def layout(self, text: str, key: Key) -> Layout | None:
        """The layout of a text."""
        try:
            return parse_layout(text)
        except LayoutError as error:
            self.errors.add(key, str(error))
            return None

    def layouts(self, texts: str | list[str], key: Key) -> tuple[Layout, ...]:
        """The layouts of one text or of a list."""
        listed = [texts] if isinstance(texts, str) else texts
        return tuple(layout for text in listed if (layout := self.layout(text, key)) is not None)


def column(text: str, name: str) -> str:
    """`column 5: ` of the place where an expression names something."""
    match = re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text)
    return f"column {match.start() + 1}: " if match else ""


def literal(value: bool | int | float | str | list[int] | None) -> Default:
    """A TOML literal: "None" is None, a list a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return None if value == "None" else value


def constant(value: int | float) -> Expression:
    """The expression of a number; a negative one is a sign and a number, as it would parse."""
    return Number(value) if value >= 0 else Unary("-", Number(-value))
