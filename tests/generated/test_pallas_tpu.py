"""Generated Pallas kernels for TPUs, lowered and interpreted: what the lane does not ask of them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax._src.mesh import AbstractDevice
from jax.sharding import AbstractMesh

import in_shards
from attnspec.codegen.blocks.table import SKIP, TEST, block_table
from attnspec.codegen.kernels.holes import blocks_of
from attnspec.codegen.write import changes
from attnspec.harness.arrays import arrays
from attnspec.harness.cases import pool
from attnspec.harness.checks.agreement import compare
from attnspec.harness.configuration import Case
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import Subject, generated, load
from attnspec.spec.loader import find
from compiling import SPECS

pytestmark = pytest.mark.xdist_group("jax")
KERNELS = ("_forward_kernel", "_query_gradient_kernel", "_key_gradients_kernel")
JAX_NN = "jax.nn.dot_product_attention"
SDPA = "torch.nn.functional.scaled_dot_product_attention"
IN_HASTE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("causal_gqa", {"scale": 0.5}),
    ("gemma2", {"scale": 0.5, "cap": 2.0, "left": 300}),
    ("longformer", {"scale": 0.5, "left": 300, "right": 20, "global_tokens": 3}),
]
each_call = pytest.mark.parametrize(("name", "arguments"), CALLS, ids=lambda value: value if isinstance(value, str) else "")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"attnspec.generated.pallas_tpu.{find(name).module_name}")


@contextmanager
def tpu(kind: str) -> Iterator[None]:
    """A TPU that is not there: lowering asks which one it is for."""
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=AbstractDevice(kind, 1, "tpu"))):
        yield


@each_call
@pytest.mark.parametrize(("dtype", "width", "kind"), [("float32", 64, "TPU v5 lite"), ("bfloat16", 128, "TPU v6 lite")])
def test_every_kernel_is_lowered_for_tpus(name: str, arguments: dict[str, Any], dtype: str, width: int, kind: str) -> None:
    """Those of the gradients too; nothing has a size of T x S, or an axis of 1 behind one of T."""
    query, key = (jax.ShapeDtypeStruct((2, length, heads, width), dtype) for length, heads in ((1000, 6), (1330, 2)))

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return getattr(module(name), find(name).function_name)(query, key, value, **arguments).astype(jnp.float32).sum()

    with tpu(kind):
        text = exported(loss, query, key, key)
    assert re.findall(r"x(?:1000|1024)x(?:1|128|1330|1536)x?[bf]", text) == []


def lowered(loss: Any, *tensors: Any, operands: int = 0) -> str:
    """The gradients of query, key, value and operands for TPUs."""
    return str(export.export(jax.jit(jax.grad(loss, range(3 + operands))), platforms=["tpu"])(*tensors).mlir_module())


def exported(loss: Any, *tensors: Any, operands: int = 0) -> str:
    """The same, with all their kernels."""
    text = lowered(loss, *tensors, operands=operands)
    kernels = [kernel for kernel in re.findall(r'kernel_name = "(\w+)"', text) if "_mask_" not in kernel]
    assert sorted(kernels) == sorted(KERNELS)
    return text


def test_a_sequence_in_shards_is_lowered_for_tpus() -> None:
    """The list of blocks is made on each device, which knows where its shard begins when the program runs."""
    mesh = AbstractMesh((8,), ("s",), abstract_device=AbstractDevice("TPU v5 lite", 1, "tpu"))
    floating = [
        jax.ShapeDtypeStruct((2, 8 * length, heads, 64), "bfloat16") for length, heads in ((1000, 6), (1330, 2), (1330, 2))
    ]
    with jax.sharding.use_abstract_mesh(mesh):
        ring = in_shards.ring_gradients(module("causal_gqa"), "causal_gqa", mesh)
        text = str(export.export(ring, platforms=["tpu"])(floating, {}).mlir_module())
    assert sorted(re.findall(r'kernel_name = "(\w+)"', text)) == sorted(KERNELS)
    assert text.count("stablehlo.collective_permute") == 2 + 4


@pytest.mark.parametrize("mask", [(2, 6, 1000, 1330), (6, 1, 1330)], ids=str)
def test_masks_and_biases_are_lowered_with_their_gradients(mask: tuple[int, ...]) -> None:
    """T x S is nowhere but in a bias and its gradient."""
    query, key = (jax.ShapeDtypeStruct((2, heads, length, 64), "bfloat16") for length, heads in ((1000, 6), (1330, 2)))

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
        return module(SDPA).scaled_dot_product_attention(query, key, value, mask, enable_gqa=True).sum().astype(jnp.float32)  # type: ignore[no-any-return]

    with_bias = exported(loss, query, key, key, jax.ShapeDtypeStruct(mask, "float32"), operands=1)
    assert "_attn_mask_gradient_kernel" in with_bias
    assert ("1000x1330x" in with_bias) == (mask[-2:] == (1000, 1330))
    assert "_attn_mask_gradient_kernel" not in exported(loss, query, key, key, jax.ShapeDtypeStruct(mask, "bool"))


def test_rows_that_see_nothing_are_lowered_with_kernels_of_their_own() -> None:
    """And so are lengths, beside a bias."""
    query, key = (jax.ShapeDtypeStruct((2, length, heads, 64), "bfloat16") for length, heads in ((1000, 6), (1330, 2)))
    lengths = jax.ShapeDtypeStruct((2,), "int32")

    def loss(
        query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, own: jax.Array, other: jax.Array
    ) -> jax.Array:
        given = {"query_seq_lengths": own, "key_value_seq_lengths": other, "local_window_size": (300, 0)}
        output, lse = module(JAX_NN).dot_product_attention(query, key, value, bias, return_residual=True, **given)
        return output.astype(jnp.float32).sum() + lse.sum()  # type: ignore[no-any-return]

    given = (query, key, key, jax.ShapeDtypeStruct((6, 1000, 1), "float32"), lengths, lengths)
    text = str(export.export(jax.jit(jax.grad(loss, range(4))), platforms=["tpu"])(*given).mlir_module())
    hidden = {"_hidden_kernel", "_hidden_gradient_kernel"}
    assert {*re.findall(r'kernel_name = "(\w+)"', text)} == {*KERNELS, *hidden, "_bias_gradient_kernel"}
    assert "1000x1330x" not in text


def test_batch_rows_share_the_gradient_of_a_bias_and_hidden_keys_a_row() -> None:
    """Interpreted; a sequence is as long as blocks are not, and a row sees nothing."""
    draw = np.random.default_rng(0)
    sizes = ((2, 17, 2, 6), (2, 13, 1, 6), (2, 13, 1, 6), (1, 2, 17, 13))
    query, key, value, bias = (draw.standard_normal(size, np.float32) for size in sizes)
    mask = draw.random((2, 1, 17, 13)) < 0.5
    mask[0, 0, 3] = False
    function = interpreted(JAX_NN)

    def pull(cotangent: jax.Array, *tensors: jax.Array) -> Any:
        return jax.vjp(lambda query, key, value, bias: function(query, key, value, bias, mask), *tensors)[1](cotangent)

    found = jax.jit(pull, compiler_options=IN_HASTE)(query, query, key, value, bias)
    wanted = load(next(generated(find(JAX_NN), "numpy"))).vjp(query, query, key, value, bias, mask)  # type: ignore[misc]
    for gradient, name in zip(found, ("query", "key", "value", "bias"), strict=True):
        np.testing.assert_allclose(gradient, wanted[name], atol=1e-5)


def interpreted(name: str) -> Any:
    """The function in small blocks, its kernels interpreted."""
    function = load(next(generated(find(name), "pallas_tpu"))).function
    vars(function).get("__wrapped__", function).__globals__["INTERPRET"] = True
    return function


def test_a_grid_is_as_long_as_documents_make_it() -> None:
    """Lowered, its steps are counted when it runs: those of the batch row that has most of them."""
    query, key = (jax.ShapeDtypeStruct((2, length, heads, 64), "bfloat16") for length, heads in ((1000, 6), (1330, 2)))
    segments = (jax.ShapeDtypeStruct((2, length), "int32") for length in (1000, 1330))

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, ids: jax.Array, others: jax.Array) -> jax.Array:
        found = module("packed_documents").packed_documents(
            query, key, value, query_segment_ids=ids, key_value_segment_ids=others
        )
        return found.astype(jnp.float32).sum()  # type: ignore[no-any-return]

    assert exported(loss, query, key, key, *segments)
    documents = jnp.asarray([[0] * 16 + [1] * 16 + [2] * 16, [0] * 48])
    given = documents, documents, None, 1.0
    (rows, columns, kinds), count = module("packed_documents")._steps(2, 48, 48, (16, 8), "rows", *given)
    assert count == 12  # below and on the diagonal
    assert list(zip(rows[0, :6], columns[0, :6], strict=True)) == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert not kinds[0, 6:].any()
    assert (kinds[1, :count] & module("packed_documents").SEEN).all()


@each_call
@pytest.mark.parametrize(("T", "S", "blocks"), [(700, 1330, (128, 256))])
def test_the_grid_has_the_blocks_that_are_seen_and_no_others(
    name: str, arguments: dict[str, Any], T: int, S: int, blocks: tuple[int, int]
) -> None:
    """Each once, by rows or by columns; and one where a result has none, which only writes it."""
    spec = find(name)
    masks = [stage for stage in spec.paths[0].stages if stage.kind == "mask"]
    table = block_table(blocks_of(spec, masks, True), {"T": T, "S": S, **arguments}, blocks)[0, 0]
    tested = table == TEST
    tested[-1, :] |= bool(T % blocks[0])
    tested[:, -1] |= bool(S % blocks[1])
    for by in ("rows", "columns"):
        steps, count = module(name)._steps(B=1, T=T, S=S, blocks=blocks, by=by, origin=None, **arguments)
        rows, columns, kinds = (each[0] for each in steps)
        owners, others = (rows, columns) if by == "rows" else (columns, rows)
        seen = kinds & module(name).SEEN > 0
        visited = list(zip(rows[seen], columns[seen], strict=True))
        assert count == len(kinds)
        assert sorted(visited) == list(zip(*np.nonzero(table != SKIP), strict=True))
        assert ((kinds[seen] & module(name).TESTED > 0) == tested[rows[seen], columns[seen]]).all()
        assert (others[~seen] == 0).all()
        edges = np.flatnonzero(np.diff(owners, prepend=-1, append=-1))
        assert (np.diff(owners) >= 0).all()
        assert (owners[edges[:-1]] == range(table.shape[by == "columns"])).all()
        assert (np.flatnonzero(kinds & module(name).FIRST) == edges[:-1]).all()
        assert (np.flatnonzero(kinds & module(name).LAST) == edges[1:] - 1).all()


def test_a_bias_has_its_gradient_in_every_block() -> None:
    """Seen or not: what is not seen is zero."""
    arguments = {"attn_mask": None, "origin": None, "seed": None, "dropout_p": 0.0, "is_causal": True, "scale": 1.0}
    (rows, columns, kinds), count = module(SDPA)._steps(B=1, T=40, S=20, blocks=(16, 8), by="blocks", **arguments)
    assert list(zip(rows[0], columns[0], strict=True)) == [(row, column) for row in range(3) for column in range(3)]
    assert count == 9
    assert (kinds & (module(SDPA).FIRST | module(SDPA).LAST) == 3).all()
    assert (kinds[0] & module(SDPA).SEEN > 0).tolist() == [True, True, False] + [True] * 6


def test_a_mapped_axis_is_one_more_of_the_grid() -> None:
    query, key = (jax.ShapeDtypeStruct((3, 2, length, heads, 64), "float32") for length, heads in ((1000, 6), (1330, 2)))
    mapped = jax.vmap(module("gemma2").gemma2)
    exported(lambda *tensors: mapped(*tensors).sum(), query, key, key)  # as many kernels as without


def test_numbers_per_head_and_dropout_are_lowered(tmp_path: Path) -> None:
    """What a head has of its own are scalars."""
    shape = jax.ShapeDtypeStruct
    tensors = [
        shape(size, "bfloat16") for size in ((2, 1000, 6, 64), (2, 1330, 2, 64), (2, 1330, 2, 64), (6,), (1, 6, 1000, 1330))
    ]
    biased = own("biased", tmp_path)
    biased.__globals__["LAUNCHES"] = module(SDPA).LAUNCHES

    def loss(
        query: jax.Array, key: jax.Array, value: jax.Array, slope: jax.Array, bias: jax.Array, mask: jax.Array
    ) -> jax.Array:
        return biased(query, key, value, slope=slope, bias=bias, mask=mask).astype(jnp.float32).sum()  # type: ignore[no-any-return]

    kernels = re.findall(r'kernel_name = "(\w+)"', lowered(loss, *tensors, shape((2, 6, 1000, 1330), "bool"), operands=2))
    assert sorted(kernels) == sorted((*KERNELS, "_slope_gradient_kernel", "_bias_gradient_kernel"))

    def dropped(query: jax.Array, key: jax.Array, value: jax.Array, seed: jax.Array) -> jax.Array:
        seeded = module(SDPA).scaled_dot_product_attention_seeded(seed)
        return seeded(query, key, value, dropout_p=0.1).astype(jnp.float32).sum()  # type: ignore[no-any-return]

    exported(dropped, *[shape((2, 6, 1000, 64), "bfloat16")] * 3, shape((), "int32"))


def test_a_sink_is_within_the_bound_and_so_is_its_gradient(tmp_path: Path) -> None:
    function, spec = own("sink", tmp_path), find(str(SPECS / "sink.toml"))
    function.__globals__["INTERPRET"] = True
    case = Case(pool(spec, "float32", 4)[3], 1)
    given = arrays(case, spec)
    verdict = judge(spec, case, given, True)
    cotangent = given.pop("d_output")

    def pull(tensors: dict[str, jax.Array]) -> Any:
        output, back = jax.vjp(lambda tensors: function(**tensors, **dict(case.configuration.values)), tensors)
        return output, back(cotangent)[0]

    output, gradients = jax.jit(pull, compiler_options=IN_HASTE)(given)
    assert gradients.keys() == {"query", "key", "value", "sink"}
    assert compare(in_shards.tensor(output), verdict.outputs["output"]).agrees
    assert all(compare(in_shards.tensor(each), verdict.gradients[name]).agrees for name, each in gradients.items())


def own(name: str, folder: Path) -> Any:
    """The function of a spec that is not built in, in small blocks."""
    changes([find(str(SPECS / f"{name}.toml"))], ["pallas_tpu"], folder, False).apply()
    return load(Subject(f"pallas_tpu:{name}", name, "pallas_tpu", str(folder / "pallas_tpu" / f"{name}.py"), name)).function


def test_what_is_shared_out_over_devices_is_within_the_bound_of_one() -> None:
    """A sequence in shards; heads too, by hand: `python tests/in_shards.py pallas_tpu heads` on four devices."""
    (ratios,) = in_shards.run("pallas_tpu", 2, "causal").values()
    assert ratios.keys() == {"output", "query", "key", "value"}
    assert all(ratio <= 1 for ratio in ratios.values())


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_sizes_of_none_have_zeros(T: int, S: int) -> None:
    query, key, value = (jnp.ones(size) for size in ((2, T, 2, 4), (2, S, 1, 4), (2, S, 1, 3)))
    output, pull = jax.vjp(module("causal_gqa").causal_gqa, query, key, value)
    assert output.shape == (2, T, 2, 3)
    assert not output.any()
    assert not any(gradient.any() for gradient in pull(output + 1))


def test_what_no_kernel_can_do_is_refused_with_the_reason() -> None:
    def called(dtype: str = "float32", H: int = 4, **arguments: Any) -> jax.Array:
        return module("causal_gqa").causal_gqa(*(jnp.ones((1, 3, 1, H), dtype) for _ in range(3)), **arguments)  # type: ignore[no-any-return]

    with pytest.raises(NotImplementedError, match="pallas_tpu: float16 is not supported; bfloat16 and float32 are"):
        called("float16")
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="pallas_tpu: jax_enable_x64 is not supported"):
        called()
    with pytest.raises(NotImplementedError, match="pallas_tpu: head dims 257 and 257 are not supported; 1 to 256 are"):
        called(H=257)
    with pytest.raises(NotImplementedError, match="a traced `scale` is not supported; it is a part of the kernels"):
        jax.jit(lambda scale: called(scale=scale))(0.5)
