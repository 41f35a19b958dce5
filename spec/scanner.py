"""A look at an expression's text before `ast.parse` sees it, because its input can make that slow, deep or large.

What passes has at most `MAX_LENGTH` characters of one alphabet, `MAX_DEPTH` open brackets, `MAX_DEPTH` signs in a row,
and no number above `MAX_INTEGER`.
"""

from __future__ import annotations

import re
from typing import NoReturn

from attnspec.spec.nodes import ExpressionError

MAX_LENGTH = 2_000
MAX_DEPTH = 40
MAX_INTEGER = 2**31 - 1
MAX_NAME = 64

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])"
    r"""|(?P<text>'[A-Za-z0-9_ .,>+-]{1,64}'|"[A-Za-z0-9_ .,>+-]{1,64}")"""
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<open>[(\[])|(?P<close>[)\]])|(?P<operator>[-+*/%<>=!,])"
)
_SIGNS = frozenset({"-", "+", "not"})


def scan(text: str) -> None:
    """Refuse what `ast.parse` must not see. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"expected at most {MAX_LENGTH} characters, got {len(text)}")
    if not text.strip():
        raise ExpressionError("expected an expression, got an empty text")
    at = depth = signs = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            _refuse_character(text, at)
        word = token.group()
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        signs = signs + (word in _SIGNS) if word in _SIGNS or token.lastgroup == "space" else 0
        if depth > MAX_DEPTH or signs > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH}", at + 1)
        if token.lastgroup == "number":
            _check_number(word, at + 1)
        elif len(word) > MAX_NAME and token.lastgroup == "name":
            raise ExpressionError(f"expected a name of at most {MAX_NAME} characters, got {len(word)}", at + 1)
        at = token.end()


def _refuse_character(text: str, at: int) -> NoReturn:
    character = text[at]
    if character.isascii() and (character.isdigit() or character == "."):
        raise ExpressionError("expected a number or a name", at + 1)
    shown = f'"{character}"' if character.isprintable() else f"U+{ord(character):04X}"
    raise ExpressionError(f"unexpected character {shown}", at + 1)


def _check_number(word: str, column: int) -> None:
    if len(word) > 30 or float(word) > MAX_INTEGER:
        raise ExpressionError(f"expected a number up to {MAX_INTEGER}, got {word[:20]}", column)
