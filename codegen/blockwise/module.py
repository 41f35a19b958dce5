"""The blockwise modules of a spec, by target."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attnspec.codegen.blockwise import graph_rows, keras_stages, row_modules, tiles
from attnspec.codegen.blockwise.choice import DIRECT_UP_TO
from attnspec.codegen.blockwise.coverage import BLOCK_LENGTH, supports_blockwise
from attnspec.codegen.module import assemble, module_text
from attnspec.codegen.printer import Target
from attnspec.spec.model import Spec

_FORMS: dict[str, Callable[[Spec, Target, bool], Iterator[str]]] = {
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
        yield "blockwise", _module(spec, target, 0)


def auto_module(spec: Spec, target: Target) -> str:
    """The fast form: the direct one where there is no other, else loops, and both where short calls are better without."""
    if target.name not in _FORMS or not supports_blockwise(spec):
        return module_text(spec, target)
    return _module(spec, target, DIRECT_UP_TO[target.name])


def _module(spec: Spec, target: Target, direct_up_to: int) -> str:
    """A file of loops; with what takes calls of up to so many logits of a head at once, where there are such calls."""
    title = f"`{spec.name}` for {target.name}, blockwise: memory grows with T, not with T times S.\n\n{spec.summary}\n"
    constants = f"BLOCK = {BLOCK_LENGTH}" + (f"\nDIRECT_UP_TO = {direct_up_to}  # T * S" if direct_up_to else "")
    parts = [constants, *_FORMS[target.name](spec, target, direct_up_to > 0)]
    return assemble(spec, target, title, parts, ("from typing import Any",))
