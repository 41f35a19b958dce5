"""Generated torch in place of the framework's own: signatures, errors, autocast, and the programs that call it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnspec.spec.loader import builtin
from builtin_calls import JAX_NN, SDPA, function

pytestmark = pytest.mark.xdist_group("torch")
sdpa = function(SDPA, "torch")
jax_nn = function(JAX_NN, "torch")
gemma2 = function("gemma2", "torch")
packed = function("packed_documents", "torch")
BOTH_FORMS = [(name, function(name, "torch")) for name in ("gemma2", "gemma2_blockwise")]


def bnth(heads: int = 4, length: int = 5, depth: int = 8, **options: Any) -> Tensor:
    return torch.zeros(2, heads, length, depth, **options)


def btnh(length: int = 5, heads: int = 4, depth: int = 8, **options: Any) -> Tensor:
    return torch.zeros(2, length, heads, depth, **options)


Q, X = bnth(), btnh()
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rank of query": (
        lambda: sdpa(Q[0, 0, 0], Q, Q),
        RuntimeError,
        "`query` must have shape (..., N, T, H) or (T, H), got (8,)",
    ),
    "head dim of key": (
        lambda: sdpa(Q, bnth(depth=7), Q),
        RuntimeError,
        "`key` must have shape (..., K, S, H) or (S, H), got (2, 4, 5, 7); H = 8 is bound by `query`",
    ),
    "length of value": (
        lambda: sdpa(Q, Q, bnth(length=3)),
        RuntimeError,
        "`value` must have shape (..., K, S, V) or (S, V), got (2, 4, 3, 8); S = 5 is bound by `key`",
    ),
    "heads of value": (
        lambda: sdpa(Q, bnth(2), Q, enable_gqa=True),
        RuntimeError,
        "`value` must have shape (..., K, S, V) or (S, V), got (2, 4, 5, 8); K = 2 is bound by `key`",
    ),
    "batch of key": (
        lambda: sdpa(Q, Q[:1].expand(3, -1, -1, -1), Q),
        RuntimeError,
        "`key` has leading axes (3,), which do not broadcast with (2,) of `query`",
    ),
    "length of a mask": (
        lambda: sdpa(Q, Q, Q, torch.zeros(6, 5)),
        RuntimeError,
        "`attn_mask` must have shape (..., N|1, T|1, S|1) or (T|1, S|1) or (S|1), got (6, 5); T = 5 is bound by `query`",
    ),
    "a mask that would add an axis": (
        lambda: sdpa(Q, Q, Q, torch.zeros(3, 1, 1, 5, 5)),
        RuntimeError,
        "`attn_mask` has leading axes (3, 1), which do not broadcast with (2,) of `query`",
    ),
    "integers": (
        lambda: sdpa(Q.long(), Q.long(), Q.long()),
        RuntimeError,
        "`query` must be floating, got dtype torch.int64",
    ),
    "an integer mask": (
        lambda: sdpa(Q, Q, Q, torch.ones(5, 5).long()),
        RuntimeError,
        "`attn_mask` must be bool or floating, got dtype torch.int64",
    ),
    "two dtypes": (
        lambda: sdpa(Q, Q.double(), Q),
        RuntimeError,
        "`key` must have the dtype of `query`, torch.float32, got torch.float64",
    ),
    "an array": (lambda: sdpa(np.zeros((2, 3)), Q, Q), TypeError, "`query` must be a Tensor, got ndarray"),
    "a scale in words": (lambda: sdpa(Q, Q, Q, scale="big"), TypeError, "`scale` must be a number, got 'big'"),
    "mask and causal": (
        lambda: sdpa(Q, Q, Q, torch.zeros(5, 5), is_causal=True),
        RuntimeError,
        "_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True",
    ),
    "heads that do not divide": (
        lambda: sdpa(Q, bnth(3), bnth(3), enable_gqa=True),
        RuntimeError,
        "Number of heads in key and value must divide the number of heads in query, got 4 and 3",
    ),
    "groups without the flag": (
        lambda: sdpa(Q, bnth(2), bnth(2)),
        RuntimeError,
        "key and value must have the 4 heads of query, or 1, unless enable_gqa=True; got 2",
    ),
    "no heads to divide by": (
        lambda: sdpa(Q, bnth(0), bnth(0), enable_gqa=True),
        RuntimeError,
        "Number of heads in key and value must divide the number of heads in query, got 4 and 0",
    ),
    "dropout beyond 1": (
        lambda: sdpa(Q, Q, Q, dropout_p=1.5),
        RuntimeError,
        "dropout probability has to be between 0 and 1, but got 1.5",
    ),
    "jax.nn: a mix of ranks": (
        lambda: jax_nn(X, X[0], X[0]),
        ValueError,
        "`key`, `value` must have the leading axes of `query`",
    ),
    "jax.nn: K and V of different length": (
        lambda: jax_nn(X, X, btnh(length=3)),
        ValueError,
        "`value` must have shape (B, S, K, H) or (S, K, H), got (2, 3, 4, 8); S = 5 is bound by `key`",
    ),
    "jax.nn: lengths of another batch": (
        lambda: jax_nn(X, X, X, key_value_seq_lengths=torch.tensor([1, 2, 3])),
        ValueError,
        "`key_value_seq_lengths` must have shape (B), got (3,); B = 2 is bound by `query`",
    ),
    "jax.nn: lengths that are no integers": (
        lambda: jax_nn(X, X, X, query_seq_lengths=torch.tensor([1.0, 2.0])),
        ValueError,
        "`query_seq_lengths` must be integer, got dtype torch.float32",
    ),
    "jax.nn: a mask that is not bool": (
        lambda: jax_nn(X, X, X, mask=torch.ones(1, 1, 5, 5)),
        ValueError,
        "`mask` must be bool, got dtype torch.float32",
    ),
    "jax.nn: a negative window": (
        lambda: jax_nn(X, X, X, local_window_size=(-1, 3)),
        ValueError,
        "`local_window_size` must hold sizes of 0 or more, got (-1, 3)",
    ),
    "jax.nn: a window of floats": (
        lambda: jax_nn(X, X, X, local_window_size=(1.0, 3)),
        TypeError,
        "`local_window_size` must be an int or a pair of ints, got (1.0, 3)",
    ),
    "jax.nn: a flag for a window": (
        lambda: jax_nn(X, X, X, local_window_size=True),
        TypeError,
        "`local_window_size` must be an int or a pair of ints, got True",
    ),
    "jax.nn: an unknown backend": (
        lambda: jax_nn(X, X, X, implementation="fast"),
        ValueError,
        "`implementation` must be None or one of 'xla', 'cudnn', got 'fast'",
    ),
    "segments of another batch": (
        lambda: packed(X, X, X, query_segment_ids=torch.zeros(1, 5).int(), key_value_segment_ids=torch.zeros(2, 5).int()),
        ValueError,
        "`query_segment_ids` must have shape (B, T), got (1, 5); B = 2 is bound by `query`",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_argument_is_named_with_what_it_should_be(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


@pytest.mark.parametrize(("name", "attend"), BOTH_FORMS, ids=[name for name, _ in BOTH_FORMS])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cap": 0.0}, ValueError, "`cap` must satisfy cap > 0, got 0.0"),
        ({"left": -1}, ValueError, "`left` must satisfy left >= 0, got -1"),
        ({"left": 2.5}, TypeError, "`left` must be an integer, got 2.5"),
        ({"left": True}, TypeError, "`left` must be an integer, got True"),
        ({"cap": False}, TypeError, "`cap` must be a number, got False"),
    ],
)
def test_parameters_of_a_variant_are_checked_in_both_forms(
    name: str, attend: Callable[..., Tensor], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        attend(X, X, X, **options)


FLASH_TAKES = {"heads of value", "length of value", "mask and causal", "no heads to divide by"}
"""What the framework's flash kernel takes on a CPU, against its documents."""


@pytest.mark.parametrize("name", [name for name in ERRORS if ":" not in name and "segments" not in name])
def test_what_the_framework_refuses_is_refused_with_the_same_type(name: str) -> None:
    """`except` clauses written for the framework still work."""
    call, error, _ = ERRORS[name]
    with mock.patch.dict(globals(), sdpa=functional.scaled_dot_product_attention):
        if name in FLASH_TAKES:
            call()
        else:
            with pytest.raises(error):
                call()


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if spec.form == "function"))
def test_the_signature_is_the_documented_one(name: str) -> None:
    spec = builtin()[name]
    kinds = {"positional": inspect.Parameter.POSITIONAL_OR_KEYWORD, "keyword-only": inspect.Parameter.KEYWORD_ONLY}
    parameters = inspect.signature(function(spec.module_name, "torch")).parameters.values()
    assert [(p.name, p.kind) for p in parameters] == [(a.name, kinds[a.kind]) for a in spec.arguments]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert defaults == {a.name: a.default for a in spec.arguments if not a.required}


def agrees(*arguments: Any, **options: Any) -> None:
    """The generated function gives what the framework's own gives."""
    expected = functional.scaled_dot_product_attention(*arguments, **options)
    torch.testing.assert_close(sdpa(*arguments, **options), expected, atol=2e-3, rtol=2e-3)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def test_the_documents_own_examples_run() -> None:
    """Both examples of `F.scaled_dot_product_attention`, with shorter sequences."""
    half = {"dtype": torch.float16}
    agrees(normal(8, 8, 16, 64, **half), normal(8, 8, 16, 64, **half), normal(8, 8, 16, 64, **half))
    agrees(normal(2, 32, 16, 64, **half), normal(2, 8, 16, 64, **half), normal(2, 8, 16, 64, **half), enable_gqa=True)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 8), (5, 8), (5, 6)),
        ((4, 3, 8), (4, 5, 8), (4, 5, 6)),
        ((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 5, 6)),
        ((2, 4, 3, 8), (4, 5, 8), (4, 5, 8)),
        ((2, 1, 4, 3, 8), (1, 3, 4, 5, 8), (4, 5, 8)),
        ((2, 4, 3, 8), (2, 1, 5, 8), (2, 1, 5, 8)),
        ((2, 4, 0, 8), (2, 4, 5, 8), (2, 4, 5, 8)),
        ((0, 4, 3, 8), (0, 4, 5, 8), (0, 4, 5, 8)),
        ((2, 4, 3, 8), (2, 4, 0, 8), (2, 4, 0, 8)),
    ],
    ids=str,
)
def test_every_shape_that_the_framework_takes_gives_the_same(shapes: tuple[tuple[int, ...], ...]) -> None:
    agrees(*(normal(*shape) for shape in shapes))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 1), (3, 5), (4, 3, 5), (1, 1, 5), (2, 1, 3, 5), (1, 4, 1, 5)], ids=str)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_every_mask_that_the_framework_takes_gives_the_same(shape: tuple[int, ...], kind: str) -> None:
    if len(shape) < 2:
        shape = (1, *shape)  # the framework wants two axes of a mask; one is a ruling of ours
    mask = normal(*shape)
    agrees(normal(2, 4, 3, 8), normal(2, 4, 5, 8), normal(2, 4, 5, 6), attn_mask=mask > 0 if kind == "bool" else mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_autocast_gives_the_dtype_that_the_framework_gives(dtype: torch.dtype) -> None:
    query = normal(2, 4, 5, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        expected = functional.scaled_dot_product_attention(query, query, query)
        assert sdpa(query, query, query).dtype == expected.dtype
        assert sdpa(query=query, key=query, value=query).dtype == expected.dtype
    assert sdpa(query, query, query).dtype == dtype


def test_autocast_brings_dtypes_together() -> None:
    """A cached key in bf16 and a query in float32: an error without autocast, none with it."""
    query, key = normal(2, 4, 5, 8), normal(2, 4, 5, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            sdpa(query, key, key), functional.scaled_dot_product_attention(query, key, key), atol=2e-2, rtol=2e-2
        )
        assert function("causal_gqa_blockwise", "torch")(query, key, key).dtype == torch.bfloat16


def test_a_transformer_layer_runs_on_it() -> None:
    """In training, where the layer calls `F.scaled_dot_product_attention`; output and gradients."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    x = normal(2, 5, 16).requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    padding = torch.tensor([[0.0, 0, 0, -torch.inf, -torch.inf], [0] * 5])

    def run() -> list[Tensor]:
        output = layer(x, src_mask=mask, src_key_padding_mask=padding)
        return [output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])]

    expected = run()
    with mock.patch.object(functional, "scaled_dot_product_attention", side_effect=sdpa) as called:
        found = run()
    assert called.call_count == 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"padded": True}], ids=str)
def test_multi_head_attention_runs_on_it(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 4)
    query, key = normal(3, 2, 16), normal(5, 2, 16)
    causal = {"is_causal": True, "attn_mask": nn.Transformer.generate_square_subsequent_mask(3)}
    arguments: dict[str, Any] = causal if "is_causal" in options else {}
    source = query if "is_causal" in options else key
    if "padded" in options:
        arguments = {"key_padding_mask": torch.tensor([[False] * 5, [False, False, True, True, True]])}
    expected, _ = layer(query, source, source, need_weights=False, **arguments)
    with mock.patch.object(functional, "scaled_dot_product_attention", side_effect=sdpa) as called:
        found, _ = layer(query, source, source, need_weights=False, **arguments)
    assert called.call_count == 1
    torch.testing.assert_close(found, expected)
