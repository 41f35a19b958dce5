"""The planted faults: each is one named change to one correct, hand-written implementation.

`Fault.write` makes the faulty file, which the harness then checks like any user's. The first of `seen_by` is the check that
must find the fault within `CASES` cases; the others may see it too, and with all of them switched off nothing does.
`survives` says that the fault passes the test that is usually written: square Gaussian inputs against a reference, plain
and causal, at the default tolerance of `assert_close`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnspec.harness.subjects import generated_folder
from attnspec.spec.loader import builtin

HERE = Path(__file__).parent
CASES = 200
ORACLE, GRADIENTS, PRECONDITIONS, SIGNATURE = "oracle", "gradients", "preconditions", "signature"
ANSWERS, ARGUMENTS, RELATIONS = "answers", "arguments", "relations"
BOTH_WAYS = (ORACLE, GRADIENTS)
EVERYWHERE = (*BOTH_WAYS, PRECONDITIONS)  # an argument that is not looked at is not refused either
APIS = {  # of what is written by hand, a framework's each; a generated implementation goes by its function's name
    "numpy": "jax.nn.dot_product_attention",
    "jax": "jax.nn.dot_product_attention",
    "torch": "torch.nn.functional.scaled_dot_product_attention",
}
GENERATED = {"gemma2": "gemma2", "multi_head_attention_forward": "torch.nn.functional.multi_head_attention_forward"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One change: `right` becomes `wrong` wherever it stands in `<framework>_attention.py`, or in the generated NumPy file."""

    name: str
    framework: str
    right: str
    wrong: str
    seen_by: tuple[str, ...]
    survives: bool | None

    @property
    def api(self) -> str:
        return (APIS | GENERATED)[self.framework]

    @property
    def function(self) -> str:
        return self.api.rpartition(".")[2]

    @property
    def source(self) -> str:
        """The faulty module's text."""
        module = builtin()[self.api].module_name
        file = (
            HERE / f"{self.framework}_attention.py" if self.framework in APIS else generated_folder() / "numpy" / f"{module}.py"
        )
        correct = file.read_text(encoding="utf-8")
        if self.right not in correct:
            raise ValueError(f"{self.name}: the correct implementation does not hold {self.right!r}")
        return correct.replace(self.right, self.wrong)

    def write(self, folder: Path) -> Path:
        """Write the faulty module, named after the fault."""
        file = folder / f"{self.name.replace('-', '_')}.py"
        file.write_text(self.source, encoding="utf-8")
        return file


def numpy(name: str, right: str, wrong: str, *seen_by: str, survives: bool = True) -> Fault:
    """A fault of the NumPy implementation."""
    return Fault(name, "numpy", right, wrong, seen_by, survives)


def torch(name: str, right: str, wrong: str, *seen_by: str, survives: bool = True) -> Fault:
    """A fault of the torch implementation."""
    return Fault(name, "torch", right, wrong, seen_by, survives)


def jax(name: str, right: str, wrong: str, *seen_by: str, survives: bool = True) -> Fault:
    """A fault of the jax implementation."""
    return Fault(name, "jax", right, wrong, seen_by, survives)


MASKS = (
    numpy("mask-polarity", "visible &= mask", "visible &= ~mask", *BOTH_WAYS, RELATIONS),
    numpy(
        "mask-dropped-when-bias-is-given",
        "visible = visible_keys(query, key, mask,",
        "visible = visible_keys(query, key, mask if bias is None else None,",
        *EVERYWHERE,
        RELATIONS,
        ARGUMENTS,
    ),
    numpy(
        "rank-3-mask-read-as-batch",
        "mask = mask[None] if",
        "mask = mask[:, None] if mask.ndim == 3 and len(mask) == B else mask[None] if",
        *BOTH_WAYS,
    ),
    numpy("causal-aligned-bottom-right", "s <= t\n", "s <= t + S - T\n", *BOTH_WAYS, RELATIONS, ARGUMENTS),
    numpy("window-edge-off-by-one", "t - left <= s", "t - left < s", *BOTH_WAYS, RELATIONS),
    numpy("window-sides-swapped", "left, right = pair", "right, left = pair", *BOTH_WAYS, RELATIONS),
    numpy("key-lengths-ignored", "if key_lengths is not None", "if False", *EVERYWHERE, RELATIONS, ARGUMENTS),
    numpy("key-length-off-by-one", "s < key_lengths", "s <= key_lengths", *BOTH_WAYS, RELATIONS),
    numpy(
        "rows-past-query-length-not-zeroed",
        "output = zero_rows(output, query_seq_lengths)",
        "output = output",
        ORACLE,
        RELATIONS,
    ),
    torch(
        "float-mask-read-as-boolean",
        "attn_mask.dtype == torch.bool:\n        visible = visible & attn_mask",
        "attn_mask.dtype != torch.int32:\n        visible = visible & (attn_mask > 0)",
        *BOTH_WAYS,
        RELATIONS,
    ),
    torch(
        "causal-aligned-bottom-right-in-torch",
        "visible.tril()",
        "visible.tril(visible.shape[-1] - visible.shape[-2])",
        *BOTH_WAYS,
        RELATIONS,
    ),
    jax(
        "rows-past-query-length-not-zeroed-in-jax",
        "if query_seq_lengths is not None:\n        inside",
        "if False:\n        inside",
        *BOTH_WAYS,
    ),
)

EMPTY_ROWS = (
    numpy("empty-row-is-nan", "wide.type(FILL)", "wide.type(-np.inf)", *BOTH_WAYS, RELATIONS),
    numpy("empty-row-is-zero", "weight = softmax(logits)\n", "weight = softmax(logits) * visible\n", ORACLE),
    numpy("fill-too-small", "FILL = -0.7 * float(np.finfo(np.float32).max)", "FILL = -1e4", *BOTH_WAYS),
    numpy(
        "masked-nan-leaks",
        "np.where(visible, logits, wide.type(FILL))",
        "logits + np.where(visible, 0, wide.type(FILL))",
        *BOTH_WAYS,
        RELATIONS,
    ),
    torch("empty-row-is-nan-in-torch", "weight = safe_softmax(logits)", "weight = torch.softmax(logits, -1)", *BOTH_WAYS),
)

LOGITS = (
    numpy(
        "scale-by-model-dim",
        "query.shape[-1] ** -0.5",
        "(query.shape[-2] * query.shape[-1]) ** -0.5",
        *BOTH_WAYS,
        RELATIONS,
        survives=False,
    ),
    numpy(
        "given-scale-ignored",
        "return query.shape[-1] ** -0.5 if scale is None else scale",
        "return query.shape[-1] ** -0.5",
        *BOTH_WAYS,
        ARGUMENTS,
        RELATIONS,
    ),
    numpy(
        "heads-tiled-not-repeated",
        "np.repeat(array, query.shape[2] // array.shape[2], axis=2)",
        "np.tile(array, (1, 1, query.shape[2] // array.shape[2], 1))",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy(
        "bias-scaled-too",
        "logits + bias.astype(wide)",
        "logits + bias.astype(wide) * wide.type(scale_of(query, scale))",
        *BOTH_WAYS,
    ),
    numpy(
        "bias-of-first-head-for-all", "logits + bias.astype(wide)", "logits + bias[:, :1].astype(wide)", *EVERYWHERE, RELATIONS
    ),
    torch("scale-by-value-dim", "scale = query.shape[-1] ** -0.5", "scale = value.shape[-1] ** -0.5", *BOTH_WAYS, RELATIONS),
    jax("logits-in-input-dtype", "preferred_element_type=wide", "preferred_element_type=dtype", *BOTH_WAYS),
)

DTYPES = (
    numpy(
        "output-left-in-float32",
        "zero_rows(output, query_seq_lengths).astype(dtype)",
        "zero_rows(output, query_seq_lengths)",
        ORACLE,
    ),
    numpy("softmax-in-input-dtype", "weight = softmax(logits)\n", "weight = softmax(logits.astype(dtype))\n", ORACLE),
    numpy("log-sum-exp-base-2", "np.log(np.exp(", "np.log2(np.exp(", ORACLE, RELATIONS),
    torch("float64-computed-in-float32", "torch.promote_types(query.dtype, torch.float32)", "torch.float32", *BOTH_WAYS),
    torch(
        "fp16-logits-overflow",
        "query.to(wide) @ key.to(wide).transpose(-2, -1)",
        "(query @ key.transpose(-2, -1)).to(wide)",
        *BOTH_WAYS,
    ),
)

BACKWARD = (
    numpy("delta-term-missing", "(d_weight - delta)", "d_weight", GRADIENTS, survives=False),
    numpy("scale-missing-in-d-key", "d_logits, query) * factor", "d_logits, query)", GRADIENTS, survives=False),
    numpy("d-key-of-first-head-in-group", '"key": sum_of_group(d_key, groups)', '"key": d_key[:, :, ::groups]', GRADIENTS),
    numpy("d-bias-averaged-not-summed", "return gradient.sum(axis=axes", "return gradient.mean(axis=axes", GRADIENTS),
    numpy(
        "padding-rows-leak-into-gradients", "d_output = zero_rows(d_output, query_seq_lengths)", "pass", GRADIENTS, RELATIONS
    ),
    numpy("gradient-flows-into-hidden-logits", "d_logits = np.where(visible, d_logits, 0)", "pass", GRADIENTS, RELATIONS),
    torch(
        "gradient-of-empty-row-is-nan",
        "weight = torch.softmax(logits.masked_fill(hidden, 0), -1)",
        "weight = torch.softmax(logits, -1)",
        GRADIENTS,
    ),
)

THRESHOLDS = (
    numpy(
        "keys-past-64-dropped",
        "visible = np.ones((B, N, T, S), bool)",
        "visible = np.ones((B, N, T, S), bool) & (s < 64)",
        *BOTH_WAYS,
    ),
    numpy(
        "partial-block-of-keys-dropped",
        "visible = np.ones((B, N, T, S), bool)",
        "visible = np.ones((B, N, T, S), bool) & (s < (S // 16 * 16 or S))",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy("scale-ends-at-head-dim-16", "query.shape[-1] ** -0.5 if", "min(query.shape[-1], 16) ** -0.5 if", *BOTH_WAYS),
    numpy("mask-of-first-batch-for-all", "visible &= mask\n", "visible &= mask[:1]\n", *EVERYWHERE, RELATIONS),
    numpy(
        "key-length-of-first-batch-for-all",
        "s < key_lengths[:, None",
        "s < key_lengths[:1, None",
        *EVERYWHERE,
        RELATIONS,
        ARGUMENTS,
    ),
    numpy("softmax-overflows", "np.exp(logits - logits.max(axis=-1, keepdims=True))", "np.exp(logits)", *BOTH_WAYS, RELATIONS),
    numpy(
        "bias-dropped-in-float16",
        "if bias is not None:\n        bias = bias[None]",
        "if bias is not None and query.dtype != np.float16:\n        bias = bias[None]",
        *BOTH_WAYS,
    ),
    numpy(
        "window-dropped-beside-causal",
        "if window is not None:\n        left",
        "if window is not None and not is_causal:\n        left",
        *BOTH_WAYS,
        ARGUMENTS,
        RELATIONS,
    ),
    numpy(
        "query-length-dropped-beside-key-length",
        "if query_lengths is not None:\n        visible",
        "if query_lengths is not None and key_lengths is None:\n        visible",
        *EVERYWHERE,
    ),
    numpy("bias-subtracted", "logits + bias.astype", "logits - bias.astype", *BOTH_WAYS, RELATIONS),
    numpy("scale-missing-in-d-query", "d_logits, key) * factor", "d_logits, key)", GRADIENTS, survives=False),
    torch("causal-hides-the-diagonal", "visible.tril()", "visible.tril(-1)", *BOTH_WAYS, RELATIONS, survives=False),
    torch(
        "heads-tiled-in-torch",
        "return tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], dim=-3)",
        "return torch.cat([tensor] * (query.shape[-3] // tensor.shape[-3]), -3)",
        *BOTH_WAYS,
        RELATIONS,
    ),
    torch(
        "queries-past-64-dropped",
        "weight = safe_softmax(logits)",
        "weight = safe_softmax(logits) * (torch.arange(logits.shape[-2]) < 64)[:, None]",
        *BOTH_WAYS,
    ),
)
LINEAR = (
    numpy(
        "large-values-cut",
        "query, key, value = batched(query), batched(key), batched(value)\n    visible",
        "query, key, value = batched(query), batched(key), np.clip(batched(value), -4, 4)\n    visible",
        RELATIONS,
    ),
    numpy(
        "large-cotangents-cut",
        "d_output = zero_rows(d_output, query_seq_lengths)",
        "d_output = zero_rows(np.clip(d_output, -1, 1), query_seq_lengths)",
        GRADIENTS,
        RELATIONS,
        survives=False,
    ),
)

STATE = (
    numpy(
        "not-the-same-twice",
        "weight = softmax(logits)\n",
        "weight = softmax(logits) * (1 + np.finfo(np.float32).eps * np.random.default_rng().integers(0, 2))\n",
        RELATIONS,
    ),
    torch(
        "dropout-not-scaled",
        "weight = torch.dropout(weight, dropout_p, True)",
        "weight = torch.dropout(weight, dropout_p, True) * (1 - dropout_p)",
        RELATIONS,
    ),
    torch(
        "dropout-drawn-anew-in-the-backward-pass",
        "        weight = torch.dropout(weight, dropout_p, True)\n",
        "        again = torch.dropout(weight, dropout_p, True) @ value.to(wide)\n"
        "        output = torch.dropout(weight, dropout_p, True) @ value.to(wide)\n"
        "        return (output.detach() + again - again.detach()).to(query.dtype)\n",
        RELATIONS,
    ),
    torch(
        "dropout-drops-what-it-should-keep",
        "weight = torch.dropout(weight, dropout_p, True)",
        "weight = torch.dropout(weight, dropout_p / 8, True) * (1 - dropout_p / 8) / (1 - dropout_p)",
        RELATIONS,
    ),
    numpy(
        "keys-read-in-memory-order",
        "query, key, value = batched(query), batched(key), batched(value)\n",
        "query, key, value = batched(query), batched(key), batched(value)\n    key = key.ravel('K').reshape(key.shape)\n",
        RELATIONS,
    ),
    torch(
        "input-is-written",
        "wide = torch.promote_types(query.dtype, torch.float32)\n",
        "wide = torch.promote_types(query.dtype, torch.float32)\n    query.mul_(1)\n",
        ANSWERS,
        survives=False,
    ),
)

CALLS = (
    numpy(
        "longer-value-cut-to-key",
        "rank, dtype = query.ndim, query.dtype\n",
        "rank, dtype, value = query.ndim, query.dtype, value[..., : key.shape[-3], :, :]\n",
        PRECONDITIONS,
    ),
    numpy("negative-window-accepted", "min(pair(window)) < 0", "False", PRECONDITIONS),
    numpy(
        "refusal-leaves-state",
        'raise ValueError("mask must be boolean")',
        "raise globals().update(scale_of=lambda query, scale: 1.0) or ValueError",
        PRECONDITIONS,
    ),
    torch("mask-and-causal-accepted", "attn_mask is not None and is_causal", "False", PRECONDITIONS),
    numpy("scale-may-be-positional", "*,\n    scale=None", "scale=None", SIGNATURE),
)

CORRECT = tuple(Fault(f"nothing-in-{framework}", framework, "", "", (), survives=True) for framework in APIS)
FAULTS = (*MASKS, *EMPTY_ROWS, *LOGITS, *DTYPES, *BACKWARD, *THRESHOLDS, *LINEAR, *STATE, *CALLS)
