"""The key range of a query block: never loses a visible pair, and is tight for affine masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnspec.codegen.block_bounds import affine, key_range
from attnspec.spec.expression import parse

CAUSAL = "s <= t + offset"
WINDOW = "-left <= s - (t + offset) <= right"
BOUNDED = [(CAUSAL,), (WINDOW,), (CAUSAL, WINDOW), ("s < t",), ("t - 3 < s",)]
UNBOUNDED = [("s <= t or s < 4",), ("(t - s) % 2 == 0",), ("2 * s <= t",)]


def visible(texts: tuple[str, ...], t: int, s: int, values: dict[str, int]) -> bool:
    return all(eval(text, {}, {"s": s, "t": t, **values}) for text in texts)


def bounds(texts: tuple[str, ...], length: int, scope: dict[str, int]) -> tuple[int, int]:
    found = key_range(parse(text) for text in texts)
    names = {**scope, "S": length, "min": min, "max": max}
    low = min(length, eval(found.low_text(), {}, names))
    return low, max(low, eval(found.high_text("S"), {}, names))


@pytest.mark.parametrize("texts", BOUNDED + UNBOUNDED, ids=" and ".join)
@given(
    start=st.integers(0, 12),
    rows=st.integers(1, 6),
    length=st.integers(0, 16),
    values=st.fixed_dictionaries({"offset": st.integers(-6, 6), "left": st.integers(0, 5), "right": st.integers(0, 5)}),
)
def test_no_visible_pair_is_outside(texts: tuple[str, ...], start: int, rows: int, length: int, values: dict[str, int]) -> None:
    stop = start + rows
    low, high = bounds(texts, length, {"start": start, "stop": stop, **values})
    seen = {s for t in range(start, stop) for s in range(length) if visible(texts, t, s, values)}
    assert seen <= set(range(low, high))


@pytest.mark.parametrize("texts", BOUNDED, ids=" and ".join)
@given(start=st.integers(0, 12), rows=st.integers(1, 6), left=st.integers(0, 5), right=st.integers(0, 5))
def test_affine_masks_give_exactly_the_visible_keys(
    texts: tuple[str, ...], start: int, rows: int, left: int, right: int
) -> None:
    length, stop, values = 32, start + rows, {"offset": 0, "left": left, "right": right}
    low, high = bounds(texts, length, {"start": start, "stop": stop, **values})
    seen = {s for t in range(start, stop) for s in range(length) if visible(texts, t, s, values)}
    assert set(range(low, high)) == seen


@pytest.mark.parametrize(
    ("text", "printed"),
    [("t - left", "t - left"), ("-(s - 2)", "-s + 2"), ("3 * (t + 1)", "3 * t + 3"), ("1 - 1", "0"), ("S - T", "S - T")],
)
def test_affine_forms_print_as_python(text: str, printed: str) -> None:
    form = affine(parse(text))
    assert form is not None
    assert form.text() == printed


@pytest.mark.parametrize("text", ["t * s", "t % 2", "t // 2", "min(s, t)", "lengths[b]"])
def test_what_is_not_affine_has_no_form(text: str) -> None:
    assert affine(parse(text)) is None
