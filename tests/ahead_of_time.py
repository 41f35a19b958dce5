"""Kernels compiled for GPUs that are not there, as they would be launched there: what they use, and what is too much."""

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

from triton import backends, compile, next_power_of_2
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from compiling import GENERATED

CHIPS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_MEMORY = {"sm_80": 166912, "sm_90": 232448, "sm_100": 232448, "gfx942": 65536}
MATRIX_INSTRUCTION = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma", "gfx942": "v_mfma"}
JAX, SDPA = "jax_nn_dot_product_attention", "torch_nn_functional_scaled_dot_product_attention"
IN_FLOAT32 = ("lse", "shares", "delta", "d_bias", "d_attn_mask")
INTEGERS = ("T", "S", "N", "G", "N_OWN", "BATCHES", "HEADS", "QUERIES", "KEYS", "left", "right", "global_tokens", "width")
# Tensors that come with their strides: of what, of how many axes.
OPERANDS = {"query_segment_ids": ("i64", 2), "key_value_segment_ids": ("i64", 2), "bias": ("", 4), "mask": ("i1", 4)}
OPERANDS |= {"attn_mask": ("", 4), "query_seq_lengths": ("i32", 1), "key_value_seq_lengths": ("i32", 1)}
# Tensors that come with their strides and their sizes, the first of which is 1.
TABLES = {"cu_seqlens_q": ("i32", 2), "cu_seqlens_k": ("i32", 2), "block_layout": ("i1", 4)}
NUMBERS = ("scale", "cap", "dropout_p")
ALWAYS = ("query_segment_ids", "key_value_segment_ids", "left", "right", "global_tokens", "scale", "cap")
ALWAYS += ("width", *TABLES)


@dataclass(frozen=True)
class Choice:
    """One kernel of one spec, and for what it is compiled."""

    chip: str
    spec: str
    kernel: str
    width: int
    dtype: str = "fp16"
    given: tuple[str, ...] = ALWAYS


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
    kernel = getattr(own, f"_{'forward' if choice.kernel == 'decode' else choice.kernel}_kernel")
    launches = own.LAUNCHES.get(choice.kernel, own.LAUNCHES["query_gradient"])
    size = 4 if choice.dtype == "fp32" else 2
    fitting = (launch for bytes_, widest, launch in launches if bytes_ == size and choice.width <= widest)
    block_t, block_s, warps, stages = next(fitting)
    stages = min(stages, 2) if choice.chip == "gfx942" else stages
    wide = next_power_of_2(choice.width)
    constants = {"H": choice.width, "V": choice.width, "BLOCK_T": block_t, "BLOCK_S": block_s, "BLOCK_H": wide, "BLOCK_V": wide}
    flags = {"is_causal": "is_causal" in choice.given, "ADDS_QUERIES": False, "ADDS_KEYS": False}
    signature = dict(_signature(kernel, choice))
    source = ASTSource(kernel, signature, *_known(kernel, signature, constants | flags))
    return compile(source, target=CHIPS[choice.chip], options={"num_warps": warps, "num_stages": stages})


def _signature(kernel: Any, choice: Choice) -> Iterator[tuple[str, Any]]:
    for parameter in kernel.params:
        name = parameter.name
        optional = name in (*OPERANDS, *ALWAYS, "seed")
        if parameter.is_constexpr or (optional and name not in choice.given):
            yield name, "constexpr"
        elif name in OPERANDS:
            dtype, axes = OPERANDS[name]
            yield name, (f"*{dtype or choice.dtype}", ("i32",) * (axes - 1) + ("constexpr",))
        elif name in TABLES:
            dtype, axes = TABLES[name]
            yield name, (f"*{dtype}", ("i32",) * (axes - 1) + ("constexpr",), ("constexpr",) + ("i32",) * (axes - 1))
        elif name.endswith("_strides"):
            yield name, ("i32", "i32", "i32", "constexpr")
        elif name in INTEGERS:
            yield name, "i32"
        elif name in NUMBERS:
            yield name, "fp32"
        elif name == "seed":
            yield name, "*i64"
        else:
            in_float32 = name in IN_FLOAT32 or (choice.kernel == "decode" and name == "output")  # a part, which is merged
            yield name, f"*{'fp32' if in_float32 else choice.dtype}"


def _known(kernel: Any, signature: dict[str, Any], constants: dict[str, int]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What is constant, None included; and what is a multiple of 16: pointers, strides and lengths."""
    constant: dict[Any, Any] = {}
    multiples: list[Any] = []
    for place, parameter in enumerate(kernel.params):
        name, kind = parameter.name, signature[parameter.name]
        if kind == "constexpr":
            constant[(place,)] = constants[name] if parameter.is_constexpr else None
        elif name in OPERANDS:
            last = len(kind[1]) - 1
            constant[(place, 1, last)] = 1
            multiples += [(place, 0), *((place, 1, axis) for axis in range(last))]
        elif name in TABLES:
            constant |= {(place, 1, len(kind[1]) - 1): 1, (place, 2, 0): 1}
        elif name.endswith("_strides"):
            constant[(place, 3)] = 1
            multiples += [(place, axis) for axis in range(3)]
        elif name in ("T", "S") or kind.startswith("*"):
            multiples.append((place,))
    return constant, {place: [["tt.divisibility", 16]] for place in multiples}


def resources(result: Any, folder: Path) -> dict[str, int]:
    """What ptxas says of a kernel: registers, and bytes of stack where they run over."""
    tool = Path(backends.__path__[0]) / "nvidia/bin/cuobjdump"
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(result.asm["cubin"])
    listed = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", listed.stdout)}


def measured(choice: Choice, folder: Path) -> dict[str, Any]:
    """What a compiled kernel uses: shared memory, its matrix instruction and, for NVIDIA, registers and bytes of stack."""
    result = compiled(choice)
    code = result.asm["amdgcn" if choice.chip == "gfx942" else "ptx"]
    found = {"shared": result.metadata.shared, "matrix": matrix_instruction(choice) in code}
    return found if choice.chip == "gfx942" else found | resources(result, folder)


def matrix_instruction(choice: Choice) -> str:
    """The chip's own; that of warp groups takes 64 rows or 128, more than decoding has."""
    return "mma.sync" if choice.kernel == "decode" and choice.chip != "gfx942" else MATRIX_INSTRUCTION[choice.chip]


def excesses(choice: Choice, used: dict[str, Any]) -> Iterator[str]:
    """What is over its limit. Registers and stack have theirs for sm_90, in half precision and up to head dim 128."""
    if used["shared"] > SHARED_MEMORY[choice.chip]:
        yield f"{used['shared']} bytes of shared memory"
    if not used["matrix"] and choice.dtype != "fp32":
        yield f"no {matrix_instruction(choice)}"
    if choice.chip == "sm_90" and choice.dtype != "fp32" and choice.width <= 128:
        if used["REG"] > 255:
            yield f"{used['REG']} registers"
        if used["STACK"] > (0 if choice.kernel in ("forward", "decode") else 32):
            yield f"{used['STACK']} bytes of stack"
