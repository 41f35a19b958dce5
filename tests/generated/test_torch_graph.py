"""What really runs: the graphs of generated torch call no attention of the framework and never repeat a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from builtin_calls import BLOCKWISE, CALLS, SDPA, function
from by_hand import random_arrays
from capabilities import Example

pytestmark = pytest.mark.xdist_group("torch")
FUSED = ("scaled_dot_product", "flash", "attention", "mkldnn", "_sdpa")
GROUPS, HEADS = 4, 2
GROUPED = [
    ("torch_nn_functional_scaled_dot_product_attention", {"is_causal": True, "enable_gqa": True}),
    ("jax_nn_dot_product_attention", {"is_causal": True}),
    ("gemma2", {"left": 2}),
    ("causal_gqa", {}),
    ("gemma2_blockwise", {"left": 2}),
    ("causal_gqa_blockwise", {}),
]


def tensors(name: str) -> tuple[Tensor, ...]:
    """N = 8 and K = 2, all other sizes prime: a tensor that holds repeated heads is larger than any other."""
    rows, keys, depth = 3, 5, 7
    shapes = {"query": (1, rows, GROUPS * HEADS, depth), "key": (1, keys, HEADS, depth), "value": (1, keys, HEADS, depth)}
    arrays = random_arrays(0, **shapes).values()
    found = (torch.from_numpy(array) for array in arrays)
    return tuple(tensor.transpose(1, 2).contiguous() if name == SDPA else tensor for tensor in found)


def graph(attend: Callable[..., Tensor], *arguments: Tensor, backward: bool = False) -> GraphModule:
    """Every aten op of a call, and of its gradient."""

    def both(*at: Tensor) -> Any:
        if not backward:
            return attend(*at)
        leaves = [tensor.detach().requires_grad_() for tensor in at]
        return torch.autograd.grad(attend(*leaves).square().sum(), leaves)

    return make_fx(both)(*arguments)


def called(program: GraphModule) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def made_from(program: GraphModule, index: int) -> set[Node]:
    """The nodes that hold one argument, moved or cast but not yet multiplied with anything else."""
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    found = {inputs[index]}
    for node in program.graph.nodes:
        operands = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
        if operands and all(n in found for n in operands) and isinstance(node.meta.get("val"), Tensor):
            found.add(node)
    return found


@pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)
def test_no_attention_of_the_framework_runs(call: Example) -> None:
    given = call.arguments({}, torch.from_numpy)
    target = function(call.spec, "torch")
    inputs = [torch.from_numpy(array) for array in call.arrays().values()]
    program = graph(lambda *at: target(**dict(zip(call.shapes, at, strict=True)), **given), *inputs, backward=True)
    assert [name for name in called(program) if any(word in name for word in FUSED)] == []
    assert any("bmm" in name or "mm" in name for name in called(program))


@pytest.mark.parametrize(("name", "options"), GROUPED, ids=[name for name, _ in GROUPED])
def test_heads_are_never_repeated(name: str, options: dict[str, Any]) -> None:
    """Nothing that comes from key or value alone is larger than key or value: their heads serve their groups as they are."""
    inputs = tensors(name)
    program = graph(lambda *at: function(name, "torch")(*at, **options), *inputs)
    for index in (1, 2):
        nodes = made_from(program, index)
        assert len(nodes) > 1
        assert max(node.meta["val"].numel() for node in nodes) == inputs[index].numel()


@pytest.mark.parametrize(("name", "options"), GROUPED, ids=[name for name, _ in GROUPED])
def test_nothing_in_the_backward_pass_has_the_size_of_repeated_heads(name: str, options: dict[str, Any]) -> None:
    """Neither a key per query head nor its gradient: with S = 5 and H = 7 only repeated heads have 8 * 5 * 7 entries."""
    program = graph(lambda *at: function(name, "torch")(*at, **options), *tensors(name), backward=True)
    sizes = [n.meta["val"].numel() for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
    assert GROUPS * HEADS * 5 * 7 not in sizes


def test_the_walk_would_find_repeated_heads() -> None:
    """The same walk on attention that does repeat them."""

    def repeating(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = (x.repeat_interleave(GROUPS, dim=2) for x in (key, value))
        return torch.einsum("btnh,bsnh->bnts", query, key).softmax(-1) @ value.transpose(1, 2)

    inputs = tensors("causal_gqa")
    program = graph(repeating, *inputs)
    assert max(node.meta["val"].numel() for node in made_from(program, 1)) == GROUPS * inputs[1].numel()


def test_the_walk_would_find_the_frameworks_own() -> None:
    inputs = [torch.randn(1, 2, 3, 4) for _ in range(3)]
    program = graph(torch.nn.functional.scaled_dot_product_attention, *inputs, backward=True)
    assert any(word in name for name in called(program) for word in FUSED)
