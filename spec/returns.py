"""Which outputs a path can return: not what an earlier path has taken whenever it is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from attnspec.spec.model import Output, Path
from attnspec.spec.nodes import Binary, Expression


def may_return(output: Output, path: Path, paths: Sequence[Path]) -> bool:
    """Whether `path` can return an output: not where a path before it is taken whenever the output is wanted."""
    if output.when is None:
        return True
    before = takewhile(lambda other: other is not path, paths)
    taken = {part for other in before if other.when is not None for part in parts(other.when, "or")}
    return output.when not in taken and not taken & {*parts(output.when, "and")}


def parts(guard: Expression, word: str) -> Iterator[Expression]:
    """What a chain of `or`, or of `and`, is made of."""
    match guard:
        case Binary(operator, left, right) if operator == word:
            yield from parts(left, word)
            yield from parts(right, word)
        case _:
            yield guard
