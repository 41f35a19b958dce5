"""Kernels compiled for GPUs that are not there: matrix instructions, and registers that do not run over.

A pairwise choice of kernels, specs, head dims and chips, each as it would be launched there.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from triton import backends, compile, next_power_of_2
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from compiling import GENERATED

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

CHIPS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_MEMORY = {"sm_80": 166912, "sm_90": 232448, "gfx942": 65536}
POINTERS_IN_FLOAT32 = ("lse", "delta")


@dataclass(frozen=True)
class Choice:
    """One kernel of one spec, and for what it is compiled."""

    chip: str
    spec: str
    kernel: str
    width: int
    dtype: str = "fp16"


CHOICES = [
    Choice("sm_90", "causal_gqa", "forward", 128),
    Choice("sm_90", "gemma2", "forward", 64, "bf16"),
    Choice("sm_90", "longformer", "query_gradient", 128),
    Choice("sm_90", "gemma2", "key_gradients", 128, "bf16"),
    Choice("sm_90", "causal_gqa", "key_gradients", 64, "bf16"),
    Choice("sm_90", "longformer", "key_gradients", 128),
    Choice("sm_90", "packed_documents", "query_gradient", 64),
    Choice("sm_80", "packed_documents", "forward", 64),
    Choice("gfx942", "causal_gqa", "forward", 128, "bf16"),
    Choice("gfx942", "gemma2", "key_gradients", 64),
]


@cache
def module(spec: str) -> ModuleType:
    path = GENERATED / "triton" / f"{spec}.py"
    found = importlib.util.spec_from_file_location(f"kernels_of_{spec}", path)
    assert found is not None and found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


def compiled(choice: Choice) -> Any:
    """The kernel as `_launch` would have it for tensors that are dense in their last axis and aligned."""
    own = module(choice.spec)
    kernel = getattr(own, f"_{choice.kernel}_kernel")
    fitting = (launch for size, widest, launch in own.LAUNCHES[choice.kernel] if size == 2 and choice.width <= widest)
    block_t, block_s, warps, stages = next(fitting)
    stages = min(stages, 2) if choice.chip == "gfx942" else stages
    wide = next_power_of_2(choice.width)
    constants = {"H": choice.width, "V": choice.width, "BLOCK_T": block_t, "BLOCK_S": block_s, "BLOCK_H": wide, "BLOCK_V": wide}
    source = ASTSource(kernel, dict(_signature(kernel, choice.dtype)), *_known(kernel, constants))
    return compile(source, target=CHIPS[choice.chip], options={"num_warps": warps, "num_stages": stages})


def _signature(kernel: Any, dtype: str) -> Iterator[tuple[str, Any]]:
    scalars = {"scale": "fp32", "cap": "fp32"} | dict.fromkeys(("T", "S", "N", "G", "left", "right", "global_tokens"), "i32")
    for parameter in kernel.params:
        name = parameter.name
        if parameter.is_constexpr:
            yield name, "constexpr"
        elif name.endswith("_ids_strides"):
            yield name, ("i32", "constexpr")
        elif name.endswith("_ids"):
            yield name, "*i64"
        elif name.endswith("_strides"):
            yield name, ("i32", "i32", "i32", "constexpr")
        else:
            yield name, scalars.get(name) or f"*{'fp32' if name in POINTERS_IN_FLOAT32 else dtype}"


def _known(kernel: Any, constants: dict[str, int]) -> tuple[dict[Any, int], dict[Any, Any]]:
    """What is constant, and what is a multiple of 16: pointers, strides and lengths."""
    constant: dict[Any, int] = {}
    multiples: list[Any] = []
    for place, parameter in enumerate(kernel.params):
        if parameter.is_constexpr:
            constant[(place,)] = constants[parameter.name]
        elif parameter.name.endswith("_strides"):
            last = 1 if parameter.name.endswith("_ids_strides") else 3
            constant[(place, last)] = 1
            multiples += [(place, axis) for axis in range(last)]
        elif parameter.name in ("T", "S") or parameter.name not in ("N", "G", "scale", "cap", "left", "right", "global_tokens"):
            multiples.append((place,))
    return constant, {place: [["tt.divisibility", 16]] for place in multiples}


def resources(result: Any, folder: Path) -> dict[str, int]:
    """What ptxas says of a kernel: registers, and bytes of stack where they run over."""
    tool = Path(backends.__path__[0]) / "nvidia/bin/cuobjdump"
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(result.asm["cubin"])
    listed = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", listed.stdout)}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: f"{c.chip}-{c.spec}-{c.kernel}-{c.width}-{c.dtype}")
def test_a_kernel_compiles_to_matrix_instructions_within_its_registers(choice: Choice, tmp_path: Path) -> None:
    result = compiled(choice)
    assert result.metadata.shared <= SHARED_MEMORY[choice.chip]
    if choice.chip == "gfx942":
        assert "v_mfma" in result.asm["amdgcn"]
        return
    assert ("wgmma.mma_async" if choice.chip == "sm_90" else "mma.sync") in result.asm["ptx"]
    if choice.chip == "sm_90":
        used = resources(result, tmp_path)
        assert used["REG"] <= 255
        assert used["STACK"] <= (0 if choice.kernel == "forward" else 32)
