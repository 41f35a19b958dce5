"""A Keras layer in its lane: the case's weights in place of its own, gradients for every one of them."""

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.checks.agreement import compare
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.lanes.messages import Returned
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import natives
from attnspec.spec.loader import builtin

SPEC = builtin()["keras.layers.GroupQueryAttention"]


def test_the_native_layer_is_judged_on_the_weights_of_a_case() -> None:
    native = next(subject for subject in natives(SPEC) if subject.lane == "keras-torch")
    assert (native.module, native.function) == ("keras.layers", "GroupQueryAttention")
    explicit = [c for c in pool(SPEC, "float32", 24) if dict(c.values).get("dropout", 0) > 0][:5]
    assert {dict(c.values).get("use_gate", False) for c in explicit} == {True, False}
    with Lane("keras-torch") as lane:
        cases = tuple(Case(configuration, 3) for configuration in explicit)
        answers = lane.run(Job(SPEC, (native,), cases, gradient=True))
        signature = lane.signature(native)
    for case, (answer,) in zip(cases, answers, strict=True):
        verdict = judge(SPEC, case, arrays(case, SPEC), True)
        assert isinstance(answer, Returned)
        assert answer.gradients.keys() >= {weight.name for weight in SPEC.weights if weight.when is None}
        for name, gold in verdict.outputs.items():
            assert compare(answer.outputs[name], gold).agrees
        for name, gold in verdict.gradients.items():
            assert compare(answer.gradients[name], gold).agrees, name
    assert [p[0] for p in signature["call"]] == [a.name for a in SPEC.arguments]
    assert [p[0] for p in signature["parameters"]] == [*(a.name for a in SPEC.constructor), "kwargs"]
