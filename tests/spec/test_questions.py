"""What the documented APIs answer to the questions on which they part: read off their specs, and told apart by path."""

from __future__ import annotations

import pytest

from attnspec.spec.loader import builtin
from attnspec.spec.questions import NOTHING, answers

TORCH, KERAS = "torch.nn.MultiheadAttention", "keras.layers.MultiHeadAttention"
SDPA, JAX = "torch.nn.functional.scaled_dot_product_attention", "jax.nn.dot_product_attention"


@pytest.mark.parametrize(
    ("question", "of", "text"),
    [
        ("order of the inputs", TORCH, "query, key, value"),
        ("order of the inputs", KERAS, "query, value, key"),
        ("layout of query", TORCH, "T B E (the default), with batch_first B T E or T E"),
        ("True in a mask", TORCH, "is hidden (attn_mask, key_padding_mask)"),
        ("True in a mask", SDPA, "takes part (attn_mask)"),
        ("a number in a mask", SDPA, "added to the logits"),
        ("a number in a mask", KERAS, "not zero is True"),
        ("a number in a mask", JAX, "no numbers"),
        ("scale", JAX, "logit * H ** -0.5"),
        ("scale", TORCH, "weights: query * H ** -0.5; fused: logit * H ** -0.5"),
        ("dropout", SDPA, "where dropout_p > 0"),
        ("dropout", JAX, NOTHING),
        ("empty_row", TORCH, "weights: nan; fused: zero"),
        ("causal: query t attends to key s where", TORCH, "weights: -; fused: s <= t"),
        ("window", KERAS, "-(sliding_window - 1) <= s - t and s - t <= sliding_window - 1"),
    ],
)
def test_an_api_answers_as_its_spec_says(question: str, of: str, text: str) -> None:
    assert answers(builtin()[of])[question].text == text


def test_what_no_document_says_is_marked() -> None:
    jax = answers(builtin()[JAX])
    assert jax["empty_row"].is_observed
    assert not jax["autocast"].is_observed


def test_returned_weights_come_with_their_flags_and_defaults() -> None:
    keras = answers(builtin()[KERAS])["returned weights"].text
    assert keras == "each head's, before dropout where return_attention_scores (default return_attention_scores=False)"
    assert answers(builtin()[JAX])["returned weights"].text == NOTHING


def test_every_spec_answers_every_question() -> None:
    asked = {frozenset(answers(spec)) for spec in builtin().values()}
    assert len(asked) == 1
