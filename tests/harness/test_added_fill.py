"""A finite fill that is added: what rounding leaves of a hidden logit, and how far an implementation may be from it."""

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.oracle import judge
from attnspec.harness.oracle.softmax import HOPELESS, Rule
from attnspec.harness.profiles import seed_for
from attnspec.spec.loader import builtin
from attnspec.spec.model import Policy

FILL = Policy("add", "ruled", detail="-1e9, in float16 -65504")
SPEC = builtin()["keras.layers.Attention"]
PLANS = (
    ("query", TensorPlan((1, 2, 3), "float16")),
    ("value", TensorPlan((1, 4, 3), "float16")),
    ("value_mask", TensorPlan((1, 4), "bool")),
)


def rule(dtype: str, empty: str = "rounded", fill: Policy = FILL) -> Rule:
    return Rule.of({"mask.fill": fill, "empty_row": Policy(empty, "ruled"), "logits.dtype": Policy("input", "ruled")}, dtype)


def added(dtype: str, logits: list[float], error: float = 0.0) -> tuple[list[float], list[float]]:
    unit = 2.0**-24 if dtype != "float64" else 2.0**-53
    gold = np.longdouble if dtype == "float64" else np.float64
    value, apart = rule(dtype).added(np.asarray(logits, gold), np.full(len(logits), error), unit)
    return [float(x) for x in value], [float(x) for x in apart]


def test_float32_keeps_nothing_of_a_small_logit() -> None:
    assert added("float32", [0.0, 31.0, -31.0, 40.0], 1e-4) == ([-1e9, -1e9, -1e9, -999999936.0], [0.0] * 4)


def test_a_logit_on_an_edge_may_round_either_way() -> None:
    value, apart = added("float32", [32.0, 31.9999], 1e-3)
    assert set(value) <= {-1e9, -999999936.0} and apart == [64.0, 64.0]


def test_bfloat16_keeps_nothing_at_all() -> None:
    value, apart = added("bfloat16", [0.0, 5000.0, -5000.0], 1.0)
    assert len(set(value)) == 1 and apart == [0.0, 0.0, 0.0]


def test_float64_keeps_all_but_the_last_digits() -> None:
    value, _ = added("float64", [0.25, -3.0])
    assert value == [0.25 - 1e9, -3.0 - 1e9]


def test_float16_overflows_below_16() -> None:
    assert added("float16", [0.0, 15.0, 40.0, -20.0], 0.01) == ([-65504.0, -65504.0, -65472.0, -np.inf], [0.0] * 4)
    value, apart = added("float16", [-16.0], 0.5)
    assert value == [-65504.0] and apart == [HOPELESS]


@pytest.mark.parametrize(("empty", "fill"), [("uniform", FILL), ("rounded", Policy("add", "ruled", detail="-inf"))])
def test_a_rule_that_contradicts_its_fill_is_an_error(empty: str, fill: Policy) -> None:
    with pytest.raises(ValueError, match="an empty row"):
        rule("float32", empty, fill)


def test_an_empty_row_of_float16_is_nan_where_every_logit_overflows() -> None:
    case = Case(Configuration(SPEC.name, "float16", tensors=PLANS), seed_for("plain", "none"))
    given = arrays(case, SPEC)
    given |= {"query": np.ones_like(given["query"]), "value": np.full_like(given["value"], -20.0)}
    given["value_mask"] = np.zeros_like(given["value_mask"])
    assert np.isnan(judge(SPEC, case, given, False).outputs["output"].value).all()
