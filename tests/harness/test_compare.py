"""`attnspec compare` gives every API the same call, and says which policy explains each answer."""

from __future__ import annotations

import numpy as np
import pytest

from attnspec.harness.cli import main
from attnspec.harness.situations import NotExpressible, call_of, causal_lengths, empty_row
from attnspec.spec.loader import find

JAX, TORCH = "jax.nn.dot_product_attention", "torch.nn.functional.scaled_dot_product_attention"


def test_the_same_call_is_laid_out_as_each_api_documents_it() -> None:
    situation = empty_row()
    _, for_jax = call_of(find(JAX), situation)
    _, for_torch = call_of(find(TORCH), situation)
    np.testing.assert_array_equal(for_jax["value"], for_torch["value"].swapaxes(1, 2))
    np.testing.assert_array_equal(for_jax["mask"], for_torch["attn_mask"])


def test_a_flag_makes_the_situation_where_the_clause_has_one() -> None:
    configuration, _ = call_of(find(JAX), causal_lengths())
    assert dict(configuration.values) == {"is_causal": True}


def test_a_spec_without_the_clause_says_so() -> None:
    with pytest.raises(NotExpressible, match=r"causal_gqa has no `mask\.explicit`"):
        call_of(find("causal_gqa"), empty_row())


def test_what_projects_its_inputs_is_not_compared() -> None:
    spec = find("torch.nn.functional.multi_head_attention_forward")
    with pytest.raises(NotExpressible, match=r"multi_head_attention_forward projects its inputs: only functions of queries"):
        call_of(spec, causal_lengths())


def test_a_layer_is_not_compared() -> None:
    with pytest.raises(NotExpressible, match=r"torch\.nn\.MultiheadAttention is a layer: only functions can be compared"):
        call_of(find("torch.nn.MultiheadAttention"), empty_row())


def test_prints_both_answers_and_what_explains_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", JAX, TORCH]) == 0
    printed = capsys.readouterr().out
    assert "query 1  [3 30]\n    empty_row = uniform" in printed
    assert "query 1  [0 0]\n    empty_row = zero" in printed


def test_wrong_use_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "gemma2", "--on", "empty-row"]) == 2
    assert "gemma2 has no `mask.explicit`" in capsys.readouterr().err
