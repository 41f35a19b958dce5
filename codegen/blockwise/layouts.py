"""The arrays of a call: their axes, and the lines that read sizes off them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attnspec.codegen.blockwise.coverage import BLOCKED
from attnspec.codegen.lower import Body, canonical_scope
from attnspec.codegen.program import Dims, Line, Statement
from attnspec.spec.model import Spec


class Layouts:
    """The layouts of query, key, value and output. `shape` says how the sizes of a tensor are asked for."""

    def __init__(self, spec: Spec, shape: str = "{}.shape") -> None:
        self.shape = shape
        self.scope = canonical_scope(spec)
        self.body = Body(spec, spec.paths[0], self.scope, frozenset())

    def dims(self, name: str) -> Dims:
        """The axes of an argument, or of the output."""
        dims = self.body.physical("output") if name == "output" else self.scope.tensors[name].dims
        assert dims is not None
        return dims

    def head(self, code: str) -> Iterator[Statement]:
        """Dtypes, and the sizes that the code reads."""
        read = {*re.findall(r"\b[A-Z]\b", re.sub("#.*", "", code))}
        yield from self.body.dtypes()
        yield from map(Line, self.sizes(read | ({"N", "K"} if "G" in read else set())))
        if "G" in read:
            yield Line("G = N // K")

    def sizes(self, read: set[str]) -> Iterator[str]:
        """The lines that bind sizes: `B, T, N, H = query.shape`."""
        known: set[str] = set()
        for name in BLOCKED:
            dims = self.dims(name)
            fresh = [dim for dim in dims if dim in read - known]
            known |= {*fresh}
            shape = self.shape.format(name)
            if len(fresh) == len(dims):
                yield f"{', '.join(dims)} = {shape}"
            elif fresh:
                yield f"{', '.join(fresh)} = {', '.join(f'{shape}[{dims.index(dim)}]' for dim in fresh)}"
