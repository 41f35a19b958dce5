"""The form for Keras, one file for all backends: the stages on blocks are the file's own, the loops over them its helpers.

What is fast differs with the backend, and so do the loops (`support/keras_blocks.py`): whole rows where operations run one by
one, tiles where a program is traced. Both ask the file for the same four: which blocks are visited, the logits of a tile, its
output, its gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.blockwise.choice import direct_function
from attnspec.codegen.blockwise.coverage import BLOCKED, rule_of_masks
from attnspec.codegen.blockwise.heads_first import ENDS, HeadsFirst, at_level, others, public, seen_blocks
from attnspec.codegen.blockwise.lookups import read_by_formulas
from attnspec.codegen.blockwise.scaling import scaled_queries
from attnspec.codegen.lower import HIDDEN
from attnspec.codegen.printer import Target, indent
from attnspec.codegen.program import Line, Ref
from attnspec.spec.model import Spec


def parts(spec: Spec, target: Target, auto: bool) -> Iterator[str]:
    """The definitions of a blockwise module."""
    yield _visible(spec, target)
    yield _Stages(spec, target).attend()
    if auto:
        yield direct_function(spec, target, "_shape({})")
    yield public(spec, target, "_attend", auto)


def _visible(spec: Spec, target: Target) -> str:
    """The function that says which blocks are visited, by the formulas of the masks."""
    seen, read = seen_blocks(spec, target)
    given = [name for name in read if name not in ENDS]
    parameters = "".join(f", {name}: Any" for name in given)
    lines = read_by_formulas(spec, read)
    lines += ["start, low = _starts(T, rows)[:, None], _starts(S, columns)"]
    lines += [_ENDS[end] for end in ENDS if end in read]
    lines += [
        f"# {rule_of_masks(spec)}",
        f"seen = {seen}",
        "return ops.broadcast_to(seen, (_count(T, rows), _count(S, columns)))",
    ]
    return (
        f"def _visible(T: Any, S: Any, rows: Any, columns: Any{parameters}) -> Tensor:\n"
        f'    """For every block of queries, which blocks of keys some of them see."""\n' + indent("\n".join(lines))
    )


_ENDS = {"stop": "stop = ops.minimum(start + rows, T)", "high": "high = ops.minimum(low + columns, S)"}


class _Stages(HeadsFirst):
    """The stages of a spec on blocks, as text."""

    def __init__(self, spec: Spec, target: Target) -> None:
        super().__init__(spec, target, "_shape({})")
        hidden = (replace(s, value=Ref("_LOWEST")) if s.target == HIDDEN else s for s in self.logits)
        self.logits = scaled_queries(hidden)

    def attend(self) -> str:
        """The function that hands the stages to the loops."""
        weights = Line("weights_of_rows, d_output = weigh(logits, d_output)\nweights = weights_of_rows", self.softmax)
        again = self.again((weights,), "mean(weights_of_rows, d_weights)", "return d_query_block, d_key_block, d_value_block")
        inner = {
            "logits": self.looked_up() + self.text(*self.logits, Line("return logits")),
            "combine": self.text(*self.combine, Line("return output")),
            "again": self.looked_up() + self.text(*again),
        }
        read = [name for name in seen_blocks(self.spec, self.printer.target)[1] if name in others(self.spec)]
        text = _ATTEND.format(
            head=_HEAD,
            parameters="".join(f", {name}: Any" for name in others(self.spec)),
            read="".join(f", {name}" for name in read),
            numbers="".join(f", {name}={name}" for name in self.numbers()),
            output=self.transposed(Ref("output", ("B", "N", "T", "V")), self.layouts.dims("output")),
            **{name: at_level(2, body) for name, body in inner.items()},
            **{name: self.heads_first(name) for name in BLOCKED},
        )
        return text.replace(_HEAD, at_level(1, self.head(text)))

    def looked_up(self) -> str:
        """The entries that masks look up for a block."""
        found = ((name, positions) for dim, positions in (("T", "t"), ("S", "s")) for name in self.entries(dim))
        return "".join(f"{name}_block = _entries({name}, {positions})\n" for name, positions in found)

    def numbers(self) -> list[str]:
        """The arguments that are numbers, which have no derivative."""
        return [argument.name for argument in self.spec.arguments if argument.role == "number"]

    def head(self, text: str) -> str:
        """Dtypes, the sizes that the rest reads, and numbers in the dtype of the logits."""
        numbers = (Line(f"{name} = _scalar({name}, compute)") for name in self.numbers())
        return self.text(*self.layouts.head(text), *numbers)


_HEAD = "    # sizes and dtypes"
_ATTEND = '''def _attend(query: Tensor, key: Tensor, value: Tensor{parameters}) -> Tensor:
    """The stages on blocks, with heads in front, and the loops over these."""
{head}

    def visible(rows: Any, columns: Any) -> Tensor:
        return _visible(T, S, rows, columns{read})

    def logits_of(query_block: Tensor, key_block: Tensor, t: Tensor, s: Tensor) -> Tensor:
        rows, columns = _shape(query_block)[2], _shape(key_block)[2]
{logits}

    def output_of(weights: Tensor, value_block: Tensor) -> Tensor:
        rows, columns = _shape(weights)[2:]
{combine}

    def gradients_of(
        query_block: Tensor,
        key_block: Tensor,
        value_block: Tensor,
        d_output: Tensor,
        t: Tensor,
        s: Tensor,
        weigh: Any,
        mean: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of these blocks; `weigh` makes weights of logits, `mean` is that of their gradients in every row."""
        rows, columns = _shape(query_block)[2], _shape(key_block)[2]
{again}

    stages = _Stages(visible, logits_of, output_of, gradients_of)
    output = _by_blocks(stages, BLOCK, {query}, {key}, {value}{numbers})
    return {output}'''
