"""How a case's values and masks are distributed. The seed chooses: equal static calls stay equal, so nothing compiles anew.

`seed % 16` chooses the values, `seed // 16 % 8` the masks, lengths and segments; 0 and 0 are the plainest. What a spec
has no use for (huge logits behind a projection, -inf without a bias) is the plain distribution there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Values:
    """Factors of query and key, and what is done to them.

    `logit`, where not 0, is the size of q . k instead, before it is scaled: over 88 exp overflows, over 65504 float16
    products do, for which "positive" queries and keys add up. The other grids make products exact, or tied.
    """

    name: str
    query: float = 1.0
    key: float = 1.0
    logit: float = 0.0
    grid: str = ""
    bias_inf: bool = False
    poison: str = ""
    plain_layer: bool = True


PLAIN = Values("plain")
VALUES: tuple[Values, ...] = (
    PLAIN,
    Values("small", 0.3, 0.3),
    Values("large", 3.0, 3.0, plain_layer=False),
    Values("uneven", 3.0, 0.3),
    Values("integers", grid="integers"),
    Values("tied", grid="signs"),
    Values("uniform", query=0.0),
    Values("peaked", logit=100.0, plain_layer=False),
    Values("huge", logit=600.0, plain_layer=False),
    Values("vast", logit=120_000.0, grid="positive", plain_layer=False),
    Values("bias_inf", bias_inf=True),
    Values("poisoned keys", poison="key"),
    Values("poisoned values", poison="value"),
    Values("uneven the other way", 0.3, 3.0),
    Values("sparse integers", grid="sparse"),
    Values("plain again"),
)


@dataclass(frozen=True, slots=True)
class Masks:
    """`eighths` of a boolean mask are True; `empty` empties some rows. Lengths: `random`, `full`, `edges` (0 or full)."""

    name: str
    eighths: int
    empty: bool = False
    lengths: str = "random"
    sorted_segments: bool = True


MASKS: tuple[Masks, ...] = (
    Masks("half", 4),
    Masks("most", 7),
    Masks("full", 8, lengths="full"),
    Masks("half, empty rows", 4, empty=True, lengths="edges", sorted_segments=False),
    Masks("few", 1, sorted_segments=False),
    Masks("none", 0, lengths="edges"),
    Masks("most, empty rows", 6, empty=True, sorted_segments=False),
    Masks("some", 3, lengths="edges"),
)


def values_of(seed: int, layer: bool) -> Values:
    """The distribution of values that a seed chooses. Behind projections large logits would be ill-conditioned."""
    chosen = VALUES[seed % len(VALUES)]
    return PLAIN if layer and not chosen.plain_layer else chosen


def masks_of(seed: int) -> Masks:
    """The distribution of masks that a seed chooses."""
    return MASKS[seed // len(VALUES) % len(MASKS)]


def seed_for(values: str, masks: str = "half", number: int = 0) -> int:
    """A seed that chooses the named distributions, for tests that want one of them."""
    by_name: Mapping[str, int] = {each.name: place for place, each in enumerate(VALUES)}
    masks_by_name: Mapping[str, int] = {each.name: place for place, each in enumerate(MASKS)}
    return by_name[values] + len(VALUES) * (masks_by_name[masks] + len(MASKS) * number)
