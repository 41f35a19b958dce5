"""The blockwise modules of a spec, by target."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attnspec.codegen.blockwise import graph_rows, keras_stages, row_modules, tiles
from attnspec.codegen.blockwise.coverage import BLOCK_LENGTH, supports_blockwise
from attnspec.codegen.module import assemble
from attnspec.codegen.printer import Target
from attnspec.spec.model import Spec

_FORMS: dict[str, Callable[[Spec, Target], Iterator[str]]] = {
    "numpy": row_modules.numpy_parts,
    "torch": row_modules.torch_parts,
    "jax": tiles.parts,
    "tensorflow": graph_rows.parts,
    "keras": keras_stages.parts,
}
"""Whole rows where operations run one by one, also those of a graph; tiles where they are compiled together; for Keras both."""


TARGETS = tuple(_FORMS)
"""The targets that have a blockwise form."""


def blockwise_modules(spec: Spec, target: Target) -> Iterator[tuple[str, str]]:
    """(suffix, text) of the blockwise modules of a spec: for targets with a form of it, where `supports_blockwise`."""
    if target.name in _FORMS and supports_blockwise(spec):
        title = f"`{spec.name}` for {target.name}, blockwise: memory grows with T, not with T times S.\n\n{spec.summary}\n"
        parts = [f"BLOCK = {BLOCK_LENGTH}", *_FORMS[target.name](spec, target)]
        yield "blockwise", assemble(spec, target, title, parts, ("from typing import Any",))
