"""Resolving a call: sizes from shapes, scalars by name, the path and the stages that hold; JSON carries all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnspec.spec.expression import parse
from attnspec.spec.interchange import from_json, to_json
from attnspec.spec.layouts import LayoutError, layout_text, parse_layout
from attnspec.spec.loader import builtin, find, loads
from attnspec.spec.model import Spec
from attnspec.spec.resolve import EvaluationError, Facts, ShapeMismatch, evaluate, facts_of, holds, resolve

ROOT = Path(__file__).parents[2]
JAX = find("jax.nn.dot_product_attention")
SDPA = find("torch.nn.functional.scaled_dot_product_attention")
SMALL = {path.stem: find(path) for path in (ROOT / "tests/specs").glob("*.toml")}
ALL = {**builtin(), **SMALL}

Shapes = dict[str, tuple[int, ...]]
QKV: Shapes = {"query": (2, 5, 4, 8), "key": (2, 7, 2, 8), "value": (2, 7, 2, 8)}


def facts(spec: Spec, shapes: Shapes, dtypes: dict[str, str] | None = None, **values: object) -> Facts:
    all_dtypes = dict.fromkeys(shapes, "float32") | (dtypes or {})
    return facts_of(spec, values, shapes, all_dtypes)  # type: ignore[arg-type]


def test_sizes_scalars_and_stages_of_a_call() -> None:
    shapes = QKV | {"mask": (1, 4, 1, 7)}
    found = resolve(JAX, facts(JAX, shapes, {"mask": "bool"}, local_window_size=(3, 2), is_causal=True))
    assert {name: found.scope[name] for name in "BTSNKGHV"} == {"B": 2, "T": 5, "S": 7, "N": 4, "K": 2, "G": 2, "H": 8, "V": 8}
    assert (found.scope["left"], found.scope["right"], found.scope["scale"]) == (3, 2, 8**-0.5)
    assert [stage.clause for stage in found.stages] == [
        "score.dot", "modifier.scale", "mask.explicit", "mask.causal", "mask.window", "softmax.plain", "combine.weighted",
    ]  # fmt: skip
    assert [output.name for output in found.outputs] == ["output"]


def test_one_int_means_both_members_and_none_means_neither() -> None:
    assert facts(JAX, QKV, local_window_size=1).scope.items() >= {("left", 1), ("right", 1)}
    assert "left" not in facts(JAX, QKV).scope


def test_outputs_that_hold() -> None:
    assert [output.name for output in resolve(JAX, facts(JAX, QKV, return_residual=True)).outputs] == ["output", "residual"]


def test_the_first_path_whose_guard_holds() -> None:
    spec = SMALL["two_paths"]
    for wanted, path, outputs in ((True, "weights", 2), (False, "fused", 1)):
        found = resolve(spec, facts(spec, QKV, return_weights=wanted))
        assert (found.path.name, len(found.outputs)) == (path, outputs)
    assert [path.policies["empty_row"].value for path in spec.paths] == ["nan", "zero"]


def test_guards_ask_for_dtypes() -> None:
    shapes = {"query": (2, 4, 5, 8), "key": (2, 4, 7, 8), "value": (2, 4, 7, 6), "attn_mask": (5, 7)}
    for dtype, clause in (("bool", "mask.explicit"), ("bfloat16", "modifier.bias")):
        found = resolve(SDPA, facts(SDPA, shapes, {"attn_mask": dtype}))
        assert [stage.clause for stage in found.stages][2] == clause


def test_batch_axes_broadcast() -> None:
    found = facts(SDPA, {"query": (3, 1, 4, 5, 8), "key": (2, 4, 7, 8), "value": (2, 4, 7, 6)})
    assert (found.batch, found.sizes["B"]) == ((3, 2), 6)
    with pytest.raises(
        ShapeMismatch, match=r"`attn_mask` must have batch axes that broadcast to \(2,\), got shape \(3, 1, 1, 1\)"
    ):
        facts(SDPA, {"query": (2, 4, 5, 8), "key": (2, 4, 7, 8), "value": (2, 4, 7, 6), "attn_mask": (3, 1, 1, 1)})


def test_dims_that_a_layout_lacks_have_size_1() -> None:
    assert facts(JAX, {"query": (5, 4, 8), "key": (7, 2, 8), "value": (7, 2, 8)}).sizes["B"] == 1
    found = facts(SDPA, {"query": (5, 8), "key": (7, 8), "value": (7, 6)})
    assert (found.batch, {d: found.sizes[d] for d in "BNKTSV"}) == ((), {"B": 1, "N": 1, "K": 1, "T": 5, "S": 7, "V": 6})


MISMATCHES = [
    (JAX, QKV | {"key": (2, 7, 2)}, "`key` must have shape (B, S, K, H), as the tensors before it, got (2, 7, 2)"),
    (JAX, QKV | {"key": (3, 7, 2, 8)}, "`key` must have shape (B, S, K, H), got (3, 7, 2, 8); B = 2 is bound by `query`"),
    (JAX, QKV | {"value": (2, 7, 2, 9)}, "`value` must have shape (B, S, K, H), got (2, 7, 2, 9); H = 8 is bound by `query`"),
    (JAX, QKV | {"query": (5, 8)}, "`query` must have shape (B, T, N, H) or (T, N, H), got (5, 8)"),
    (JAX, QKV | {"bias": (2, 3, 5, 7)}, "`bias` must have shape (B or 1, N or 1, T or 1, S or 1), got (2, 3, 5, 7); "
     "N = 4 is bound by `query`"),
    (JAX, QKV | {"query_seq_lengths": (3,)}, "`query_seq_lengths` must have shape (B,), got (3,); B = 2 is bound by `query`"),
    (SDPA, {"query": (8,)}, "`query` must have shape (..., N, T, H) or (T, H), got (8,)"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "shapes", "message"), MISMATCHES)
def test_shapes_that_do_not_fit(spec: Spec, shapes: Shapes, message: str) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        facts(spec, shapes)
    assert str(caught.value) == message


def test_an_optional_axis_does_not_bind() -> None:
    assert facts(JAX, QKV | {"bias": (1, 1, 1, 1)}).sizes == facts(JAX, QKV).sizes


def test_derived_sizes_of_an_assembled_key() -> None:
    spec = SMALL["assembled_keys"]
    shapes = {"query": (1, 2, 4, 8), "key": (1, 3, 2, 8), "value": (1, 3, 2, 6), "past_key": (1, 5, 2, 8)}
    shapes |= {"past_value": (1, 5, 2, 6), "appended_key": (2, 8), "appended_value": (2, 6)}
    assert facts(spec, shapes).sizes == {"B": 1, "T": 2, "N": 4, "H": 8, "C": 3, "K": 2, "V": 6, "P": 5, "G": 2, "S": 9}


def test_weights_and_inputs_of_a_layer_bind_sizes() -> None:
    spec = SMALL["projected_layer"]
    shapes = {"query": (2, 5, 16), "key": (2, 7, 16), "value": (2, 7, 16), "query_kernel": (16, 4, 8), "key_kernel": (16, 2, 8)}
    shapes |= {"value_kernel": (16, 2, 6), "output_kernel": (4, 6, 16)}
    found = resolve(spec, facts(spec, shapes, use_bias=False))
    assert {name: found.scope[name] for name in "BTSENKGHV"} == dict(
        zip("BTSENKGHV", (2, 5, 7, 16, 4, 2, 2, 8, 6), strict=True)
    )
    assert not any("bias" in stage.clause for stage in found.stages)
    with pytest.raises(ShapeMismatch, match=r"`output_kernel` must have shape \(N, V, E\), got \(4, 6, 15\)"):
        facts(spec, shapes | {"output_kernel": (4, 6, 15)})


def test_a_constructor_tells_sizes_and_a_tensor_stands_in() -> None:
    spec = builtin()["keras.layers.GroupQueryAttention"]
    heads = {"head_dim": 8, "num_query_heads": 4, "num_key_value_heads": 2}
    shapes = {"query": (2, 5, 16), "value": (2, 7, 16), "query_kernel": (16, 4, 8), "key_kernel": (16, 2, 8)}
    found = facts(spec, shapes, **heads)
    assert {name: found.sizes[name] for name in "BTSEDNKGHV"} == dict(
        zip("BTSEDNKGHV", (2, 5, 7, 16, 16, 4, 2, 2, 8, 8), strict=True)
    )
    assert facts(spec, shapes | {"key": (2, 7, 6), "key_kernel": (6, 2, 8)}, **heads).sizes["D"] == 6
    with pytest.raises(ShapeMismatch, match=r"`query_kernel` must have shape .*; N = 3 is bound by `num_query_heads`"):
        facts(spec, shapes, **heads | {"num_query_heads": 3})
    with pytest.raises(ShapeMismatch, match=r"`key` must have shape \(B, S, D\), got \(2, 6, 16\); S = 7 is bound by `value`"):
        facts(spec, shapes | {"key": (2, 6, 16)}, **heads)


@pytest.mark.parametrize(
    ("values", "path", "drops"),
    [({}, "fused", False), ({"dropout": 0.5}, "scores", False), ({"dropout": 0.5, "training": True}, "scores", True),
     ({"return_attention_scores": True, "training": True}, "scores", False)],
    ids=str,
)  # fmt: skip
def test_the_paths_of_a_layer(values: dict[str, Any], path: str, drops: bool) -> None:
    spec = builtin()["keras.layers.GroupQueryAttention"]
    heads = {"head_dim": 8, "num_query_heads": 4, "num_key_value_heads": 2}
    found = resolve(spec, facts(spec, {"query": (2, 5, 16), "value": (2, 7, 16)}, **heads, **values))
    assert found.path.name == path
    assert any(stage.kind == "dropout" for stage in found.stages) == drops


def test_a_list_element_that_stands_in() -> None:
    spec = SMALL["list_input"]
    shapes = {"query": (2, 5, 4, 8), "value": (2, 7, 2, 8)}
    assert facts(spec, shapes).sizes == facts(spec, shapes | {"key": (2, 7, 2, 8)}).sizes
    with pytest.raises(ShapeMismatch, match="`value` must have shape"):
        facts(spec, shapes | {"value": (2, 7, 2, 9)})


GROUPED = """
api = "grouped"
form = "function"
owner = "attnspec"
summary = "Heads and head dims in one axis."
argument = [
  { name = "query", layout = "B T (N H)" },
  { name = "key", layout = "B S K H" },
  { name = "value", layout = "B S K V" },
]
output = [{ name = "output", tensor = "output", layout = "B T (N V)" }]
[[path]]
name = "only"
stage = [{ use = "score.dot" }, { use = "softmax.plain" }, { use = "combine.weighted" }]
"""


def test_a_grouped_axis_binds_the_dim_that_is_left() -> None:
    spec = loads(GROUPED)
    shapes = {"query": (2, 5, 32), "key": (2, 7, 2, 8), "value": (2, 7, 2, 6)}
    assert facts(spec, shapes).sizes["N"] == 4
    with pytest.raises(ShapeMismatch, match=r"`query` must have shape \(B, T, N \* H\), got \(2, 5, 33\)"):
        facts(spec, shapes | {"query": (2, 5, 33)})


def test_preconditions_are_guards_too() -> None:
    heads, window = JAX.preconditions
    assert holds(heads.requires, facts(JAX, QKV))
    assert not holds(heads.requires, facts(JAX, QKV | {"query": (2, 5, 3, 8)}))
    assert not holds(window.requires, facts(JAX, QKV, local_window_size=(-1, 3)))
    assert holds(None, facts(JAX, QKV))
    with pytest.raises(EvaluationError, match="`left` has no value here"):
        holds(window.requires, facts(JAX, QKV))


def test_sizes_without_a_value_are_left_out() -> None:
    found = facts(JAX, {"query": (2, 5, 4, 0), "key": (2, 7, 0, 0), "value": (2, 7, 0, 0)})
    assert "G" not in found.sizes
    assert "scale" not in found.scope


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-N // 3 + 2 ** 3 % 5", -2 + 3),
        ("min(N, 2) + max(N, 2) + abs(-1)", 7),
        ("floor(tanh(0.5) * 10) + sigmoid(0) + log(exp(1))", 4 + 0.5 + 1),
        ("where(N == 4, 1, 2)", 1),
        ("N > 3 and not (N != 4) or missing > 1", True),
        ("bias is None", True),
        ("query is not None and rank(query) == 4", True),
        ("is_floating(query) and not is_boolean(query)", True),
        ("same(query, query) and same(query, key)", True),
        ("given(query) and not given(bias)", True),
        ("N / 8", 0.5),
    ],
)
def test_scalar_expressions(text: str, value: object) -> None:
    known = Facts({}, {"query": (1, 2, 3, 4)}, {"query": "bfloat16"}, {}, same=frozenset({frozenset({"query", "key"})}))
    assert evaluate(parse(text), {"N": 4, "bias": None}, known) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("M + 1", "`M` has no value here"),
        ("1 // N", "`1 // N`: integer division or modulo by zero"),
        ("(-1) ** 0.5", "`(-1) ** 0.5` is out of range"),
        ("exp(1000)", "`exp`: math range error"),
        ("rank(query)", "`rank(query)`: `query` is not given"),
        ("sum(h, x[h])", "`sum(h, x[h])` is no scalar"),
        ("name", "`name` is 'xla', which is no number"),
        ("name + 1", "'xla' is no number"),
    ],
)
def test_expressions_without_a_value(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(parse(text), {"N": 0, "name": "xla"})
    assert str(caught.value) == message


def test_integers_stay_small_however_often_they_are_squared() -> None:
    scope = {"N": 2**31 - 1}
    with pytest.raises(EvaluationError, match="out of range"):
        evaluate(parse("N ** 16"), scope)


@pytest.mark.parametrize("name", ALL)
def test_json_carries_a_spec_without_loss(name: str) -> None:
    assert from_json(to_json(ALL[name])) == ALL[name]


@pytest.mark.parametrize("text", ["[]", "{}", "1", '{"is": "Spec"}', '{"is": "Nothing"}', "[" * 100_000])
def test_json_that_is_no_spec(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a spec|not a spec of this version"):
        from_json(text)


def test_json_needs_every_field() -> None:
    plain = json.loads(to_json(JAX))
    del plain["outputs"]
    with pytest.raises(ValueError, match=r"not a spec of this version of attnspec: .*'outputs'"):
        from_json(json.dumps(plain))


def test_a_changed_spec_is_planned_anew() -> None:
    for _ in range(300):  # more than are kept
        assert resolve(replace(JAX), facts(JAX, QKV)).path.name == "xla"


AXES = st.lists(st.sampled_from("TSNKHVEC"), min_size=1, max_size=6, unique=True)


@given(AXES, st.booleans(), st.data())
def test_layouts_are_written_as_they_are_read(dims: list[str], batched: bool, data: st.DataObject) -> None:
    words = [dim + data.draw(st.sampled_from(("", "|1"))) for dim in dims]
    text = " ".join(["..."] * batched + words)
    assert layout_text(parse_layout(text)) == text
    if len(dims) > 1:
        grouped = f"({' '.join(dims[:2])})" + "".join(f" {dim}" for dim in dims[2:])
        assert layout_text(parse_layout(grouped)) == grouped


@pytest.mark.parametrize("text", ["", "...", "b", "B B", "(B)", "B|2", "B ...", "(B T", "B" * 300, " ".join("ABCDEFGHIJKLM")])
def test_texts_that_are_no_layouts(text: str) -> None:
    with pytest.raises(LayoutError):
        parse_layout(text)
