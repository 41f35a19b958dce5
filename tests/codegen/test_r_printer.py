"""R text keeps the meaning of what it was printed from: precedences, long lines, and what a program leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.module import covers
from attnspec.codegen.program import Const, Node, Op, Ref
from attnspec.codegen.r.layout import WIDTH, laid_out
from attnspec.codegen.r.module import function_text, helpers
from attnspec.codegen.r.printer import RPrinter
from attnspec.codegen.targets.r import R
from attnspec.spec.expression import Binary, Expression, Name, Number, Unary
from attnspec.spec.loader import builtin, load
from attnspec.spec.resolve import evaluate
from compiling import SPECS, spec_of
from in_r import needs_r, run_r

VALUES: dict[str, int] = {"a": 7, "b": -3, "c": 2}
ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "%": "mod", "//": "floordiv"}
COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
LOGIC = {"and": "and", "or": "or"}
OPS = {**ARITHMETIC, **COMPARISONS, **LOGIC, "**": "pow"}


def printer() -> RPrinter:
    return RPrinter(R, batched=False)


def integers() -> st.SearchStrategy[Expression]:
    leaves: st.SearchStrategy[Expression] = st.sampled_from([Name("a"), Name("b"), Name("c"), Number(3), Number(5)])

    def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        binary = st.builds(Binary, st.sampled_from(list(ARITHMETIC)), inner, inner)
        power = st.builds(Binary, st.just("**"), inner, st.just(Number(2)))
        return binary | power | st.builds(Unary, st.just("-"), inner)

    return st.recursive(leaves, grown, max_leaves=8)


def conditions() -> st.SearchStrategy[Expression]:
    leaves = st.builds(Binary, st.sampled_from(list(COMPARISONS)), integers(), integers())

    def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.builds(Binary, st.sampled_from(list(LOGIC)), inner, inner) | st.builds(Unary, st.just("not"), inner)

    return st.recursive(leaves, grown, max_leaves=5)


def value_of(expression: Expression) -> object:
    try:
        return evaluate(expression, VALUES)
    except ValueError:  # a division by zero, or a number beyond 64 bits
        return None


def as_node(expression: Expression) -> Node:
    """The expression over arrays of one axis, every name and number an array."""
    match expression:
        case Name(name):
            return Ref(name, ("X",))
        case Number(value):
            return Const(value)
        case Unary(operator, operand):
            return Op("neg" if operator == "-" else "not", (as_node(operand),), ("X",))
        case Binary(operator, left, right):
            return Op(OPS[operator], (as_node(left), as_node(right)), ("X",))
    raise TypeError(expression)


@needs_r
@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(integers() | conditions(), min_size=60, max_size=120))
def test_an_expression_has_the_same_value_in_r(expressions: list[Expression]) -> None:
    """As a guard over numbers and as an array, many in one R."""
    known = [(e, value) for e in expressions if (value := value_of(e)) is not None and abs(int(value)) < 2**50]  # type: ignore[call-overload]
    texts = [f"list({printer().guard(e)[0]}, {printer().node(as_node(e))[0]})" for e, _ in known]
    names = "; ".join(f"{name} <- array({value}, 1)" for name, value in VALUES.items())
    lines = run_r(
        f"{names}; for (x in list({', '.join(texts)})) cat(as.numeric(x[[1]]), as.numeric(x[[2]]), '\\n')"
    ).splitlines()
    assert [tuple(map(float, line.split())) for line in lines] == [(float(v), float(v)) for _, v in known]  # type: ignore[arg-type]


@given(st.text(st.sampled_from("ab"), min_size=1), st.lists(st.sampled_from([" + b", ", c", ' & "x, y"', "(d, e)", " <- f"])))
def test_a_long_line_is_broken_between_words_and_nothing_is_lost(start: str, more: list[str]) -> None:
    line = "    " + start + "".join(more)
    broken = laid_out(line)
    assert re.sub(r"\s+", " ", broken).strip() == re.sub(r"\s+", " ", line).strip()
    assert all('"x,' not in part or 'y"' in part for part in broken.split("\n"))


def test_a_comment_is_not_broken() -> None:
    assert laid_out("# " + "x, " * 100) == "# " + "x, " * 100


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if covers(R, spec)))
def test_lines_are_short_but_for_messages_and_rules(name: str) -> None:
    for line in function_text(builtin()[name]).splitlines():
        assert len(line) <= WIDTH or line.strip().startswith(("#", 'sprintf("', '"')), line


def test_what_only_other_targets_need_is_left_out() -> None:
    text = function_text(builtin()["jax.nn.dot_product_attention"])
    assert "dtype" not in text
    assert "compute" not in text
    assert "float32" not in text
    assert "hidden <- -0.7 * 3.4028234663852886e+38" in text


def test_the_group_runs_fastest() -> None:
    """`n = k * G + g`, and the first axis of an array runs fastest."""
    text = function_text(builtin()["causal_gqa"])
    assert "grouped_query <- array(query, c(B, T, G, K, H))" in text
    assert 'logits <- .einsum("btgkh,bskh->bgkts", grouped_query, key)' in text


def test_positions_are_kept_only_where_something_reads_them() -> None:
    assert "seq_len" not in function_text(load(SPECS / "two_paths.toml"))
    assert "s <- .spread(seq_len(S) - 1, 4, c(B, N, T, S))" in function_text(builtin()["causal_gqa"])


def test_an_argument_may_have_a_name_that_r_keeps_to_itself(tmp_path: Path) -> None:
    text = """
    variant = "odd_names"
    summary = "Repeats something."
    modifiers = ["more"]
    [modifier.more]
    logit = "logit + next"
    [parameters.next]
    default = 2.0
    examples = [2.0]
    """
    code = function_text(spec_of(text, tmp_path))
    assert "scale = NULL, `next` = 2)" in code
    assert '`next` <- .number("next", `next`)' in code
    assert "logits <- logits + `next`" in code


def test_a_sum_over_an_axis_of_one_factor_alone_is_refused() -> None:
    lonely = Op("einsum", (Ref("x", ("B", "T")), Ref("y", ("B", "S"))), ("B", "S"))
    with pytest.raises(LoweringError, match="a sum over T, which only one factor has"):
        printer().node(lonely)


def test_helpers_come_with_what_they_need_and_unknown_ones_are_refused() -> None:
    names = [text.partition(" <- ")[0] for text in helpers("x <- .logsumexp(y)  # .softmax(z)")]
    assert names == [".rows", ".row_maxima", ".logsumexp"]
    with pytest.raises(LoweringError, match=r"there is no helper \.imaginary"):
        helpers("x <- .imaginary(y)")
