"""Compile the Pallas kernels for TPUs, gradients and all, on a machine that has none: what they take beside others.

    pip install "jax[tpu]"  # for libtpu, of the version that jax names
    python benchmarks/tpu.py [v5e:2x2 v6e:2x2]

Every function in bfloat16 at a head dim of 128, and in float32 at 64; then the peak of temporaries of causal attention, beside
jax.nn's and splash attention's. Exits with 1 where something does not compile. Results: benchmarks/results/tpu.json.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "tpu.json"
CHIPS = ("v5e:2x2", "v6e:2x2")
B, T, S, N, K = 2, 1000, 1330, 6, 2  # grouped heads, lengths that blocks do not divide
FOUND = importlib.util.find_spec("libtpu")
if FOUND is None or FOUND.origin is None:
    sys.exit('there is no libtpu here: pip install "jax[tpu]"')
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
os.environ["TPU_LIBRARY_PATH"] = str(Path(FOUND.origin).with_name("libtpu.so"))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from attnspec.generated.pallas_tpu.causal_gqa import causal_gqa  # noqa: E402
from attnspec.generated.pallas_tpu.gemma2 import gemma2  # noqa: E402
from attnspec.generated.pallas_tpu.jax_nn_dot_product_attention import dot_product_attention as jax_nn  # noqa: E402
from attnspec.generated.pallas_tpu.keras_ops_dot_product_attention import dot_product_attention as keras_ops  # noqa: E402
from attnspec.generated.pallas_tpu.longformer import longformer  # noqa: E402
from attnspec.generated.pallas_tpu.packed_documents import packed_documents  # noqa: E402
from attnspec.generated.pallas_tpu.torch_nn_functional_scaled_dot_product_attention import (  # noqa: E402
    scaled_dot_product_attention,
)

Measured = dict[str, Any]


def loss(function: Callable[..., jax.Array], **arguments: Any) -> Callable[..., jax.Array]:
    """What is differentiated: the sum of the output."""
    return lambda tensors, others: function(*tensors, **others, **arguments).astype(jnp.float32).sum()


def calls(dtype: str, width: int) -> Iterator[tuple[str, Callable[..., jax.Array], list[Any], dict[str, Any]]]:
    """Every function, with all that it may be given: name, loss, what it is differentiated by, the rest."""
    shape = jax.ShapeDtypeStruct
    tensors = [shape((B, length, heads, width), dtype) for length, heads in ((T, N), (S, K), (S, K))]
    heads_first = [shape((B, heads, length, width), dtype) for length, heads in ((T, N), (S, K), (S, K))]
    bias, mask = shape((1, N, T, S), dtype), shape((B, 1, 1, S), "bool")
    segments = {"query_segment_ids": shape((B, T), "int32"), "key_value_segment_ids": shape((B, S), "int32")}
    lengths = {f"{name}_seq_lengths": shape((B,), "int32") for name in ("query", "key_value")}
    yield "causal_gqa", loss(causal_gqa), tensors, {}
    yield "gemma2", loss(gemma2, left=300), tensors, {}
    yield "longformer", loss(longformer, left=300, right=20), tensors, {}
    yield "packed_documents", loss(packed_documents), tensors, segments
    yield "jax.nn", loss(jax_nn, local_window_size=(300, 0)), [*tensors, bias], {"mask": mask, **lengths}
    yield "keras.ops", loss(keras_ops, is_causal=True), [*tensors, bias], {"mask": mask}
    yield "torch", loss(scaled_dot_product_attention, enable_gqa=True), [*heads_first, shape((N, 1, S), dtype)], {}


def compiled(chip: str, name: str, function: Callable[..., jax.Array], tensors: list[Any], others: dict[str, Any]) -> Measured:
    """The gradient, for one device of that kind: seconds, and megabytes beside its arguments and results."""
    device = topologies.get_topology_desc(chip, platform="tpu").devices[0]
    mesh = Mesh(np.array([device]), ("x",))
    put = NamedSharding(mesh, PartitionSpec())
    given = jax.tree.map(lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=put), (tensors, others))
    found: Measured = {"chip": chip, "function": name, "dtype": str(tensors[0].dtype), "width": tensors[0].shape[-1]}
    started = time.perf_counter()
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            lowered = jax.jit(jax.grad(function)).lower(*given)
        memory = lowered.compile().memory_analysis()
    except Exception as error:
        return found | {"error": f"{type(error).__name__}: {error}"[:500]}
    return found | {
        "seconds": round(time.perf_counter() - started, 1),
        "temporary MB": round(memory.temp_size_in_bytes / 1e6, 1),
    }


def splash(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Splash attention with a causal mask, for tensors as the others have them."""
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((query.shape[1],) * 2)] * query.shape[2])
    kernel = splash_attention_kernel.make_splash_mha(mask, head_shards=1, q_seq_shards=1)
    first = (each.swapaxes(1, 2) for each in (query * query.shape[3] ** -0.5, key, value))
    output: jax.Array = jax.vmap(kernel)(*first)
    return output.swapaxes(1, 2)


def beside_others(chip: str) -> Iterator[Measured]:
    """Causal attention in bfloat16, 8 heads of 128."""
    others = {"causal_gqa": causal_gqa, "splash": splash}
    others["jax.nn, its own"] = lambda *tensors: jax.nn.dot_product_attention(*tensors, is_causal=True)
    for length in (2048, 16384):
        tensors = [jax.ShapeDtypeStruct((1, length, 8, 128), "bfloat16")] * 3
        for name, function in others.items():
            yield compiled(chip, name, loss(function), tensors, {}) | {"length": length}


def main(chips: list[str]) -> int:
    """Compile, print and write; the exit status."""
    every: list[Measured] = []
    for chip in chips:
        variants = chain.from_iterable(calls(dtype, width) for dtype, width in (("bfloat16", 128), ("float32", 64)))
        for each in chain((compiled(chip, *call) for call in variants), beside_others(chip)):
            print(json.dumps(each), flush=True)
            every.append(each)
    RESULTS.write_text(json.dumps({"jax": jax.__version__, "compiled": every}, indent=2) + "\n", encoding="utf-8")
    return int(any("error" in each for each in every))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(CHIPS)))
