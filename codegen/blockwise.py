"""The blockwise form."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.spec.model import Spec


def blockwise_modules(spec: Spec, target: str) -> Iterator[tuple[str, str]]:
    """(suffix, text) of the blockwise modules of a spec."""
    return iter(())
