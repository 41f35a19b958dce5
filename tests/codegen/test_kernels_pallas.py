"""What Pallas's kernels have of what Triton's have, in its own words."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.kernels.coverage import reasons
from attnspec.codegen.kernels.holes import compiled, holes_of
from attnspec.codegen.kernels.refusals import refusals
from attnspec.codegen.pallas.language import LANGUAGE
from attnspec.codegen.pallas.module import module_text
from attnspec.codegen.pallas_tpu.language import LANGUAGE as TPU
from attnspec.codegen.pallas_tpu.module import module_text as tpu_text
from attnspec.codegen.triton.language import LANGUAGE as TRITON
from attnspec.spec.loader import builtin, find
from attnspec.spec.model import Spec
from compiling import GENERATED, SPECS, spec_of

SDPA = "torch.nn.functional.scaled_dot_product_attention"
WITH_TABLES = ["bigbird", "variable_lengths"]
COVERED = [name for name, spec in builtin().items() if not any(reasons(spec, TRITON)) and name not in WITH_TABLES]
PLACEHOLDERS = {"FACTOR", "NUMBERS", "Shares", "operand", "tensors", "numbers", "named_numbers", "given", "tensor_gradients"}
PLACEHOLDERS |= {"RING_NUMBERS", "PAIRS", "pairs", "travelling", "no_gradients"}
PLACEHOLDERS |= {"UNIFORM", "ROWS", "SINK", "OPERANDS"}
PLACEHOLDERS |= {f"{part}_parameters" for part in ("logit", "mask", "block", "row", "sink")}


def test_it_covers_what_triton_covers_but_for_tables() -> None:
    assert len(COVERED) == 7
    assert [name for name in COVERED if any(reasons(find(name), LANGUAGE))] == []
    assert all("is a tensor that no kernel reads yet" in next(reasons(find(name), LANGUAGE)) for name in WITH_TABLES)


def test_a_rule_that_counts_heads_has_no_kernel(tmp_path: Path) -> None:
    """A program counts the heads that it is given from 0 on."""
    text = """
        variant = "some_heads"
        summary = "Every other head."
        masks = ["heads"]
        [mask.heads]
        attends = "n % 2 == 0 or s <= t"
    """
    spec = spec_of(text, tmp_path)
    assert list(reasons(spec, TRITON)) == []
    with pytest.raises(LoweringError, match=r"pallas: some_heads: `mask\.heads` reads `n`"):
        module_text(spec)


def test_holes_are_those_of_triton_in_jax() -> None:
    longformer = holes_of(find("longformer"), LANGUAGE)
    assert (
        "_meets(low, end, 0, jnp.where(start < global_tokens, S, jnp.int32(0)), False, BLOCK)"
        in longformer.bodies["_run_of_keys"]
    )
    jax_nn = holes_of(find("jax.nn.dot_product_attention"), LANGUAGE)
    loaded = "bias_block = _entries_of_pairs(bias, b, n, t, s, T, S).astype(jnp.float32)"
    assert f"if bias is not None:\n    {loaded}" in jax_nn.bodies["_logits"]
    assert "query_seq_lengths_here = query_seq_lengths[b]" in jax_nn.bodies["_keeps"]
    assert jax_nn.placeholders["tensors"] == ("bias", "mask", "query_seq_lengths", "key_value_seq_lengths")
    assert jax_nn.placeholders["numbers"] == ("scale", "is_causal", "left", "right")


def test_what_a_call_has_besides_comes_as_tensors_and_then_as_numbers() -> None:
    text = module_text(find("jax.nn.dot_product_attention"))
    assert "nondiff_argnums=(8, 9, 10, 11))" in text
    assert "return d_query, d_key, d_value, _bias_gradient(query, key, value, output, lse, d_output, bias, mask," in text
    assert "left, right), None, None, None, None\n" in text


def test_in_shards_rules_count_from_where_these_begin() -> None:
    """And so do the blocks that they let through; what is read of a shard is not."""
    holes = holes_of(compiled(find("packed_documents"), LANGUAGE), LANGUAGE)
    assert "whole_t = t + _first(origin, b, 0)" in holes.bodies["_attends"]
    assert "whole_s <= whole_t" in holes.bodies["_attends"]
    assert "_entries(query_segment_ids, b, t, T)" in holes.bodies["_attends"]
    assert "first_query + stop - first_key" in holes.bodies["_run_of_keys"]
    assert "origin" not in "".join(holes_of(compiled(find("packed_documents"), TRITON), TRITON).bodies.values())


@pytest.mark.parametrize("rule", ["s - t <= S - T", "s <= t"])
def test_what_needs_the_length_of_a_sequence_has_no_ring(tmp_path: Path, rule: str) -> None:
    text = f"""
        variant = "aligned"
        summary = "Causal, at some end."
        masks = ["aligned"]
        [mask.aligned]
        attends = "{rule}"
    """
    assert ("def aligned_ring(axis: str)" in module_text(spec_of(text, tmp_path))) == (rule == "s <= t")


def test_a_sink_has_its_gradient_and_is_where_every_row_begins() -> None:
    text = module_text(find(str(SPECS / "sink.toml")))
    assert "_ring" not in text
    assert "top = _sink(top, b, n, sink) * LOG2_E" in text
    assert "return d_query, d_key, d_value, _sink_gradient(sink, output, lse, d_output)" in text


@pytest.mark.parametrize("name", COVERED)
def test_a_file_is_whole_and_has_nothing_it_does_not_use(name: str) -> None:
    text = (GENERATED / "pallas" / f"{find(name).module_name}.py").read_text(encoding="utf-8")
    own = text[: text.index("# -- helpers")]
    words = read(own)
    assert not words & PLACEHOLDERS
    assert ("shares" in words) == ("jax" in name or "keras" in name)
    assert ("_bias_gradient" in words) == ("jax" in name or "keras" in name)
    assert ("_square" in words) == (name == "gemma2")
    page = (GENERATED / "pallas" / "README.md").read_text(encoding="utf-8")
    assert [each for each in refusals(text) if each not in page] == []


@pytest.mark.parametrize("name", COVERED)
def test_a_file_for_tpus_is_whole_too(name: str) -> None:
    text = (GENERATED / "pallas_tpu" / f"{find(name).module_name}.py").read_text(encoding="utf-8")
    words = read(text[: text.index("# -- helpers")])
    assert not words & PLACEHOLDERS
    assert ("_square" in words) == (name == "gemma2")
    assert ("_hidden_kernel" in words) == ("_bias_gradient" in words) == ("jax" in name or "keras" in name)
    assert ("_attn_mask_gradient" in words) == (name == SDPA)
    page = (GENERATED / "pallas_tpu" / "README.md").read_text(encoding="utf-8")
    assert [each for each in refusals(text) if each not in page] == []


def test_tpus_have_what_gpus_have() -> None:
    """Numbers per head too, which are scalars there."""
    assert [
        name for name in (*COVERED, str(SPECS / "sink.toml"), str(SPECS / "biased.toml")) if any(reasons(find(name), TPU))
    ] == []
    assert "sink_here = _entry_of_head(sink, b, n)" in tpu_text(find(str(SPECS / "sink.toml")))


@pytest.mark.parametrize("text", [module_text, tpu_text])
def test_dropout_draws_by_position_from_a_seed_of_the_head(text: Callable[[Spec], str]) -> None:
    found = text(find(SDPA))
    assert "kept = _drawn(_entry_of_head(seed, b, n), whole_t, whole_s) >= dropout_p" in found
    assert found.count("weights = _dropped(d_weights, ") == 3
    assert "dropout needs a seed, another one in every step: scaled_dot_product_attention_seeded(seed)" in found
    assert not {"DROPOUT", "FUNCTION", "dropout_parameters"} & read(found)


def read(text: str) -> set[str]:
    """The names that a file reads or binds."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def test_plain_causal_kernels_are_short_enough_to_read() -> None:
    """The forward kernel with all that it calls, and all kernels."""
    text = module_text(find("causal_gqa"))
    kernels = text[text.index("def _forward_kernel(") : text.index("INTERPRET = ")]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in ast.parse(kernels).body if hasattr(node, "name")}
    assert sum(count for name, count in lengths.items() if "gradient" not in name and "queries" not in name) <= 130
    assert sum(lengths.values()) <= 230
