"""`attnspec compare` gives every API the same call, on every path, and says which policy explains each answer."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from attnspec.harness.cli import main
from attnspec.harness.oracle.judge import judged
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.situations import (
    SITUATIONS,
    NotExpressible,
    Way,
    causal_lengths,
    empty_row,
    mask_polarity,
    ways_of,
    window,
)
from attnspec.spec.loader import builtin, find
from attnspec.spec.model import Spec

JAX, SDPA = "jax.nn.dot_product_attention", "torch.nn.functional.scaled_dot_product_attention"
KERAS, TORCH = "keras.layers.MultiHeadAttention", "torch.nn.MultiheadAttention"
FUNCTION = "torch.nn.functional.multi_head_attention_forward"


def rows(spec: Spec, way: Way) -> list[list[float]]:
    """What the oracle says, by query."""
    with np.errstate(invalid="ignore"):
        gold = judged(plan_of(spec, way.configuration), way.arrays, False).outputs[spec.outputs[0].name].value
    return np.round(gold.reshape(-1, gold.shape[-1]), 3).tolist()


def test_the_same_call_is_laid_out_as_each_api_documents_it() -> None:
    (for_jax,), (for_torch,) = (ways_of(find(name), empty_row()) for name in (JAX, SDPA))
    np.testing.assert_array_equal(for_jax.arrays["value"], for_torch.arrays["value"].swapaxes(1, 2))
    np.testing.assert_array_equal(for_jax.arrays["mask"], for_torch.arrays["attn_mask"])


def test_a_flag_makes_the_situation_where_the_clause_has_one() -> None:
    (way,) = ways_of(find(JAX), causal_lengths())
    assert dict(way.configuration.values) == {"is_causal": True}


def test_a_mask_means_the_same_wherever_true_hides() -> None:
    weights, fused = ways_of(find(TORCH), empty_row())
    np.testing.assert_array_equal(weights.arrays["attn_mask"], [[[False, False, True], [True, True, True]]])
    np.testing.assert_array_equal(fused.arrays["attn_mask"], weights.arrays["attn_mask"])


def test_a_literal_mask_is_the_same_array_for_everybody() -> None:
    masks = [ways_of(find(name), mask_polarity())[0].arrays["attn_mask"].squeeze() for name in (SDPA, TORCH)]
    np.testing.assert_array_equal(*masks)
    assert [rows(find(name), ways_of(find(name), mask_polarity())[0])[1] for name in (SDPA, TORCH)] == [
        [0.5, 0.5, 0.0],
        [0.0, 0.0, 1.0],
    ]


def test_a_layer_is_called_on_every_path_that_one_flag_leads_to() -> None:
    ways = ways_of(find(KERAS), empty_row())
    assert [(way.path, way.said) for way in ways] == [("fused", ""), ("scores", "return_attention_scores=True")]


@pytest.mark.parametrize(
    "name", [KERAS, TORCH, FUNCTION, "keras.layers.GroupQueryAttention", "tf_keras.layers.MultiHeadAttention"]
)
def test_projections_change_nothing(name: str) -> None:
    """A row that attends to something is what the function of no weights gives."""
    (plain,) = ways_of(find(JAX), empty_row())
    for way in ways_of(find(name), empty_row()):
        assert rows(find(name), way)[0] == rows(find(JAX), plain)[0]


def test_a_window_is_a_number_that_is_given() -> None:
    (way,) = ways_of(find(JAX), window())
    assert dict(way.configuration.values) == {"local_window_size": 1}
    assert rows(find(JAX), way)[0] == [0.5, 0.5, 0.0]
    assert rows(find(KERAS), ways_of(find(KERAS), window())[0])[0] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "situation", "why"),
    [
        ("causal_gqa", "empty-row", "causal_gqa has no mask over queries and keys"),
        ("keras.layers.Attention", "mask-polarity", "keras.layers.Attention has no mask over queries and keys"),
        (SDPA, "window", "scaled_dot_product_attention has no `mask.window`"),
        ("packed_documents", "causal-lengths", "packed_documents has to be given `query_segment_ids`, of which the situation"),
        ("gemma2", "window", "gemma2 has no argument for its `mask.window`"),
        (TORCH, "causal-lengths", "torch.nn.MultiheadAttention has no valid call with `mask.causal` and nothing else"),
    ],
)
def test_what_a_spec_cannot_express_is_said(name: str, situation: str, why: str) -> None:
    with pytest.raises(NotExpressible, match=why.replace(".", r"\.")):
        ways_of(find(name), SITUATIONS[situation]())


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_spec_expresses_a_situation_or_says_why_not(situation: str) -> None:
    for spec in builtin().values():
        with suppress(NotExpressible):
            assert all(rows(spec, way) for way in ways_of(spec, SITUATIONS[situation]()))  # the oracle judges it


def test_prints_both_answers_and_what_explains_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", JAX, SDPA]) == 0
    printed = capsys.readouterr().out
    assert "query 1  [3 30]\n    empty_row = uniform" in printed
    assert "query 1  [0 0]\n    empty_row = zero" in printed
    assert "deviates" not in printed


def test_a_layer_that_differs_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", TORCH]) == 0
    default, _, other = capsys.readouterr().out.partition(", need_weights=False\n")
    assert "query 1  [nan nan]\n    empty_row = nan" in default
    assert "query 1  [0 0]\n    empty_row = zero" in other


def test_an_answer_beside_its_spec_is_said_to_deviate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a changed framework would: here it is the oracle's call that hides one key more."""
    hidden = {"mask": np.array([[[[True, False, False], [False] * 3]]])}
    monkeypatch.setattr(
        "attnspec.harness.compare_command.judged", lambda plan, arrays, _: judged(plan, {**arrays, **hidden}, False)
    )
    assert main(["compare", JAX]) == 0
    assert "This deviates from the spec, which has [[1 10], [3 30]]." in capsys.readouterr().out


def test_wrong_use_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "gemma2", "--on", "empty-row"]) == 2
    assert "gemma2 has no mask over queries and keys" in capsys.readouterr().err
