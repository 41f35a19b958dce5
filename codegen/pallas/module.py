"""One generated file: the documented function, the skeleton with its holes filled, and what the checks of arguments need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attnspec.codegen.kernels.coverage import require
from attnspec.codegen.kernels.filling import definitions, filled, used
from attnspec.codegen.kernels.holes import Holes, holes_of, parameters_of
from attnspec.codegen.kernels.public import public_function
from attnspec.codegen.module import assemble
from attnspec.codegen.pallas.language import LANGUAGE
from attnspec.spec.model import Spec

_TYPES = {"integer": "int", "sizes": "int", "flag": "bool", "tensor": "Array"}
_STAND_INS = ("FACTOR", "ROWS", "NUMBERS")
"""What the skeleton defines so that it can be linted."""


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    require(spec, LANGUAGE)
    title = f"`{spec.name}` as Pallas kernels, forward and backward.\n\n{spec.summary}\n"
    public = public_function(spec, LANGUAGE)
    parts = [public, *used(_kernels(spec, holes_of(spec, LANGUAGE)), public)]
    return assemble(
        spec,
        LANGUAGE.around,
        title,
        parts,
        ("import functools", "import os", "from collections.abc import Iterator", "from typing import Any"),
    )


def _kernels(spec: Spec, holes: Holes) -> dict[str, str]:
    """The skeleton's definitions in their order, filled, by name."""
    skeleton = definitions("attnspec.codegen.pallas", _STAND_INS)
    parts = {name: filled(name, _placed(text, spec, holes), holes) for name, text in skeleton.items()}
    if not holes.derived:
        del parts["_d_product"]
    return parts


def _placed(text: str, spec: Spec, holes: Holes) -> str:
    """A definition with what is Pallas's own: types of what is given, which of it are numbers, and n where holes read it."""
    parameters = LANGUAGE.ordered(parameters_of(spec))
    places = (str(3 + place) for place, each in enumerate(parameters) if not each.is_tensor)
    text = text.replace("NUMBERS", f"({''.join(f'{place}, ' for place in places)})")
    text = text.replace(", given: Any", "".join(f", {each}" for each in _typed(spec)))
    if not any("n" in read for read in holes.placeholders.values()):
        text = re.sub(r"\n *[kn] = .*", "", text)
    numbers = "".join(f"{each}, " for each in _typed(spec, tensors=False))
    return text.replace("numbers: Any, ", numbers)


def _typed(spec: Spec, tensors: bool = True) -> Iterator[str]:
    """`lengths: Array, scale: float, left: int`."""
    for each in LANGUAGE.ordered(parameters_of(spec)):
        none = " | None" if each.argument.optional and each.argument.unset is None else ""
        if tensors or not each.is_tensor:
            yield f"{each.name}: {_TYPES.get(each.argument.role, 'float')}{none}"
