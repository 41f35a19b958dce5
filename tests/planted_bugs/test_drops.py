"""Every drop of one argument, on every path, is found: here of a function and of a layer; `make faults` asks all of them."""

from __future__ import annotations

from collections import Counter

from attnspec.spec.loader import builtin
from planted_bugs.drops import HIDDEN, MISSED, hunted

SPECS = [builtin()[name] for name in ("torch.nn.functional.scaled_dot_product_attention", "keras.layers.Attention")]
# What no call shows: a flag of a path on the other one, a seed where nothing draws, what is refused where it is dropped.
HIDDEN_FEW = {"numpy:torch.nn.functional.scaled_dot_product_attention": 1, "numpy:keras.layers.Attention": 3}


def test_every_drop_that_shows_is_found() -> None:
    counts = {subject.name: Counter(found.values()) for subject, found in hunted("numpy", SPECS)}
    assert {name: count[MISSED] for name, count in counts.items()} == dict.fromkeys(HIDDEN_FEW, 0)
    assert {name: count[HIDDEN] for name, count in counts.items()} == HIDDEN_FEW
    assert all(count["arguments"] > 0.7 * count.total() for count in counts.values())
