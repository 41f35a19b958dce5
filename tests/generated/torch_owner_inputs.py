"""The inputs with which torch tests its own attention, from its wheel: torch's and the generated one on each.

Prints, for the layer and for the function, how many inputs there are, how many torch's own answers, and how many the generated
one answers alike: outputs, gradients of inputs and weights, in training (with dropout, from one seed) and in evaluation.
"""

from __future__ import annotations

import itertools
import sys
import types
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any

sys.modules["expecttest"] = types.ModuleType("expecttest")  # torch's test helpers import it; the inputs need none of it
sys.modules["expecttest"].TestCase = unittest.TestCase  # type: ignore[attr-defined]

import torch  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

from attnspec.generated.torch.torch_nn_functional_multi_head_attention_forward import multi_head_attention_forward  # noqa: E402
from attnspec.generated.torch.torch_nn_multihead_attention import MultiheadAttention  # noqa: E402

Call = Callable[[], Any]


def of_the_layer() -> Iterator[tuple[Call, Call]]:
    """One call of each layer for every input, in training and in evaluation, with the same weights."""
    (info,) = (info for info in module_db if info.module_cls is torch.nn.MultiheadAttention)
    for training in (True, False):
        for given in info.module_inputs_func(info, "cpu", torch.float64, requires_grad=True, training=training):
            args, named = given.constructor_input.args, given.constructor_input.kwargs
            layers = [cls(*args, **named).double().train(training) for cls in (torch.nn.MultiheadAttention, MultiheadAttention)]
            layers[1].load_state_dict(layers[0].state_dict())
            yield tuple(answering(layer, given.forward_input, list(layer.parameters())) for layer in layers)  # type: ignore[misc]


def of_the_function() -> Iterator[tuple[Call, Call]]:
    """One call of each function for every sample."""
    (info,) = (info for info in op_db if info.name == "nn.functional.multi_head_attention_forward")
    samples = (info.sample_inputs("cpu", torch.float64, requires_grad=recorded) for recorded in (True, False))
    for sample in itertools.chain(*samples):  # without gradients there are more of them
        given = types.SimpleNamespace(args=(sample.input, *sample.args), kwargs=sample.kwargs)
        own = torch.nn.functional.multi_head_attention_forward
        yield answering(own, given, []), answering(multi_head_attention_forward, given, [])


def answering(function: Callable[..., Any], given: Any, weights: list[torch.Tensor]) -> Call:
    """A call that gives the outputs, and the gradients of the sum of their squares."""
    passed = [*given.args, *given.kwargs.values()]
    leaves = [each for each in passed if isinstance(each, torch.Tensor) and each.requires_grad] + weights

    def answer() -> Any:
        torch.manual_seed(0)
        outputs = [each for each in function(*given.args, **given.kwargs) if each is not None]
        if not leaves:
            return outputs
        loss = sum(each.square().sum() for each in outputs)
        return outputs, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    return answer


def report(name: str, pairs: Iterator[tuple[Call, Call]]) -> None:
    inputs = answered = alike = 0
    for own, ours in pairs:
        inputs += 1
        expected = own()
        answered += 1
        torch.testing.assert_close(ours(), expected, equal_nan=True)
        alike += 1
    print(f"{name}: {inputs} inputs, torch answers {answered}, the generated one {alike} alike")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    report("layer", of_the_layer())
    report("function", of_the_function())
