"""Kernels compiled for GPUs that are not there: matrix instructions, and registers that do not run over.

A pairwise choice of kernels, specs, head dims and chips; `make kernels-full` compiles all.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import triton_of_pallas
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
    Choice("sm_90", "gemma2", "decode", 128, "bf16"),
    Choice("sm_90", "variable_lengths", "key_gradients", 128, "bf16"),
    Choice("gfx942", "bigbird", "forward", 64),
    Choice("gfx942", "packed_documents", "decode", 64),
    Choice("sm_80", "packed_documents", "forward", 64),
    Choice("sm_90", SDPA, "forward", 128, "bf16", ("attn_mask", "seed", "scale")),
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


@pytest.mark.parametrize(("module", "function"), [("causal_gqa", "causal_gqa"), (JAX, "dot_product_attention")])
def test_kernels_of_pallas_compile_as_jax_lowers_them(module: str, function: str, tmp_path: Path) -> None:
    """The forward ones; one with a mask and where hidden keys share a row, in which conditions meet products."""
    import jax

    attention = getattr(importlib.import_module(f"attnspec.generated.pallas.{module}"), function)
    heads = [jax.ShapeDtypeStruct((2, 1000, n, 128), "bfloat16") for n in (8, 2, 2)]
    mask = {"mask": jax.ShapeDtypeStruct((2, 1, 1000, 1000), "bool")} if module == JAX else {}
    text = triton_of_pallas.exported(jax.jit(lambda mask, *heads: attention(*heads, **mask)), "cuda", mask, *heads)
    (kernel,) = triton_of_pallas.kernels(text).values()
    assert "wgmma.mma_async" in triton_of_pallas.compiled(*kernel, tmp_path).asm["ptx"]
