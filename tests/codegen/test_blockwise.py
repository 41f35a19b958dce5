"""Which specs have a blockwise form, and what its loops look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnspec.codegen.blockwise.coverage import require, supports_blockwise
from attnspec.codegen.blockwise.module import blockwise_modules
from attnspec.codegen.blockwise.rows import backward_program, forward_program
from attnspec.codegen.blockwise.scaling import scaled_queries
from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.program import Assign, For, If, Op, Program, Ref, statements
from attnspec.codegen.targets import TARGETS
from attnspec.codegen.targets.r import R
from attnspec.spec.expression import to_text
from attnspec.spec.loader import builtin, find, load
from by_hand import random_arrays
from compiling import SPECS, module_of, spec_of

GEMMA2 = find("gemma2")
PLAIN = """
    variant = "plain"
    summary = "Nothing is hidden: there are no blocks to leave out."
"""


@pytest.mark.parametrize("name", ["causal_gqa", "gemma2"])
def test_masks_over_indices_have_a_blockwise_form(name: str) -> None:
    assert supports_blockwise(find(name))


def test_a_mask_that_bounds_one_side_only_has_one_too() -> None:
    assert supports_blockwise(load(SPECS / "dilated.toml"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bigbird", "`block_layout` is not supported"),
        ("jax.nn.dot_product_attention", "mask.causal is under a guard"),
        ("torch.nn.functional.scaled_dot_product_attention", "dropout.elementwise is not supported"),
        ("sink", "softmax.sink is not supported"),
        ("relative_bias", "`table` is not supported"),
        ("several_outputs", "several outputs are not supported"),
        ("two_paths", "several paths are not supported"),
        ("projected_layer", "layers are not supported"),
        ("list_input", "there must be a `query`"),
    ],
)
def test_what_the_loop_cannot_hold_is_refused_by_name(name: str, why: str) -> None:
    spec = builtin()[name] if name in builtin() else load(SPECS / f"{name}.toml")
    assert not supports_blockwise(spec)
    with pytest.raises(LoweringError, match=f"^{re.escape(spec.name)}: blockwise: .*{re.escape(why)}"):
        require(spec)


@pytest.mark.parametrize("name", ["packed_documents", "prefix_lm"])
def test_masks_that_look_up_ids_or_lengths_have_one(name: str) -> None:
    assert supports_blockwise(builtin()[name] if name in builtin() else load(SPECS / f"{name}.toml"))


def test_without_a_mask_there_is_nothing_to_leave_out(tmp_path: Path) -> None:
    assert not supports_blockwise(spec_of(PLAIN, tmp_path))


@pytest.mark.parametrize("target", ["tf_keras", "r"])
def test_other_targets_have_none(target: str) -> None:
    assert list(blockwise_modules(GEMMA2, {**TARGETS, "r": R}[target])) == []


@pytest.mark.parametrize("program", [forward_program(GEMMA2), backward_program(GEMMA2)], ids=["forward", "backward"])
def test_the_loop_is_part_of_the_program_and_tests_only_what_may_be_there(
    program: Program,
) -> None:
    (loop,) = (statement for statement in program.body if isinstance(statement, For))
    (*edges,) = (statement for statement in loop.body if isinstance(statement, For))
    assert {edge.over for edge in edges} == {"_tested(runs)"}
    outside = {getattr(statement, "clause", "") for statement in loop.body}
    assert not {clause for clause in outside if clause.startswith("mask.")}
    (*rules,) = (statement for statement in loop.body if isinstance(statement, If))
    assert {to_text(rule.test) for rule in rules} == {"some_empty"}
    always = [statement for statement in loop.body if isinstance(statement, Assign) and isinstance(statement.value, Op)]
    assert "policy.empty_row" not in {statement.clause for statement in always}


@pytest.mark.parametrize(
    ("masks", "parameters", "seen", "hidden"),
    [
        (["causal", "window"], "left = { default = 3 }", "(start - left, stop)", "(start + 1, S), (0, stop - left - 1)"),
        (["causal"], 'offset = "S - T"', "(0, S + stop - T)", "(S + start - T + 1, S)"),
        (
            ["global_window"],
            "left = { default = 3 }\nright = 0\nglobal_tokens = { default = 3 }",
            "(0, S if start < global_tokens else 0), (0, global_tokens), (start - left, stop)",
            "(global_tokens, stop - left - 1 if global_tokens < stop else 0), "
            "(max(start + 1, global_tokens + 1), S if global_tokens < stop else 0)",
        ),
        (
            ["causal", "segments"],
            "",
            "*_seamless((low, high) for low, high in _blocks(S, BLOCK, (0, stop)) if low < stop "
            "and lowest_query_segment_ids[start // BLOCK] <= highest_key_value_segment_ids[low // BLOCK] "
            "and lowest_key_value_segment_ids[low // BLOCK] <= highest_query_segment_ids[start // BLOCK])",
            "(start + 1, S), *_seamless((low, high) for low, high in _blocks(S, BLOCK, (0, S)) "
            "if lowest_query_segment_ids[start // BLOCK] < highest_key_value_segment_ids[low // BLOCK]), "
            "*_seamless((low, high) for low, high in _blocks(S, BLOCK, (0, S)) "
            "if lowest_key_value_segment_ids[low // BLOCK] < highest_query_segment_ids[start // BLOCK])",
        ),
        (["key_length"], "", "(0, highest_key_value_seq_lengths[0])", "(lowest_key_value_seq_lengths[0], S)"),
        (
            ["dilated"],
            "left = { default = 3 }\nstride = 8",
            "*_seamless((low, high) for low, high in _blocks(S, BLOCK, (start - left, stop)) if start < high + left and "
            "low < stop and min(stop - low - 1, left) // 8 > (max(start - high + 1, 0) - 1) // 8)",
            "(0, S), (0, stop - left - 1), (start + 1, S)",
        ),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, list) else "",
)
def test_the_keys_of_a_block_are_formulas_of_its_masks(
    masks: list[str], parameters: str, seen: str, hidden: str, tmp_path: Path
) -> None:
    spec = spec_of(f'variant = "tried"\nsummary = "s"\nmasks = {masks}\n[parameters]\n{parameters}\n', tmp_path)
    ((_, text),) = blockwise_modules(spec, TARGETS["torch"])
    assert f"seen_by_some = [{seen}]\n    hidden_from_some = [{hidden}]" in text


@pytest.mark.parametrize(
    ("masks", "parameters", "seen"),
    [
        (["causal", "window"], "left = { default = 3 }", "(start < high + left) & (low < stop)"),
        (
            ["global_window"],
            "left = { default = 3 }\nright = 0\nglobal_tokens = { default = 3 }",
            "(start < global_tokens) | (low < global_tokens) | (start < high + left) & (low < stop)",
        ),
        (
            ["dilated"],
            "left = { default = 3 }\nstride = 8",
            "(start < high + left) & (low < stop) & (jnp.minimum(stop - low - 1, left) // 8 > "
            "(jnp.maximum(start - high + 1, 0) - 1) // 8)",
        ),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, list) else "",
)
def test_the_tiles_that_are_visited_are_tests_of_every_block_at_once(
    masks: list[str], parameters: str, seen: str, tmp_path: Path
) -> None:
    spec = spec_of(f'variant = "tried"\nsummary = "s"\nmasks = {masks}\n[parameters]\n{parameters}\n', tmp_path)
    ((_, text),) = blockwise_modules(spec, TARGETS["jax"])
    assert f"seen = jnp.broadcast_to({seen}, (len(start), len(low)))" in text


def test_every_stage_has_an_owner_in_both_loops() -> None:
    stages = {stage.clause for stage in GEMMA2.paths[0].stages}
    for program in (forward_program(GEMMA2), backward_program(GEMMA2)):
        assert stages <= {getattr(statement, "clause", "") for statement in statements(program.body)}


@pytest.mark.parametrize("target", ["jax", "tensorflow"])
def test_every_stage_has_an_owner_in_both_loops_with_heads_in_front(target: str) -> None:
    ((_, text),) = blockwise_modules(GEMMA2, TARGETS[target])
    forward, backward = (text.partition(f"def _{name}(")[2].partition("\n\n\n")[0] for name in ("forward", "backward"))
    for stage in GEMMA2.paths[0].stages:
        assert f"# {stage.clause}: " in forward
        assert f"# {stage.clause}: " in backward


def test_every_stage_has_an_owner_in_the_functions_that_the_loops_of_keras_call() -> None:
    ((_, text),) = blockwise_modules(GEMMA2, TARGETS["keras"])
    forward, backward = text.partition("def logits_of(")[2].partition("def gradients_of(")[::2]
    for stage in GEMMA2.paths[0].stages:
        assert stage.clause == "softmax.plain" or f"# {stage.clause}: " in forward
        assert f"# {stage.clause}: " in backward.partition("@_operation")[0]


@pytest.mark.parametrize("target", ["numpy", "torch", "jax", "tensorflow", "keras"])
def test_the_file_has_its_checks_from_the_direct_form(target: str) -> None:
    ((suffix, text),) = blockwise_modules(GEMMA2, TARGETS[target])
    assert suffix == "blockwise"
    assert 'raise ValueError(f"`left` must satisfy left >= 0, got {left}")' in text


@pytest.mark.parametrize("target", ["numpy", "torch", "tensorflow", "keras"])
def test_queries_are_scaled_where_that_is_a_pass_less(target: str) -> None:
    ((_, text),) = blockwise_modules(GEMMA2, TARGETS[target])
    assert re.search(r"    # modifier.scale: logit \* scale\n +scaled_query_block = .*query_block.* \* scale\n", text)
    assert "d_query_block = d_scaled_query_block * scale" in text
    assert "logits * scale" not in text


def test_a_scale_that_does_not_follow_on_a_product_stays_where_it_is() -> None:
    *others, scale = (Assign(Ref("logits"), Ref("x"), clause) for clause in ("score.dot", "modifier.softcap", "modifier.scale"))
    assert scaled_queries([*others, scale]) == [*others, scale]
    assert scaled_queries(others) == others


def test_a_mask_that_differs_between_heads_has_none(tmp_path: Path) -> None:
    """One loop serves all heads."""
    text = 'variant = "headed"\nsummary = "s"\nmasks = ["own"]\n[mask.own]\nattends = "s <= t + n"\n'
    assert not supports_blockwise(spec_of(text, tmp_path))


@pytest.mark.parametrize("policies", ['empty_row = "uniform"', 'empty_row = "nan"'])
def test_a_rule_that_needs_the_hidden_keys_has_no_blockwise_form(policies: str, tmp_path: Path) -> None:
    """A uniform or NaN row depends on keys that the loop never visits."""
    text = f'variant = "ruled"\nsummary = "s"\nmasks = ["causal"]\n[policies]\n{policies}\n'
    assert not supports_blockwise(spec_of(text, tmp_path))


TRANSPOSED = """
    variant = "transposed"
    summary = "Heads before positions."
    masks   = ["causal"]
    [layouts]
    query  = "B N T H"
    key    = "B K S H"
    value  = "B K S V"
    output = "B N T V"
"""


def transposed(target: str, folder: Path) -> tuple[str, Callable[..., Any], dict[str, np.ndarray], np.ndarray]:
    """The blockwise source of a variant with axes of its own, its function, arrays, and what it should give."""
    spec = spec_of(TRANSPOSED, folder)
    arrays = random_arrays(0, query=(2, 4, 130, 3), key=(2, 2, 140, 3), value=(2, 2, 140, 5))
    ((_, source),) = blockwise_modules(spec, TARGETS[target])
    namespace: dict[str, Any] = {"__name__": "transposed_blockwise"}
    exec(source, namespace)
    return source, namespace["transposed"], arrays, module_of(spec, "numpy").transposed(**arrays)


@pytest.mark.xdist_group("torch")
def test_another_layout_is_kept(tmp_path: Path) -> None:
    """Slices and sizes follow the variant's own axes."""
    import torch

    source, attend, arrays, expected = transposed("torch", tmp_path)
    assert "query_block = query[:, :, start:stop]" in source
    found = attend(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.xdist_group("jax")
def test_heads_that_come_first_already_stay_where_they_are(tmp_path: Path) -> None:
    import jax

    source, attend, arrays, expected = transposed("jax", tmp_path)
    assert ".transpose(" not in source
    np.testing.assert_allclose(jax.jit(attend)(**arrays), expected, atol=1e-5)
