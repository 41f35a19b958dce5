"""Integer tensors that masks look into, such as segments and lengths: what a kernel loads of them, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnspec.codegen.index_notation import LoweringError
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Unary, to_text
from attnspec.spec.model import Spec

OPERANDS = (("B",), ("B", "T"), ("B", "S"))
"""The dims that such a tensor may have."""


def operands_of(spec: Spec) -> list[str]:
    """The tensors of a call besides query, key and value, in their order."""
    return [a.name for a in spec.tensor_arguments if (a.feeds or a.name) not in ("query", "key", "value")]


def in_kernel(operands: list[str]) -> tuple[str, ...]:
    """The parameters of a kernel that hold them."""
    return tuple(part for name in operands for part in (name, f"{name}_strides"))


@dataclass
class Loaded:
    """Expressions in which names stand for what is loaded; `loads` has the value of each name.

    `ranges` says which positions a reduction over t or s goes through, as the arguments of a helper.
    """

    ranges: Mapping[str, str] = field(default_factory=dict)
    loads: dict[str, str] = field(default_factory=dict)

    def named(self, expression: Expression) -> Expression:
        """The expression with a name in the place of every entry."""
        match expression:
            case Access(tensor, indices):
                return self.entry(tensor, tuple(map(to_text, indices)))
            case Call("lowest" | "highest" as function, (Access(tensor, (_, Name(index))),)):
                return self.load(f"{function}_{tensor}", f"_{function}({_of(tensor)}, {self.ranges[index]})")
            case Call(function, arguments):
                return Call(function, tuple(map(self.named, arguments)))
            case Unary(operator, operand):
                return Unary(operator, self.named(operand))
            case Binary(operator, left, right):
                return Binary(operator, self.named(left), self.named(right))
        return expression

    def entry(self, tensor: str, indices: tuple[str, ...]) -> Name:
        match indices:
            case ("b",):
                return self.load(f"{tensor}_here", f"tl.load({tensor} + b * {tensor}_strides[0])")
            case ("b", "t" | "s" as index):
                return self.load(f"{tensor}_at_{index}", f"_entries({_of(tensor)}, {index}, {index.upper()})")
        raise LoweringError(f"triton: `{tensor}[{', '.join(indices)}]` is not loaded by a kernel yet")

    def load(self, name: str, value: str) -> Name:
        self.loads[name] = value
        return Name(name)

    def lines(self) -> list[str]:
        """The statements that load, each name once."""
        return [f"{name} = {value}" for name, value in self.loads.items()]


def _of(tensor: str) -> str:
    return f"{tensor}, {tensor}_strides, b"
