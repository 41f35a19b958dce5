"""Kernels in Pallas for TPUs: those of GPUs, but for what a step of the grid can be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.kernels.operands import LOOKED_UP, dims_of, tensors_of
from attnspec.codegen.pallas import language as pallas
from attnspec.spec.model import Spec


def _lacks(spec: Spec) -> Iterator[str]:
    """What kernels for GPUs have and these have not yet."""
    yield from pallas.lacks(spec)
    for argument in tensors_of(spec):
        if dims_of(spec, argument) not in LOOKED_UP:
            yield f"`{argument.name}` is a tensor that no kernel for TPUs reads yet"
    if spec.paths[0].policies["empty_row"].value == "uniform":
        yield "rows that see nothing are uniform, and kernels for TPUs visit no hidden keys"


LANGUAGE = replace(
    pallas.LANGUAGE,
    name="pallas_tpu",
    around=replace(
        pallas.AROUND,
        imports=tuple(line.replace("triton as plgpu", "tpu as pltpu") for line in pallas.AROUND.imports),
    ),
    entries={("b",): "{tensor}[b]", ("b", "t"): "{tensor}[...]", ("b", "s"): "_column({tensor}[...])"},
    indices=("b",),
    zero="0",
    lacks=_lacks,
)
