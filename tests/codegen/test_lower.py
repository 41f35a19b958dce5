"""From a spec to a program: what each policy and stage becomes, and what cannot be expressed is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnspec.codegen.lower import LoweringError, lower_spec, variable
from by_hand import Arrays, central_differences, combine, dot_logits, grid, hide, random_arrays, softmax
from compiling import body_of, forward_text, module_of, spec_of

GATED = """
    api     = "gated"
    form    = "layer"
    owner   = "attnspec"
    summary = "A layer whose gate reads the input again, after the query was made from it."
    constructor = [{ name = "with_gate", role = "flag", default = true, examples = [true, false] }]
    argument = [
      { name = "query", layout = "B T E", feeds = "query_input" },
      { name = "value", layout = "B S E", feeds = "value_input" },
    ]
    weight = [
      { name = "query_kernel", layout = "E N H" },
      { name = "key_kernel", layout = "E K H" },
      { name = "value_kernel", layout = "E K V" },
      { name = "gate_kernel", layout = "E N V", when = "with_gate" },
      { name = "output_kernel", layout = "N V E" },
    ]
    output = [{ name = "output", tensor = "projected", layout = "B T E" }]
    [tensors]
    gate = "B T N V"
    [[path]]
    name  = "only"
    stage = [
      { clause = "project.query", defines = "query", rule = "sum(e, query_input[b,t,e] * query_kernel[e,n,h])" },
      { clause = "project.key", defines = "key", rule = "sum(e, value_input[b,s,e] * key_kernel[e,k,h])" },
      { clause = "project.value", defines = "value", rule = "sum(e, value_input[b,s,e] * value_kernel[e,k,v])" },
      { use = "score.dot" },
      { use = "modifier.scale", bind = { scale = "H ** -0.5" } },
      { use = "softmax.plain" },
      { use = "combine.weighted" },
     { clause = "output.gate", defines = "gate", when = "with_gate", rule = "sum(e, query_input[b,t,e] * gate_kernel[e,n,v])" },
      { clause = "output.gated", defines = "output", when = "with_gate", rule = "output * sigmoid(gate)" },
      { clause = "output.project", defines = "projected", rule = "sum(n, sum(v, output[b,t,n,v] * output_kernel[n,v,e]))" },
    ]
    [[precondition]]
    clause   = "heads-divide"
    requires = "K > 0 and N % K == 0"
    raises   = "ValueError"
    message  = "heads"
    source   = "ruled"
    violate  = { N = 3, K = 2 }
"""
B, T, S, E, N, K, H, V = 2, 3, 5, 7, 4, 2, 3, 6
KERNELS: dict[str, tuple[int, ...]] = {
    "query_kernel": (E, N, H), "key_kernel": (E, K, H), "value_kernel": (E, K, V), "gate_kernel": (E, N, V),
    "output_kernel": (N, V, E),
}  # fmt: skip


def gated(x: Arrays) -> np.ndarray:
    def heads(name: str, kernel: str) -> np.ndarray:
        return np.asarray(np.einsum("bse,enh->bsnh", x[name], x[kernel]))

    query, key, value = heads("query", "query_kernel"), heads("value", "key_kernel"), heads("value", "value_kernel")
    output = combine(softmax(dot_logits(query, key)), value)
    if "gate_kernel" in x:
        output = output / (1 + np.exp(-heads("query", "gate_kernel")))
    return np.asarray(np.einsum("btnv,nve->bte", output, x["output_kernel"]))


@pytest.mark.parametrize("with_gate", [True, False])
def test_a_stage_may_read_an_input_that_an_earlier_stage_was_made_from(with_gate: bool, tmp_path: Path) -> None:
    module = module_of(spec_of(GATED, tmp_path), "numpy")
    shapes = {name: shape for name, shape in KERNELS.items() if with_gate or name != "gate_kernel"}
    arrays = random_arrays(0, query=(B, T, E), value=(B, S, E), **shapes)
    call: dict[str, Any] = {"params": {n: arrays[n] for n in shapes}, "query": arrays["query"], "value": arrays["value"]}
    np.testing.assert_allclose(module.gated(**call, with_gate=with_gate), gated(arrays), atol=1e-12)
    d_output = np.random.default_rng(1).standard_normal((B, T, E))
    found = module.gated_vjp(d_output, **call, with_gate=with_gate)
    expected = central_differences(lambda at: float((gated(at) * d_output).sum()), arrays)
    assert found.keys() == expected.keys()
    for name, slope in expected.items():
        np.testing.assert_allclose(found[name], slope, atol=1e-7, err_msg=name)


RENAMED = """
    api     = "renamed"
    form    = "function"
    owner   = "attnspec"
    summary = "Other names, and axes in another order."
    argument = [
      { name = "queries", layout = "T N B H", feeds = "query" },
      { name = "keys", layout = "K H S B", feeds = "key" },
      { name = "values", layout = "S B V K", feeds = "value" },
      { name = "lengths", layout = "B", dtype = "integer", feeds = "key_value_seq_lengths" },
      { name = "added", layout = "S|1 T|1 B|1 N|1", feeds = "bias", default = "None" },
    ]
    output = [
      { name = "attended", tensor = "output", layout = "V T B N" },
      { name = "shares", tensor = "weight", layout = "T S B N" },
    ]
    [[path]]
    name  = "only"
    stage = [
      { use = "score.dot" },
      { use = "modifier.scale", bind = { scale = "H ** -0.5" } },
      { use = "modifier.bias", when = "added is not None" },
      { use = "mask.causal" },
      { use = "mask.key_length" },
      { use = "softmax.plain" },
      { use = "combine.weighted" },
    ]
    [[precondition]]
    clause   = "heads-divide"
    requires = "K > 0 and N % K == 0"
    raises   = "ValueError"
    message  = "heads"
    source   = "ruled"
    violate  = { N = 3, K = 2 }
"""
LENGTHS = np.array([5, 2])


def renamed(x: Arrays) -> tuple[np.ndarray, np.ndarray]:
    query, key, value = x["queries"].transpose(2, 0, 1, 3), x["keys"].transpose(3, 2, 0, 1), x["values"].transpose(1, 0, 3, 2)
    t, s = grid(T, S)
    added = x["added"].transpose(2, 3, 1, 0) if "added" in x else 0.0
    logits = hide(dot_logits(query, key) + added, (s <= t) & (s < LENGTHS[:, None, None, None]))
    weights = softmax(logits)
    return combine(weights, value).transpose(3, 1, 0, 2), weights.transpose(2, 3, 0, 1)


@pytest.mark.parametrize("added", [(), (S, 1, B, 1)], ids=["plain", "bias"])
def test_names_and_the_order_of_axes_are_the_specs_own(added: tuple[int, ...], tmp_path: Path) -> None:
    module = module_of(spec_of(RENAMED, tmp_path), "numpy")
    shapes: dict[str, tuple[int, ...]] = {"queries": (T, N, B, H), "keys": (K, H, S, B), "values": (S, B, V, K)}
    arrays = random_arrays(0, **shapes, **({"added": added} if added else {}))
    cotangents = tuple(np.random.default_rng(i).standard_normal(o.shape) for i, o in enumerate(renamed(arrays)))
    for output, expected in zip(module.renamed(**arrays, lengths=LENGTHS), renamed(arrays), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-12)
    found = module.renamed_vjp(cotangents, **arrays, lengths=LENGTHS)

    def scalar(at: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, renamed(at), strict=True)))

    for name, slope in central_differences(scalar, arrays).items():
        np.testing.assert_allclose(found[name], slope, atol=1e-7, err_msg=name)


def test_index_grids_live_where_the_query_does(tmp_path: Path) -> None:
    assert "device=queries.device" in forward_text(spec_of(RENAMED, tmp_path), "torch")


@pytest.mark.parametrize(("plain", "grouped"), [('"T N B H"', '"T B (N H)"'), ('"V T B N"', '"T B (N V)"')])
def test_grouped_axes_are_refused_by_name(plain: str, grouped: str, tmp_path: Path) -> None:
    spec = spec_of(RENAMED.replace(plain, grouped), tmp_path)
    with pytest.raises(LoweringError, match=r"renamed: \w+: the grouped axes of `T B \(N .\)` cannot be compiled yet"):
        lower_spec(spec)


def variant(**policies: str) -> str:
    tables = "\n".join(f'"{name.replace("__", ".")}" = {value}' for name, value in policies.items())
    return f'variant = "ruled"\nsummary = "s"\nmasks = ["causal"]\n[policies]\n{tables}\n'


FINITE = '{ value = "replace", with = "-0.7 * max(float32)" }'


def lines_of(text: str, folder: Path) -> list[str]:
    return [line.strip() for line in body_of(forward_text(spec_of(text, folder))).splitlines()]


def test_an_empty_row_that_is_zero_is_guarded_on_both_sides_of_the_softmax(tmp_path: Path) -> None:
    lines = lines_of(variant(empty_row='"zero"'), tmp_path)
    assert "safe_logits = np.where(empty, 0.0, logits)" in lines
    assert "weights = np.where(empty, 0.0, weights)" in lines


def test_an_empty_row_that_is_uniform_needs_no_second_guard(tmp_path: Path) -> None:
    lines = lines_of(variant(empty_row='"uniform"'), tmp_path)
    assert "safe_logits = np.where(empty, 0.0, logits)" in lines
    assert "weights = np.where(empty, 0.0, weights)" not in lines


@pytest.mark.parametrize("policies", [{"empty_row": '"nan"'}, {"empty_row": '"uniform"', "mask__fill": FINITE}])
def test_no_guard_where_the_fill_does_it(policies: dict[str, str], tmp_path: Path) -> None:
    assert not any("empty" in line for line in lines_of(variant(**policies), tmp_path))


@pytest.mark.parametrize("rule", ["zero", "nan"])
def test_a_finite_fill_with_another_rule_is_refused(rule: str, tmp_path: Path) -> None:
    spec = spec_of(variant(empty_row=f'"{rule}"', mask__fill=FINITE), tmp_path)
    with pytest.raises(LoweringError, match=rf"ruled: policy\.empty_row: '{rule}' needs the fill -inf"):
        lower_spec(spec)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("at least float32", "compute = np.promote_types(query.dtype, np.float32)"),
        ("float32", "compute = np.float32"),
        ("input", "logits = logits.astype(dtype)"),
    ],
)
def test_the_dtype_of_the_logits_is_a_policy(rule: str, line: str, tmp_path: Path) -> None:
    assert line in lines_of(variant(logits__dtype=f'"{rule}"', softmax__dtype=f'"{rule}"'), tmp_path)


def test_weights_stay_in_the_softmax_dtype_where_the_policy_says_so(tmp_path: Path) -> None:
    cast = "weights = weights.astype(dtype)"
    assert cast in lines_of(variant(weights__dtype='"input"'), tmp_path)
    assert cast not in lines_of(variant(weights__dtype='"softmax"'), tmp_path)


def test_variables_are_named_as_the_field_names_them() -> None:
    assert variable("logit") == "logits"
    assert variable("output") == "output"
    assert variable("logit@modifier.scale") == "logits_after_scale"
