"""Kernels in Pallas for TPUs: those of GPUs, but for what a step of the grid can be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.kernels.operands import operands_of
from attnspec.codegen.pallas import language as pallas
from attnspec.spec.model import Spec


def _lacks(spec: Spec) -> Iterator[str]:
    """What kernels for GPUs have and these have not yet."""
    yield from pallas.lacks(spec)
    yield from (f"`{name}` is a tensor that no kernel for TPUs reads yet" for name in operands_of(spec))
    if spec.paths[0].policies["empty_row"].value == "uniform":
        yield "rows that see nothing are uniform, and kernels for TPUs visit no hidden keys"


LANGUAGE = replace(
    pallas.LANGUAGE,
    name="pallas_tpu",
    around=replace(
        pallas.AROUND,
        imports=tuple(line.replace("triton as plgpu", "tpu as pltpu") for line in pallas.AROUND.imports),
    ),
    zero="0",
    lacks=_lacks,
)
