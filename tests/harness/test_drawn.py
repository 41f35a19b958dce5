"""Calls with dropout: what is ignored there alone is found, as is a seed that is not looked at, or is not all that decides."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness.checks import arguments, dropout, related_calls, relations
from attnspec.harness.cli import main
from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes.messages import Answer, Array, Returned, Tensor
from attnspec.harness.subjects import generated, generated_folder
from attnspec.spec.loader import builtin

SDPA, LAYER = "torch.nn.functional.scaled_dot_product_attention", "keras.layers.Attention"
DROPPING = """
import sys

sys.path.insert(0, {folder!r})
from torch_nn_functional_scaled_dot_product_attention import scaled_dot_product_attention


def without_mask(query, key, value, attn_mask=None, dropout_p=0.0, **rest):
    attn_mask = None if dropout_p else attn_mask
    return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, **rest)
"""
LAYERS = """
import sys

sys.path.insert(0, {folder!r})
from keras_layers_attention import attention


def without_seed(params, inputs, mask=None, *, seed=None, **rest):
    return attention(params, inputs, mask, **rest)
"""


@pytest.mark.parametrize(
    ("source", "name", "api", "argument", "where"),
    [
        (DROPPING, "without_mask", SDPA, "attn_mask", "beside `dropout_p`"),
        (LAYERS, "without_seed", LAYER, "seed", "in every call"),
    ],
)
def test_what_is_ignored_where_weights_are_dropped_is_found_replayed_and_shown_by_its_script(
    source: str, name: str, api: str, argument: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dropping.py"
    file.write_text(source.format(folder=str(generated_folder() / "numpy")))
    command = ["check", f"{file}:{name}", "--as", api, "--framework", "numpy", "--seed", "1", "--cases", "8"]
    command += ["--gradient-cases", "0", "--dtypes", "float32", "--checks", "arguments", "--format", "full"]
    assert main(command) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["arguments"][argument] == "ignored"
    (finding,) = said["findings"]
    assert finding["cause"].endswith(f"`{argument}` is silently ignored {where}")
    script = said["evidence"][0]["script"]
    assert main(["replay", finding["replay"].split()[-1], "--alone"]) == 1
    (tmp_path / "shown.py").write_text(script)
    shown = subprocess.run([sys.executable, "shown.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["got", "True", "want", "False"]


@pytest.mark.parametrize("drawn", [1, 2])
def test_a_seed_that_is_not_all_that_decides_is_found(drawn: int) -> None:
    spec = builtin()[LAYER]
    cases = arguments.cases(spec, "float32")[0]
    (related,) = (each for case in cases for each in related_calls.relations(spec, case) if each.relation == dropout.SEEDED)
    draws = iter(np.arange(2) * (drawn - 1))

    def call(configuration: Configuration, given: Mapping[str, Array], **options: object) -> Answer:
        assert dict(configuration.values)["seed"] == 1
        return Returned({"output": Tensor(np.full((2, 15, 8), next(draws)), "float32")})

    found = list(relations.check(spec, next(generated(spec, "numpy")), call, related))
    assert [failure.clause for failure in found] == ["dropout-seed"] * (drawn - 1)
