"""The NumPy `vjp` of whole programs: values kept where they are overwritten, nothing that is not read, right slopes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnspec.spec.model import Spec
from by_hand import Arrays, central_differences, random_arrays
from compiling import backward_text, body_of, module_of, spec_of

SHAPES: dict[str, tuple[int, ...]] = {"query": (2, 3, 4, 3), "key": (2, 5, 2, 3), "value": (2, 5, 2, 6)}
TAIL = """
    [[output]]
    name = "output"
    tensor = "output"
    layout = "B T N V"

    [[precondition]]
    clause   = "heads-divide"
    requires = "K > 0 and N % K == 0"
    raises   = "ValueError"
    message  = "heads"
    source   = "ruled"
    violate  = { N = 3, K = 2 }
"""
CAPPED = """
    variant   = "capped_twice"
    summary   = "Two modifiers that overwrite the logits, and a window."
    modifiers = ["softcap", "square"]
    masks     = ["window"]
    [parameters]
    cap  = 2.0
    left = 1
    [modifier.square]
    logit = "logit * logit"
"""
PER_BATCH = """
    variant   = "per_batch"
    summary   = "A temperature per row of the batch, and a weight per key."
    modifiers = ["temperature", "key_weight"]
    [tensors]
    temperature = "B"
    key_weight  = "B S"
    [modifier.temperature]
    logit = "logit * temperature[b]"
    [modifier.key_weight]
    logit = "logit + log(1 + exp(key_weight[b,s]))"
"""
ALTERNATIVES = (
    """
    api     = "alternatives"
    form    = "function"
    owner   = "attnspec"
    summary = "A sink where one is given: two stages that define the same tensor under guards of their own."
    argument = [
      { name = "query", layout = "B T N H" },
      { name = "key", layout = "B S K H" },
      { name = "value", layout = "B S K V" },
      { name = "bias", default = "None", layout = "B|1 N|1 T|1 S|1" },
      { name = "sink", default = "None", layout = "N" },
    ]
    [[path]]
    name  = "only"
    stage = [
      { use = "score.dot" },
      { use = "modifier.bias", when = "bias is not None" },
      { use = "softmax.plain", when = "sink is None" },
      { use = "softmax.sink", when = "sink is not None" },
      { use = "combine.weighted" },
    ]
"""
    + TAIL
)
TWICE = (
    """
    api     = "twice"
    form    = "function"
    owner   = "attnspec"
    summary = "An optional bias that two stages read."
    argument = [
      { name = "query", layout = "B T N H" },
      { name = "key", layout = "B S K H" },
      { name = "value", layout = "B S K V" },
      { name = "bias", default = "None", layout = "B|1 N|1 T|1 S|1" },
    ]
    [[path]]
    name  = "only"
    stage = [
      { use = "score.dot" },
      { use = "modifier.bias", when = "bias is not None" },
      { clause = "modifier.gain", defines = "logit", rule = "logit * bias", when = "bias is not None" },
      { use = "softmax.plain" },
      { use = "combine.weighted" },
    ]
"""
    + TAIL
)
REPLACED = (
    """
    api     = "replaced"
    form    = "function"
    owner   = "attnspec"
    summary = "A stage that writes to an argument's own variable, under a guard."
    argument = [
      { name = "query", layout = "B T N H" },
      { name = "key", layout = "B S K H" },
      { name = "value", layout = "B S K V" },
      { name = "doubled", kind = "keyword-only", role = "flag", default = false },
    ]
    [[path]]
    name  = "only"
    stage = [
      { clause = "project.double", defines = "query", rule = "tanh(query) + query", when = "doubled" },
      { use = "score.dot" },
      { use = "softmax.plain" },
      { use = "combine.weighted" },
    ]
"""
    + TAIL
)


def assert_slopes(spec: Spec, arrays: dict[str, np.ndarray], **others: Any) -> None:
    """The vjp's gradients of `arrays`, and of nothing else, are central differences of the function."""
    module = module_of(spec, "numpy")
    function, vjp = getattr(module, spec.function_name), getattr(module, f"{spec.function_name}_vjp")
    d_output = np.random.default_rng(3).standard_normal(function(**arrays, **others).shape)

    def scalar(at: Arrays) -> float:
        return float((function(**at, **others) * d_output).sum())

    found = vjp(d_output, **arrays, **others)
    expected = central_differences(scalar, arrays)
    assert found.keys() == expected.keys()
    for name, slope in expected.items():
        assert found[name].shape == slope.shape, name
        np.testing.assert_allclose(found[name], slope, atol=1e-7, err_msg=name)


def test_a_value_that_is_overwritten_is_kept_for_the_stage_that_needs_it(tmp_path: Path) -> None:
    spec = spec_of(CAPPED, tmp_path)
    lines = body_of(backward_text(spec)).splitlines()
    before, cap = (
        lines.index("logits_before_softcap = logits"),
        lines.index("logits = cap * np.tanh(logits / cap)".replace("cap", "2.0")),
    )
    assert before < cap
    assert "d_logits = d_logits * logits_before_square + d_logits * logits_before_square" in "\n".join(lines)


def test_programs_with_kept_values_have_right_slopes(tmp_path: Path) -> None:
    assert_slopes(spec_of(CAPPED, tmp_path), random_arrays(0, **SHAPES))


def test_an_operand_is_summed_over_the_dims_that_it_lacks(tmp_path: Path) -> None:
    arrays = random_arrays(1, **SHAPES, temperature=(2,), key_weight=(2, 5))
    assert_slopes(spec_of(PER_BATCH, tmp_path), arrays)


@pytest.mark.parametrize("given", [(), ("bias",), ("sink",), ("bias", "sink")], ids=lambda given: "+".join(given) or "none")
def test_alternative_stages_pass_the_gradient_through_the_one_that_ran(given: tuple[str, ...], tmp_path: Path) -> None:
    optional = {"bias": (1, 4, 3, 1), "sink": (4,)}
    arrays = random_arrays(2, **SHAPES, **{name: optional[name] for name in given})
    assert_slopes(spec_of(ALTERNATIVES, tmp_path), arrays)


@pytest.mark.parametrize("given", [False, True])
def test_an_optional_tensor_that_is_read_twice_gets_both_gradients_or_none(given: bool, tmp_path: Path) -> None:
    arrays = random_arrays(4, **SHAPES, **({"bias": (2, 1, 3, 5)} if given else {}))
    assert_slopes(spec_of(TWICE, tmp_path), arrays)


@pytest.mark.parametrize("doubled", [False, True])
def test_an_argument_that_a_stage_may_replace_gets_the_gradient_of_what_was_read(doubled: bool, tmp_path: Path) -> None:
    spec = spec_of(REPLACED, tmp_path)
    assert_slopes(spec, random_arrays(5, **SHAPES), doubled=doubled)


def test_quotients_of_indices_have_right_slopes(tmp_path: Path) -> None:
    text = """
        variant   = "slanted"
        summary   = "A weight per key times its relative distance."
        modifiers = ["slanted"]
        [tensors]
        tilt = "B S"
        [modifier.slanted]
        logit = "logit + tilt[b,s] * (s - t) / S"
    """
    assert_slopes(spec_of(text, tmp_path), random_arrays(6, **SHAPES, tilt=(2, 5)))


def test_what_the_backward_pass_does_not_read_is_not_computed(tmp_path: Path) -> None:
    """Without the loss's value there is no need for the output, nor for the log-sum-exp."""
    forward, _, _ = body_of(backward_text(spec_of(CAPPED, tmp_path))).partition("# Backward")
    assert "combine.weighted" not in forward
    assert "output =" not in forward
    assert "weights_after_plain = weights" in forward


def test_dropout_has_no_vjp_and_says_why(tmp_path: Path) -> None:
    text = """
        api     = "dropping"
        form    = "function"
        owner   = "attnspec"
        summary = "Dropout on the weights."
        argument = [
          { name = "query", layout = "B T N H" },
          { name = "key", layout = "B S K H" },
          { name = "value", layout = "B S K V" },
          { name = "rate", kind = "keyword-only", role = "number", default = 0.0, examples = [0.0, 0.5] },
        ]
        [[path]]
        name  = "only"
        stage = [
          { use = "score.dot" },
          { use = "softmax.plain" },
          { use = "dropout.elementwise", when = "rate > 0" },
          { use = "combine.weighted" },
        ]
    """
    spec = spec_of(text + TAIL, tmp_path)
    vjp = module_of(spec, "numpy").dropping_vjp
    arrays = random_arrays(0, **SHAPES)
    with pytest.raises(NotImplementedError, match="vjp of dropout needs the mask that the forward call drew"):
        vjp(np.ones((2, 3, 4, 6)), **arrays, rate=0.5)
    assert_slopes(spec, arrays, rate=0.0)


def test_gradients_come_back_in_the_dtype_of_what_they_belong_to(tmp_path: Path) -> None:
    """Held in float32 on the way, rounded once at the end."""
    arrays = {name: array.astype(np.float16) for name, array in random_arrays(0, **SHAPES).items()}
    module = module_of(spec_of(CAPPED, tmp_path), "numpy")
    found = module.capped_twice_vjp(np.ones((2, 3, 4, 6), np.float16), **arrays)
    exact = module.capped_twice_vjp(np.ones((2, 3, 4, 6)), **{name: array.astype(float) for name, array in arrays.items()})
    for name, gradient in found.items():
        assert gradient.dtype == np.float16
        np.testing.assert_allclose(gradient, exact[name], rtol=2e-3, atol=2e-3)
