"""Generated R as its users call it, in R: NULL and doubles, logical masks, vectors, errors by class; and its values by hand."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from attnspec.codegen.module import covers
from attnspec.codegen.targets.r import R
from attnspec.harness.lanes.in_r import RFunction
from attnspec.spec.loader import builtin
from builtin_calls import CALLS, JAX_NN, SDPA, residual
from by_hand import random_arrays
from capabilities import Example
from in_r import PACKAGE, needs_r, run_r

pytestmark = needs_r

# Small arrays by name, and `attend`, jax.nn's function, for short.
SETTING = f"""
for (file in list.files("{PACKAGE}/R", full.names = TRUE)) source(file)
attend <- {JAX_NN}
sdpa <- {SDPA}
q <- array(seq(-1, 1, length.out = 24), c(1, 3, 4, 2))
k <- array(cos(1:20), c(1, 5, 2, 2))
v <- array(1:20, c(1, 5, 2, 2))
x <- array(sin(1:36), c(2, 3, 6))
y <- array(cos(1:60), c(2, 5, 6))
layer <- layer_group_query_attention
many <- layer_multi_head_attention
gqa <- keras_layers_group_query_attention
weights <- function(...) {{
  keras_layers_group_query_attention_init(6, head_dim = 4, num_query_heads = 4, num_key_value_heads = 2, ...)
}}
z <- array(sin(1:48), c(3, 2, 8))
mha <- function(params, ..., embed_dim = 8, num_heads = 2) {{
  torch_nn_multihead_attention(params, ..., embed_dim = embed_dim, num_heads = num_heads)
}}
init <- torch_nn_multihead_attention_init
dot <- keras_layers_attention
ones <- keras_layers_attention_init(use_scale = TRUE, score_mode = "concat")
same <- function(x, y) isTRUE(all.equal(x, y, tolerance = 1e-14))
"""


@dataclass(frozen=True)
class Said:
    """R code, and what it prints; for an error its first class and its message."""

    id: str
    code: str
    prints: str


SAID = [
    Said("a layer without heads", "dim(dot(list(), list(x, y)))", "c(2L, 3L, 6L)"),
    Said("weights that are numbers", "unlist(ones)", "c(scale = 1, concat_score_weight = 1)"),
    Said(
        "a plain number is one too",
        'same(dot(list(scale = 2), list(x, y), use_scale = TRUE), dot(list(), list(2 * x, y, y)))',
        "TRUE",
    ),
    Said("a list may lack members", "same(dot(list(), list(x, y), list(NULL, NULL)), dot(list(), list(x, y)))", "TRUE"),
    Said("rows of a query that is padding", "sum(abs(dot(list(), list(x, y), list(array(FALSE, c(2, 3)), NULL))))", "0"),
    Said(
        "one of several choices",
        'dot(list(), list(x, y), score_mode = "product")',
        "ValueError: Invalid value for argument score_mode. Expected one of {'dot', 'concat'}. "
        "Received: score_mode=product",
    ),
    Said("shape of the query", "dim(attend(q, k, v))", "c(1L, 3L, 4L, 2L)"),
    Said("arguments by name", "same(attend(value = v, key = k, query = q), attend(q, k, v))", "TRUE"),
    Said("NULL is absent", "same(attend(q, k, v, bias = NULL, mask = NULL, scale = NULL), attend(q, k, v))", "TRUE"),
    Said("doubles for sizes", "same(attend(q, k, v, local_window_size = 1), attend(q, k, v, local_window_size = 1L))",
         "TRUE"),
    Said("two sizes", "same(attend(q, k, v, local_window_size = c(1, 1)), attend(q, k, v, local_window_size = 1))",
         "TRUE"),
    Said("doubles for lengths",
         "same(attend(q, k, v, key_value_seq_lengths = 3), attend(q, k, v, key_value_seq_lengths = 3L))",
         "TRUE"),
    Said("doubles for segments",
         "dim(packed_documents(q, k, v, array(c(0, 0, 1), c(1, 3)), array(c(0, 0, 1, 1, 1), c(1, 5))))",
         "c(1L, 3L, 4L, 2L)"),
    Said("integers for numbers", "same(attend(q, k, v), attend(q, k, v + 0))", "TRUE"),
    Said("a mask of one is no scalar", "same(attend(q, k, v, mask = array(TRUE, c(1, 1, 1, 1))), attend(q, k, v))",
         "TRUE"),
    Said("a vector is one axis",
         "e <- diag(2); same(sdpa(e, e, e, attn_mask = c(TRUE, FALSE)), cbind(c(1, 1), c(0, 0)))",
         "TRUE"),
    Said("grouped heads", "n <- c(1, 1, 2, 2); "
         "same(attend(q, k, v), attend(q, k[, , n, , drop = FALSE], v[, , n, , drop = FALSE]))", "TRUE"),
    Said("no batch axis", "same(attend(q[1, , , ], k[1, , , ], v[1, , , ]), attend(q, k, v)[1, , , ])", "TRUE"),
    Said("logical masks, TRUE attends", "m <- array(c(TRUE, FALSE, TRUE, TRUE, TRUE), c(1, 1, 1, 5)); "
         "same(attend(q, k, v, mask = m), attend(q, k[, -2, , , drop = FALSE], v[, -2, , , drop = FALSE]))", "TRUE"),
    Said("an empty row, jax", "m <- array(FALSE, c(1, 1, 3, 5)); as.vector(attend(q, k, v, mask = m))[c(1, 4, 7, 10)]",
         "c(3, 3, 8, 8)"),
    Said("an empty row, torch", "unique(c(sdpa(diag(2), diag(3)[, 1:2], diag(3), attn_mask = array(FALSE, c(2, 3)))))",
         "0"),
    Said("weights of one key", "unique(as.vector(attend(q, k[, 1, , , drop = FALSE], v[, 1, , , drop = FALSE])))",
         "c(1, 6, 11, 16)"),
    Said("two values are a named list", "names(attend(q, k, v, return_residual = TRUE))", 'c("output", "residual")'),
    Said("axes of the residual", "dim(attend(q, k, v, return_residual = TRUE)$residual)", "c(1L, 3L, 4L)"),
    Said("dropout is drawn by set.seed",
         "p <- function() { set.seed(1); sdpa(diag(9), diag(9), diag(9), dropout_p = 0.5) }; "
         "same(p(), p()) && mean(p() == 0) > 0.2 && mean(p() == 0) < 0.8", "TRUE"),
    Said("arguments are left as they were", "before <- q; attend(q, k, v, is_causal = TRUE); same(before, q)", "TRUE"),
    Said("NA in a mask", "attend(q, k, v, mask = array(NA, c(1, 1, 1, 1)))",
         "ValueError: `mask` must not hold NA; element 1 of 1 does"),
    Said("NA in numbers", "q[3] <- NA; attend(q, k, v)", "ValueError: `query` must not hold NA; element 3 of 24 does"),
    Said("NaN is a number", "v[1] <- NaN; sum(is.nan(attend(q, k, v)))", "6L"),
    Said("NA for a flag", "attend(q, k, v, is_causal = NA)", "TypeError: `is_causal` must be TRUE or FALSE, got NA"),
    Said("a number for a mask", "attend(q, k, v, mask = array(1, c(1, 1, 1, 1)))",
         "ValueError: `mask` must be logical, got double"),
    Said("integers for a mask that may be added", "sdpa(diag(2), diag(2), diag(2), attn_mask = matrix(1L, 2, 2))",
         "RuntimeError: `attn_mask` must be logical or double, got integer"),
    Said("half a length", "attend(q, k, v, key_value_seq_lengths = 2.5)",
         "ValueError: `key_value_seq_lengths` must hold whole numbers"),
    Said("half a window", "attend(q, k, v, local_window_size = 1.5)",
         "TypeError: `local_window_size` must be a whole number or two of them, got 1.5"),
    Said("three sizes", "attend(q, k, v, local_window_size = 1:3)",
         "TypeError: `local_window_size` must be a whole number or two of them, got 1:3"),
    Said("a negative window", "attend(q, k, v, local_window_size = -1)",
         "ValueError: `local_window_size` must hold sizes of 0 or more, got (-1, -1)"),
    Said("two scales", "attend(q, k, v, scale = c(1, 2))", "TypeError: `scale` must be a number, got c(1, 2)"),
    Said("a choice", 'attend(q, k, v, implementation = "flash")',
         'ValueError: `implementation` must be NULL or one of "xla", "cudnn", got "flash"'),
    Said("an axis that does not fit", "attend(q, k[, , , 1, drop = FALSE], v)",
         "ValueError: `key` must have shape (B, S, K, H) or (S, K, H), got (1, 5, 2, 1); H = 2 is bound by `query`"),
    Said("axes that R dropped", "attend(q, k[1, , 1, ], v)",
         "ValueError: `key` must have shape (B, S, K, H) or (S, K, H), got (5, 2)"),
    Said("only some without a batch axis", "attend(q[1, , , ], k, v)",
         "ValueError: `query` must have the leading axes of `key`, `value`"),
    Said("heads that do not divide", "attend(q[, , 1:3, , drop = FALSE], k, v)",
         "ValueError: The number of query heads must be a multiple of key/value heads, but got 3 vs 2"),
    Said("a table", "attend(data.frame(a = 1), k, v)", "ValueError: `query` must be numeric, got data.frame"),
    Said("an argument that is missing", "attend(q, k)", 'simpleError: argument "value" is missing, with no default'),
    Said("an argument that is unknown", "attend(q, k, v, causal = TRUE)",
         "simpleError: unused argument (causal = TRUE)"),
    Said("torch's own error", "sdpa(q, k, v, attn_mask = TRUE, is_causal = TRUE, enable_gqa = TRUE)",
         "RuntimeError: _scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"),
    Said("no query", "dim(attend(q[, 0, , , drop = FALSE], k, v, is_causal = TRUE))", "c(1L, 0L, 4L, 2L)"),
    Said("no key", "e <- k[, 0, , , drop = FALSE]; a <- attend(q, e, e, return_residual = TRUE); "
         "c(range(a$output), unique(c(a$residual)))", "c(0, 0, -Inf)"),
    Said("no batch", "dim(causal_gqa(q[0, , , , drop = FALSE], k[0, , , , drop = FALSE], v[0, , , , drop = FALSE]))",
         "c(0L, 3L, 4L, 2L)"),
    Said("no heads", "e <- k[, , 0, , drop = FALSE]; causal_gqa(q, e, e)",
         "ValueError: the 4 heads of query must be a multiple of the 0 heads of key and value"),
    Said("NULL for an array", "causal_gqa(NULL, k, v)", "ValueError: `query` must be numeric, got NULL"),
    Said("a layer composes", "dim(list(x, y) |> layer(4, 4, 2))", "c(2L, 3L, 6L)"),
    Said("a layer on one array",
         "set.seed(1); a <- x |> layer(4L, 4L, 2L); set.seed(1); same(a, list(x, x) |> layer(4, 4, 2))", "TRUE"),
    Said("without arrays, the layer itself",
         "f <- layer(, 4, 4, 2); is.function(f) && same(f(list(x, y)), f(list(x, y)))", "TRUE"),
    Said("another layer has other weights",
         "same(list(x, y) |> layer(4, 4, 2), list(x, y) |> layer(4, 4, 2))", "FALSE"),
    Said("inputs by name", "p <- weights(use_gate = TRUE); f <- layer(, 4, 4, 2, use_gate = TRUE, params = p); "
         "same(f(list(key = y, query = x, value = 2 * y)), f(list(x, 2 * y, y)))", "TRUE"),
    Said("weights are explicit", "p <- weights(); same(list(x, y) |> layer(4, 4, 2, params = p), "
         "gqa(p, x, y, head_dim = 4, num_query_heads = 4, num_key_value_heads = 2))", "TRUE"),
    Said("arguments of the call",
         "a <- list(x, y) |> layer(4, 4, 2, return_attention_scores = TRUE, use_causal_mask = TRUE); "
         "c(dim(a$attention_scores), sum(a$attention_scores[, , 1, -1]))", "c(2, 4, 3, 5, 0)"),
    Said("arguments of a later call", "f <- layer(, 4, 4, 2); names(f(list(x, y), return_attention_scores = TRUE))",
         'c("output", "attention_scores")'),
    Said("settings that keras3 1.0.0 lacked",
         "a <- list(x, y) |> layer(4, 4, 2, sliding_window = 1, return_attention_scores = TRUE); "
         "a$attention_scores[1, 1, , ] %*% rep(1, 5)", "structure(c(1, 1, 1), dim = c(3L, 1L))"),
    Said("initialisers",
         'all((list(x, y) |> layer(4, 4, 2, kernel_initializer = "zeros", bias_initializer = "ones")) == 1)', "TRUE"),
    Said("an initialiser of one's own",
         "all((list(x, y) |> layer(4, 4, 2, kernel_initializer = function(shape) 0)) == 0)", "TRUE"),
    Said("heads are checked before any array", "layer(, 4, 3, 2)",
         "ValueError: `num_query_heads` must be divisible by `num_key_value_heads`."),
    Said("a regulariser", 'layer(, 4, 4, 2, kernel_regularizer = "l2")',
         "NotImplementedError: `kernel_regularizer` acts in training, which is not done here"),
    Said("an unknown setting",
         "tryCatch(layer(, 4, 4, 2, causal = TRUE), TypeError = function(e) strsplit(conditionMessage(e), ';')[[1]][1])",
         '"unknown argument `causal`"'),
    Said("too many inputs", "layer(list(x, x, x, x), 4, 4, 2)",
         "ValueError: `object` must be an array or a list (query, value, key) of 2 to 3 arrays, got 4 of them"),
    Said("inputs that are called otherwise", "layer(list(q = x, v = x), 4, 4, 2)",
         "ValueError: `object` must be an array or a list (query, value, key) of 2 to 3 arrays, got 2 of them named q, v"),
    Said("a matrix for a batch of them",
         "layer(list(x[1, , ], y), 4, 4, 2)", "ValueError: `query` must be an array of 3 axes, got 2"),
    Said("multi-head attention composes", "dim(list(x, y) |> many(2, 4))", "c(2L, 3L, 6L)"),
    Said("multi-head attention of one array, by name",
         "f <- many(num_heads = 2, key_dim = 4, value_dim = 3, output_shape = 5); "
         "c(dim(f(x)), same(f(inputs = x), f(list(value = x, query = x))))", "c(2L, 3L, 5L, 1L)"),
    Said("the call of multi-head attention", "a <- list(x, y) |> many(2, 4, seed = 1, sliding_window = 2, "
         "use_causal_mask = TRUE, return_attention_scores = TRUE); sum(a$attention_scores[, , 3, c(1, 4, 5)])", "0"),
    Said("numbers for a mask of multi-head attention", "f <- many(, 2, 4); m <- array(c(3, 0, 1), c(3, 5)); "
         "same(f(list(x, y), attention_mask = m), f(list(x, y), attention_mask = m != 0))", "TRUE"),
    Said("NA in a mask of numbers", "many(list(x, y), 2, 4, attention_mask = array(c(1, NA), c(3, 5)))",
         "ValueError: `attention_mask` must not hold NA; element 2 of 15 does"),
    Said("too many inputs of multi-head attention", "many(list(x, x, x, x), 2, 4)",
         "ValueError: `inputs` must be an array or a list (query, value, key) of 2 to 3 arrays, got 4 of them"),
    Said("torch's layer", "a <- mha(init(8, 2), z, z, z); c(dim(a$attn_output), dim(a$attn_output_weights))",
         "c(3L, 2L, 8L, 2L, 3L, 3L)"),
    Said("weights that are not asked for are NULL",
         "a <- mha(init(8, 2), z, z, z, need_weights = FALSE); list(names(a), is.null(a$attn_output_weights))",
         'list(c("attn_output", "attn_output_weights"), TRUE)'),
    Said("batches first", "p <- init(8, 2); f <- aperm(z, c(2, 1, 3)); a <- mha(p, f, f, f, batch_first = TRUE); "
         "same(aperm(a$attn_output, c(2, 1, 3)), mha(p, z, z, z)$attn_output)", "TRUE"),
    Said("no batch for torch's layer", "p <- init(8, 2); u <- z[, 1, ]; a <- mha(p, u, u, u); b <- mha(p, z, z, z); "
         "same(a$attn_output, b$attn_output[, 1, ]) && same(a$attn_output_weights, b$attn_output_weights[1, , ])",
         "TRUE"),
    Said("TRUE ignores in torch's masks", "m <- diag(3) == 1; a <- mha(init(8, 2), z, z, z, attn_mask = m); "
         "unique(diag(a$attn_output_weights[1, , ]))", "0"),
    Said("a mask for each batch and head", "m <- array(FALSE, c(4, 3, 3)); m[3, , 2] <- TRUE; "
         "a <- mha(init(8, 2), z, z, z, attn_mask = m, average_attn_weights = FALSE)$attn_output_weights; "
         "unname(which(apply(a[, , , 2] == 0, 1:2, all), arr.ind = TRUE)[1, ])", "2:1"),
    Said("keys that are appended",
         "a <- mha(init(8, 2, add_bias_kv = TRUE), z, z, z, add_bias_kv = TRUE, add_zero_attn = TRUE, "
         "key_padding_mask = array(TRUE, c(2, 3))); c(dim(a$attn_output_weights), sum(a$attn_output_weights[, , 1:3]))",
         "c(2, 3, 5, 0)"),
    Said("features of keys and values", "p <- init(8, 2, kdim = 5, vdim = 6, bias = FALSE); "
         "c(names(p), dim(p$k_proj_weight), dim(mha(p, z, z[, , 1:5], z[, , 1:6], kdim = 5, vdim = 6, bias = FALSE)[[1]]))",
         'c("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight", "8", "5", "3", "2", "8")'),
    Said("torch's function", "p <- init(8, 2); same(mha(p, z, z, z), torch_nn_functional_multi_head_attention_forward("
         "z, z, z, 8, 2, p$in_proj_weight, p$in_proj_bias, NULL, NULL, FALSE, 0, p$out_proj_weight, p$out_proj_bias))",
         "TRUE"),
    Said("torch's initial weights", "set.seed(1); p <- init(96, 4, add_bias_kv = TRUE); "
         "c(round(max(abs(p$in_proj_weight)) * 8, 2), round(max(abs(p$out_proj_weight)) * sqrt(96), 2), "
         "abs(sd(p$bias_k) * sqrt(96) - 1) < 0.2, any(p$in_proj_bias != 0))", "c(1, 1, 1, 0)"),
    Said("torch's heads that do not divide", "mha(init(8, 2), z, z, z, num_heads = 3)",
         "AssertionError: embed_dim must be divisible by num_heads"),
    Said("a padding mask that has a batch axis of its own", "u <- z[, 1, ]; "
         "mha(init(8, 2), u, u, u, key_padding_mask = array(FALSE, c(1, 3)))",
         "AssertionError: `key_padding_mask` must lack the leading axis, as the other tensors do"),
    Said("an error names the function",
         "tryCatch(attend(q, k, v, scale = NA), error = function(e) deparse(conditionCall(e)))",
         '"attend()"'),
]  # fmt: skip


@cache
def said() -> dict[str, str]:
    """What every piece of code prints, all in one R, each in an environment of its own."""
    pieces = [f"say(quote({{ {each.code} }}))" for each in SAID]
    say = """
    say <- function(code) cat(tryCatch(
      paste(deparse(eval(code, new.env())), collapse = ""),
      error = function(e) paste0(class(e)[1], ": ", conditionMessage(e))
    ), "\\n")
    """
    lines = run_r("\n".join((SETTING, say, *pieces))).splitlines()
    return dict(zip((each.id for each in SAID), map(str.strip, lines), strict=True))


@pytest.mark.parametrize("each", SAID, ids=lambda each: each.id)
def test_what_r_says(each: Said) -> None:
    assert said()[each.id] == each.prints


@cache
def function(module: str) -> RFunction:
    return RFunction(str(PACKAGE / "R" / f"{module}.R"), module)


def called(call: Example) -> Any:
    return function(call.spec)(**call.arguments(call.arrays(), np.asarray))


@pytest.mark.parametrize("call", [c for c in CALLS if not c.spec.endswith("_blockwise")], ids=lambda call: call.id)
def test_values_are_those_written_by_hand(call: Example) -> None:
    (expected,) = call.reference(call.arrays())
    np.testing.assert_allclose(called(call), expected, atol=1e-13)


@pytest.mark.parametrize(
    "name", sorted(name for name, spec in builtin().items() if spec.form == "function" and covers(R, spec))
)
def test_the_signature_is_the_documented_one(name: str) -> None:
    spec = builtin()[name]
    parameters = inspect.signature(function(spec.module_name)).parameters.values()
    assert [p.name for p in parameters] == [a.name for a in spec.arguments]
    assert {p.name: repr(p.default) for p in parameters if p.default is not p.empty} == {
        a.name: repr(a.default) for a in spec.arguments if not a.required
    }


def test_the_residual_is_the_log_sum_exp_of_the_logits() -> None:
    arrays = random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))
    output, found = function(JAX_NN)(**arrays, is_causal=True, return_residual=True)
    np.testing.assert_allclose(found, residual(arrays), atol=1e-13)
    np.testing.assert_array_equal(output, function(JAX_NN)(**arrays, is_causal=True))
