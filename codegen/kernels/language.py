"""What differs between the languages that kernels are written in: how an operation is printed, and what kernels are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from attnspec.codegen.printer import Target
from attnspec.spec.model import Argument, Spec


@dataclass(frozen=True)
class Parameter:
    """What kernels are given besides query, key and value: an argument of the call, or a part of one."""

    name: str
    argument: Argument

    @property
    def is_tensor(self) -> bool:
        return self.argument.role == "tensor"


def is_table(argument: Argument) -> bool:
    """Whether a tensor is read at computed indices: it knows nothing of batch rows, queries and keys."""
    dims = {*argument.layouts[0].dims} if argument.layouts else set()
    return argument.dtype in ("integer", "bool") and bool(dims) and not dims & {"B", "T", "S"}


@dataclass(frozen=True)
class Language:
    """What kernels of a target are written in."""

    name: str
    around: Target
    """The framework of the documented function."""
    target: Target
    """How a kernel prints an operation."""
    entries: Mapping[tuple[str, ...], str]
    """What loads a tensor's entry at these indices."""
    extreme: str
    """What loads the least or the greatest of some entries."""
    to_float32: str
    functions: str
    """Where `where` and `minimum` are."""
    ceiling: str
    """Division rounded up."""
    permute: str
    to_dtype: str
    """Methods of the framework's tensors."""
    entry_point: str
    """What the documented function calls."""
    checked: Mapping[str, str]
    """What it asks of numbers before, by their roles."""
    indices: tuple[str, ...]
    """What a hole may read of the pair that it is about, besides t and s."""
    block_indices: tuple[str, ...]
    """The same of a run of blocks."""
    listed: Callable[[Sequence[Parameter]], dict[str, tuple[str, ...]]]
    """The lists of parameters that a skeleton has placeholders for."""
    ordered: Callable[[Sequence[Parameter]], Sequence[Parameter]] = lambda parameters: parameters
    """Parameters as the kernels are given them."""
    seed: str = ""
    """What draws the seed of dropout."""
    drawn: str = ""
    """What draws a number of [0, 1) from it for every pair, by the positions `t` and `s`."""
    seeds: bool = False
    """Whether a call is given what seeds it, where no generator is everybody's."""
    first: str = ""
    """What loads where a shard begins; without it all queries and keys are in one place."""
    zero: str = "0"
    """A bound of blocks, where there is nothing to visit."""
    int32: str = ""
    """The dtype that tables of integers are given in."""
    table_entry: str = ""
    """What loads entries of a table; empty where tables are not read."""
    some_entry: str = ""
    """Whether some of these is true."""
    interval: str = ""
    """What looks positions up in a table of one axis."""
    tiles: Mapping[str, str] = field(default_factory=dict)
    """What t and s are where a formula is about a tile: positions of `other` from `start`, of the loop's `own` from `low`."""
    rounds_down: bool = False
    """Whether integers divide as they do in Python."""
    lacks: Callable[[Spec], Iterator[str]] = lambda spec: iter(())
    """What of a spec others have kernels for, and this has not."""
