"""Masks over positions that a blockwise form has to have: ends that depend on lengths, several ranges, far and near ones."""

from __future__ import annotations

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
