"""A malformed program is refused before it is printed, with the spec, the function and what is wrong."""

from __future__ import annotations

import pytest

from attnspec.codegen.lower import lower_spec
from attnspec.codegen.program import Assign, Attribute, Const, Dims, For, Line, Node, Op, Program, Ref, Sizes, Statement
from attnspec.codegen.verify import VerificationError, verify
from attnspec.spec.loader import find
from attnspec.spec.model import Spec

SPEC = find("causal_gqa")
QUERY = Ref("query", ("B", "T", "N", "H"))
KEY = Ref("key", ("B", "S", "K", "H"))
ROW = Ref("query", ("N",))


def op(name: str, *operands: Node, dims: Dims | None, **attributes: Attribute) -> Op:
    return Op(name, operands, dims, tuple(attributes.items()))


def problems(*statements: Statement, spec: Spec = SPEC) -> str:
    """What `verify` says of the spec's own program with statements added at its end."""
    program = lower_spec(spec)
    with pytest.raises(VerificationError) as raised:
        verify(Program(program.name, (*program.body, *statements), program.batched), spec)
    return str(raised.value)


MALFORMED = {
    "unknown op": (op("convolve", QUERY, dims=QUERY.dims), "`convolve` is not in the op table"),
    "repeated dim": (op("einsum", QUERY, KEY, dims=("B", "T", "T")), r"`einsum` repeats a dim in ('B', 'T', 'T')"),
    "operands that do not broadcast": (op("add", QUERY, ROW, dims=QUERY.dims), "`add` has operands"),
    "result without dims": (op("add", QUERY, Const(1), dims=None), "`add` has operands"),
    "a cast that changes dims": (op("cast", QUERY, dims=("B", "T"), to="compute"), "`cast` changes dims"),
    "a softmax that changes dims": (op("softmax", QUERY, dims=("B", "T", "N")), "`softmax` changes dims"),
    "no permutation": (op("transpose", QUERY, dims=("B", "N", "T", "V")), "`transpose` is no permutation"),
    "a dim from nowhere": (op("einsum", QUERY, KEY, dims=("B", "V")), "`einsum` makes dims ('B', 'V') out of"),
    "a wrong split": (op("split", QUERY, dims=("B", "T", "G", "K", "H"), dim="N", parts=("K", "G")), "`split` does not give"),
    "a wrong merge": (op("merge", QUERY, dims=("B", "N", "H"), dim="N", parts=("N", "T")), "`merge` does not give"),
    "a problem deep inside": (op("tanh", op("add", QUERY, ROW, dims=QUERY.dims), dims=QUERY.dims), "`add` has operands"),
}


@pytest.mark.parametrize(("node", "what"), MALFORMED.values(), ids=MALFORMED)
def test_an_op_with_wrong_dims_is_named_with_its_clause(node: Op, what: str) -> None:
    text = problems(Assign(Ref("x", node.dims), node, "clause.under_test"))
    assert text.startswith("causal_gqa: causal_gqa: clause.under_test: ")
    assert what in text


def test_inside_a_loop_the_dims_are_checked_too() -> None:
    body = (Assign(Ref("x", QUERY.dims), op("add", QUERY, ROW, dims=QUERY.dims)),)
    assert "x: `add` has operands" in problems(For(("start",), "range(3)", body))


def test_a_variable_that_nothing_has_assigned_is_named() -> None:
    assert "`nowhere` is read before it is assigned" in problems(Assign(Ref("x"), Ref("nowhere")))


@pytest.mark.parametrize(
    "before", [Line("x, (y, *nowhere) = 1, (2, 3)"), Sizes(("nowhere",)), For(("nowhere",), "range(3)", ())], ids=repr
)
def test_every_kind_of_statement_defines_its_names(before: Statement) -> None:
    program = lower_spec(SPEC)
    read = Assign(Ref("x"), Ref("nowhere"))
    verify(Program(program.name, (*program.body, before, read), program.batched), SPEC)


def test_a_clause_without_an_owner_is_named() -> None:
    """A stage or precondition of the spec that got lost on the way to the program."""
    program = lower_spec(SPEC)
    body = tuple(s for s in program.body if getattr(s, "clause", "") not in ("mask.causal", "precondition.heads-divide"))
    with pytest.raises(VerificationError) as raised:
        verify(Program(program.name, body, program.batched), SPEC)
    assert str(raised.value) == (
        "causal_gqa: causal_gqa: clause `mask.causal` has no owner; clause `precondition.heads-divide` has no owner"
    )


def test_all_problems_come_at_once() -> None:
    text = problems(Assign(Ref("x"), Ref("one")), Assign(Ref("y"), Ref("two")))
    assert "`one` is read" in text
    assert "`two` is read" in text
