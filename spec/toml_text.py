"""A TOML file to a dict, with limits that keep every text cheap to read.

`tomllib` takes quadratic time for keys of many parts, so long lines and lines of many dots are refused first.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from attnspec.spec.errors import SpecError

MAX_BYTES = 128 * 1024
MAX_LINE = 4_000
MAX_DOTS = 40


def read(path: Path, shown: str) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a file and what they say. Raises SpecError; `shown` is the file's name in it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(shown, [f"expected a file of at most {MAX_BYTES} bytes, got {path.stat().st_size}"])
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(shown, [f"cannot be read: {error.strerror}"]) from None
    return content, decode(content, shown)


def decode(content: bytes, shown: str) -> dict[str, Any]:
    """What the bytes of a TOML file say. Raises SpecError with line and column."""
    if len(content) > MAX_BYTES:
        raise SpecError(shown, [f"expected at most {MAX_BYTES} bytes, got {len(content)}"])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SpecError(shown, [f"expected UTF-8 text, got byte 0x{content[error.start]:02x} at {error.start}"]) from None
    _check_lines(text, shown)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(shown, [_message(str(error))]) from None
    except (RecursionError, MemoryError):
        raise SpecError(shown, ["nested too deep"]) from None
    except ValueError:  # int() of a literal with thousands of digits, an impossible date
        raise SpecError(shown, ["holds a number or a date that is out of range"]) from None


def _check_lines(text: str, shown: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_LINE:
            raise SpecError(shown, [f"line {number}: expected at most {MAX_LINE} characters, got {len(line)}"])
        if line.count(".") > MAX_DOTS:
            raise SpecError(shown, [f"line {number}: expected at most {MAX_DOTS} dots, got {line.count('.')}"])


def _message(error: str) -> str:
    """`line 3, column 7: expected ...` of tomllib's `Expected ... (at line 3, column 7)`."""
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", error, re.DOTALL)
    if match is None:
        return error
    return f"{match[2]}: {match[1][:1].lower()}{match[1][1:]}"
