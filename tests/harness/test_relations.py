"""Relations: what a right function fulfils, whatever the oracle says, and that a wrong one breaks them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness.checks import arguments, related_calls, relations
from attnspec.harness.checks.setting import Related
from attnspec.harness.cli import main
from attnspec.harness.configuration import Configuration, TensorPlan
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.memory import KINDS, laid_out
from attnspec.harness.lanes.messages import Answer, Array, Raised, Returned, Tensor
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import generated
from attnspec.spec.loader import builtin
from planted_bugs.faults import FAULTS, HERE

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
EMPTY = TensorPlan((), "float32")
DOCUMENTED = {line.split()[0] for line in (relations.__doc__ or "").splitlines()[2:] if line.strip()}
OWN = {"dropout", "dropout-mask", "dropout-seed", "second-order"}  # with tests of their own
ALL = DOCUMENTED - {"memory-KIND", *OWN} | {f"memory-{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def pairs() -> list[Related]:
    alone, both = arguments.cases(SPEC, "float32")
    return [each for case in (*alone, *both[::3]) for each in related_calls.relations(SPEC, case)]


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with Lane("numpy") as lane:
        yield lane


def test_every_documented_relation_is_tried(pairs: list[Related]) -> None:
    assert {each.relation for each in pairs} == ALL | {"second-order"}


@pytest.mark.parametrize("name", builtin())
def test_the_second_call_is_another_one_and_valid(name: str) -> None:
    spec = builtin()[name]
    for case in arguments.cases(spec, "float32")[0]:
        for each in related_calls.relations(spec, case):
            if each.rate:  # no oracle judges dropout: to it the call is none
                continue
            assert arguments.is_valid(spec, each.changed), each.relation
            same = each.given.keys() == each.other.keys() and all(
                np.array_equal(array, each.other[tensor]) for tensor, array in each.given.items()
            )
            assert same == (each.relation in ("twice", "second-order") or bool(each.layout))


@pytest.mark.parametrize("name", builtin())
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_right_implementation_fulfils_all_of_them(name: str, dtype: str, lane: Lane) -> None:
    spec = builtin()[name]
    subject = next(generated(spec, "numpy"))
    call = partial(lane.call, spec, subject)
    first = relations.First(call)
    for case in arguments.cases(spec, dtype)[0]:
        for each in related_calls.relations(spec, case):
            assert list(relations.check(spec, subject, call, each, first)) == [], each.relation


def test_the_first_call_of_a_case_is_made_once_and_twice_is_twice(lane: Lane) -> None:
    subject = next(generated(SPEC, "numpy"))
    made: list[tuple[Configuration, int]] = []

    def call(configuration: Configuration, given: dict[str, Array], **more: str) -> Answer:
        made.append((configuration, id(given)))
        return lane.call(SPEC, subject, configuration, given, **more)

    first = relations.First(call)
    for case in arguments.cases(SPEC, "float32")[0][:2]:
        made.clear()
        pairs = [each for each in related_calls.relations(SPEC, case) if not each.layout]
        pairs = [each for each in pairs if each.relation != "second-order"]  # which NumPy does not offer
        for each in pairs:
            assert list(relations.check(SPEC, subject, call, each, first)) == []
        of_the_case = (case.configuration, id(pairs[0].given))
        again = sum(each.other is each.given and each.changed == case.configuration for each in pairs)
        assert made.count(of_the_case) == 1 + again == 2
        assert len(made) == len(pairs) + len({(id(each.given), each.gradient) for each in pairs})


def test_what_is_in_a_group_moves_with_the_rest() -> None:
    """Heads of a packed weight, rows of a batch in a mask of `(B * N, T, S)`; not where one tensor is in two places."""
    spec = builtin()["torch.nn.functional.multi_head_attention_forward"]
    alone, _ = arguments.cases(spec, "float32")
    masked = next(case for case in alone if len(dict(case.configuration.tensors).get("attn_mask", EMPTY).shape) == 3)
    by_name = {each.relation: each for each in related_calls.relations(spec, masked)}
    mask, moved = by_name["permuted-batch"].given["attn_mask"], by_name["permuted-batch"].other["attn_mask"]
    batch, heads = (dict(masked.configuration.sizes)[dim] for dim in "BN")
    np.testing.assert_array_equal(moved, mask.reshape(batch, heads, *mask.shape[1:])[::-1].reshape(mask.shape))
    packed, turned = (getattr(by_name["permuted-heads"], side)["in_proj_weight"] for side in ("given", "other"))
    width = packed.shape[1]
    np.testing.assert_array_equal(turned, packed.reshape(3, heads, -1, width)[:, ::-1].reshape(packed.shape))
    placed = next(case for case in alone if "key" in dict(case.configuration.values))
    held = {each.relation for each in related_calls.relations(spec, placed) if not each.layout}
    assert held == {"twice", "linear-cotangents"}


@pytest.mark.parametrize("relation", sorted(ALL))
def test_an_answer_that_differs_fails(relation: str, pairs: list[Related]) -> None:
    """The first call is answered with the right shapes, the second one with something else at every element."""
    related = next(each for each in pairs if each.relation == relation)
    subject = next(generated(SPEC, "numpy"))
    calls: list[object] = []

    def call(configuration: object, given: Mapping[str, Array], **options: object) -> Answer:
        calls.append(given)
        full = np.full(given["query"].shape, 9.0 ** len(calls), np.float32)
        residual = Tensor(full[..., 0], "float32")
        return Returned({"output": Tensor(full, "float32"), "residual": residual}, {"query": Tensor(full, "float32")})

    (failure,) = relations.check(SPEC, subject, call, related)
    assert (failure.check, failure.clause, failure.seen) == ("relations", relation, "not the same")


def test_a_call_that_is_not_answered_is_another_checks(pairs: list[Related]) -> None:
    subject = next(generated(SPEC, "numpy"))
    other = next(
        each for each in pairs if not each.exact and not each.layout
    )  # twice with one and the same shape, and a wrong one
    shaped = Returned({"output": Tensor(np.ones((2, 2), np.float32), "float32")})
    unmoved = replace(other, terms=((1, lambda name, array: array),))
    assert list(relations.check(SPEC, subject, lambda *_, **__: shaped, unmoved)) == []
    assert list(relations.check(SPEC, subject, lambda *_, **__: Raised(("ValueError",), ""), pairs[0])) == []


@pytest.mark.parametrize(
    ("name", "relation"),
    [
        ("heads-tiled-not-repeated", "repeated-heads"),
        ("not-the-same-twice", "twice"),
        ("keys-read-in-memory-order", "memory-transposed"),
        ("large-values-cut", "linear-values"),
        ("large-cotangents-cut", "linear-cotangents"),
        ("log-sum-exp-base-2", "split-keys"),
    ],
)
def test_a_fault_is_found_without_an_oracle_and_replayed(
    name: str, relation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    subject = f"{fault.write(tmp_path)}:{fault.function}"
    command = ["check", subject, "--as", API, "--seed", "1", "--cases", "8", "--gradient-cases", "0", "--dtypes", "float32"]
    assert main([*command, "--checks", "relations", "--format", "json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    finding = next(each for each in findings if relation in f"{each['clause']} {each['also']}")
    token = finding["replay"].split()[-1]
    if name != "not-the-same-twice":  # which may be the same by chance
        assert main(["replay", token, "--alone"]) == 1
    right = f"{HERE / 'numpy_attention.py'}:dot_product_attention"
    assert main(["check", right, *command[2:], "--checks", "relations"]) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "bool"])
def test_a_layout_holds_the_same_elsewhere(kind: str, dtype: str) -> None:
    array = np.broadcast_to(np.arange(12).reshape(1, 3, 4) % 5, (2, 3, 4)).astype(dtype)
    other = laid_out(array, kind)
    np.testing.assert_array_equal(other, array)
    assert not np.shares_memory(other, array)
    strides = tuple(stride // array.itemsize for stride in other.strides)
    assert strides == {
        "transposed": (12, 1, 3), "sliced": (30, 6, 1), "offset": (12, 4, 1), "expanded": (0, 4, 1), "reversed": (-12, -4, -1)
    }[kind]  # fmt: skip
    assert laid_out(array[0, 0, 0], kind).shape == ()
    assert laid_out(array[:0], kind).shape == (0, 3, 4)


SDPA = builtin()["torch.nn.functional.scaled_dot_product_attention"]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda weights, keep: weights * keep / 0.5, None),
        (lambda weights, keep: weights * keep, "neither dropped nor scaled"),
        (lambda weights, keep: weights * np.nan, "neither dropped nor scaled"),
        (lambda weights, keep: weights / 0.5, "another share is kept"),
        (lambda weights, keep: weights * 0, "another share is kept"),
    ],
)
def test_dropped_weights_are_scaled_and_as_many_as_the_rate_says(change: Callable[..., Array], seen: str | None) -> None:
    alone, _ = arguments.cases(SDPA, "float32")
    related = next(each for case in alone for each in related_calls.relations(SDPA, case) if each.rate)
    weights = judge(SDPA, related.case, related.given, False).outputs["output"].value
    keep = np.random.default_rng(1).integers(0, 2, weights.shape)

    def call(configuration: Configuration, given: object, **options: object) -> Answer:
        answer = weights if configuration == related.case.configuration else change(weights, keep)
        return Returned({"output": Tensor(answer.astype(np.float32), "float32")})

    found = list(relations.check(SDPA, next(generated(SDPA, "numpy")), call, related))
    assert [failure.seen for failure in found] == ([seen] if seen else [])


def test_a_mask_that_the_backward_pass_draws_anew_is_found_and_its_script_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output and gradients are right for a mask each: neither the oracle nor the share of what is kept says so."""
    fault = next(fault for fault in FAULTS if fault.name == "dropout-drawn-anew-in-the-backward-pass")
    command = ["check", f"{fault.write(tmp_path)}:{fault.function}", "--as", fault.api, "--seed", "1", "--cases", "8"]
    command += ["--gradient-cases", "8", "--dtypes", "float32", "--format", "full"]
    assert main([*command, "--skip-check", "coverage"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [finding["clause"] for finding in said["findings"]] == ["dropout-mask"]
    evidence = json.dumps(said["evidence"])
    assert "torch.manual_seed(1)" in evidence
    assert main(["replay", said["findings"][0]["replay"].split()[-1], "--alone"]) == 1
