"""The pool: what it covers, that every call in it is valid, and that it is the same each time."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import Phase, find, settings

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, Configuration, free, pool
from attnspec.harness.drive import QUIET
from attnspec.harness.facts import facts
from attnspec.harness.oracle import judge
from attnspec.harness.tally import SAMPLED, can_vary, values_taken
from attnspec.harness.visible_changes import is_vacuous
from attnspec.spec.loader import builtin, load
from attnspec.spec.resolve import holds

SPECS = {**builtin(), **{path.stem: load(path) for path in sorted(Path(__file__).parents[1].glob("specs/*.toml"))}}
JAX, TORCH = "jax.nn.dot_product_attention", "torch.nn.functional.scaled_dot_product_attention"


@pytest.mark.parametrize("name", SPECS)
def test_every_call_is_valid_and_there_are_as_many_as_asked_for(name: str) -> None:
    spec = SPECS[name]
    for count in (6, 24, 48):
        configurations = pool(spec, "float32", count)
        assert len(set(configurations)) == count
        for configuration in configurations:
            known = facts(spec, configuration)
            for precondition in spec.preconditions:
                assert not holds(precondition.when, known) or holds(precondition.requires, known), configuration


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("count", [6, 24])
def test_every_argument_takes_two_values(name: str, count: int) -> None:
    spec = SPECS[name]
    taken = defaultdict(set)
    for configuration in pool(spec, "float32", count):
        for argument, value in values_taken(spec, configuration):
            taken[argument].add(value)
    for argument in (*spec.constructor, *spec.arguments):
        for member in argument.elements or (argument,):
            assert len(taken[member.name]) > 1 or not can_vary(member), member.name


def test_what_other_arguments_decide_on_is_given_where_they_say() -> None:
    """Weights packed or apart, keys with their values; features are alike where a precondition wants it; both ranks."""
    calls = pool(builtin()["torch.nn.functional.multi_head_attention_forward"], "float32", 24)
    ranks = set()
    for call in calls:
        tensors, sizes = dict(call.tensors), dict(call.sizes)
        assert ("bias_k" in tensors) == ("bias_v" in tensors)
        apart = bool(dict(call.values).get("use_separate_proj_weight"))
        assert [name in tensors for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight")] == [not apart, apart, apart]
        assert apart or sizes["D"] == sizes["F"] == sizes["E"]
        ranks.add(len(tensors["query"].shape))
    assert ranks == {2, 3}


def test_every_option_is_tried() -> None:
    configurations = pool(SPECS[TORCH], "float32", 24)
    masks = {(len(p.shape), p.dtype) for c in configurations for n, p in c.tensors if n == "attn_mask"}
    assert {kind for _, kind in masks} == {"bool", "float32"}
    assert {rank for rank, _ in masks} >= {1, 2, 3, 4}
    assert {len(dict(c.tensors)["query"].shape) for c in configurations} >= {2, 3, 4, 5}
    windows = {dict(c.values).get("local_window_size") for c in pool(SPECS[JAX], "float32", 24)}
    assert windows == {None, (3, 2), 1, (2, 0), (0, 0)}


def test_sizes_are_told_apart() -> None:
    sizes = [dict(c.sizes) for c in pool(SPECS["causal_gqa"], "float32", 24)]
    shown = {
        "T < S": any(s["T"] < s["S"] for s in sizes), "T > S": any(s["T"] > s["S"] for s in sizes),
        "T = S": any(s["T"] == s["S"] for s in sizes), "B = N": any(s["B"] == s["N"] for s in sizes),
        "T = H": any(s["T"] == s["H"] for s in sizes), "K = 1": any(s["K"] == 1 < s["N"] for s in sizes),
        "K = N": any(s["K"] == s["N"] > 1 for s in sizes), "groups": any(1 < s["K"] < s["N"] for s in sizes),
        "V != H": any(s["V"] != s["H"] for s in sizes), "T = 1": any(s["T"] == 1 for s in sizes),
        "S = 1": any(s["S"] == 1 for s in sizes), "prime": any(s["T"] == 13 and s["S"] == 11 for s in sizes),
        "under 16": any(15 in (s["T"], s["S"]) for s in sizes), "over 16": any(17 in (s["T"], s["S"]) for s in sizes),
    }  # fmt: skip
    assert not [what for what, seen in shown.items() if not seen]


def test_the_first_call_is_the_simplest() -> None:
    for spec in SPECS.values():
        first = pool(spec, "float32", 6)[0]
        assert all(value is not None or argument for argument, value in first.values)
        decided = {a.name for a in spec.tensor_arguments if not a.optional or a.when is not None}
        assert {n for n, _ in first.tensors} <= decided | {w.name for w in spec.weights}


def test_configurations_and_cases_survive_json() -> None:
    for spec in SPECS.values():
        for configuration in pool(spec, "bfloat16", 24):
            case = Case(configuration, 2**64 - 1)
            assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case
            assert hash(Configuration.from_dict(json.loads(json.dumps(configuration.to_dict())))) == hash(configuration)


def test_the_pool_is_the_same_in_every_process() -> None:
    code = (
        "from attnspec.harness.cases import pool; from attnspec.spec.loader import builtin; import json;"
        f"print(json.dumps([c.to_dict() for c in pool(builtin()[{JAX!r}], 'float16', 24)]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [Configuration.from_dict(data) for data in json.loads(other)] == list(pool(SPECS[JAX], "float16", 24))


SHRINK = settings(QUIET, max_examples=200, phases=[Phase.generate, Phase.shrink])


def windowed_call(configuration: Configuration) -> bool:
    return dict(configuration.values).get("local_window_size") == (0, 0)


def test_shrinking_ends_at_single_elements_and_defaults() -> None:
    smallest = find(free(SPECS[JAX], "float32"), lambda configuration: True, settings=SHRINK)
    assert all(set(plan.shape) == {1} for _, plan in smallest.tensors)
    assert smallest.values == ()
    windowed = find(free(SPECS[JAX], "float32"), windowed_call, settings=SHRINK)
    assert windowed.values == (("local_window_size", (0, 0)),)


@pytest.mark.parametrize("name", SPECS)
def test_few_cases_judge_nobody(name: str) -> None:
    """Counted as a run counts them: what is vacuous is looked for in one case of seven, and its share is one of all dtypes."""
    spec = SPECS[name]
    sampled = vacuous = 0
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        cases = [Case(c, number * 37 + 1009 * turn) for turn in range(8) for number, c in enumerate(pool(spec, dtype, 24))]
        ill = sum(judge(spec, case, arrays(case, spec), False).ill_conditioned for case in cases)
        assert ill < 0.05 * len(cases), dtype
        sampled += len(cases[::SAMPLED])
        vacuous += sum(is_vacuous(spec, case, arrays(case, spec)) for case in cases[::SAMPLED])
    assert vacuous <= 0.05 * sampled
