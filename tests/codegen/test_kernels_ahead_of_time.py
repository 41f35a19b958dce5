"""Kernels compiled for GPUs that are not there: matrix instructions, and registers that do not run over.

A pairwise choice of kernels, specs, head dims and chips; `make kernels-full` compiles all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ahead_of_time import JAX, SDPA, Choice, excesses, measured

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

CHOICES = [
    Choice("sm_90", "causal_gqa", "forward", 128),
    Choice("sm_90", "gemma2", "forward", 64, "bf16"),
    Choice("sm_90", "longformer", "query_gradient", 128),
    Choice("sm_90", "gemma2", "key_gradients", 128, "bf16"),
    Choice("sm_90", "causal_gqa", "key_gradients", 64, "bf16"),
    Choice("sm_90", "longformer", "key_gradients", 128),
    Choice("sm_90", "packed_documents", "query_gradient", 64),
    Choice("sm_80", "packed_documents", "forward", 64),
    Choice("sm_90", SDPA, "forward", 128, "bf16", ("attn_mask", "scale")),
    Choice("sm_90", JAX, "bias_gradient", 64, "fp16", ("bias", "mask", "scale")),
    Choice("sm_90", JAX, "key_gradients", 64, "bf16", ("bias", "scale", "is_causal", "key_value_seq_lengths", "left", "right")),
    Choice("sm_90", SDPA, "key_gradients", 64, "fp16", ("seed", "scale", "is_causal")),
    Choice("sm_100", "causal_gqa", "forward", 128, "bf16"),
    Choice("gfx942", "causal_gqa", "forward", 128, "bf16"),
    Choice("gfx942", "gemma2", "key_gradients", 64),
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: f"{c.chip}-{c.spec}-{c.kernel}-{c.width}-{c.dtype}")
def test_a_kernel_compiles_to_matrix_instructions_within_its_registers(choice: Choice, tmp_path: Path) -> None:
    assert list(excesses(choice, measured(choice, tmp_path))) == []
