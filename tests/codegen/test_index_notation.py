"""Index notation becomes the array operations one would write by hand, or a LoweringError that names the clause."""

from __future__ import annotations

import pytest

from attnspec.codegen.index_notation import LoweringError, Scope, lower
from attnspec.codegen.printer import Printer
from attnspec.codegen.program import Ref
from attnspec.codegen.targets.numpy import NUMPY
from attnspec.spec.expression import parse

CANONICAL = {
    "query": ("B", "T", "N", "H"),
    "key": ("B", "S", "K", "H"),
    "bias": ("B", "N", "T", "S"),
    "slope": ("N",),
    "table": ("N", "R"),
    "block_layout": ("N", "X", "Y"),
    "ids": ("B", "T"),
    "key_ids": ("B", "S"),
    "score_weight": ("H",),
    "logit": ("B", "N", "T", "S"),
}
LOGIT = ("B", "N", "T", "S")


def numpy_text(expression: str, order: tuple[str, ...] = LOGIT) -> str:
    tensors = {name: Ref(name, dims) for name, dims in CANONICAL.items()}
    scope = Scope(tensors, CANONICAL, {dim.lower(): dim for dims in CANONICAL.values() for dim in dims})
    return Printer(NUMPY, batched=False).node(lower(parse(expression), order, scope, "clause.under_test"))[0]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("logit * scale", "logit * scale"),
        ("logit + bias", "logit + bias"),
        ("slope[n] * logit", "slope[:, None, None] * logit"),
        ("s <= t + offset", "s <= t[:, None] + offset"),
        ("s <= t + 0", "s <= t[:, None]"),
        ("ids[b,t] == key_ids[b,s]", "ids[:, :, None] == key_ids[:, None, :]"),
        ("s < 3 or s <= t", "(s < 3) | (s <= t[:, None])"),
        ("(t - s) % 2 == 0", "(t[:, None] - s) % 2 == 0"),
        ("table[n, s - t + 4]", "table[:, s - t[:, None] + 4]"),
        ("cap * tanh(logit / cap)", "cap * np.tanh(logit / cap)"),
        ("block_layout[n, t // 4, s // 4]", "block_layout.transpose(0, 2, 1)[:, :, t // 4].transpose(0, 2, 1)[:, :, s // 4]"),
    ],
)
def test_prints_as_one_would_write_it(expression: str, text: str) -> None:
    assert numpy_text(expression) == text


def test_grouped_heads_split_the_query_and_never_touch_the_key() -> None:
    text = numpy_text("sum(h, query[b,t,n,h] * key[b,s,n//G,h])")
    assert '"btkgh,bskh->bkgts", query.reshape(B, T, K, G, H), key,' in text
    assert text.endswith(".reshape(B, N, T, S)")


def test_a_sum_that_is_no_product_broadcasts_and_reduces() -> None:
    text = numpy_text("sum(h, score_weight[h] * tanh(query[b,t,n,h] + key[b,s,n//G,h]))")
    assert "np.tanh(" in text and ".sum(5)" in text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("slope[n] * (s - t)", "slope[:, None, None] * (s - t[:, None]).astype(compute)"),
        ("logit + (s - t) / S", "logit + (s - t[:, None]).astype(compute) / S"),
        ("logit * exp(s - t)", "logit * np.exp((s - t[:, None]).astype(compute))"),
        ("logit / (1 + s)", "logit / (1 + s).astype(compute)"),
    ],
)
def test_index_arithmetic_that_meets_floats_is_cast_first(expression: str, text: str) -> None:
    """torch would make float32 of a quotient of integers, NumPy float64."""
    assert numpy_text(expression) == text


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("sum(h, slope[n])", "does not depend on the summed index `h`"),
        ("table[n + 1, s]", "only the last axes may be indexed"),
        ("block_layout[n, t // 4, t - s]", "computed indices must not depend on each other's indices"),
        ("nothing[s]", "no such tensor"),
    ],
)
def test_what_cannot_be_lowered_names_the_clause(expression: str, why: str) -> None:
    with pytest.raises(LoweringError, match=rf"^clause\.under_test: .*{why}"):
        numpy_text(expression)
