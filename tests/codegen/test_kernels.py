"""Which specs have a Triton kernel, and what they put into the skeleton."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from attnspec.codegen.command import OK, USAGE, main
from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.kernels.coverage import reasons
from attnspec.codegen.kernels.filling import settled
from attnspec.codegen.kernels.holes import holes_of
from attnspec.codegen.kernels.refusals import refusals
from attnspec.codegen.triton.language import LANGUAGE
from attnspec.codegen.triton.module import module_text
from attnspec.codegen.write import changes
from attnspec.spec.loader import builtin, find
from compiling import GENERATED, SPECS, spec_of

VARIANTS = ("bigbird", "causal_gqa", "gemma2", "longformer", "packed_documents", "variable_lengths")
APIS = (
    "jax.nn.dot_product_attention",
    "keras.ops.dot_product_attention",
    "torch.nn.functional.scaled_dot_product_attention",
)
COVERED = (*VARIANTS, *APIS)
PLACEHOLDERS = {"parameters", "logit_parameters", "mask_parameters", "row_parameters", "FACTOR", "OPERAND_PLACES", "operand"}
PLACEHOLDERS |= {"Shares", "UNIFORM", "ROWS", "SINK", "DROPOUT", "OPERANDS", "SINK_PLACE"}
PLACEHOLDERS |= {"sink_parameters", "dropout_parameters"}


@pytest.mark.parametrize("name", COVERED)
def test_functions_with_masks_and_biases_have_a_kernel(name: str) -> None:
    assert list(reasons(find(name), LANGUAGE)) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("keras.layers.GroupQueryAttention", "a layer has no kernel of its own"),
        ("torch.nn.functional.multi_head_attention_forward", "it has 2 paths, and kernels are compiled for one"),
        ("relative_bias.toml", "`table` is a tensor that no kernel reads yet"),
        ("several_outputs.toml", "`weight` is returned, and kernels make the attended values"),
    ],
)
def test_whatever_has_none_says_why(name: str, why: str) -> None:
    spec = builtin()[name] if name in builtin() else find(str(SPECS / name))
    assert any(why in reason for reason in reasons(spec, LANGUAGE))
    with pytest.raises(LoweringError, match=f"triton: {spec.name}: "):
        module_text(spec)


def test_generate_writes_the_kernels_that_there_are_and_refuses_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gemma2", "--target", "triton", "--out", str(tmp_path)]) == OK
    assert sorted(path.name for path in (tmp_path / "triton").iterdir()) == ["__init__.py", "gemma2.py"]
    assert main(["bigbird", "--target", "pallas", "--out", str(tmp_path)]) == USAGE
    assert "pallas: bigbird: `block_layout` is a tensor that no kernel reads yet" in capsys.readouterr().err
    wanted = changes(builtin().values(), None, tmp_path / "all", complete=True).wanted
    names = {*(find(name).module_name for name in COVERED), "__init__"}
    files = {"triton/README.md", *(f"triton/{name}.py" for name in names)}
    assert {path for path in wanted if path.startswith("triton/")} == files


def test_a_cap_is_differentiated_and_the_scale_is_left_to_the_end() -> None:
    holes = holes_of(find("gemma2"), LANGUAGE)
    assert holes.factor == "scale"
    assert holes.bodies["_logits"].splitlines()[1::2] == [
        "logits = logits * scale",
        "logits = cap * _tanh(logits / cap)",
    ]
    assert "d_logits = d_logits * (1 - _square(_tanh(logits_before_softcap / cap)))" in holes.bodies["_d_product"]
    assert holes.placeholders == {
        "logit_parameters": ("scale", "cap"),
        "mask_parameters": ("left",),
        "block_parameters": ("left",),
        "row_parameters": (),
        "sink_parameters": (),
        "dropout_parameters": (),
        "parameters": ("scale", "cap", "left"),
        "given": ("scale", "cap", "left"),
    }


def test_a_bare_scale_leaves_nothing_to_differentiate() -> None:
    spec = find("causal_gqa")
    assert not holes_of(spec, LANGUAGE).derived
    assert "d_product" not in module_text(spec)


def test_an_index_in_the_logits_is_no_part_of_their_gradient(tmp_path: Path) -> None:
    text = """
        variant = "sloped"
        summary = "A bias that grows with the distance."
        modifiers = ["distance"]
        masks = ["causal"]
        [modifier.distance]
        logit = "logit + rate * (s - t) / 2"
        [parameters]
        rate = { default = 0.5 }
    """
    holes = holes_of(spec_of(text, tmp_path), LANGUAGE)
    assert "logits = logits + rate * (s - t) / 2" in holes.bodies["_logits"]
    assert (holes.derived, holes.factor) == (False, "scale")


@pytest.mark.parametrize(
    ("name", "hole", "lines"),
    [
        ("causal_gqa", "_run_of_keys", ["low, end, 0, stop, False", "low, high, start + 1, S, False"]),
        ("causal_gqa", "_run_of_keys", ["low, high, S, end, hidden"]),
        ("causal_gqa", "_run_of_queries", ["low, end, start, T, False", "low, high, T, end, hidden"]),
        ("gemma2", "_run_of_queries", ["low, end, start, left + stop, False", "low, high, left + start + 1, T, hidden"]),
        ("longformer", "_run_of_keys", ["low, end, 0, tl.where(start < global_tokens, S, 0), False"]),
    ],
)  # fmt: skip
def test_the_blocks_of_a_loop_are_formulas_of_its_masks(name: str, hole: str, lines: list[str]) -> None:
    body = holes_of(find(name), LANGUAGE).bodies[hole]
    for line in lines:
        assert f"_meets({line}, BLOCK)" in body


def test_a_block_with_no_document_in_common_is_skipped_by_a_test_of_its_own() -> None:
    body = holes_of(find("packed_documents"), LANGUAGE).bodies["_run_of_queries"]
    assert "lowest_query_segment_ids = _lowest(query_segment_ids, b, low, after, BLOCK_T)" in body
    test = "(lowest_query_segment_ids <= highest_key_value_segment_ids)"
    assert test in next(line for line in body.splitlines() if line.startswith("seen, high = _meets_where("))


def test_a_length_is_looked_up_once_and_bounds_the_range(tmp_path: Path) -> None:
    text = 'variant = "padded"\nsummary = "Keys up to a length."\nmasks = ["key_length"]\n'
    holes = holes_of(spec_of(text, tmp_path), LANGUAGE)
    here = "key_value_seq_lengths_here"
    assert f"{here} = tl.load(key_value_seq_lengths[0] + b * key_value_seq_lengths[1][0])" in holes.bodies["_attends"]
    assert f"seen, high = _meets(low, end, 0, {here}, False, BLOCK)" in holes.bodies["_run_of_keys"]
    assert holes.placeholders["given"] == ("_with_strides(key_value_seq_lengths)", "scale")


def test_the_blocks_of_a_document_are_a_range_between_entries_of_its_bounds() -> None:
    """None of them has a test of its own, and what two masks look up is looked up once."""
    bodies = holes_of(find("variable_lengths"), LANGUAGE).bodies
    keys = bodies["_run_of_keys"]
    assert "cu_seqlens_q_interval = _interval_of(cu_seqlens_q, b, start)" in keys
    assert "cu_seqlens_k_entry = _entry_of_table(cu_seqlens_k, b, cu_seqlens_q_interval)" in keys
    assert "seen, high = _meets(low, end, cu_seqlens_k_entry, tl.where(start < cu_seqlens_q_entry_2," in keys
    assert "_meets_where" not in keys
    assert "seen, high = _meets(" in bodies["_run_of_queries"]
    assert bodies["_attends"].count("_interval_of(cu_seqlens_q, b, t)") == 1


def test_blocks_of_which_a_table_shows_no_pair_are_skipped() -> None:
    """In either direction a tile asks the table with its own positions."""
    bodies = holes_of(find("bigbird"), LANGUAGE).bodies
    entry = "_entry_of_table(block_layout, b, n, tl.minimum(_floor_divide({}, width), X - 1), tl.minimum(_floor_divide({}, "
    assert "t = start + tl.arange(0, BLOCK_T)[:, None]" in bodies["_run_of_keys"]
    assert entry.format("t", "s") in bodies["_run_of_keys"]
    assert "s = low + tl.arange(0, BLOCK_T)[None, :]" in bodies["_run_of_queries"]
    assert entry.format("s", "t") in bodies["_run_of_queries"]
    for size, hole in (("S", "_run_of_keys"), ("T", "_run_of_queries")):
        assert f"seen, high = _meets_where(some_block_layout, low, high, 0, {size}, seen, BLOCK)" in bodies[hole]


def test_division_rounds_down_where_a_number_may_be_negative(tmp_path: Path) -> None:
    text = """
        variant = "chunks"
        summary = "Chunks that begin somewhere."
        masks = ["chunks"]
        [mask.chunks]
        attends = "s // 4 <= t // 4 and (s - t) // 4 <= 0 and (s - t) % 4 < 3"
    """
    attends = holes_of(spec_of(text, tmp_path), LANGUAGE).bodies["_attends"]
    assert "s // 4 <= t // 4" in attends
    assert "_floor_divide(s - t, 4) <= 0" in attends
    assert "_remainder(s - t, 4) < 3" in attends


def test_what_is_not_always_there_is_decided_when_a_kernel_is_compiled() -> None:
    holes = holes_of(find("jax.nn.dot_product_attention"), LANGUAGE)
    assert "if bias is not None:\n    bias_block = _entries_of_pairs(bias, b, n, t, s, T, S)" in holes.bodies["_logits"]
    assert "if is_causal:\n    attends = attends & (s <= t)" in holes.bodies["_attends"]
    assert "if left is not None:\n    meets, high = _meets(low, high, start - left," in holes.bodies["_run_of_keys"]
    assert "if query_seq_lengths is not None:" in holes.bodies["_keeps"]
    assert "is_causal: tl.constexpr" in holes.placeholders["parameters"]
    assert holes.placeholders["logit_parameters"] == ("b", "n", "T", "S", "bias", "scale")
    assert {flag for flag, holds in holes.flags.items() if holds} == {"UNIFORM", "ROWS", "OPERANDS"}


def test_an_argument_that_is_a_mask_or_a_bias_is_told_by_its_dtype() -> None:
    holes = holes_of(find("torch.nn.functional.scaled_dot_product_attention"), LANGUAGE)
    assert "if attn_mask is not None and attn_mask[0].dtype.element_ty.is_floating():" in holes.bodies["_logits"]
    assert "if attn_mask is not None and attn_mask[0].dtype.element_ty.is_bool():" in holes.bodies["_attends"]
    assert holes.flags["UNIFORM"] is False


def test_what_logits_read_has_a_gradient_of_its_own(tmp_path: Path) -> None:
    """Of a bias it goes through the cap, of a slope it is times the distance."""
    text = """
        variant = "capped"
        summary = "A slope and a bias under a soft cap."
        modifiers = ["alibi", "bias", "softcap"]
        [parameters]
        cap = { default = 5.0 }
    """
    bodies = holes_of(spec_of(text, tmp_path), LANGUAGE).bodies
    assert "d_logits = d_logits * (1 - _square(_tanh(logits_before_softcap / cap)))" in bodies["_d_bias"]
    assert bodies["_d_slope"].splitlines()[-2:] == ["d_slope_here = d_logits * (s - t)", "return d_slope_here"]
    assert bodies["_d_bias"].splitlines()[-2:] == ["d_bias_block = d_logits", "return d_bias_block"]


def test_a_bias_is_read_and_summed_in_float32() -> None:
    text = module_text(find(str(SPECS / "biased.toml")))
    assert "bias_block = _entries_of_pairs(bias, b, n, t, s, T, S).to(tl.float32)" in text
    assert "sums = query.new_zeros(bias.shape if has_queries and has_keys else parts, dtype=torch.float32)" in text
    assert "for place, gradient in {3: _slope_gradient, 4: _bias_gradient}.items():" in text


def test_the_page_of_refusals_says_what_files_raise() -> None:
    """Of every committed file, word by word; and of every spec that has none, why."""
    text = (GENERATED / "triton" / "README.md").read_text(encoding="utf-8")
    for name in COVERED:
        found = list(refusals((GENERATED / "triton" / f"{find(name).module_name}.py").read_text(encoding="utf-8")))
        assert len(found) >= 4
        assert [each for each in found if each not in text] == []
    for spec in builtin().values():
        assert all(why in text for why in reasons(spec, LANGUAGE))
    assert "triton: head dim {max(H, V)} is not supported; up to 256 is" in text


def test_a_sink_is_where_every_row_begins() -> None:
    text = module_text(find(str(SPECS / "sink.toml")))
    assert "top = _sink(top, b, n, sink) * LOG2_E" in text
    assert "return tl.zeros_like(rows) + sink_here" in text
    assert "gradients[3] = _sink_gradient(inputs[3], output, lse, d_output)" in text


def test_parts_of_the_skeleton_under_a_flag_are_there_or_not() -> None:
    text = "a\nif ROWS:  # why\n    b\n    if x:\n        c\n        if UNIFORM:\n            d\n    e\nf"
    assert settled(text, {"ROWS": True, "UNIFORM": False}) == "a\nb\nif x:\n    c\ne\nf"
    assert settled(text, {"ROWS": True, "UNIFORM": True}) == "a\nb\nif x:\n    c\n    d\ne\nf"
    assert settled(text, {"ROWS": False, "UNIFORM": True}) == "a\nf"
    either = "if x:\n    if ROWS:\n        a\n    else:\n        b\nelse:\n    c"
    assert settled(either, {"ROWS": True}) == "if x:\n    a\nelse:\n    c"
    assert settled(either, {"ROWS": False}) == "if x:\n    b\nelse:\n    c"


@pytest.mark.parametrize("name", COVERED)
def test_a_file_is_whole_and_has_nothing_it_does_not_use(name: str) -> None:
    text = module_text(find(name))
    words = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert not words & PLACEHOLDERS
    assert "given: Any" not in text
    assert ("_tanh" in text) == (name == "gemma2")
    assert ("_bias_gradient" in text) == ("jax" in name or "keras" in name)
    assert "_remainder" not in text


def test_plain_causal_kernels_are_short_enough_to_read() -> None:
    """The forward kernel with all that it calls, and all kernels."""
    text = module_text(find("causal_gqa"))
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 2
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and "@triton.jit" in "\n".join(text.splitlines()[node.lineno - 2 : node.lineno])
    }
    backward = {name for name in lengths if "gradient" in name or "queries" in name}
    assert sum(lines for name, lines in lengths.items() if name not in backward) <= 110
    assert sum(lengths.values()) <= 260
