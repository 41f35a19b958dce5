"""Tensors of a call besides query, key and value: what kernels load of them, and under which names.

Masks look into integer tensors, such as segments and lengths, and into boolean ones; logits read floating ones. What pairs of
query and key read has four axes in a kernel, (B|1, N|1, T|1, S|1), whatever axes it came with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.kernels.language import Language, is_table
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Unary, names, to_text
from attnspec.spec.model import Argument, Spec

LOOKED_UP = (("B",), ("B", "T"), ("B", "S"))
"""The dims that an integer tensor may have."""
OF_PAIRS = (("B", "N", "T", "S"), ("N",))
"""The dims that any other may have, each of which may be 1."""
_KNOWN = ("B", "N", "T", "S")
"""The sizes that kernels are given by themselves."""
OF_TABLE = (1, 3)
"""How many axes a table may have."""
_ENDS = {("b",): "here", ("n",): "here", ("b", "t"): "at_t", ("b", "s"): "at_s", ("b", "n", "t", "s"): "block"}
"""What the name of a tensor's entry ends in, by its indices."""

ORIGIN = "origin"
FIRST = {"t": "first_query", "s": "first_key"}
"""Where shards of a sequence begin: the entries of `origin` for a batch row, 0 without it."""
WHOLE = "whole_"
"""What the name of a position in the whole sequence begins with."""


def tensors_of(spec: Spec) -> list[Argument]:
    """The tensors of a call besides query, key and value, in their order."""
    return [a for a in spec.tensor_arguments if (a.feeds or a.name) not in ("query", "key", "value")]


def operands_of(spec: Spec) -> list[str]:
    """Their names."""
    return [argument.name for argument in tensors_of(spec)]


def is_looked_up(argument: Argument) -> bool:
    """Whether masks look integers up in it."""
    return argument.dtype == "integer"


def sizes_of_tables(spec: Spec) -> dict[str, str]:
    """Where a kernel has the sizes that only tables tell, which come with these."""
    tables = [a for a in tensors_of(spec) if is_table(a)]
    return {dim: f"{a.name}[2][{place + 1}]" for a in tables for place, dim in enumerate(dims_of(spec, a)) if dim not in _KNOWN}


def dims_of(spec: Spec, argument: Argument) -> tuple[str, ...]:
    """The dims by which the spec's rules know a tensor; one argument may be several of them, such as a mask or a bias."""
    return spec.tensors[argument.feeds or argument.name]


def differentiable(spec: Spec) -> list[str]:
    """The tensors that logits read, which have a gradient."""
    read = [names(stage.expression) for stage in spec.paths[0].stages if stage.kind == "modifier"]
    floating = [argument.name for argument in tensors_of(spec) if "floating" in argument.dtype]
    return [name for name in floating if any(name in each for each in read)]


@dataclass
class Loaded:
    """Expressions in which names stand for what is loaded; `loads` has the value of each name.

    `printed` writes a computed index, given what is loaded. `sizes` says where a table's own sizes are. `ranges` says which
    positions a reduction over t or s goes through, as the arguments of a helper; `tiles` has these positions themselves.
    """

    language: Language
    printed: Callable[[Expression, Iterable[str]], str]
    sizes: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, str] = field(default_factory=dict)
    tiles: Mapping[str, str] = field(default_factory=dict)
    loads: dict[str, str] = field(default_factory=dict)

    def named(self, expression: Expression) -> Expression:
        """The expression with a name in the place of every entry."""
        match expression:
            case Name(name) if name in FIRST.values():
                return self.load(name, self.first(name))
            case Binary("+", Name(index), Name(first)) if FIRST.get(index) == first:
                return self.load(f"{WHOLE}{index}", f"{index} + {self.first(first)}")
            case Name(name) if name in self.sizes:
                return self.load(name, self.sizes[name])
            case Name(name) if name in self.tiles:
                return self.load(name, self.tiles[name])
            case Access(tensor, indices):
                return self.entry(tensor, indices)
            case Call("interval", (Name(tensor), position)):
                (index,) = self.indices((position,))
                return self.numbered(f"{tensor}_interval", self.language.interval.format(tensor=tensor, position=index))
            case Call("some", (Access() as entry,)):
                entries = self.named(entry)
                return self.numbered(f"some_{entry.tensor}", self.language.some_entry.format(entries=to_text(entries)))
            case Call("lowest" | "highest" as function, (Access(tensor, (_, Name(index))),)):
                call = self.language.extreme.format(function=function, tensor=tensor, range=self.ranges[index])
                return self.load(f"{function}_{tensor}", call)
            case Call(function, arguments):
                return Call(function, tuple(map(self.named, arguments)))
            case Unary(operator, operand):
                return Unary(operator, self.named(operand))
            case Binary(operator, left, right):
                return Binary(operator, self.named(left), self.named(right))
        return expression

    def first(self, name: str) -> str:
        """What loads the position of the first query, or of the first key."""
        return self.language.first.format(place=[*FIRST.values()].index(name))

    def entry(self, tensor: str, indices: tuple[Expression, ...]) -> Name:
        plain = tuple(map(to_text, indices))
        if plain in self.language.entries:
            return self.load(f"{tensor}_{_ENDS[plain]}", self.language.entries[plain].format(tensor=tensor))
        if not self.language.table_entry or len(indices) not in OF_TABLE:
            raise LoweringError(f"{self.language.name}: `{tensor}[{', '.join(plain)}]` is not loaded by a kernel yet")
        listed = ", ".join(self.indices(indices))
        return self.numbered(f"{tensor}_entry", self.language.table_entry.format(tensor=tensor, indices=listed))

    def indices(self, indices: tuple[Expression, ...]) -> list[str]:
        """Computed indices, after what they look up themselves."""
        return [self.printed(index, self.loads) for index in map(self.named, indices)]

    def load(self, name: str, value: str) -> Name:
        self.loads[name] = value
        return Name(name)

    def numbered(self, name: str, value: str) -> Name:
        """A name for a value; the same where it is loaded already."""
        known = next((each for each, loaded in self.loads.items() if loaded == value), None)
        if known is not None:
            return Name(known)
        count = sum(re.fullmatch(rf"{name}(_\d+)?", each) is not None for each in self.loads)
        return self.load(f"{name}_{count + 1}" if count else name, value)

    def lines(self) -> list[str]:
        """The statements that load, each name once."""
        return [f"{name} = {value}" for name, value in self.loads.items()]
