"""The oracle's values, clause by clause, against plain Python loops over the text of the same expressions."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from brute_force import attend, canonical

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.facts import facts
from attnspec.harness.oracle import judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.profiles import seed_for
from attnspec.spec.loader import builtin, load
from attnspec.spec.model import Spec

SPECS = {**builtin(), **{path.stem: load(path) for path in sorted(Path(__file__).parents[1].glob("specs/*.toml"))}}
SEEDS = (0, seed_for("uneven", "half, empty rows"), seed_for("tied", "few", 3), seed_for("uniform", "none"))


def small(spec: Spec) -> list[Configuration]:
    """The pool's configurations that loops can do."""
    return [c for c in pool(spec, "float64", 24) if np.prod([n for _, n in c.sizes if _ in "BTSNPC"]) <= 150]


@pytest.mark.parametrize("name", SPECS)
def test_values_are_those_of_plain_loops(name: str) -> None:
    spec = SPECS[name]
    checked = set()
    for number, configuration in enumerate(small(spec)):
        case = Case(configuration, SEEDS[number % len(SEEDS)])
        given = arrays(case, spec)
        want = attend(spec, case, {n: a for n, a in given.items() if not n.startswith("d_")})
        verdict = judge(spec, case, given, False)
        for result in plan_of(spec, configuration).results:
            gold = verdict.outputs[result.output.name]
            canonical_axes = "".join(d.lower() for d in spec.tensors[result.output.tensor.partition("@")[0]])
            tensor = want[result.output.tensor].astype(float)
            ours = result.port.into(np.asarray(gold.value, float))
            ours = ours.transpose([result.slot.axes.index(x) for x in canonical_axes])
            np.testing.assert_allclose(ours, np.broadcast_to(tensor, ours.shape), rtol=1e-11, atol=1e-12, equal_nan=True)
            checked.add(result.output.name)
    assert checked == {output.name for output in spec.outputs}


def test_brute_force_reads_broadcast_axes() -> None:
    spec = SPECS["torch.nn.functional.scaled_dot_product_attention"]
    configuration = next(c for c in pool(spec, "float64", 24) if dict(c.tensors).get("attn_mask"))
    case = Case(configuration, 0)
    found = canonical(spec, case, arrays(case, spec), facts(spec, configuration))
    assert found["attn_mask"].ndim == 4
