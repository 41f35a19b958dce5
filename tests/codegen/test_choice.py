"""Files that choose between the forms: by target, and by the size of a call."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from attnspec.codegen.blockwise.choice import DIRECT_UP_TO
from attnspec.codegen.blockwise.module import TARGETS as BLOCKWISE
from attnspec.codegen.blockwise.module import auto_module, blockwise_modules
from attnspec.codegen.module import module_text
from attnspec.codegen.targets import TARGETS
from attnspec.spec.loader import find
from by_hand import random_arrays
from compiling import ROOT, choosing_module_of, module_of

GEMMA2, PACKED = find("gemma2"), find("packed_documents")


def arrays(rows: int, keys: int = 4) -> dict[str, np.ndarray]:
    return random_arrays(rows, query=(1, rows, 4, 3), key=(1, keys, 2, 3), value=(1, keys, 2, 2))


def test_short_calls_are_taken_at_once_and_so_are_their_gradients() -> None:
    chosen, direct = choosing_module_of(GEMMA2, "numpy", 12), module_of(GEMMA2, "numpy")
    for rows, calls in ((3, 1), (4, 1)):
        given = arrays(rows)
        np.testing.assert_allclose(chosen.gemma2(**given, left=2), direct.gemma2(**given, left=2), atol=1e-14)
        assert chosen._direct.call_count == calls
        with (
            patch.object(chosen, "_backward", side_effect=AssertionError) if rows == 3 else patch.object(chosen, "_direct_vjp")
        ):
            found = chosen.gemma2_vjp(np.ones((1, rows, 4, 2)), **given, left=2)
        for name, slope in direct.gemma2_vjp(np.ones((1, rows, 4, 2)), **given, left=2).items():
            np.testing.assert_allclose(found[name], slope, atol=1e-14)


@pytest.mark.xdist_group("torch")
def test_short_calls_of_torch_are_taken_at_once() -> None:
    import torch

    chosen, direct = choosing_module_of(PACKED, "torch", 12), module_of(PACKED, "torch")
    for rows, calls in ((3, 1), (4, 1)):
        given = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays(rows).items()}
        ids = {"query_segment_ids": torch.zeros(1, rows, dtype=int), "key_value_segment_ids": torch.zeros(1, 4, dtype=int)}
        outputs = [module.packed_documents(**given, **ids) for module in (chosen, direct)]
        found, expected = (torch.autograd.grad(output.square().sum(), list(given.values())) for output in outputs)
        for one, other in zip((outputs[0], *found), (outputs[1], *expected), strict=True):
            torch.testing.assert_close(one, other)
        assert chosen._direct.call_count == calls


@pytest.mark.xdist_group("jax")
def test_short_calls_of_jax_are_taken_at_once() -> None:
    import jax

    chosen, direct = choosing_module_of(GEMMA2, "jax", 12), module_of(GEMMA2, "jax")
    for rows, calls in ((3, 1), (4, 1)):
        found, expected = (jax.jit(module.gemma2)(**arrays(rows)) for module in (chosen, direct))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert chosen._direct.call_count == calls


@pytest.mark.parametrize("target", BLOCKWISE)
def test_a_target_whose_loops_are_always_faster_has_nothing_else(target: str) -> None:
    with patch.dict(DIRECT_UP_TO, {target: 0}):
        assert [("blockwise", auto_module(GEMMA2, TARGETS[target]))] == list(blockwise_modules(GEMMA2, TARGETS[target]))


def test_what_has_no_loops_is_direct() -> None:
    bigbird = find("bigbird")
    assert auto_module(bigbird, TARGETS["torch"]) == module_text(bigbird, TARGETS["torch"])


def test_the_sizes_are_those_that_were_measured() -> None:
    path: Path = ROOT / "benchmarks" / "results" / "forms.json"
    measured = {name: each["direct_up_to"] for name, each in json.loads(path.read_text(encoding="utf-8")).items()}
    keras = min(measured.pop(name) for name in [*measured] if name.startswith("keras_"))
    assert {**measured, "keras": keras} == DIRECT_UP_TO
