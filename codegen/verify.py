"""Checks a program before it is printed: the dims of every op, every name defined before it is read, every clause owned."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from attnspec.codegen.program import (
    ELEMENTWISE,
    OPS,
    Assign,
    Check,
    Derived,
    Dims,
    For,
    If,
    Line,
    Op,
    Program,
    Ref,
    Sizes,
    Statement,
    statements,
    walk,
)
from attnspec.spec.model import Spec

_SAME_DIMS = frozenset({"cast", "softmax", "stop_gradient", "dropout", "is_empty", "pad_last", "drop_last", "zeros_like"})


class VerificationError(ValueError):
    """A program that is not well formed: a defect of the compiler, not of the spec."""


def verify(program: Program, spec: Spec) -> None:
    """Raise VerificationError where a program is not well formed."""
    problems = [*_dims(program.body), *_undefined(program, spec), *_unowned(program, spec)]
    if problems:
        raise VerificationError(f"{spec.name}: {program.name}: " + "; ".join(problems))


def _dims(body: tuple[Statement, ...]) -> Iterator[str]:
    for statement in statements(body):
        if isinstance(statement, Assign):
            for node in walk(statement.value):
                if isinstance(node, Op):
                    problem = _op_problem(node)
                    if problem:
                        yield f"{statement.clause or statement.target.name}: `{node.name}` {problem}"


def _op_problem(op: Op) -> str:
    """What is wrong with the dims of one op, or nothing."""
    dims = [argument.dims for argument in op.arguments]
    if op.name not in OPS:
        return "is not in the op table"
    if op.dims is not None and len(set(op.dims)) != len(op.dims):
        return f"repeats a dim in {op.dims}"
    if op.name in ELEMENTWISE and any(d is not None and not _is_suffix(d, op.dims) for d in dims):
        return f"has operands {dims} that do not broadcast to {op.dims}"
    if op.name in _SAME_DIMS and dims[0] != op.dims:
        return f"changes dims from {dims[0]} to {op.dims}"
    if op.name == "transpose" and Counter(dims[0]) != Counter(op.dims):
        return f"is no permutation: {dims[0]} to {op.dims}"
    if op.name == "einsum" and not set(op.dims or ()) <= {d for operand in dims for d in operand or ()}:
        return f"makes dims {op.dims} out of {dims}"
    if op.name in ("split", "merge") and not _regroups(op, dims[0]):
        return f"does not give {op.dims} from {dims[0]}"
    return ""


def _is_suffix(dims: Dims, of: Dims | None) -> bool:
    return of is not None and (not dims or of[-len(dims) :] == dims)


def _regroups(op: Op, source: Dims | None) -> bool:
    one, many = str(op["dim"]), op["parts"]
    whole, parted = (source, op.dims) if op.name == "split" else (op.dims, source)
    if whole is None or parted is None or not isinstance(many, tuple):
        return False
    at = whole.index(one)
    return (*whole[:at], *map(str, many), *whole[at + 1 :]) == parted


def _undefined(program: Program, spec: Spec) -> Iterator[str]:
    """Array variables that are read before they are assigned, in textual order."""
    known = {argument.name for a in (*spec.arguments, *spec.constructor) for argument in (a, *a.elements)}
    known |= {"params", "d_output", "d_outputs"}
    for statement in statements(program.body):
        if isinstance(statement, Assign):
            for node in walk(statement.value):
                if isinstance(node, Ref) and node.name not in known:
                    yield f"`{node.name}` is read before it is assigned"
            known.add(statement.target.name)
        elif isinstance(statement, For):
            known |= set(statement.variables)
        elif isinstance(statement, Line):
            known |= _assigned_names(statement.text)
        elif isinstance(statement, Sizes):
            known |= set(statement.names)
        elif isinstance(statement, Derived):
            known.add(statement.name)


def _assigned_names(text: str) -> set[str]:
    stored = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)}


def _unowned(program: Program, spec: Spec) -> Iterator[str]:
    """Clauses of the spec that no statement of the program names."""
    owned = {s.clause for s in statements(program.body) if isinstance(s, (Assign, If, Check))}
    wanted = {stage.clause for path in spec.paths for stage in path.stages}
    wanted |= {f"precondition.{p.clause}" for p in spec.preconditions}
    yield from (f"clause `{clause}` has no owner" for clause in sorted(wanted - owned))
