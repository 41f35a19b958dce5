"""Pallas kernels as jax lowers them for a GPU, without one: verified, and compiled by Triton.

Lowering and `jax.export` verify nothing: a kernel whose types do not fit would fail on the device that compiles it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax import export
from jax._src.interpreters.mlir import make_ir_context
from jax._src.lib.mlir import ir
from jax._src.pallas.triton.lowering import _new_ir_context

CALL = "__gpu$xla.gpu.triton"


def exported(function: Any, platform: str, *given: Any) -> str:
    """What a jitted function is for that platform."""
    unchecked = [export.DisabledSafetyCheck.custom_call(CALL)]
    return str(export.export(function, platforms=[platform], disabled_checks=unchecked)(*given).mlir_module())


def kernels(text: str) -> dict[str, tuple[str, int, int]]:
    """Of each kernel that is called its code, warps and stages. Raises ir.MLIRError where one is not valid."""
    with make_ir_context():
        module = ir.Module.parse(text)
        calls = [op for function in module.body for op in _operations(function.operation) if _is_kernel(op)]
        configurations = [op.attributes["mhlo.backend_config"] for op in calls]
        found = [(c["name"].value, c["ir"].value_bytes, c["num_warps"].value, c["num_stages"].value) for c in configurations]
    with _new_ir_context():
        return {name: (str(ir.Module.parse(code)), warps, stages) for name, code, warps, stages in found}


def _operations(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region:
            for each in block:
                yield each.operation
                yield from _operations(each.operation)


def _is_kernel(operation: Any) -> bool:
    return operation.name == "stablehlo.custom_call" and operation.attributes["call_target_name"].value == CALL


def compiled(code: str, warps: int, stages: int, folder: Path) -> Any:
    """The kernel for sm_90, by the Triton that is installed."""
    import triton
    from triton.backends.compiler import GPUTarget

    file = folder / "kernel.ttir"
    file.write_text(code, encoding="utf-8")
    return triton.compile(str(file), target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})
