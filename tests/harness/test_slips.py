"""Slips: what kernels and ports get wrong beside the fields of a spec is named too, also at the ends of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, large, pool
from attnspec.harness.causes.search import Witness, explain
from attnspec.harness.causes.slips import slips
from attnspec.harness.lanes.messages import Returned, Tensor
from attnspec.harness.oracle import judge
from attnspec.harness.visible_changes import is_visible
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec

JAX, TORCH = "jax.nn.dot_product_attention", "torch.nn.functional.multi_head_attention_forward"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gemma2", "`modifier.softcap` only divides"),
        ("gemma2", "`modifier.softcap` only multiplies"),
        ("gemma2", "`modifier.softcap` cuts"),
        ("gemma2", "query heads are read as (G, K)"),
        (JAX, "`mask.window` has a right side of 0"),
        (JAX, "`bias` is transposed"),
        (JAX, "`bias` is taken of the batch row before"),
        (JAX, "keys from 16 on are not seen"),
        (JAX, "keys of the last, partial block of 16 are not seen"),
        (JAX, "queries of the last, partial block of 16 give zero"),
        (JAX, "head dims from 64 on are not multiplied"),
        (JAX, "`modifier.scale`: the scale is min(H, 16) ** -0.5"),
        (JAX, "keys from 128 on are the first ones again"),
        (JAX, "the softmax's sum takes the first 64 keys alone"),
        ("gemma2", "`modifier.softcap` is applied twice"),
        (TORCH, "`weight_mean` is that of the first head"),
        (TORCH, "`weight_mean` is the sum over heads"),
        (TORCH, "`project.key_bias` reads `in_proj_bias[0]`, declared `in_proj_bias[1]`"),
        (TORCH, "`in_proj_weight` has its heads interleaved"),
        (TORCH, "`out_proj_weight` is transposed"),
    ],
)
def test_a_slip_is_named(name: str, words: str) -> None:
    spec = builtin()[name]
    found = explain(spec, [next(_witnesses(spec, words))])
    assert any(cause.text.startswith(words) for cause in found.causes)


def _witnesses(spec: Spec, words: str) -> Iterator[Witness]:
    """Calls at which the slip shows, with the answers of who makes it."""
    for configuration in (*pool(spec, "float32", 24), *large(spec, "float32")):
        case = Case(configuration, 16)
        given = arrays(case, spec)
        for cause, changed in slips(spec, configuration):
            with suppress(ValueError):  # an axis that broadcasts has no other row
                if cause.text.startswith(words) and is_visible(spec, case, given, changed):
                    golds = judge(changed, case, given, False).outputs
                    tensors = {each: Tensor(gold.value.astype(np.float32), "float32") for each, gold in golds.items()}
                    yield Witness(case, Returned(tensors), "outputs")
