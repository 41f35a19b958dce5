"""`attnspec differences` prints what two APIs answer differently, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnspec.harness.cli import main
from attnspec.harness.differences_command import lines
from attnspec.spec.loader import builtin

TORCH, KERAS = "torch.nn.MultiheadAttention", "keras.layers.MultiHeadAttention"


def test_each_answer_stands_over_those_who_give_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["differences", TORCH, KERAS]) == 0
    printed = capsys.readouterr().out
    polarity = f"""True in a mask
    is hidden (attn_mask, key_padding_mask)
        {TORCH}
    takes part (query_mask, value_mask, key_mask, attention_mask)
        {KERAS}
"""
    assert polarity in printed
    assert f"{TORCH}*, {KERAS}*" not in printed
    assert "alike: weights.dtype: input" in printed


def test_all_documented_apis_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["differences"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name, spec in builtin().items() if spec.family == "api")
    assert "gemma2" not in printed


def test_a_spec_and_a_copy_of_it_are_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text('variant = "mine"\nsummary = "Causal."\nmasks = ["causal"]\n', encoding="utf-8")
    assert main(["differences", "causal_gqa", str(copy)]) == 0
    assert capsys.readouterr().out.startswith("17 questions, 0 answered differently")


def test_an_answer_that_was_only_observed_is_marked() -> None:
    jax = builtin()["jax.nn.dot_product_attention"]
    printed = list(lines([jax, builtin()["torch.nn.functional.scaled_dot_product_attention"]]))
    uniform = printed.index("    uniform")
    assert printed[uniform + 1] == "        jax.nn.dot_product_attention*"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["causal_gqa"], "expected two specs or more, got causal_gqa alone"),
        (["causal_gqa", "causal_gqa"], "expected two specs or more, got causal_gqa alone"),
        (["causal_gqa", "no.such.api"], "no.such.api"),
    ],
)
def test_too_few_or_unknown_specs_are_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["differences", *given]) == 2
    assert said in capsys.readouterr().err
