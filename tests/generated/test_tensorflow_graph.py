"""What really runs: the graphs of generated TensorFlow hold no fused attention and never repeat a head."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

from builtin_calls import CALLS, JAX_NN, SDPA, function
from capabilities import Example

CUSTOM = ("custom", "attention", "flash", "cudnn", "fused", "mha", "pyfunc", "callback", "_onednn", "xlacustomcall")
SUMS_OF_PRODUCTS = {"Einsum", "MatMul", "BatchMatMulV2", "BatchMatMulV3"}
GROUPS, HEADS, KEYS, DEPTH = 4, 2, 5, 7
GROUPED: list[tuple[str, dict[str, Any]]] = [
    (SDPA, {"is_causal": True, "enable_gqa": True}),
    (JAX_NN, {"is_causal": True}),
    ("gemma2", {"left": 2}),
    ("causal_gqa", {}),
]
BLOCKWISE: list[tuple[str, dict[str, Any]]] = [("gemma2_blockwise", {"left": 2}), ("causal_gqa_blockwise", {})]
each_grouped = pytest.mark.parametrize(("name", "options"), GROUPED, ids=[name for name, _ in GROUPED])
Graph = Any


def graph_of(program: Callable[..., Any], *inputs: Any) -> Graph:
    return tf.function(program, autograph=False).get_concrete_function(*inputs).graph


def called(graph: Graph, operation: Any) -> Iterator[Graph]:
    """The graphs of the functions that an operation calls."""
    definitions = graph._functions  # by name, those that this graph's operations refer to
    names = [value.func.name for value in operation.node_def.attr.values() if value.HasField("func")]
    yield from (definitions[name].graph for name in names if getattr(definitions.get(name), "graph", None) is not None)


def operations(graph: Graph) -> Iterator[Any]:
    for operation in graph.get_operations():
        yield operation
        for inner in called(graph, operation):
            yield from operations(inner)


def made_from(graph: Graph, sources: set[int]) -> Iterator[Any]:
    """Tensors that hold a source, moved or cast but not yet multiplied with anything else; inside called functions too."""
    found, constant = set(sources), set()
    for operation in graph.get_operations():
        operands = [id(tensor) for tensor in operation.inputs]
        if all(operand in constant for operand in operands) and operation.type != "Placeholder":
            constant |= {id(tensor) for tensor in operation.outputs}
            continue
        for inner in called(graph, operation):
            passed = zip(inner.inputs, operands, strict=False)
            yield from made_from(inner, {id(tensor) for tensor, outer in passed if outer in found})
        if any(operand in found for operand in operands) and all(operand in found | constant for operand in operands):
            found |= {id(tensor) for tensor in operation.outputs}
            yield from operation.outputs


def size(tensor: Any) -> int:
    """How many elements a tensor has; a size that is known when the graph runs is a number of keys."""
    assert tensor.shape.rank is not None, f"{tensor.name} has a rank that is not known"
    return math.prod(KEYS if axis is None else axis for axis in tensor.shape.as_list())


def grouped_inputs(name: str) -> list[tf.Tensor]:
    """N = 8 and K = 2, all other sizes prime."""
    heads = {"query": GROUPS * HEADS, "key": HEADS, "value": HEADS}
    tensors = [tf.ones((1, KEYS if n != "query" else 3, h, DEPTH)) for n, h in heads.items()]
    return [tf.transpose(tensor, (0, 2, 1, 3)) for tensor in tensors] if name == SDPA else tensors


def with_gradients(attend: Callable[..., Any]) -> Callable[..., Any]:
    def program(*tensors: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total = tf.reduce_sum(attend(*tensors))
        return tape.gradient(total, tensors)

    return program


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_no_fused_attention_runs(call: Example) -> None:
    fixed, target = call.arguments({}, tf.constant), function(call.spec, "tensorflow")
    program = with_gradients(lambda *tensors: target(**dict(zip(call.shapes, tensors, strict=True)), **fixed))
    types = {operation.type for operation in operations(graph_of(program, *(tf.zeros(s) for s in call.shapes.values())))}
    assert types & SUMS_OF_PRODUCTS
    assert {kind for kind in types if any(word in kind.lower() for word in CUSTOM)} == set()


@pytest.mark.parametrize(("name", "options"), [*GROUPED, *BLOCKWISE], ids=lambda each: each if isinstance(each, str) else "")
def test_heads_are_never_repeated(name: str, options: dict[str, Any]) -> None:
    """Nothing that comes from key or value alone is larger than key or value."""
    inputs, attend = grouped_inputs(name), function(name, "tensorflow")
    graph = graph_of(lambda *at: attend(*at, **options), *inputs)
    for index in (1, 2):
        sizes = [size(tensor) for tensor in made_from(graph, {id(graph.inputs[index])})]
        assert max(sizes, default=0) <= size(inputs[index])


@each_grouped
def test_nothing_in_the_backward_pass_has_the_size_of_repeated_heads(name: str, options: dict[str, Any]) -> None:
    attend = function(name, "tensorflow")
    graph = graph_of(with_gradients(lambda *at: attend(*at, **options)), *grouped_inputs(name))
    sizes = {size(tensor) for operation in operations(graph) for tensor in operation.outputs}
    assert HEADS * KEYS * DEPTH in sizes
    assert GROUPS * HEADS * KEYS * DEPTH not in sizes


def test_nor_has_anything_that_xla_makes_of_it() -> None:
    """Inside the products too, which the graph does not show."""
    inputs = grouped_inputs("causal_gqa")

    def elements(attend: Callable[..., Any]) -> set[int]:
        program = tf.function(with_gradients(attend), jit_compile=True, autograph=False)
        text = program.experimental_get_compiler_ir(*inputs)(stage="optimized_hlo")
        return {math.prod(map(int, sizes.split(","))) for sizes in re.findall(r"f32\[([0-9,]+)\]", text)}

    found = elements(function("causal_gqa", "tensorflow"))
    assert HEADS * KEYS * DEPTH in found
    assert GROUPS * HEADS * KEYS * DEPTH not in found
    assert GROUPS * HEADS * KEYS * DEPTH in elements(repeating)


def repeating(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    key, value = (tf.repeat(tensor, GROUPS, axis=2) for tensor in (key, value))
    weights = tf.nn.softmax(tf.einsum("btnh,bsnh->bnts", query, key))
    return tf.einsum("bnts,bsnh->btnh", weights, value)


@pytest.mark.parametrize("attend", [repeating, tf.function(repeating)], ids=["plain", "inside a function"])
def test_the_walk_would_find_repeated_heads(attend: Callable[..., tf.Tensor]) -> None:
    inputs = grouped_inputs("causal_gqa")
    graph = graph_of(attend, *inputs)
    sizes = [size(tensor) for tensor in made_from(graph, {id(graph.inputs[1])})]
    assert max(sizes) == GROUPS * size(inputs[1])


def test_the_walk_would_find_what_is_not_tensorflows_own() -> None:
    def fused_attention(query: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda x: x, [query], tf.float32)

    types = {operation.type for operation in operations(graph_of(tf.function(fused_attention), tf.ones(3)))}
    assert any(word in kind.lower() for kind in types for word in CUSTOM)
