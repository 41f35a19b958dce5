"""Expressions keep their meaning as text: precedences, guards, and the few words that differ between targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnspec.codegen.printer import Printer
from attnspec.codegen.program import (
    Assign,
    Check,
    Const,
    Default,
    Derived,
    For,
    If,
    Line,
    Node,
    Op,
    Program,
    Ref,
    Return,
    Sizes,
)
from attnspec.codegen.targets import TARGETS
from attnspec.spec.expression import Binary, Expression, Name, Number, Unary, parse
from attnspec.spec.resolve import evaluate

VALUES: dict[str, int] = {"a": 7, "b": -3, "c": 2}
ARITHMETIC = ["+", "-", "*", "%", "//"]
COMPARISONS = ["<", "<=", ">", ">=", "==", "!="]


def printer(target: str = "numpy") -> Printer:
    return Printer(TARGETS[target], batched=False)


def integers() -> st.SearchStrategy[Expression]:
    leaves: st.SearchStrategy[Expression] = st.sampled_from([Name("a"), Name("b"), Name("c"), Number(3), Number(5)])

    def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        binary = st.builds(Binary, st.sampled_from(ARITHMETIC), inner, inner)
        power = st.builds(Binary, st.just("**"), inner, st.just(Number(2)))
        return binary | power | st.builds(Unary, st.just("-"), inner)

    return st.recursive(leaves, grown, max_leaves=8)


def guards() -> st.SearchStrategy[Expression]:
    leaves = st.builds(Binary, st.sampled_from(COMPARISONS), integers(), integers())

    def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.builds(Binary, st.sampled_from(["and", "or"]), inner, inner) | st.builds(Unary, st.just("not"), inner)

    return st.recursive(leaves, grown, max_leaves=5)


def value_of(expression: Expression) -> object:
    try:
        return evaluate(expression, VALUES)
    except ValueError:  # a division by zero, or a number beyond 64 bits
        return None


@given(integers() | guards())
def test_a_guard_prints_as_python_of_the_same_value(expression: Expression) -> None:
    expected = value_of(expression)
    if expected is not None:
        assert eval(printer().guard(expression)[0], {}, VALUES) == expected


NAMES = {
    "+": "add", "-": "sub", "*": "mul", "%": "mod", "//": "floordiv", "**": "pow", "<": "lt", "<=": "le", ">": "gt", ">=": "ge",
    "==": "eq", "!=": "ne", "and": "and", "or": "or",
}  # fmt: skip


def as_node(expression: Expression, dims: tuple[str, ...] | None) -> Node:
    match expression:
        case Name(name):
            return Ref(name, dims)
        case Number(value):
            return Const(value) if dims is None else Ref(f"n{value}", dims)
        case Unary(operator, operand):
            return Op("neg" if operator == "-" else "not", (as_node(operand, dims),), dims)
        case Binary(operator, left, right):
            return Op(NAMES[operator], (as_node(left, dims), as_node(right, dims)), dims)
    raise TypeError(expression)


@given(integers())
def test_scalar_nodes_print_as_python_of_the_same_value(expression: Expression) -> None:
    expected = value_of(expression)
    if expected is not None:
        assert eval(printer().node(as_node(expression, None))[0], {}, VALUES) == expected


@given(guards())
def test_array_nodes_use_the_operators_of_arrays(expression: Expression) -> None:
    """`&`, `|` and `~` bind tighter than comparisons, where `and`, `or` and `not` bind looser."""
    expected = value_of(expression)
    if expected is not None:
        arrays = {name: np.array([value]) for name, value in {**VALUES, "n2": 2, "n3": 3, "n5": 5}.items()}
        text = printer().node(as_node(expression, ("S",)))[0]
        assert bool(np.all(eval(text, {"np": np}, arrays))) == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("a - (b - c)", "a - (b - c)"),
        ("(a - b) - c", "a - b - c"),
        ("(a + b) * c", "(a + b) * c"),
        ("-(a + b)", "-(a + b)"),
        ("H ** -0.5", "H ** -0.5"),
        ("not (a < b and c < a)", "not (a < b and c < a)"),
        ("bias is not None", "bias is not None"),
        ("not (bias is None)", "bias is not None"),
        ("given(mask) and rank(mask) == 4", "mask is not None and mask.ndim == 4"),
        ("min(a, b + 1)", "min(a, b + 1)"),
    ],
)
def test_guards_have_the_parentheses_that_they_need_and_no_others(expression: str, text: str) -> None:
    assert printer().guard(parse(expression))[0] == text


def test_a_power_of_a_power_keeps_its_order() -> None:
    """The language has none, but substitution and derivatives may make one."""
    inner = Binary("**", Name("a"), Number(2))
    assert printer().guard(Binary("**", inner, Number(3)))[0] == "(a ** 2) ** 3"
    assert printer().guard(Binary("**", Number(2), inner))[0] == "2 ** a ** 2"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("numpy", "mask.dtype == bool"),
        ("jax", "mask.dtype == bool"),
        ("torch", "mask.dtype == torch.bool"),
        ("tensorflow", "mask.dtype == tf.bool"),
    ],
)
def test_a_guard_about_a_tensor_is_in_the_words_of_the_target(target: str, text: str) -> None:
    assert printer(target).guard(parse("is_boolean(mask)"))[0] == text


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        ("numpy", ["np.tanh(x)", "x.astype(compute)", "~x", "-np.inf", "x.reshape(B, K, G, S)"]),
        ("jax", ["jnp.tanh(x)", "x.astype(compute)", "~x", "-jnp.inf", "x.reshape(B, K, G, S)"]),
        ("torch", ["torch.tanh(x)", "x.to(compute)", "~x", 'float("-inf")', "x.unflatten(1, (K, G))"]),
        ("tensorflow", ["tf.tanh(x)", "tf.cast(x, compute)", "~x", 'float("-inf")', "tf.reshape(x, (B, K, G, S))"]),
    ],
)
def test_ops_are_in_the_words_of_the_target(target: str, texts: list[str]) -> None:
    x = Ref("x", ("B", "N", "S"))
    split = Op("split", (x,), ("B", "K", "G", "S"), (("dim", "N"), ("parts", ("K", "G"))))
    ops: list[Node] = [
        Op("tanh", (x,), x.dims),
        Op("cast", (x,), x.dims, (("to", "compute"),)),
        Op("not", (x,), x.dims),
        Const("-inf"),
        split,
    ]
    assert [printer(target).node(op)[0] for op in ops] == texts


def test_an_einsum_gets_lines_of_its_own_for_what_it_regroups() -> None:
    """Each regrouping once, as long as its operand stays the same."""
    query, key = Ref("query", ("B", "T", "N", "H")), Ref("key", ("B", "S", "K", "H"))
    grouped = Op("split", (query,), ("B", "T", "K", "G", "H"), (("dim", "N"), ("parts", ("K", "G"))))
    product = Op("einsum", (grouped, key), ("B", "K", "G", "T", "S"))
    logits, again = Ref("logits", product.dims), Ref("again", product.dims)
    text = printer().block((Assign(logits, product), Assign(again, product), Assign(query, query), Assign(again, product)))
    assert text.count("grouped_query = query.reshape(B, T, K, G, H)") == 2
    assert text.count('np.einsum("btkgh,bskh->bkgts", grouped_query, key, dtype=compute)') == 3


def test_a_branch_does_not_lend_its_variables_to_what_follows() -> None:
    query, key = Ref("query", ("B", "T", "N", "H")), Ref("key", ("B", "S", "K", "H"))
    grouped = Op("split", (query,), ("B", "T", "K", "G", "H"), (("dim", "N"), ("parts", ("K", "G"))))
    assign = Assign(Ref("logits", ("B", "K", "G", "T", "S")), Op("einsum", (grouped, key), ("B", "K", "G", "T", "S")))
    text = printer().block((If(parse("is_causal"), (assign,)), assign))
    assert text.count("grouped_query =") == 2


def test_sizes_are_unpacked_only_where_something_reads_them() -> None:
    body = (Sizes(("B", "N", "K", "T")), Derived("G", parse("N // K")), Line("t = np.arange(T)"), Return((Ref("t"),)))
    assert printer().function_body(Program("f", body, batched=False)) == 'T = sizes["T"][0]\nt = np.arange(T)\nreturn t'


def test_a_derived_size_keeps_what_it_is_derived_from() -> None:
    body = (Sizes(("N", "K", "T")), Derived("G", parse("N // K")), Return((Ref("G"),)))
    text = printer().function_body(Program("f", body, batched=False))
    assert text == 'N, K = (sizes[dim][0] for dim in "NK")\nG = N // K\nreturn G'


def test_a_check_of_a_number_that_may_be_traced_asks_first() -> None:
    """Under jit the number has no value; a check that decides by sizes alone stays as it is."""
    check = Check(parse("cap <= 0 or cap > N"), "ValueError", "bad {cap}", "precondition.cap-range", ("cap",))
    assert printer("numpy").statement(check) == 'if cap <= 0 or cap > N:\n    raise ValueError(f"bad {cap}")'
    assert printer("jax").statement(check).startswith("if _concrete(cap) and (cap <= 0 or cap > N):\n")
    sizes = Check(parse("N % K != 0"), "ValueError", "heads", "precondition.heads-divide")
    assert printer("jax").statement(sizes) == 'if N % K != 0:\n    raise ValueError("heads")'


def test_where_sizes_may_be_unknown_checks_ask_for_them_too_and_floats_are_made_of_them_first() -> None:
    check = Check(parse("N % K != 0"), "ValueError", "heads", "precondition.heads-divide", (), ("K", "N"))
    default = Default("scale", parse("H ** -0.5"))
    known, traced = printer("jax"), printer("tensorflow")
    assert known.statement(check) == 'if N % K != 0:\n    raise ValueError("heads")'
    assert traced.statement(check) == 'if _concrete(K, N) and N % K != 0:\n    raise ValueError("heads")'
    assert known.statement(default) == 'scale = H ** -0.5 if scale is None else _number("scale", scale)'
    assert traced.statement(default) == 'scale = _float(H) ** -0.5 if scale is None else _number("scale", scale)'


def test_a_clause_is_named_once_with_its_rule() -> None:
    scaled = Assign(Ref("x", ("S",)), Op("mul", (Ref("x", ("S",)), Ref("scale")), ("S",)), "modifier.scale")
    text = Printer(TARGETS["numpy"], False, rules={"modifier.scale": "logit * scale"}).block((scaled, scaled))
    assert text == "# modifier.scale: logit * scale\nx = x * scale\nx = x * scale"


def test_a_loop_and_lifted_results_print_as_python() -> None:
    loop = For(("start",), "range(0, T, BLOCK)", (Line("stop = start + BLOCK"),))
    assert printer().statement(loop) == "for start in range(0, T, BLOCK):\n    stop = start + BLOCK"
    assert printer().statement(Return((Ref("x"),), lifted=(0,))) == "return x[0] if lifted else x"
    both = "return (x[0] if lifted else x), (y[:, 0] if lifted else y)"
    assert printer().statement(Return((Ref("x"), Ref("y")), lifted=(0, 1))) == both


def test_leading_axes_are_any_number_in_a_batched_program() -> None:
    batched = Printer(TARGETS["numpy"], batched=True)
    query = Ref("query", ("B", "N", "T", "H"))
    split = Op("split", (query,), ("B", "K", "G", "T", "H"), (("dim", "N"), ("parts", ("K", "G"))))
    assert batched.node(split)[0] == "query.reshape(*query.shape[: -3], K, G, T, H)"
    assert batched.axis(query.dims, "T") == -2
    product = Op("einsum", (query, Ref("key", ("B", "N", "S", "H"))), ("B", "N", "T", "S"))
    assert batched.einsum(product) == '"...nth,...nsh->...nts"'
