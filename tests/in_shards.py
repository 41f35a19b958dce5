"""What is shared out over the devices that a host pretends to have, against the oracle's bound: a program of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 PALLAS_INTERPRET=1 python tests/in_shards.py TARGET CALL[/FAULT] ...

How many devices there are is decided when jax starts. Prints of every call the greatest error over its bound, by tensor; with a
fault planted, which has to be over 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.agreement import compare
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.lanes.messages import Tensor
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import generated, load
from attnspec.spec.loader import find
from attnspec.spec.model import Default, Spec

BY_POSITION, BY_ALL = (None, "s"), ("b", "s", "n")  # what of (B, T, N, H) is shared out
FLOATING = ("query", "key", "value")
IN_HASTE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Call:
    """Of (B, T, N, H) tensors; what else it is given, and whether that has an axis of T or S."""

    spec: str
    dtype: str
    sizes: tuple[int, ...]
    values: Mapping[str, Default] = field(default_factory=dict)
    integers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shards: tuple[str | None, ...] = BY_POSITION
    seed: int = 1

    def case(self, spec: Spec) -> Case:
        B, T, S, N, K, H, V = self.sizes
        floating = dict(zip(FLOATING, ((B, T, N, H), (B, S, K, H), (B, S, K, V)), strict=True))
        plans = {name: TensorPlan(shape, self.dtype) for name, shape in floating.items()}
        plans |= {name: TensorPlan(shape, "int32") for name, shape in self.integers.items()}
        sizes = tuple(zip("BTSNKHV", self.sizes, strict=True))
        return Case(Configuration(spec.name, self.dtype, sizes, tuple(self.values.items()), tuple(plans.items())), self.seed)


IDS = ("query_segment_ids", "key_value_segment_ids")
LENGTHS = ("query_seq_lengths", "key_value_seq_lengths")
CALLS = {
    "heads": Call("causal_gqa", "float32", (2, 10, 14, 4, 2, 8, 8), shards=BY_ALL),
    "causal": Call("causal_gqa", "float32", (1, 24, 40, 4, 2, 8, 6)),
    "capped": Call("gemma2", "bfloat16", (1, 40, 40, 4, 2, 8, 8), {"left": 9, "cap": 2.0}),
    "global": Call("longformer", "float16", (1, 40, 24, 2, 2, 8, 8), {"left": 4, "right": 3, "global_tokens": 7}),
    "documents": Call("packed_documents", "float32", (2, 24, 40, 2, 1, 8, 6), {}, {IDS[0]: (2, 24), IDS[1]: (2, 40)}),
    "lengths": Call(
        "jax.nn.dot_product_attention",
        "float32",
        (3, 40, 24, 2, 1, 8, 8),
        {"is_causal": True, "local_window_size": (5, 0)},  # rows that see nothing: hidden keys on every device share them
        dict.fromkeys(LENGTHS, (3,)),
    ),
}
SAVED = "(query, key, value, origin, *found), d_outputs"
FAULTS = {
    "keys-from-the-wrong-side": ("(device - i) % ", "(device + i) % "),
    "gradients-that-stay": ("_passed_on(((key, value), d_shard), axis)", "_passed_on((key, value), axis), d_shard"),
    "shards-that-weigh-alike": ("counts = _exponential(logs - base)", "counts = jnp.where(empty, 0.0, jnp.ones_like(logs))"),
    "the-last-shard-alone": ("return output + more, *rows", "return more, *rows"),
    "log-sum-exp-of-one-shard": (SAVED, SAVED.replace("*found", "found[0], _forward(query, key, value, origin, scale)[1]")),
    "positions-in-a-shard": ("whole_t = t + _first(origin, b, 0)", "whole_t = t"),
    "queries-of-the-first-shard": ("first = device * query.shape[1], ", "first = 0 * device, "),
}


def run(target: str, devices: int, *calls: str) -> dict[str, dict[str, float]]:
    """What this program prints."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PALLAS_INTERPRET": "1"}
    command = [sys.executable, __file__, target, *calls]
    ran = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def ring_gradients(module: ModuleType, name: str, mesh: Any) -> Any:
    """The gradients of packed documents or of causal attention in shards along `s` of a mesh that need not be there."""
    attend, shards = getattr(module, f"{name}_ring")("s"), jax.P(None, "s")

    def loss(floating: list[jax.Array], ids: dict[str, jax.Array]) -> jax.Array:
        own = jax.shard_map(
            lambda floating, ids: attend(*floating, **ids), mesh=mesh, in_specs=shards, out_specs=shards, check_vma=False
        )
        return own(floating, ids).astype(jnp.float32).sum()  # type: ignore[no-any-return]

    return jax.jit(jax.grad(loss))


def ratios(target: str, call: Call, fault: str = "") -> dict[str, float]:
    """Of the output and the gradients the greatest error over its bound."""
    spec = find(call.spec)
    case = call.case(spec)
    given = arrays(case, spec)
    cotangent = jnp.asarray(given.pop("d_output"), call.dtype)
    verdict = judge(spec, case, {**given, "d_output": np.asarray(cotangent, np.float32)}, True)
    tensors = {name: jnp.asarray(array, call.dtype if name in FLOATING else None) for name, array in given.items()}
    output, gradients = jax.jit(pulled(target, spec, call, fault), compiler_options=IN_HASTE)(tensors, cotangent)
    assert len(output.sharding.device_set) == len(jax.devices())
    found = {name: compare(tensor(value), verdict.gradients[name]).ratio for name, value in gradients.items()}
    return {"output": compare(tensor(output), verdict.outputs["output"]).ratio, **found}


def pulled(target: str, spec: Spec, call: Call, fault: str) -> Any:
    """The output and the gradients of query, key and value, from all devices."""
    subject = next(generated(spec, target))
    if fault:
        right, wrong = FAULTS[fault]
        text = Path(subject.module).read_text(encoding="utf-8")
        assert right in text, fault
        file = Path(mkdtemp()) / "faulty.py"
        file.write_text(text.replace(right, wrong), encoding="utf-8")
        subject = replace(subject, module=str(file))
    attend = vars(sys.modules[load(subject).function.__module__])[f"{spec.function_name}_ring"]("s")
    names = tuple(name for name in call.shards if name)
    rest = len(jax.devices()) // 2 ** (len(names) - 1)
    mesh = jax.make_mesh((rest, *(2 for _ in names[1:])), names, axis_types=(jax.sharding.AxisType.Auto,) * len(names))

    def own(floating: dict[str, Any], integers: dict[str, Any]) -> jax.Array:
        return attend(**floating, **integers, **call.values)  # type: ignore[no-any-return]

    shards = jax.P(*call.shards)
    specs = dict.fromkeys(FLOATING, shards), {n: shards if len(s) > 1 else jax.P() for n, s in call.integers.items()}
    everywhere = jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=shards, check_vma=False)

    def pull(tensors: dict[str, Any], cotangent: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        integers = {name: tensors[name] for name in call.integers}
        output, back = jax.vjp(lambda floating: everywhere(floating, integers), {name: tensors[name] for name in FLOATING})
        return output, back(cotangent)[0]

    return pull


def tensor(value: jax.Array) -> Tensor:
    """As lanes return it."""
    array = np.asarray(value)
    return Tensor(array.astype(np.float32) if value.dtype == jnp.bfloat16 else array, str(value.dtype))


if __name__ == "__main__":
    asked = [each.partition("/") for each in sys.argv[2:]]
    print(json.dumps({call + slash + fault: ratios(sys.argv[1], CALLS[call], fault) for call, slash, fault in asked}))
