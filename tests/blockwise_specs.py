"""Masks over positions that a blockwise form has to have: ends that depend on lengths, several ranges, far and near ones."""

from __future__ import annotations

import numpy as np

from attnspec.codegen.blockwise.coverage import lookups
from attnspec.spec.loader import loads
from attnspec.spec.model import Spec


def _variant(masks: list[str], parameters: str) -> Spec:
    return loads(f'variant = "tried"\nsummary = "s"\nmasks = {masks}\n[parameters]\n{parameters}')


SPECS = {
    "bottom-right": _variant(["causal"], 'offset = "S - T"'),
    "two ranges": _variant(
        ["global_window"], "left = { default = 1 }\nright = { default = 1 }\nglobal_tokens = { default = 2 }"
    ),
    "far apart": _variant(["dilated"], "left = { default = 30 }\nright = { default = 4 }\nstride = { default = 11 }"),
    "chunks of a window": _variant(["chunk", "window"], "left = { default = 4 }\nwidth = { default = 5 }"),
}

LOOKED_UP = {
    "documents": _variant(["causal", "segments"], ""),
    "lengths": _variant(["key_length", "query_length"], ""),
    "prefix": _variant(["prefix"], ""),
}
"""Masks that look up segment ids or lengths."""


def looked_up(spec: Spec, seed: int, rows: int, keys: int) -> dict[str, np.ndarray]:
    """What masks look up in a batch of two: ids in order in the first row, in no order in the second, lengths up to S."""
    random, found = np.random.default_rng(seed), {}
    for name in lookups(spec):
        shape = [{"B": 2, "T": rows, "S": keys}[dim] for dim in spec.tensors[name]]
        found[name] = random.integers(0, 4 if len(shape) > 1 else keys + 1, shape)
        found[name][:1].sort()
    return found
