"""Lanes: what travels, what a batch gives back, and that a lane survives whatever a subject does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.lanes import lane as lane_module
from attnspec.harness.lanes.framework import framework
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.lanes.messages import Answer, Lost, Raised, Returned, Tensor, pack, unpack
from attnspec.harness.lanes.process import LaneMissing
from attnspec.harness.subjects import Subject, natives, user
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec

AWKWARD = Path(__file__).with_name("awkward_subjects.py")
SPEC = builtin()["jax.nn.dot_product_attention"]


def awkward(function: str, lane: str = "numpy") -> Subject:
    return user(f"{AWKWARD}:{function}", SPEC, lane)


def cases(count: int = 6, spec: Spec = SPEC, dtype: str = "float32") -> tuple[Case, ...]:
    return tuple(Case(configuration, seed) for seed, configuration in enumerate(pool(spec, dtype, count)))


def answers(lane: Lane, function: str, count: int = 4) -> list[Answer]:
    return [answer for (answer,) in lane.run(Job(SPEC, (awkward(function),), cases(count)))]


# -- what travels -------------------------------------------------------------------------------------------------

SOME_ARRAY = arrays_of.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int32, np.bool_]), arrays_of.array_shapes(min_dims=0, min_side=0)
)
TENSORS = st.dictionaries(st.text("abc", min_size=1), st.builds(Tensor, SOME_ARRAY, st.sampled_from(["float32", "bfloat16"])))
ANSWER = st.one_of(
    st.builds(Returned, TENSORS, TENSORS),
    st.builds(Raised, st.tuples(st.just("ValueError"), st.just("Exception")), st.text(), st.just("gradients")),
    st.builds(Lost, st.just("crashed"), st.text()),
)


@given(st.lists(ANSWER))
def test_answers_travel_without_loss(given_answers: list[Answer]) -> None:
    back = unpack(*pack(given_answers))
    assert len(back) == len(given_answers)
    for one, other in zip(given_answers, back, strict=True):
        if isinstance(one, Returned):
            assert isinstance(other, Returned)
            same_tensors(one.outputs, other.outputs)
            same_tensors(one.gradients, other.gradients)
        else:
            assert one == other


def same_tensors(one: object, other: object) -> None:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].array.dtype == other[name].array.dtype
        np.testing.assert_array_equal(one[name].array, other[name].array)


# -- a lane that works --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numpy_lane() -> Iterator[Lane]:
    with Lane("numpy", deadline=3.0) as lane:
        yield lane


def test_answers_come_per_case_in_the_order_of_the_subjects(numpy_lane: Lane) -> None:
    subjects = awkward("value_itself"), awkward("refuse")
    found = numpy_lane.run(Job(SPEC, subjects, cases(6)))
    assert len(found) == 6
    for case, (returned, raised) in zip(cases(6), found, strict=True):
        assert isinstance(raised, Raised)
        if isinstance(returned, Returned):
            np.testing.assert_array_equal(returned.outputs["output"].array, arrays(case, SPEC)["value"])


def test_the_versions_name_the_framework(numpy_lane: Lane) -> None:
    assert numpy_lane.versions == {"numpy": np.__version__}


def test_an_exception_is_an_answer(numpy_lane: Lane) -> None:
    answer = answers(numpy_lane, "refuse")[0]
    assert isinstance(answer, Raised)
    assert answer.types[:2] == ("NotImplementedError", "RuntimeError")
    assert str(answer) == "NotImplementedError: `anything` is not supported"


def test_a_subject_that_is_not_there_is_an_answer(numpy_lane: Lane) -> None:
    answer = answers(numpy_lane, "no_such_function")[0]
    assert isinstance(answer, Raised)
    assert answer.type == "AttributeError"


def test_a_wrong_number_of_values_is_an_answer(numpy_lane: Lane) -> None:
    answer = answers(numpy_lane, "two_values", 1)[0]
    assert str(answer) == "WrongCount: returned 2 value(s), expected 1: output"


def test_a_subject_that_writes_to_its_inputs_raises(numpy_lane: Lane) -> None:
    assert str(answers(numpy_lane, "scribble", 1)[0]) == "ValueError: assignment destination is read-only"


def test_printing_does_not_disturb_the_lane(numpy_lane: Lane) -> None:
    assert isinstance(answers(numpy_lane, "noisy", 1)[0], Returned)


def test_more_memory_than_allowed_is_an_exception(numpy_lane: Lane) -> None:
    answer = answers(numpy_lane, "hungry", 1)[0]
    assert isinstance(answer, Raised)
    assert answer.type == "MemoryError"


def test_gradients_come_from_the_vjp_beside_the_function(numpy_lane: Lane) -> None:
    ((answer,),) = numpy_lane.run(Job(SPEC, (awkward("value_itself"),), cases(1), gradient=True))
    assert isinstance(answer, Returned)
    given_arrays = arrays(cases(1)[0], SPEC)
    np.testing.assert_array_equal(answer.gradients["value"].array, given_arrays["d_output"])


def test_without_a_vjp_the_gradient_raises_and_says_where(numpy_lane: Lane) -> None:
    ((answer,),) = numpy_lane.run(Job(SPEC, (awkward("noisy"),), cases(1), gradient=True))
    assert answer == Raised(
        ("NotImplementedError", "RuntimeError", "Exception", "BaseException"),
        "no `<function>_vjp` beside the function",
        "gradients",
    )


def test_a_lane_needs_nothing_but_numpy(numpy_lane: Lane) -> None:
    answer = answers(numpy_lane, "imported", 1)[0]
    assert isinstance(answer, Raised)
    modules = answer.message.split()
    assert "numpy" in modules
    assert not {"hypothesis", "pydantic", "torch", "jax", "rich", "psutil"} & set(modules)


def test_forgotten_configurations_can_come_again(numpy_lane: Lane) -> None:
    numpy_lane.forget([case.configuration for case in cases(2)])
    assert len(answers(numpy_lane, "value_itself", 2)) == 2


def test_a_lane_that_cannot_start_again_says_so_and_stays_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lane("numpy") as lane:
        monkeypatch.setattr(lane._process, "_python", "/nowhere/python")
        assert all(isinstance(answer, Lost) for answer in answers(lane, "crash", 2))
        assert lane.gone == "there is no interpreter /nowhere/python"
        assert isinstance(lane.signature(awkward("crash")), Lost)
        lane.forget([case.configuration for case in cases(2)])
        lane.pardon()
        assert answers(lane, "value_itself", 1) == [lane_module.GIVEN_UP]


def test_a_job_is_collected_before_the_next_one(numpy_lane: Lane) -> None:
    job = Job(SPEC, (awkward("value_itself"),), cases(1))
    with pytest.raises(RuntimeError, match="no job was submitted"):
        numpy_lane.collect()
    numpy_lane.submit(job)
    with pytest.raises(RuntimeError, match="the last job was not collected"):
        numpy_lane.submit(job)
    numpy_lane.collect()


def test_signature_comes_from_the_lane(numpy_lane: Lane) -> None:
    found = numpy_lane.signature(awkward("crash_for_scale"))
    assert isinstance(found, dict)
    assert found["parameters"][3] == ["scale", "KEYWORD_ONLY", "None"]
    missing = numpy_lane.signature(awkward("no_such_function"))
    assert isinstance(missing, dict)
    assert missing["error"] == f"AttributeError: there is no `no_such_function` in {AWKWARD}."
    misspelt = numpy_lane.signature(awkward("crush"))
    assert isinstance(misspelt, dict)
    assert misspelt["error"].endswith('Did you mean "crash"?')


@pytest.mark.parametrize("hasty", [False, True])
def test_only_a_hasty_lane_compiles_in_haste(hasty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
    with Lane("numpy", hasty=hasty) as lane:
        (answer,) = answers(lane, "hasty", 1)
    assert isinstance(answer, Returned)
    assert answer.outputs["output"].array.any() == hasty


# -- a lane that does not -----------------------------------------------------------------------------------------


def test_a_crash_costs_its_own_case_only() -> None:
    with Lane("numpy") as lane:
        batch = cases(12)
        guilty = [dict(case.configuration.values).get("scale") is not None for case in batch]
        assert 0 < sum(guilty) < lane_module.PATIENCE + 6
        found = [answer for (answer,) in lane.run(Job(SPEC, (awkward("crash_for_scale"),), batch))]
        lost = [isinstance(answer, Lost) for answer in found]
        assert next(answer.how for answer in found if isinstance(answer, Lost)) == "crashed"
        assert lost[: guilty.index(True) + 1] == guilty[: guilty.index(True) + 1]
        assert lane.restarts >= 2  # the batch, then the case


def test_a_subject_that_always_crashes_is_given_up_and_the_others_go_on() -> None:
    with Lane("numpy") as lane:
        subjects = awkward("crash"), awkward("value_itself")
        found = lane.run(Job(SPEC, subjects, cases(6)))
        crashed = [answer for answer, _ in found if isinstance(answer, Lost) and answer.how == "crashed"]
        not_run = [answer for answer, _ in found if isinstance(answer, Lost) and answer.how == "not run"]
        assert (len(crashed), len(not_run)) == (lane_module.PATIENCE, 6 - lane_module.PATIENCE)
        assert not any(isinstance(answer, Lost) for _, answer in found)
        again = lane.run(Job(SPEC, subjects, cases(1)))
        assert again[0][0] == lane_module.GIVEN_UP


@pytest.mark.parametrize(("function", "how"), [("leave", "crashed"), ("hang", "hung")])
def test_leaving_and_hanging_are_lost_calls(function: str, how: str) -> None:
    with Lane("numpy", deadline=1.5) as lane:
        (answer,) = answers(lane, function, 1)
        assert isinstance(answer, Lost)
        assert answer.how == how
        assert isinstance(answers(lane, "value_itself", 1)[0], Returned)


def test_a_long_batch_is_no_hang() -> None:
    """Sixteen slow calls take longer than the deadline; the lane says in between that it is alive."""
    with Lane("numpy", deadline=1.5) as lane:
        batch = cases(4) * 4
        found = lane.run(Job(SPEC, (awkward("slow_but_alive"),), batch))
        assert not any(isinstance(answer, Lost) for (answer,) in found)
        assert lane.restarts == 0


def test_a_framework_that_is_not_installed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LaneMissing, match="no torch here"):
        Lane("torch").__enter__()


def test_an_interpreter_that_is_not_there_is_missing() -> None:
    with pytest.raises(LaneMissing, match="there is no interpreter /nowhere/python"):
        Lane("numpy", python="/nowhere/python").__enter__()


def test_an_interpreter_without_numpy_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c \'import sys; sys.modules["numpy"] = None; exec(sys.argv[-1])\' "$@"\n'
    )
    bare.chmod(0o755)
    with pytest.raises(LaneMissing, match="the process did not start: crashed"):
        Lane("numpy", python=str(bare)).__enter__()


def test_an_unknown_framework_is_named_beside_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"Expected a lane of numpy, torch, jax, .*keras-torch, r, triton, pallas, pallas_tpu, got 'mxnet'"
    ):
        framework("mxnet")


# -- other frameworks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "jax", "keras-tensorflow"])
def test_bfloat16_travels_as_float32_and_keeps_its_name(name: str) -> None:
    for module in name.split("-"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    batch = cases(3, dtype="bfloat16")
    with Lane(name) as lane:
        found = lane.run(Job(SPEC, (awkward("value_itself", name),), batch, gradient=True))
    for case, (answer,) in zip(batch, found, strict=True):
        if isinstance(answer, Returned):
            assert answer.outputs["output"].dtype == answer.gradients["value"].dtype == "bfloat16"
            np.testing.assert_array_equal(answer.outputs["output"].array, arrays(case, SPEC)["value"])
            np.testing.assert_array_equal(answer.gradients["value"].array, arrays(case, SPEC)["d_output"])
            assert not answer.gradients["query"].array.any()  # nothing depends on it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jax_computes_in_float64_only_when_asked(dtype: str) -> None:
    pytest.importorskip("jax")
    (subject,) = natives(SPEC)
    with Lane("jax") as lane:
        ((answer,),) = lane.run(Job(SPEC, (subject,), cases(1, dtype=dtype)))
    assert isinstance(answer, Returned)
    assert answer.outputs["output"].dtype == dtype
