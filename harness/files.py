"""Files that are whole or not there at all."""

from __future__ import annotations

from contextlib import suppress
from errno import EISDIR
from os import strerror
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file, which takes its name when it is complete. Raises OSError, and leaves nothing behind then."""
    try_to_write(file)
    part = _part(file)
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(file)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def try_to_write(file: Path) -> None:
    """See whether `write_whole` would go, long before there is something to write. Raises OSError."""
    if file.is_dir():
        raise IsADirectoryError(EISDIR, strerror(EISDIR))
    _part(file).touch()
    _part(file).unlink()


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.part")
