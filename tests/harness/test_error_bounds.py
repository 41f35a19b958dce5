"""The bounds: correct implementations never exceed them, at any dtype, and they are not vacuous."""

import math
from typing import Any

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.checks.agreement import error_over_bound
from attnspec.harness.error_bounds import UNIT, Units, gamma, growth, product_error, row_sum_error, softmax_error
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.oracle.dual import Dual, Run
from attnspec.harness.oracle.elementwise import FUNCTIONS, Function
from attnspec.harness.profiles import values_of
from attnspec.harness.storage import bfloat16
from attnspec.spec.loader import builtin
from attnspec.spec.model import Policy

SDPA = builtin()["torch.nn.functional.scaled_dot_product_attention"]
GEMMA = builtin()["gemma2"]
LAYER = builtin()["keras.layers.GroupQueryAttention"]
POLICIES = {name: Policy("at least float32", "ruled") for name in ("logits.dtype", "softmax.dtype")}
DTYPES = ("float64", "float32", "float16", "bfloat16")


def test_units_follow_the_declared_dtypes() -> None:
    half = Units.of({**POLICIES, "weights.dtype": Policy("input", "ruled")}, "bfloat16")
    assert half.logit == pytest.approx(2**-24)
    assert half.weight == pytest.approx(2**-8)
    assert half.output == pytest.approx(2**-8)
    narrow = {**POLICIES, "softmax.dtype": Policy("float32", "observed"), "weights.dtype": Policy("input", "ruled")}
    double = Units.of(narrow, "float64")
    assert double.logit == pytest.approx(2**-53, rel=1e-2)
    assert double.softmax == pytest.approx(2**-24)
    held = Units.of({**narrow, "weights.dtype": Policy("softmax", "ruled")}, "float16")
    assert held.weight == pytest.approx(2**-24)
    given = Units.of({**narrow, "logits.dtype": Policy("input", "ruled"), "weights.dtype": Policy("input", "ruled")}, "float16")
    assert given.logit == pytest.approx(2**-11)
    assert given.accumulate == pytest.approx(2**-24)


@pytest.mark.parametrize(("dtype", "twice"), [("float32", 2.0**-125), ("bfloat16", 2.0**-125), ("float64", 2.0**-1021)])
def test_a_weight_under_twice_the_smallest_normal_may_be_zero_and_a_larger_one_may_not(dtype: str, twice: float) -> None:
    """An exponential of two factors, of which the smaller one is flushed: 2 * 2^-127 is 0."""
    units = Units.of({**POLICIES, "weights.dtype": Policy("input", "ruled")}, dtype)
    for weight, lost in ((0.999 * twice, True), (1.001 * twice, False)):
        bound, _ = softmax_error(np.array([[1.0, weight]]), np.zeros((1, 2)), 0.0, units)
        assert (weight <= bound[0, 1]) == lost


def test_gamma_and_growth_bound_what_they_say() -> None:
    assert gamma(3, 0.1) == pytest.approx(0.3 / 0.7)
    assert gamma(10, 0.1) == math.inf
    for top in (1e-12, 0.5, 0.999, 5.0):
        x = np.linspace(0, top, 1000)
        assert (growth(x) >= np.expm1(x) * (1 - 1e-15)).all()
    assert np.isfinite(growth(np.array([1e6]))).all()
    assert growth(np.zeros(0)).size == 0


def test_product_errors_cover_products_of_anything_within_the_errors() -> None:
    random = np.random.default_rng(2)
    left, right = random.normal(size=(5, 4)), random.normal(size=(4, 3))
    for ea, eb in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.2)):
        bound = product_error(abs(left), ea * abs(left) if ea else 0.0, abs(right), eb * abs(right) if eb else 0.0, 1e-15)
        for _ in range(50):
            moved = (left * (1 + ea * random.uniform(-1, 1, left.shape))) @ (
                right * (1 + eb * random.uniform(-1, 1, right.shape))
            )
            assert (abs(moved - left @ right) <= bound + 1e-14).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_stay_within_their_error(name: str) -> None:
    random = np.random.default_rng(4)
    x = random.uniform(0.1, 4.0, 500) * (1 if name == "log" else random.choice([-1, 1], 500))
    for error in (1e-9, 1e-4, 0.05):
        step = Function(name, 2.0**-53)
        (y,), kept = step.forward([Dual(x, np.full(x.shape, error))], Run({}))
        (adjoint,) = step.backward([Dual(np.ones(x.shape), 0.0)], kept)
        for _ in range(20):
            near = x + error * random.uniform(-1, 1, x.shape)
            value = FUNCTIONS[name].value(near)
            assert (abs(value - y.value) <= y.error).all()
            if name != "abs":
                assert (abs(FUNCTIONS[name].slope(value, near) - adjoint.value) <= adjoint.error * (1 + 1e-9) + 1e-15).all()


# -- correct implementations --------------------------------------------------------------------------------------


def worst(gold: Gold, got: Any) -> float:
    over = error_over_bound(np.asarray(got, np.float64).astype(gold.value.dtype), gold)
    return float(over.max(initial=0.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_stays_within_the_bound(dtype: str) -> None:
    """Plain torch operations with the weights rounded to storage, forward and backward, on 576 cases per dtype."""
    torch = pytest.importorskip("torch")
    ratios: dict[str, float] = {}
    judged = 0
    for number, configuration in enumerate(pool(SDPA, dtype, 24)):
        for turn in range(24):
            case = Case(configuration, 53 * number + 1013 * turn)
            given = arrays(case, SDPA)
            verdict = judge(SDPA, case, given, True)
            if verdict.ill_conditioned or values_of(case.seed, False).poison:
                continue
            kind = getattr(torch, dtype)
            tensors = {n: torch.from_numpy(a.copy()) for n, a in given.items()}
            tensors = {n: t.to(kind) if t.is_floating_point() else t for n, t in tensors.items()}
            leaves = {n: t.requires_grad_() for n, t in tensors.items() if t.is_floating_point() and n[:2] != "d_"}
            output = plain_sdpa(torch, dict(configuration.values), tensors)
            output.backward(tensors["d_output"])
            ratios["output"] = max(ratios.get("output", 0), worst(verdict.outputs["output"], output.detach().double()))
            for name, leaf in leaves.items():
                ratio = worst(verdict.gradients[name], leaf.grad.double())
                ratios[name] = max(ratios.get(name, 0), ratio)
            judged += 1
    assert judged > 450
    assert max(ratios.values()) <= 1.0, ratios
    assert min(ratios.values()) > 0.001, ratios


def plain_sdpa(torch: Any, values: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """What SDPA documents, in float32 or wider, with weights and output in the storage dtype."""
    query, key, value = (tensors[name] for name in ("query", "key", "value"))
    mask = tensors.get("attn_mask")
    if query.ndim > 2:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = values.get("scale") or query.shape[-1] ** -0.5
    logits = query.to(wide) @ key.to(wide).transpose(-1, -2) * scale
    if values.get("is_causal"):
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.to(wide)
    empty = (logits == -math.inf).all(-1, keepdim=True)
    weights = torch.where(empty, 0.0, torch.softmax(torch.where(empty, 0.0, logits), -1))
    return weights.to(query.dtype) @ value


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_stays_within_the_bound(dtype: str) -> None:
    """Soft cap, window and groups, in float32 with rounded weights and output, on 576 cases per dtype."""
    highest, judged = 0.0, 0
    for number, configuration in enumerate(pool(GEMMA, dtype, 24)):
        for turn in range(24):
            case = Case(configuration, 31 * number + 997 * turn)
            given = arrays(case, GEMMA)
            verdict = judge(GEMMA, case, given, False)
            if not verdict.ill_conditioned:
                highest = max(highest, worst(verdict.outputs["output"], plain_gemma(dict(configuration.values), given, dtype)))
                judged += 1
    assert judged > 500
    assert 0.001 < highest <= 1.0


def plain_gemma(values: dict[str, Any], given: dict[str, Any], dtype: str) -> Any:
    wide = np.float64 if dtype == "float64" else np.float32

    def stored(x: Any) -> Any:
        return bfloat16(x) if dtype == "bfloat16" else x.astype(dtype)

    query, key, value = (given[name].astype(wide) for name in ("query", "key", "value"))
    groups = query.shape[2] // key.shape[2]
    key, value = np.repeat(key, groups, 2), np.repeat(value, groups, 2)
    scale, cap, left = values.get("scale") or query.shape[-1] ** -0.5, values.get("cap", 50.0), values.get("left", 4095)
    logits = np.einsum("btnh,bsnh->bnts", query, key) * wide(scale)
    logits = wide(cap) * np.tanh(logits / wide(cap))
    t, s = np.arange(query.shape[1])[:, None], np.arange(key.shape[1])
    seen = (s <= t) & (t - left <= s)
    logits = np.where(seen, logits, wide(-np.inf))
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = np.where(seen.any(-1)[:, None], weights / weights.sum(-1, keepdims=True), 0)
        return stored(np.einsum("bnts,bsnv->btnv", stored(weights).astype(wide), value))


def test_row_sums_stay_within_their_error_behind_a_projection() -> None:
    """Delta = sum p dP, and = sum dO O, of weights, gradients and values that are all as far off as they may be."""
    random = np.random.default_rng(3)
    weight, value, given = random.dirichlet(np.ones(6), 40), random.normal(size=(6, 5)), random.normal(size=(40, 5))
    units = Units.of({**POLICIES, "weights.dtype": Policy("input", "ruled")}, "float64")
    for share in (0.01, 0.3, 0.9):
        moved = share * weight, share * abs(value), share * abs(given)
        term_error = (abs(given) + moved[2]) @ (abs(value) + moved[1]).T - abs(given) @ abs(value).T
        terms, magnitude = given @ value.T, abs(given) @ abs(value).T
        bound = row_sum_error(weight, moved[0], abs(terms), term_error, magnitude, units)[:, 0]
        for _ in range(50):
            p, v, d = (x + random.choice([-1, 1], x.shape) * e for x, e in zip((weight, value, given), moved, strict=True))
            delta = (weight * terms).sum(-1)
            assert (abs((p * (d @ v.T)).sum(-1) - delta) <= bound).all()
            assert (abs((d * (p @ v)).sum(-1) - delta) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_in_its_storage_dtype_stays_within_the_bound(dtype: str) -> None:
    """Every projection, gate and gradient rounded to storage, as a framework's own layer does; few cases say nothing."""
    torch = pytest.importorskip("torch")
    ratios: dict[str, float] = {}
    judged = total = 0
    for number, configuration in enumerate(pool(LAYER, dtype, 24)):
        for turn in range(3):
            case = Case(configuration, 59 * number + 1019 * turn)
            given = arrays(case, LAYER)
            verdict = judge(LAYER, case, given, True)
            total += 1
            if verdict.ill_conditioned:
                continue
            judged += 1
            tensors = {n: torch.from_numpy(a.copy()) for n, a in given.items()}
            tensors = {n: t.to(getattr(torch, dtype)) if t.is_floating_point() else t for n, t in tensors.items()}
            leaves = {n: t.requires_grad_() for n, t in tensors.items() if t.is_floating_point() and n[:2] != "d_"}
            outputs = dict(zip(verdict.outputs, plain_layer(torch, dict(configuration.values), tensors), strict=False))
            sum((outputs[name] * tensors[f"d_{name}"]).sum(dtype=torch.float64) for name in verdict.outputs).backward()
            for name, gold in verdict.outputs.items():
                ratios[name] = max(ratios.get(name, 0), worst(gold, outputs[name].detach().double()))
            for name, leaf in leaves.items():
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                ratios[name] = max(ratios.get(name, 0), worst(verdict.gradients[name], gradient.double()))
    assert judged > 0.95 * total
    assert ratios.keys() >= {weight.name for weight in LAYER.weights}
    assert max(ratios.values()) <= 1.0, ratios
    assert ratios["output"] > 0.001, ratios


def plain_layer(torch: Any, values: dict[str, Any], given: dict[str, Any]) -> Any:
    """Projections, gate, masks and both paths of grouped-query attention, written as Keras writes them."""

    def projected(name: str, source: Any) -> Any:
        heads = torch.einsum("bte,enh->btnh", source, given[f"{name}_kernel"])
        return heads + given[f"{name}_bias"] if values.get("use_bias", True) else heads

    inputs = [given[n] if n in given else given["value"] for n in ("query", "key", "value")]
    query, key, value = (projected(n, x) for n, x in zip(("query", "key", "value"), inputs, strict=True))
    key, value = (x.repeat_interleave(query.shape[2] // x.shape[2], 2) for x in (key, value))
    explicit = values.get("dropout", 0) > 0 or values.get("return_attention_scores", False)
    wide = query.dtype if explicit else torch.promote_types(query.dtype, torch.float32)
    scale = query.shape[-1] ** -0.5
    if explicit:
        logits = torch.einsum("btnh,bsnh->bnts", query * scale, key)
    else:
        logits = torch.einsum("btnh,bsnh->bnts", query.to(wide), key.to(wide)) * scale
    seen = visible(torch, values, given, logits.shape[-2:])
    weights = torch.softmax(logits.masked_fill(~seen, -1e30 if wide != torch.float16 else -6e4), -1)
    scores = weights.masked_fill(~seen, 0) if explicit else weights.to(query.dtype)
    output = torch.einsum("bnts,bsnh->btnh", scores, value)
    if values.get("use_gate", False):
        output = output * torch.sigmoid(projected("gate", given["query"]))
    projection = torch.einsum("btnh,nhe->bte", output, given["attention_output_kernel"])
    return projection + given["attention_output_bias"] if values.get("use_bias", True) else projection, scores


def visible(torch: Any, values: dict[str, Any], given: dict[str, Any], shape: Any) -> Any:
    """The masks of a call together, (B|1, N|1, T, S)."""
    t, s = torch.arange(shape[0])[:, None], torch.arange(shape[1])
    seen = torch.ones(1, 1, *shape, dtype=torch.bool)
    if values.get("use_causal_mask", False):
        seen = seen & (s <= t)
    if values.get("sliding_window") is not None:
        seen = seen & (abs(t - s) < values["sliding_window"])
    for name, index in (
        ("query_mask", (..., None)),
        ("value_mask", (..., None, slice(None))),
        ("key_mask", (..., None, slice(None))),
    ):
        if name in given:
            seen = seen & given[name][index][:, None]
    mask = given.get("attention_mask")
    if mask is not None:
        seen = seen & (mask[:, None] if mask.ndim == 3 else mask)
    return seen


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_what_is_outside_the_bound_is_found(factor: float) -> None:
    configuration = pool(SDPA, "float32", 24)[0]
    gold = judge(SDPA, Case(configuration, 0), arrays(Case(configuration, 0), SDPA), False).outputs["output"]
    wrong = gold.value.copy()
    wrong[(0,) * wrong.ndim] += factor * gold.bound[(0,) * wrong.ndim]
    assert worst(gold, wrong) > 1.0
    assert worst(gold, gold.value) == 0.0
    assert UNIT["float32"] / 2 < gold.bound.max() / np.abs(gold.value).max() < 1e-4
