"""The choice of a form (`attnspec generate --form auto`): by target, and by the size of a call in a file that has both."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.blockwise.coverage import BLOCKED, lookups, scalars
from attnspec.codegen.blockwise.layouts import Layouts
from attnspec.codegen.derivative import split_prologue, vjp_body
from attnspec.codegen.explicit_casts import explicit_casts
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.module import aliases, rules_of
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Assign, Line, Program, Statement
from attnspec.spec.model import Spec

DIRECT_UP_TO = {"numpy": 0, "torch": 32 * 32, "jax": 0, "tensorflow": 128 * 128, "keras": 0}
"""T * S up to which the direct form takes no longer, 0 where it always does: `make bench-forms` measures it."""


def chosen(spec: Spec, target: Target, auto: bool, call: str, direct: str = "_direct", first: str = "") -> Iterator[Line]:
    """What a function does with its checked arguments: the loops, unless `auto` and the call is short."""
    if auto:
        known = f"{target.concrete.format('T, S')} and " if target.unknown_size else ""
        given = ", ".join(name for name in (first, *BLOCKED, *lookups(spec), *scalars(spec)) if name)
        yield Line(f"if {known}T * S <= DIRECT_UP_TO:\n    return {direct}({given})")
    yield Line(f"return {call}")


def direct_function(spec: Spec, target: Target, shape: str = "{}.shape") -> str:
    """The direct form, on what the function has checked."""
    stages = split_prologue(lower_spec(spec).body)[1]
    return _function(spec, target, shape, f"def _direct({_parameters(spec, target)}) -> {target.array_type}:", stages)


def direct_vjp(spec: Spec, target: Target) -> str:
    """The gradients of the direct form, for targets where they are written out."""
    stages = vjp_body(spec, split_prologue(lower_spec(spec).body)[1])
    array = target.array_type
    head = f"def _direct_vjp(d_output: {array}, {_parameters(spec, target)}) -> dict[str, {array}]:"
    return _function(spec, target, "{}.shape", head, tuple(stages))


def _parameters(spec: Spec, target: Target) -> str:
    tensors = (f"{name}: {target.array_type}" for name in (*BLOCKED, *lookups(spec)))
    return ", ".join((*tensors, *(f"{name}: Any" for name in scalars(spec))))


def _function(spec: Spec, target: Target, shape: str, head: str, stages: tuple[Statement, ...]) -> str:
    program = Program("_direct", stages, batched=False)
    if target.explicit_casts:
        program = explicit_casts(spec, program)
    printer = Printer(target, batched=False, sizes=aliases(spec), rules=rules_of(spec))
    body = tuple(s for s in program.body if not (isinstance(s, Assign) and s.target.name in ("dtype", "compute")))
    text = printer.branch(body, "")
    sizes = printer.block(tuple(Layouts(spec, shape).head(text)))
    body_text = indent(f"{sizes}\n{text}")
    return f'{head}\n    """All at once."""\n{body_text}'
