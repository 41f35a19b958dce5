"""Kernels in Pallas for TPUs: those of GPUs, but for what a step of the grid can be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.kernels.coverage import SINK
from attnspec.codegen.kernels.operands import dims_of, tensors_of
from attnspec.codegen.pallas import language as pallas
from attnspec.spec.model import Spec


def _lacks(spec: Spec) -> Iterator[str]:
    """What kernels for GPUs have and these have not yet."""
    yield from pallas.lacks(spec)
    for argument in tensors_of(spec):
        if dims_of(spec, argument) == ("N",):
            yield f"`{argument.name}` is a tensor that no kernel for TPUs reads yet"
    if any(stage.clause == SINK for stage in spec.paths[0].stages):
        yield f"`{SINK}` is not compiled for TPUs yet"


_TARGET = pallas.LANGUAGE.target

LANGUAGE = replace(
    pallas.LANGUAGE,
    name="pallas_tpu",
    around=replace(
        pallas.AROUND,
        imports=tuple(line.replace("triton as plgpu", "tpu as pltpu") for line in pallas.AROUND.imports),
    ),
    # truth values are bytes in a kernel, and come as they are elsewhere
    target=replace(_TARGET, guards={**_TARGET.guards, "is_boolean": "not jnp.issubdtype({0}.dtype, jnp.floating)"}),
    entries={
        ("b",): "{tensor}[b]",
        ("b", "t"): "{tensor}[...]",
        ("b", "s"): "_column({tensor}[...])",
        ("b", "n", "t", "s"): "_entries_of_pairs({tensor}, t, s, T, S)",
    },
    indices=("b", "T", "S"),
    zero="0",
    lacks=_lacks,
)
