"""Where jax keeps what it has compiled: the same calls come again in the next run, and compiling them takes most of its time.

jax looks there by the program, its options and its own version, so that a function that has changed is compiled anew.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

MOST = 1 << 30  # bytes; over it the half that was written first makes way


def environment() -> dict[str, str]:
    """What tells jax where, and to keep even what is compiled in no time. A user's own settings come first."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }


def folder() -> Path:
    """One for each kind of processor: the code uses whatever instructions the one at hand has."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "attnspec" / f"jax-{blake2b(_processor().encode(), digest_size=8).hexdigest()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"


def make_room(where: Path, most: int = MOST) -> None:
    """Remove the oldest half of too much. Lanes of other runs may read and write there meanwhile: what is gone is gone."""
    files = []
    with suppress(OSError):
        for file in where.iterdir():
            with suppress(OSError):
                files.append((file.stat().st_mtime, file.stat().st_size, file))
    left = sum(size for _, size, _ in files)
    if left <= most:
        return
    for _, size, file in sorted(files):
        if left <= most / 2:
            return
        with suppress(OSError):
            file.unlink()
        left -= size
