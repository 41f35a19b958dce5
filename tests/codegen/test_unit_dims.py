"""An attention without heads: dims that a spec says are 1 leave no trace in what is compiled."""

import re

import pytest

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.keras_list_layer import inner_specs, is_list_layer
from attnspec.codegen.module import module_text
from attnspec.codegen.targets import TARGETS
from attnspec.codegen.unit_dims import without_unit_dims
from attnspec.spec.expression import to_text
from attnspec.spec.loader import builtin, loads
from attnspec.spec.model import Spec

SPEC = builtin()["keras.layers.Attention"]


def test_heads_are_gone_from_tensors_sizes_and_rules() -> None:
    spec = without_unit_dims(SPEC)
    assert spec.tensors["logit"] == ("B", "T", "S") and spec.tensors["value"] == ("B", "S", "V")
    assert not spec.sizes
    rules = {stage.clause: to_text(stage.expression) for stage in spec.paths[0].stages}
    assert rules["score.dot"] == "sum(h, query[b, t, h] * key[b, s, h])"
    assert rules["score.scaled_concat"] == "concat_score_weight * sum(h, tanh(scale * (query[b, t, h] + key[b, s, h])))"
    assert rules["combine.weighted"] == "sum(s, weight[b, t, s] * value[b, s, v])"


def test_a_spec_with_heads_stays_as_it_is() -> None:
    spec = builtin()["jax.nn.dot_product_attention"]
    assert without_unit_dims(spec) is spec


def spec_of(rule: str, **texts: str) -> Spec:
    """A headless function with one modifier, `logit` becoming `rule`."""
    return loads(
        f"""
        api = "headless"
        form = "function"
        owner = "attnspec"
        summary = "One head, and a slope for it."
        sizes = {{ N = "1", K = "1" }}
        argument = [
          {{ name = "query", layout = "B T H" }},
          {{ name = "key", layout = "B S H" }},
          {{ name = "value", layout = "B S V" }},
        ]
        output = [{{ name = "output", tensor = "output", layout = "B T V" }}]

        [[path]]
        name = "only"
        stage = [
          {{ use = "score.dot" }},
          {{ clause = "modifier.own", defines = "logit", rule = "{rule}" }},
          {texts.get("masks", "")}
          {{ use = "softmax.plain" }},
          {{ use = "combine.weighted" }},
        ]
        {texts.get("policies", "")}
        """
    )


def test_an_index_of_such_a_dim_is_0() -> None:
    spec = without_unit_dims(spec_of("logit * (n + 1) + sum(k, 2 * logit)".replace("sum(k, 2 * logit)", "n * s")))
    assert to_text(spec.paths[0].stages[1].expression) == "logit * (0 + 1) + 0 * s"
    text = module_text(spec, TARGETS["numpy"])
    assert '"bth,bsh->bts"' in text and not re.search(r"\b[NK]\b", text.split("# -- helpers")[0].partition("def ")[2])


FILL = """[path.policies]
"mask.fill" = { value = "add", with = "-1e9, in float16 -65504", source = "ruled" }
"empty_row" = { value = "rounded", source = "ruled" }"""


def test_a_number_is_added_once_so_masks_exclude_each_other() -> None:
    masks = '{ use = "mask.causal" }, { clause = "mask.even", defines = "attends", rule = "s % 2 == 0" },'
    with pytest.raises(LoweringError, match=r"headless: mask.even: where -1e9.* is added, it must exclude mask.causal"):
        module_text(spec_of("logit", masks=masks, policies=FILL), TARGETS["numpy"])
    module_text(spec_of("logit", masks='{ use = "mask.causal" },', policies=FILL), TARGETS["numpy"])


def test_a_fill_and_what_it_makes_of_empty_rows_belong_together() -> None:
    masks = '{ use = "mask.causal" },'
    with pytest.raises(LoweringError, match="'uniform' needs the fill -inf"):
        module_text(spec_of("logit", masks=masks, policies=FILL.replace("rounded", "uniform")), TARGETS["numpy"])


def test_its_hooks_for_keras_are_functions_of_their_own() -> None:
    assert is_list_layer(SPEC) and not is_list_layer(builtin()["keras.layers.GroupQueryAttention"])
    scores, applied = inner_specs(without_unit_dims(SPEC))
    assert [stage.kind for stage in scores.paths[0].stages] == ["score", "score", "score", "modifier"]
    assert [stage.kind for stage in applied.paths[0].stages] == ["score", "mask", "softmax", "dropout", "combine"]
    text = module_text(SPEC, TARGETS["keras"])
    assert 'ops.einsum("...th,...sh->...ts"' in text and "EinsumDense" not in text
