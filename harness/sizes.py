"""The sizes that the pool goes through, from small to large, and then again.

Between them: T != S both ways and T = S, B = N, T = H, primes, K = 1, K = N, groups, V != H, T = 1, S = 1, sizes one
under and over 16, and a few beyond 64 and 128 for kernels that work in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

_LETTERS = ("B", "T", "S", "N", "K", "H", "V", "E", "P", "C", "R", "X", "Y", "U")
_ROWS = (
    (1, 2, 3, 2, 1, 2, 3, 4, 2, 2, 3, 4, 5, 2),
    (2, 3, 2, 2, 2, 4, 4, 5, 1, 3, 4, 6, 4, 3),
    (1, 5, 5, 4, 2, 8, 4, 8, 3, 5, 5, 3, 3, 4),
    (2, 4, 7, 3, 3, 4, 8, 6, 4, 3, 7, 5, 2, 3),
    (3, 7, 4, 6, 2, 5, 3, 7, 2, 7, 6, 2, 5, 5),
    (1, 1, 9, 2, 1, 8, 8, 8, 8, 1, 9, 4, 4, 2),
    (2, 9, 1, 4, 4, 8, 5, 4, 1, 9, 8, 6, 3, 3),
    (2, 15, 17, 4, 2, 8, 8, 8, 2, 15, 16, 3, 2, 4),
    (1, 17, 15, 2, 2, 16, 16, 12, 5, 17, 33, 5, 5, 3),
    (2, 16, 16, 6, 3, 8, 4, 8, 16, 16, 16, 2, 4, 5),
    (1, 13, 11, 5, 1, 7, 3, 11, 3, 13, 13, 4, 3, 2),
    (2, 11, 13, 4, 4, 16, 8, 16, 5, 11, 5, 6, 2, 4),
    (1, 16, 31, 2, 1, 16, 16, 8, 15, 16, 17, 3, 5, 6),
    (1, 31, 16, 8, 2, 4, 8, 8, 1, 31, 31, 5, 4, 3),
    (4, 8, 12, 4, 1, 8, 8, 8, 4, 8, 8, 2, 3, 2),
    (2, 6, 10, 4, 2, 6, 6, 6, 4, 6, 10, 4, 2, 4),
    (1, 33, 17, 2, 1, 8, 8, 8, 17, 33, 9, 6, 5, 3),
    (3, 10, 6, 3, 1, 8, 12, 9, 2, 10, 4, 3, 4, 5),
    (1, 12, 12, 4, 2, 12, 12, 12, 6, 12, 12, 5, 3, 2),
    (2, 1, 1, 2, 2, 3, 2, 5, 1, 1, 1, 2, 2, 1),
    (2, 14, 5, 4, 2, 9, 7, 10, 3, 14, 11, 4, 5, 3),
    (1, 5, 29, 2, 1, 16, 8, 16, 24, 5, 29, 6, 4, 4),
    (1, 65, 33, 2, 1, 16, 8, 8, 31, 65, 17, 3, 3, 6),
    (1, 17, 129, 2, 2, 8, 8, 8, 112, 17, 33, 5, 2, 5),
)
SHAPES: tuple[Mapping[str, int], ...] = tuple(dict(zip(_LETTERS, row, strict=True)) for row in _ROWS)
# Beyond 64 in queries and head dim, beyond 128 in queries and keys: for calls in which nothing else hides what is there.
LARGE: tuple[Mapping[str, int], ...] = ({**SHAPES[-2], "H": 72, "V": 72}, {**SHAPES[-1], "T": 130})


def sizes_for(number: int) -> Mapping[str, int]:
    """The sizes of the pool's configuration of that number; each further pass has longer sequences."""
    more, place = divmod(number, len(SHAPES))
    return {dim: size + more if dim in "TSPC" else size for dim, size in SHAPES[place].items()}
