"""The expression language: what it takes, what it refuses and with which words, and that nothing makes it slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnspec.spec.expression import (
    MAX_DEPTH,
    MAX_LENGTH,
    Access,
    Binary,
    Call,
    Concat,
    Expression,
    ExpressionError,
    IsNone,
    Name,
    Number,
    Sum,
    Text,
    Unary,
    names,
    parse,
    substitute,
    to_text,
    walk,
)

PARSED = {
    "n//G": Binary("//", Name("n"), Name("G")),
    "x[b, n//G]": Access("x", (Name("b"), Binary("//", Name("n"), Name("G")))),
    "interval(x, t + 1)": Call("interval", (Name("x"), Binary("+", Name("t"), Number(1)))),
    "sum(h, q[h])": Sum("h", Access("q", (Name("h"),))),
    "concat(s, past, new)": Concat("s", (Name("past"), Name("new"))),
    "H ** -0.5": Binary("**", Name("H"), Unary("-", Number(0.5))),
    "-x ** 2": Unary("-", Binary("**", Name("x"), Number(2))),
    "a <= x <= b": Binary("and", Binary("<=", Name("a"), Name("x")), Binary("<=", Name("x"), Name("b"))),
    "a and b and c": Binary("and", Binary("and", Name("a"), Name("b")), Name("c")),
    "x is None": IsNone("x"),
    "x is not None": Unary("not", IsNone("x")),
    "min(max(a, 0), R - 1)": Call("min", (Call("max", (Name("a"), Number(0))), Binary("-", Name("R"), Number(1)))),
    "mode == 'dot' or mode != \"a b\"": Binary(
        "or", Binary("==", Name("mode"), Text("dot")), Binary("!=", Name("mode"), Text("a b"))
    ),
    "\n rank(query)\t== 4 ": Binary("==", Call("rank", (Name("query"),)), Number(4)),
}


@pytest.mark.parametrize(("text", "tree"), PARSED.items())
def test_parses(text: str, tree: Expression) -> None:
    assert parse(text) == tree


REFUSED = {
    "": "1: expected an expression, got an empty text",
    "s <= t + ofset(1)": "10: unknown function `ofset`.",
    "tan(x)": '1: unknown function `tan`. Did you mean "tanh"?',
    "x.y": "2: expected a number or a name",
    "s <= t &": '8: unexpected character "&"',
    "s <= 'a": '6: unexpected character "\'"',
    "mode == '" + "a" * 65 + "'": '9: unexpected character "\'"',
    "mode == b'a'": "9: expected a number",
    "a\x00": "2: unexpected character U+0000",
    "1or 2": "1: expected a number or a name",
    "0x1f": "1: expected a number or a name",
    "x < 99999999999": "5: expected a number up to 2147483647, got 99999999999",
    "1e999": "1: expected a number up to 2147483647, got 1e999",
    "x(": "2: a bracket is not closed",
    "  a b": "5: not a complete expression",
    "x +": "4: not a complete expression",
    "  a if b else c": "3: `if ... else` (write `where(condition, a, b)`) is not part of the language",
    "(a, b)": "1: a tuple is not part of the language",
    "min(*a, b)": "5: `*` is not part of the language",
    "x is 3": "1: `is` only compares with `None`",
    "x[t] is None": "1: only an argument can be compared with `None`",
    "x == None": "6: `None` is only allowed in `x is None` and `x is not None`",
    "x == True": "6: `True` is not part of the language; write `x` or `not x`",
    "a in b": "1: `in`, and `is` in a chain, are not part of the language",
    "+x": "1: a leading `+` is not part of the language",
    "where(a, b)": "1: expected 3 arguments of `where`, got 2 arguments",
    "min(a)": "1: expected at least 2 arguments of `min`, got 1",
    "interval(x)": "1: expected 2 arguments of `interval`, got 1 argument",
    "interval(x[b], t)": "1: `interval` takes the name of a tensor first",
    "sum(h)": "1: expected `sum(index, expression)`, got 1 argument",
    "sum(H, x)": "5: expected an index, one lower-case letter",
    "1 + concat(s, a, b)": "5: `concat` must be the whole expression",
    "concat(s, a)": "1: expected `concat(index, tensor, tensor, ...)`",
    "concat(s, a, b + c)": "14: `concat` joins tensors by name",
    "rank(1)": "1: `rank` takes the name of an argument",
    "exp(x, base=2)": "1: `exp` takes no keywords",
    "x[()]": "1: expected at least one index",
    "(a + b)[t]": "1: only a tensor's name can be indexed",
    "a(b)(c)": "1: only a function's name can be called",
    "9**9**9": "4: expected an exponent that is a number of at most 16",
    "x ** n": "6: expected an exponent that is a number of at most 16",
    "(9 ** 9) ** 9": "1: a power of a power is not part of the language",
    "a <= (b <= c) <= d": "7: the middle of a chain of comparisons cannot hold another comparison",
    "-" * 1_000 + "x": "41: nested deeper than 40",
    "not " * 300 + "x": "161: nested deeper than 40",
    "(" * 1_000: "41: nested deeper than 40",
    "+".join(["1"] * 900): "1: nested deeper than 40",
    " and ".join(["a"] * 60): "1: nested deeper than 40",
    "a" * 65: "1: expected a name of at most 64 characters, got 65",
    "x" * 3_000: "1: expected at most 2000 characters, got 3000",
}


@pytest.mark.parametrize(("text", "error"), REFUSED.items(), ids=lambda text: text[:20])
def test_refuses(text: str, error: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert f"{caught.value.column}: {caught.value.message}" == error
    assert time.perf_counter() - start < 0.2


@settings(max_examples=500)
@given(st.text(alphabet="abst1.5 +-*/%<>=!()[],andotrismu", max_size=80) | st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    found = parsed_or_refused(text)
    if isinstance(found, ExpressionError):
        assert 1 <= found.column <= len(text) + 1
        assert found.message.isprintable()
    else:
        assert parse(to_text(found)) == found


def parsed_or_refused(text: str) -> Expression | ExpressionError:
    try:
        return parse(text)
    except ExpressionError as error:
        return error


WORDS = st.sampled_from(("s", "t", "logit", "offset", "N", "query"))
NUMBERS = st.integers(0, 2**31 - 1) | st.floats(0, 1e6, allow_nan=False)


def _wider(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operators = st.sampled_from(("+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", "and", "or"))
    return st.one_of(
        st.builds(Unary, st.sampled_from(("-", "not")), inner),
        st.builds(Binary, operators, inner, inner),
        st.builds(
            lambda base, exponent: Binary("**", base, exponent), st.builds(Name, WORDS), st.builds(Number, st.integers(0, 16))
        ),
        st.builds(Access, WORDS, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Sum, st.sampled_from("hst"), inner),
        st.builds(lambda one, two, three: Call("where", (one, two, three)), inner, inner, inner),
    )


TREES = st.recursive(st.builds(Name, WORDS) | st.builds(Number, NUMBERS) | st.builds(IsNone, WORDS), _wider, max_leaves=12)


@given(TREES)
def test_text_parses_back_to_the_same_tree(tree: Expression) -> None:
    assert parse(to_text(tree)) == tree


@given(TREES)
def test_walk_visits_every_node_once_and_names_are_among_them(tree: Expression) -> None:
    nodes = list(walk(tree))
    assert nodes[0] is tree
    written = {node.name for node in nodes if isinstance(node, (Name, IsNone))} | {
        n.tensor for n in nodes if isinstance(n, Access)
    }
    bound = {node.index for node in nodes if isinstance(node, Sum)}
    assert written - bound <= names(tree) <= written


@given(TREES)
def test_substituting_nothing_changes_nothing(tree: Expression) -> None:
    assert substitute(tree, {}) == substitute(tree, {"no such name": Number(1)}) == tree


def test_substitute_replaces_and_renames() -> None:
    rule = parse("where(bias is None, 0, bias[b,n] + offset)")
    bound = substitute(rule, {"bias": Name("attn_mask"), "offset": parse("S - T")})
    assert to_text(bound) == "where(attn_mask is None, 0, attn_mask[b, n] + (S - T))"


def test_substitute_keeps_the_index_of_a_sum() -> None:
    assert substitute(parse("sum(h, x[h]) + h"), {"h": Number(1)}) == parse("sum(h, x[h]) + 1")
    with pytest.raises(ExpressionError, match="the replacement of `scale` names `h`, which `sum` already runs over"):
        substitute(parse("sum(h, x[h] * scale)"), {"scale": Name("h")})
    with pytest.raises(ExpressionError, match="`x` can only be replaced by a name here"):
        substitute(parse("x[h]"), {"x": Number(1)})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a - (b - c) - d", "a - (b - c) - d"),
        ("(a - b) - c", "a - b - c"),
        ("not (x is None)", "x is not None"),
        ("not (a or b)", "not (a or b)"),
        ("(-x) ** 2", "(-x) ** 2"),
        ("-(x ** 2)", "-x ** 2"),
        ("(a < b) == (c < d)", "(a < b) == (c < d)"),
        ("(a + b) * c // d", "(a + b) * c // d"),
    ],
)
def test_text_has_no_bracket_too_many(text: str, written: str) -> None:
    assert to_text(parse(text)) == written


def test_limits_are_what_the_readme_says() -> None:
    assert (MAX_LENGTH, MAX_DEPTH) == (2_000, 40)
