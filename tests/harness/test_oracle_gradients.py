"""The oracle's gradients against central differences of its own long double forward pass, for every differentiable input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.facts import facts
from attnspec.harness.oracle import judge, softmax
from attnspec.harness.profiles import seed_for
from attnspec.spec.loader import builtin, load
from attnspec.spec.resolve import resolve

SPECS = {**builtin(), **{path.stem: load(path) for path in sorted(Path(__file__).parents[1].glob("specs/*.toml"))}}
SEEDS = (0, seed_for("uneven", "most"), seed_for("large", "half, empty rows"), seed_for("uneven the other way", "few", 2))
STEP = 2.0**-13


def loss(spec: Any, case: Case, given: dict[str, Any]) -> np.longdouble:
    outputs = judge(spec, case, given, False).outputs
    return sum((np.longdouble(0), *(np.sum(outputs[n[2:]].value * d) for n, d in given.items() if n.startswith("d_"))))


def slope(spec: Any, case: Case, given: dict[str, Any], name: str, step: Any) -> np.longdouble:
    ahead = loss(spec, case, {**given, name: given[name] + step})
    behind = loss(spec, case, {**given, name: given[name] - step})
    return (ahead - behind) / 2


@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_the_slopes_of_the_outputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A logit that is rounded as a fill is added has steps, and its gradient is that of the sum: of a smaller one, not rounded.
    monkeypatch.setattr("attnspec.harness.oracle.plan._plans", {})  # compiled with the other fill
    monkeypatch.setattr(softmax, "stored", lambda values, dtype: values)
    monkeypatch.setitem(softmax.FILLS, "-1e9, in float16 -65504", (-64.0, -64.0))
    spec, random = SPECS[name], np.random.default_rng(5)
    for number, configuration in enumerate(pool(spec, "float64", 24)[:20]):
        case = Case(configuration, SEEDS[number % len(SEEDS)])
        given = arrays(case, spec)
        verdict = judge(spec, case, given, True)
        floats = {n for n, p in configuration.tensors if "float" in p.dtype}
        assert verdict.gradients.keys() == floats
        for each, gold in verdict.gradients.items():
            if not np.isfinite(gold.value).all():
                path = resolve(spec, facts(spec, configuration)).path
                assert path.policies["empty_row"].value == "nan"
                continue
            direction = random.choice([-1.0, 1.0], gold.value.shape)
            small, large = (slope(spec, case, given, each, step * direction) / step for step in (STEP / 2, STEP))
            extrapolated = (4 * small - large) / 3  # Richardson: the error falls with the fourth power of the step
            if np.isfinite(extrapolated):
                scale = 1.0 + float(np.sum(np.abs(gold.value)))
                assert abs(extrapolated - np.sum(gold.value * direction)) <= 1e-8 * scale, (each, configuration)
