"""One generated file: that of `codegen/pallas`, by the skeleton for TPUs."""

from __future__ import annotations

from dataclasses import replace

from attnspec.codegen.kernels.holes import DRAWN, Holes, parameters_of
from attnspec.codegen.kernels.operands import LOOKED_UP, ORIGIN, dims_of
from attnspec.codegen.pallas.module import text_in
from attnspec.codegen.pallas_tpu.language import LANGUAGE
from attnspec.spec.model import Spec

_SPECS = {
    ("B",): "_scalars({0})",
    ("B", ORIGIN): "_scalars({0})",
    ("N",): "_scalars({0})",
    ("B", "T"): "_row_of_queries(place, {0}, BLOCK_T)",
    ("B", "S"): "_row_of_keys(place, {0}, BLOCK_S)",
    ("B", "N", "T", "S"): "_of_pairs(place, {0}, BLOCK_T, BLOCK_S)",
}
"""What a step has of a tensor, by its dims."""
_LAID_OUT = {
    ("B",): "{0}",
    ("B", ORIGIN): "{0}",
    ("N",): "_of_heads({0})",
    ("B", "T"): "_row({0})",
    ("B", "S"): "_row({0})",
    ("B", "N", "T", "S"): "_pairs({0})",
}
"""The tensor as it is then given to a kernel."""


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    return text_in(LANGUAGE, "attnspec.codegen.pallas_tpu", spec, "Pallas kernels for TPUs", _with_tensors)


def _with_tensors(spec: Spec, holes: Holes) -> Holes:
    """Which tensors there are, as a step of the grid is given them."""
    given = (each for each in parameters_of(spec) if each.is_tensor)
    tensors = {each.name: ("N",) if each is DRAWN else dims_of(spec, each.argument) for each in given}
    decide = tuple(n for n in holes.placeholders["block_parameters"] if tensors.get(n) in (*LOOKED_UP, ("B", ORIGIN)))
    known = (name if name in decide or name not in tensors else f"_shape_of({name})" for name in holes.placeholders["given"])
    placeholders = {
        "block_tensors": decide,
        "tensor_specs": tuple(_SPECS[dims].format(name) for name, dims in tensors.items()),
        "laid_out": tuple(_LAID_OUT[dims].format(name) for name, dims in tensors.items()),
        "known": tuple(known),
    }
    flags = {**holes.flags, "LOOKED_UP": bool(decide), "HEADS": ("N",) in tensors.values()}
    return replace(holes, placeholders={**holes.placeholders, **placeholders}, flags=flags)
