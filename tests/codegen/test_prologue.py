"""Checks of arguments: what a precondition's failure reads like, and which lines a layout and a default give."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnspec.codegen.program import Check, Default, Line
from attnspec.codegen.prologue import canonical_dims, layout_text, lift_names, negate, prologue
from attnspec.spec.expression import Binary, Expression, Name, Number, Unary, parse, to_text
from attnspec.spec.loader import builtin, load
from attnspec.spec.model import Axis, Layout
from attnspec.spec.resolve import evaluate
from compiling import SPECS


@pytest.mark.parametrize(
    ("requires", "fails"),
    [
        ("N % K == 0", "N % K != 0"),
        ("a < b", "a >= b"),
        ("0 <= p <= 1", "0 > p or p > 1"),
        ("a > 0 or b > 0", "a <= 0 and b <= 0"),
        ("mask is None or not is_causal", "not (mask is None) and is_causal"),
        ("not is_causal", "is_causal"),
        ("flag", "not flag"),
    ],
)
def test_a_negation_reads_as_one_would_write_it(requires: str, fails: str) -> None:
    assert negate(parse(requires)) == parse(fails)


def conditions() -> st.SearchStrategy[Expression]:
    numbers = st.builds(Number, st.integers(0, 3)) | st.sampled_from([Name("a"), Name("b")])
    leaves = st.builds(Binary, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers, numbers)

    def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.builds(Binary, st.sampled_from(["and", "or"]), inner, inner) | st.builds(Unary, st.just("not"), inner)

    return st.recursive(leaves, grown, max_leaves=6)


@given(conditions(), st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(0, 3)}))
def test_a_negation_holds_where_the_condition_does_not(condition: Expression, values: Mapping[str, int]) -> None:
    assert evaluate(negate(condition), values) == (not evaluate(condition, values))


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (Layout((Axis(("B",)), Axis(("T",)))), "B T"),
        (Layout((Axis(("N",), or_one=True), Axis(("T",))), batched=True), "... N|1 T"),
        (Layout((Axis(("B", "N")), Axis(("T",)))), "(B N) T"),
    ],
)
def test_a_layout_reads_as_in_the_spec(layout: Layout, text: str) -> None:
    assert layout_text(layout) == text


def test_a_layout_has_the_operators_letters() -> None:
    """jax.nn writes value as `B S K H`; the operator calls its last axis V."""
    axes = tuple(Axis((dim,)) for dim in "BSKH")
    assert canonical_dims(Layout(axes), ("B", "S", "K", "V")) == ("B", "S", "K", "V")


def lines(name: str) -> list[str]:
    spec = builtin()[name] if name in builtin() else load(SPECS / f"{name}.toml")
    return [s.text for s in prologue(spec) if isinstance(s, Line)]


def test_a_tensor_that_may_be_absent_is_checked_only_where_it_is_given() -> None:
    check = '_tensor(sizes, "bias", bias, "floating", "B|1 N|1 T|1 S|1", "N|1 T|1 S|1")'
    assert f"if bias is not None:\n    bias = {check}" in lines("jax.nn.dot_product_attention")


def test_a_default_is_its_own_rule() -> None:
    assert Default("scale", parse("H ** -0.5")) in list(prologue(builtin()["causal_gqa"]))


def test_a_pair_a_choice_and_a_list_have_helpers() -> None:
    found = lines("jax.nn.dot_product_attention")
    assert 'left, right = _pair("local_window_size", local_window_size)' in found
    assert "_choice(\"implementation\", implementation, ('xla', 'cudnn'))" in found
    listed = lines("list_input")
    assert listed[:2] == ['query, value, key = _members("inputs", inputs, 2, 3)', "key = value if key is None else key"]


def test_a_size_that_a_tensor_stands_in_for_waits_for_it() -> None:
    """`output_shape` is told, as an int or the sizes of several axes, or is query's last axis."""
    found = lines("keras.layers.MultiHeadAttention")
    line = 'output_axes = _several("output_shape", output_shape, sizes["E"][0])'
    assert found.index(line) > next(number for number, text in enumerate(found) if text.startswith("query = _tensor"))
    assert found[found.index(line) + 1 :][:2] == [
        "output_shape = _product(output_axes)",
        'sizes["M"] = (output_shape, "output_shape")',
    ]


def test_only_tensors_with_layouts_of_two_ranks_are_lifted() -> None:
    assert lift_names(builtin()["jax.nn.dot_product_attention"]) == ["query", "key", "value"]
    assert lift_names(builtin()["causal_gqa"]) == []


def test_a_precondition_that_matters_only_sometimes_asks_first() -> None:
    spec = builtin()["jax.nn.dot_product_attention"]
    check = next(s for s in prologue(spec) if isinstance(s, Check) and s.clause == "precondition.window-not-negative")
    assert to_text(check.fails) == "local_window_size is not None and (left < 0 or right < 0)"
    assert check.raises == "ValueError"


def test_sizes_that_divide_are_derived_after_the_checks() -> None:
    """`N // K` before the check of K would be a ZeroDivisionError."""
    kinds = [type(s).__name__ for s in prologue(builtin()["causal_gqa"])]
    assert kinds.index("Derived") > max(i for i, kind in enumerate(kinds) if kind == "Check")


@pytest.mark.parametrize("name", sorted(builtin()))
def test_every_static_precondition_is_checked(name: str) -> None:
    spec = builtin()[name]
    checked = [s.clause for s in prologue(spec) if isinstance(s, Check)]
    assert sorted(checked) == sorted(f"precondition.{p.clause}" for p in spec.preconditions)
