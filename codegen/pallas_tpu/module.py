"""One generated file: that of `codegen/pallas`, by the skeleton for TPUs."""

from __future__ import annotations

from dataclasses import replace

from attnspec.codegen.kernels.holes import Holes
from attnspec.codegen.kernels.operands import dims_of, tensors_of
from attnspec.codegen.pallas.module import text_in
from attnspec.codegen.pallas_tpu.language import LANGUAGE
from attnspec.spec.model import Spec

_SPECS = {
    ("B",): "_scalars({0})",
    ("B", "T"): "_row_of_queries(place, {0}, BLOCK_T)",
    ("B", "S"): "_row_of_keys(place, {0}, BLOCK_S)",
}
"""What a step has of a tensor, by its dims."""


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    return text_in(LANGUAGE, "attnspec.codegen.pallas_tpu", spec, "Pallas kernels for TPUs", _with_tensors)


def _with_tensors(spec: Spec, holes: Holes) -> Holes:
    """Which tensors there are, as a step of the grid is given them."""
    tensors = {argument.name: dims_of(spec, argument) for argument in tensors_of(spec)}
    decide = tuple(name for name in holes.placeholders["block_parameters"] if name in tensors)
    placeholders = {
        "block_tensors": decide,
        "tensor_specs": tuple(_SPECS[dims].format(name) for name, dims in tensors.items()),
        "laid_out": tuple(name if dims == ("B",) else f"_row({name})" for name, dims in tensors.items()),
    }
    flags = {"LOOKED_UP": bool(decide), "BATCHED": "b" in holes.placeholders["mask_parameters"]}
    return replace(holes, placeholders={**holes.placeholders, **placeholders}, flags={**holes.flags, **flags})
