"""Kernels in Pallas for TPUs: those of GPUs, but for what a step of the grid can be given."""

from __future__ import annotations

from dataclasses import replace

from attnspec.codegen.pallas import language as pallas

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
        ("n",): "_entry_of_head({tensor}, b, n)",
        ("b", "t"): "{tensor}[...]",
        ("b", "s"): "_column({tensor}[...])",
        ("b", "n", "t", "s"): "_entries_of_pairs({tensor}, t, s, T, S)",
    },
    indices=("b", "n", "T", "S"),
    zero="0",
)
