"""The arguments check: a right function honours everything, and whatever is dropped, on whichever path, is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import brought
from attnspec.harness.checks import arguments
from attnspec.harness.checks.arguments import Outcome, Status
from attnspec.harness.checks.arguments import variations as varied
from attnspec.harness.checks.variation import Variation
from attnspec.harness.cli import main
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Answer, Lost, Raised, Returned, Tensor
from attnspec.harness.scripts import script
from attnspec.harness.subjects import Subject, user
from attnspec.spec.loader import builtin
from turned_calls import found_when_turned

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
SDPA = builtin()["torch.nn.functional.scaled_dot_product_attention"]
ALONE, BOTH = arguments.cases(SPEC, "float32")
CASES = [*ALONE, *BOTH]
OPTIONAL = [a.name for a in SPEC.arguments if not a.required and not a.inert]
DROPPED = [name for name in OPTIONAL if name != "return_residual"]  # without it there is no second output: another check's

DROPPING = """
from planted_bugs.numpy_attention import dot_product_attention

def dropping(name, beside):
    def attention(query, key, value, **given):
        if beside is None or given.get(beside) is not None:
            given.pop(name, None)
        return dot_product_attention(query, key, value, **given)
    return attention
"""


@pytest.fixture(scope="module")
def variations() -> list[Variation]:
    return [each for case in CASES for each in varied(SPEC, case)]


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with Lane("numpy") as lane:
        yield lane


def outcomes(lane: Lane, subject: Subject, found: list[Variation]) -> list[Outcome]:
    return list(arguments.outcomes(partial(lane.call, SPEC, subject), found))


def test_every_argument_is_varied(variations: list[Variation]) -> None:
    assert {each.argument for each in variations} == {a.name for a in SPEC.arguments if not a.inert}


def test_dropout_is_varied_although_no_oracle_judges_it() -> None:
    assert "dropout_p" in {each.argument for case in arguments.cases(SDPA, "float32")[0] for each in varied(SDPA, case)}


def test_a_right_function_honours_everything(lane: Lane, variations: list[Variation]) -> None:
    right = user(
        f"{Path(brought.__file__).parent / 'planted_bugs' / 'numpy_attention.py'}:dot_product_attention", SPEC, "numpy"
    )
    found = outcomes(lane, right, variations)
    assert len(found) == len(variations)
    assert {each.status for each in found} == {"honoured"}
    assert list(arguments.check(SPEC, right, found)) == []


@pytest.mark.parametrize("beside", [None, *OPTIONAL])
def test_every_drop_of_one_argument_is_found_on_every_path(
    beside: str | None, lane: Lane, variations: list[Variation], tmp_path: Path
) -> None:
    """Dropped always, and dropped only where another argument is given."""
    dropped = [name for name in DROPPED if name != beside]
    lines = [DROPPING, *(f"drop_{name} = dropping({name!r}, {beside!r})" for name in dropped)]
    (tmp_path / "dropping.py").write_text("\n".join(lines))
    for name in dropped:
        subject = user(f"{tmp_path / 'dropping.py'}:drop_{name}", SPEC, "numpy")
        mine = [each for each in variations if each.argument == name]
        (failure,) = arguments.check(SPEC, subject, outcomes(lane, subject, mine))
        assert failure.clause == name
        where = f"beside `{beside}`" if beside else "in every call"
        assert failure.message == f"`{name}` is silently ignored {where}"


def test_what_is_dropped_in_one_mode_alone_is_named_with_it(tmp_path: Path) -> None:
    """Of torch's compiler, which takes seconds to import, `tests/generated/test_torch.py` asks the same."""
    with Lane("jax") as lane:
        failure = found_when_turned("jax", lane.call, tmp_path)
    assert failure.message == "`is_causal` is silently ignored where it is called without jax.jit"
    assert "jit" not in script(SPEC, user(failure.subject, SPEC, "jax"), failure, "")


def test_two_arguments_that_need_a_third_come_with_it() -> None:
    """The hint of torch's layer has to be given with a mask: beside it, weights of each head are a path of their own."""
    _, both = arguments.cases(builtin()["torch.nn.MultiheadAttention"], "float32")
    (case,) = (
        case for case in both if {"is_causal", "average_attn_weights"} <= {name for name, _ in case.configuration.values}
    )
    assert "attn_mask" in dict(case.configuration.tensors)


# -- single answers -----------------------------------------------------------------------------------------------


def answer(*values: float) -> Returned:
    return Returned({"output": Tensor(np.array(values, np.float32), "float32")})


REFUSED = Raised(("NotImplementedError",), "no")
CAUSAL = next(case for case in CASES if dict(case.configuration.values).get("is_causal"))
APART = {"output": np.array([0.5])}


@pytest.mark.parametrize(
    ("before", "after", "apart", "status"),
    [
        (answer(1.0), answer(1.25), APART, "ignored"),
        (answer(1.0), answer(1.75), APART, "honoured"),
        (answer(1.0), answer(float("nan")), APART, "honoured"),
        (answer(float("nan")), answer(float("nan")), APART, "ignored"),
        (answer(1.0), answer(1.0, 1.0), APART, "honoured"),
        (answer(1.0), REFUSED, APART, None),
        (REFUSED, answer(1.0), APART, "refused"),
        (REFUSED, REFUSED, APART, None),
        (answer(1.0), REFUSED, None, "honoured"),
        (answer(1.0), answer(1.0), None, "ignored"),
        (Lost("crashed", ""), answer(1.0), APART, None),
        (answer(1.0), Lost("hung", ""), APART, None),
    ],
)
def test_two_answers_say_what_became_of_an_argument(
    before: Answer, after: Answer, apart: dict[str, np.ndarray] | None, status: Status | None
) -> None:
    changed = CASES[0].configuration
    variation = Variation("is_causal", CAUSAL, {}, changed, {}, apart)
    found = list(arguments.outcomes(lambda configuration, *_, **__: after if configuration == changed else before, [variation]))
    assert [each.status for each in found] == ([status] if status else [])


@pytest.mark.parametrize("statuses", list(itertools.permutations(arguments.RANKED)))
def test_the_worst_is_reported(statuses: tuple[Status, ...]) -> None:
    known: dict[str, str] = {}
    arguments.worst_status(SPEC, [Outcome("bias", CASES[0], status) for status in statuses], known)
    assert known == {"bias": "ignored", "implementation": "inert"}


# -- the command --------------------------------------------------------------------------------------------------


def test_the_report_says_what_became_of_each_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dropping.py"
    file.write_text(f"{DROPPING}\n\nmine = dropping('mask', 'bias')\n")
    command = ["check", f"{file}:mine", "--as", API, "--seed", "1", "--cases", "24", "--dtypes", "float32"]
    assert main([*command, "--checks", "arguments", "--format", "json"]) == 1
    data = json.loads(capsys.readouterr().out)
    (finding,) = data["findings"]
    assert finding["cause"].endswith("`mask` is silently ignored beside `bias`")
    assert data["arguments"]["mask"] == "ignored"
    assert data["arguments"]["bias"] == "honoured"
    assert main(["replay", finding["replay"].split()[-1], "--alone"]) == 1
    assert "`mask` is silently ignored" in capsys.readouterr().out
    assert main([*command, "--checks", "arguments"]) == 1
    assert "query, key, value, bias, " in capsys.readouterr().out


def test_what_is_not_offered_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", f"{brought.__file__}:adapted", "--as", API, "--seed", "1", "--cases", "24", "--dtypes", "float32"]
    assert main([*command, "--checks", "arguments", "--format", "json"]) == 0
    became = json.loads(capsys.readouterr().out)["arguments"]
    assert {name for name, status in became.items() if status == "honoured"} == set(brought.NAMES)
    assert set(became.values()) == {"honoured", "refused"}


def test_a_flag_that_weights_hang_on_is_varied_with_its_weights() -> None:
    spec = builtin()["keras.layers.GroupQueryAttention"]
    for cases in arguments.cases(spec, "float32")[:1]:
        found = {v.argument: v for case in cases for v in arguments.variations(spec, case)}
    biased, plain = found["use_bias"], {weight.name for weight in spec.weights if weight.when is None}
    assert {name for name in biased.given if "kernel" in name or "bias" in name} == plain
    assert {name for name in biased.other if "bias" in name} == {
        f"{n}_bias" for n in ("query", "key", "value", "attention_output")
    }
    assert not any("gate" in name for name in found["use_gate"].other)
    assert set(found["use_gate"].other) < set(found["use_gate"].given)
