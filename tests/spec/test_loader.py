"""Spec files: what they mean once loaded, and the exact words in which a broken one is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from attnspec.spec.expression import parse
from attnspec.spec.loader import SpecError, builtin, find, load, loads
from attnspec.spec.model import Axis, Layout

ROOT = Path(__file__).parents[2]
SMALL = sorted((ROOT / "tests/specs").glob("*.toml"))
TEXTS = {
    "jax": (ROOT / "spec/apis/jax_nn_dot_product_attention.toml").read_text(),
    "torch": (ROOT / "spec/apis/torch_nn_functional_scaled_dot_product_attention.toml").read_text(),
    "layer": (ROOT / "spec/apis/keras_layers_group_query_attention.toml").read_text(),
    "mha": (ROOT / "spec/apis/torch_nn_multihead_attention.toml").read_text(),
    "mhaf": (ROOT / "spec/apis/torch_nn_functional_multi_head_attention_forward.toml").read_text(),
    "attention": (ROOT / "spec/apis/keras_layers_attention.toml").read_text(),
    "gemma2": (ROOT / "spec/variants/gemma2.toml").read_text(),
    **{path.stem: path.read_text() for path in SMALL},
}
JAX = TEXTS["jax"]
BROKEN = tomllib.loads((Path(__file__).parent / "broken.toml").read_text())["case"]


def errors(text: str | bytes) -> list[str]:
    """What is wrong with a text, without the file's name."""
    with pytest.raises(SpecError) as caught:
        loads(text, "f.toml")
    assert str(caught.value) == "\n".join(f"f.toml: {line}" for line in caught.value.errors)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return list(caught.value.errors)


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_builtin_specs_by_name_and_by_function_name() -> None:
    specs = builtin()
    assert {"jax.nn.dot_product_attention", "torch.nn.functional.scaled_dot_product_attention"} < specs.keys()
    assert [spec.family for spec in specs.values()] == sorted(spec.family for spec in specs.values())
    sdpa = "torch.nn.functional.scaled_dot_product_attention"
    assert find(sdpa) is find("scaled_dot_product_attention") is specs[sdpa]
    several = (
        "several specs are called that; use the full name: jax.nn.dot_product_attention or keras.ops.dot_product_attention"
    )
    with pytest.raises(SpecError, match=f"^dot_product_attention: {several}$"):
        find("dot_product_attention")
    with pytest.raises(SpecError, match=r'gema2: no such spec; known are .* Did you mean "gemma2"\?'):
        find("gema2")


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_specs_load(path: Path) -> None:
    spec = find(str(path))
    assert spec == load(path)
    assert (spec.name, spec.file) == (path.stem, path.name)
    assert len(spec.digest) == 64


def test_digest_follows_the_file() -> None:
    assert loads(JAX).digest == loads(JAX).digest != loads(JAX + "# more\n").digest


def test_an_unreadable_file_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing.toml: cannot be read: No such file or directory"):
        load(tmp_path / "missing.toml")
    big = tmp_path / "big.toml"
    big.write_text("#" * 200_000)
    with pytest.raises(SpecError, match=r"big\.toml: expected a file of at most 131072 bytes, got 200000"):
        load(big)


def test_an_api_says_everything() -> None:
    spec = loads(JAX)
    window = spec.argument("local_window_size")
    assert (window.names, window.default, window.examples[1]) == (("left", "right"), None, (3, 2))
    assert spec.argument("mask").layouts[0] == Layout(tuple(Axis((dim,), or_one=True) for dim in "BNTS"))
    assert spec.argument("scale").unset == parse("H ** -0.5")
    [path] = spec.paths
    assert path.policies["autocast"].value == "none"  # not given: the operator's default
    assert (path.policies["mask.fill"].value, path.policies["mask.fill"].detail) == ("replace", "-0.7 * max(float32)")
    stages = {stage.clause: stage for stage in path.stages}
    assert stages["mask.causal"].expression == parse("s <= t + 0")
    assert stages["mask.window"].expression == parse("-left <= s - (t + 0) <= right")
    assert spec.preconditions[1].violate == ({"local_window_size": (-1, 3)},)


def test_a_bound_tensor_takes_the_dims_of_the_operators() -> None:
    spec = loads(TEXTS["torch"])
    assert spec.tensors["attn_mask"] == spec.tensors["bias"] == ("B", "N", "T", "S")
    assert spec.argument("query").layouts[0].dims == ("B", "N", "T", "H")
    assert parse("logit + attn_mask") in [stage.expression for stage in spec.paths[0].stages]


def test_a_layer_tells_its_sizes_and_where_its_weights_are_kept() -> None:
    spec = loads(TEXTS["layer"])
    assert (spec.class_name, spec.function_name) == ("GroupQueryAttention", "group_query_attention")
    assert spec.module_name == "keras_layers_group_query_attention"
    assert [(a.name, a.tells) for a in spec.constructor if a.tells] == [
        ("head_dim", ("H", "V")), ("num_query_heads", ("N",)), ("num_key_value_heads", ("K",)),
    ]  # fmt: skip
    assert spec.teller("V") is spec.argument("head_dim")
    assert spec.teller("E") is None
    bias = next(weight for weight in spec.weights if weight.name == "gate_bias")
    assert (bias.initializer, bias.chosen_by, bias.path) == ("zeros", "bias_initializer", "gate_dense/1")
    assert "use_gate is new, before seed" in spec.documented.drift
    assert len(builtin()["jax.nn.dot_product_attention"].documented.drift) == 2
    assert [path.policies["empty_row"].value for path in spec.paths] == ["zero", "uniform"]


def test_a_variant_expands_to_a_signature() -> None:
    spec = loads(TEXTS["gemma2"])
    assert (spec.family, spec.owner, spec.form, spec.layout_error) == ("variant", "attnspec", "function", "ValueError")
    assert [(a.name, a.kind, a.role, a.default) for a in spec.arguments] == [
        ("query", "positional", "tensor", None),
        ("key", "positional", "tensor", None),
        ("value", "positional", "tensor", None),
        ("scale", "keyword-only", "number", None),
        ("cap", "keyword-only", "number", 50.0),
        ("left", "keyword-only", "integer", 4095),
    ]
    clauses = [
        "score.dot",
        "modifier.scale",
        "modifier.softcap",
        "mask.causal",
        "mask.window",
        "softmax.plain",
        "combine.weighted",
    ]
    assert [stage.clause for stage in spec.paths[0].stages] == clauses
    assert spec.paths[0].stages[4].expression == parse("-left <= s - (t + 0) <= 0")
    assert [(p.clause, *p.violate) for p in spec.preconditions] == [
        ("heads-divide", {"N": 3, "K": 2}, {"K": 0}),
        ("cap-range", {"cap": 0.0}),
        ("left-range", {"left": -1}),
    ]


def test_a_variants_operands_are_keyword_only_tensors_with_their_own_dtype() -> None:
    spec = find("packed_documents")
    [query_ids, key_ids] = spec.tensor_arguments[3:]
    assert (query_ids.name, query_ids.kind, query_ids.dtype, query_ids.layouts[0].dims) == (
        "query_segment_ids", "keyword-only", "integer", ("B", "T"),
    )  # fmt: skip
    assert key_ids.required


def test_a_variant_may_declare_policies_layouts_parameters_and_clauses_of_its_own() -> None:
    spec = loads(
        """
        variant   = "own"
        summary   = "A variant with a clause of its own."
        modifiers = ["decay"]
        masks     = ["causal"]

        [parameters]
        gain   = { default = 2, examples = [2, 3], doc = "how fast it decays" }
        offset = "S - T"
        scale  = 0.5

        [tensors]
        rates = "N"

        [modifier.decay]
        logit = "logit - gain * rates[n] * (t - s)"

        [policies]
        "empty_row" = "uniform"
        "mask.fill" = { value = "replace", with = "-0.7 * max(float32)", why = "as its model does" }

        [layouts]
        query  = "B N T H"
        output = "B N T V"
        """
    )
    assert [argument.name for argument in spec.arguments] == ["query", "key", "value", "rates", "gain"]
    assert spec.argument("gain").doc == "how fast it decays"
    [path] = spec.paths
    assert {stage.clause: stage.expression for stage in path.stages}["mask.causal"] == parse("s <= t + (S - T)")
    assert {stage.clause: stage.expression for stage in path.stages}["modifier.scale"] == parse("logit * 0.5")
    assert (path.policies["empty_row"].value, path.policies["mask.fill"].why) == ("uniform", "as its model does")
    assert [spec.argument("query").layouts[0].dims, spec.outputs[0].layouts[0].dims] == [tuple("BNTH"), tuple("BNTV")]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("interval(key_value_seq_lengths, s) == interval(query, t)", "tensor of integers with one axis, got `query`"),
        ("interval(width, s) == 0", "tensor of integers with one axis, got `3`"),
        ("interval(block_layout, s) == 0", "tensor of integers with one axis, got `block_layout`"),
        ("interval(cu_seqlens_k, s)", "`interval(cu_seqlens_k, s)` is a number, expected a predicate"),
        ("interval(cu_seqlens_k, h) == 0", "index `h` is neither summed over nor an axis of logit"),
    ],
)
def test_an_interval_is_looked_up_in_integers_of_one_axis(rule: str, why: str) -> None:
    text = f'variant = "own"\nsummary = "v"\nmasks = ["own"]\n[mask.own]\nattends = "{rule} and t < width"\n'
    found = errors(text + "[parameters]\nwidth = 3\n[layouts]\n")
    assert any(why in error for error in found), found


def test_all_errors_of_a_file_come_at_once() -> None:
    text = changed(JAX, 'dtype   = "bool"', 'dtype   = "boolean"')
    text = changed(text, 'doc    = "queries"', 'dok    = "queries"')
    text = changed(text, 'use = "softmax.plain"', 'use = "softmax.plane"')
    text = changed(text, 'when = "is_causal"', 'when = "is_casual"')
    text = changed(text, 'requires = "left >= 0 and right >= 0"', 'requires = "left >= 0 and right => 0"')
    text = changed(text, 'value = "replace"', 'value = "replaces"')
    assert sorted(errors(text)) == [
        'argument.mask.dtype: expected one of "floating", "bool", "integer", "bool or floating", "bool or number",'
        ' got "boolean". Did you mean "bool"?',
        'argument.query.dok: unknown key. Did you mean "doc"?',
        'path.xla.policies."mask.fill".value: expected "replace" or "add", got "replaces". Did you mean "replace"?',
        'path.xla.stage."mask.causal".when: column 1: unknown argument `is_casual`. Did you mean "is_causal"?',
        'path.xla.stage."softmax.plane".use: unknown clause "softmax.plane". Did you mean "softmax.plain"?',
        "precondition.window-not-negative.requires: column 21: not a complete expression",
    ]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case["name"])
def test_error_texts(case: dict[str, Any]) -> None:
    assert errors(changed(TEXTS[case["file"]], case["old"], case["new"])) == case["errors"]


def test_numbers_and_nesting_that_tomllib_would_choke_on() -> None:
    [huge] = errors(changed(JAX, "default = false", "default = " + "9" * 3_000))
    assert huge.endswith("expected a number up to 2147483647, text, true, false or a list of integers, got a huge integer")
    assert errors(changed(JAX, "default = false", "default = " + "9" * 3_991)) == [
        "line 58: expected at most 4000 characters, got 4001"
    ]
    assert errors(changed(JAX, "default = false", "default = " + "[\n" * 3_000)) == ["nested too deep"]


def test_declarations_of_a_file_cannot_redefine_the_operators() -> None:
    found = errors(
        JAX + '\n[tensors]\nquery = "B T"\nown = "B Q"\n[mask.causal]\nattends = "s < t"\n[mask.two]\n[mask.odd]\nlogit = "t"\n'
    )
    assert found == [
        "tensors.query: is declared by the operator already; choose another name",
        'tensors.own: expected plain axes of declared dims, got "B Q"',
        "mask.two: expected one rule, got 0",
        "mask.odd.logit: expected attends, which a mask defines.",
        "mask.causal: is declared by the operator already; choose another name",
    ]


def test_long_lists_of_errors_are_cut() -> None:
    found = errors("\n".join(f"key{i} = 1" for i in range(10_000)) + "\n" + JAX)
    assert (len(found), found[0], found[-1]) == (51, "key0: unknown key.", "9950 more errors")


def test_bytes_that_are_no_text() -> None:
    assert errors(b"\xff") == ["expected UTF-8 text, got byte 0xff at 0"]
    assert errors(b"#" * 200_000) == ["expected at most 131072 bytes, got 200000"]
    assert errors(b"a = 1979-02-30") == ["line 1, column 5: invalid date or datetime"]
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert errors("a = " + "1" * 700) == ["holds a number or a date that is out of range"]
    finally:
        sys.set_int_max_str_digits(digits)


def test_only_the_loader_needs_pydantic() -> None:
    modules = "expression, model, resolve, interchange, layouts, evaluate, binding"
    code = f"import sys; from attnspec.spec import {modules}; sys.exit('pydantic' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_precondition_may_be_broken_in_several_ways() -> None:
    text = changed(JAX, "violate  = { N = 3, K = 2 }", "violate  = [{ N = 3, K = 2 }, { N = 1, K = 2 }]")
    assert loads(text).preconditions[0].violate == ({"N": 3, "K": 2}, {"N": 1, "K": 2})
    text = changed(JAX, "violate  = { N = 3, K = 2 }", "violate  = [{ N = 3, KK = 2 }]")
    assert errors(text) == ['precondition.heads-divide.violate.KK: unknown argument or size. Did you mean "K"?']


def test_a_bound_expression_has_a_size() -> None:
    long = " + ".join(["(S - T) * (S - T)"] * 36)
    rule = 'own = { attends = "s <= t + offset * offset * offset * offset" }'
    text = f'variant = "van"\nsummary = "v"\nmasks = ["own"]\nmask = {{ {rule} }}\nparameters = {{ offset = "{long}" }}'
    assert errors(text) == ["mask.own.attends: the bound expression has more than 1000 parts"]
