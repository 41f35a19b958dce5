"""One call of every spec in `tests/specs`, with what it should give, by hand: what the compiled targets are tested on.

Each spec shows one thing that the language can say. All sizes differ, so that no axis can stand in for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from by_hand import Arrays, attention, combine, dot_logits, grid, hide, random_arrays, softmax

B, T, S, N, K, H, V, E, P, C, R = 2, 3, 5, 4, 2, 3, 6, 7, 2, 4, 5

Outputs = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Example:
    """A call of one spec: differentiable tensors by name, other arguments, and the reference."""

    spec: str
    name: str
    shapes: dict[str, tuple[int, ...]]
    reference: Callable[[Arrays], Outputs]
    others: dict[str, Any] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.spec}-{self.name}"

    def arrays(self) -> dict[str, np.ndarray]:
        return random_arrays(len(self.id), **self.shapes)

    def cotangents(self) -> Outputs:
        """One per output, of its shape."""
        random = np.random.default_rng(1)
        return tuple(random.standard_normal(output.shape) for output in self.reference(self.arrays()))

    def arguments(self, given: dict[str, Any], convert: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        """The keyword arguments of the generated function; `convert` makes the target's arrays of the other tensors."""
        others = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in self.others.items()}
        plain = {k: v for k, v in given.items() if k not in (*self.listed, *self.weights)}
        if self.listed:
            plain["inputs"] = [given[name] for name in self.listed]
        if self.weights:
            plain["params"] = {name: given[name] for name in self.weights}
        return {**plain, **others}


QKV: dict[str, tuple[int, ...]] = {"query": (B, T, N, H), "key": (B, S, K, H), "value": (B, S, K, V)}
MASK = np.random.default_rng(5).random((B, 1, T, S)) < 0.5
MASK[0, 0, 1] = False  # one row sees nothing
LENGTHS = np.array([0, 3])


def dilated(stride: int, left: int) -> np.ndarray:
    t, s = grid(T, S)
    return np.asarray(((t - s) % stride == 0) & (t - s <= left) & (s <= t))


def relative_bias(x: Arrays) -> Outputs:
    t, s = grid(T, S)
    bias = x["table"][:, np.clip(s - t + R // 2, 0, R - 1)]
    return (combine(softmax(dot_logits(x["query"], x["key"], 1.0) + bias), x["value"]),)


def sink(x: Arrays) -> Outputs:
    t, s = grid(T, S)
    logits = hide(dot_logits(x["query"], x["key"]), s <= t)
    column = np.broadcast_to(x["sink"][:, None, None], (B, N, T, 1))
    return (combine(softmax(np.concatenate((logits, column), axis=-1))[..., :-1], x["value"]),)


def prefix(x: Arrays) -> Outputs:
    t, s = grid(T, S)
    return (attention(x["query"], x["key"], x["value"], (s <= t) | (s < LENGTHS[:, None, None, None])),)


def assembled(x: Arrays) -> Outputs:
    def joined(past: str, new: str, appended: str) -> np.ndarray:
        one = np.broadcast_to(x[appended], (B, 1, *x[appended].shape))
        return np.concatenate((x[past], x[new], one), axis=1)

    key, value = joined("past_key", "key", "appended_key"), joined("past_value", "value", "appended_value")
    t, s = grid(T, P + C + 1)
    return attention(x["query"], key, value, (s <= t + P) | (s >= P + C)), key, value


def listed(x: Arrays, is_causal: bool) -> Outputs:
    t, s = grid(T, S)
    key = x.get("key", x["value"])
    logits = hide(dot_logits(x["query"], key, 1.0), (s <= t) | (not is_causal))
    return (combine(softmax(logits), x["value"]),)


def several(x: Arrays) -> Outputs:
    logits = dot_logits(x["query"], x["key"]) + x.get("bias", 0.0)
    weights = softmax(logits)
    return combine(weights, x["value"]), weights, np.log(np.exp(logits).sum(axis=-1))


def two_paths(x: Arrays, return_weights: bool) -> Outputs:
    weights = softmax(hide(dot_logits(x["query"], x["key"]), MASK), empty=0.0)
    output = combine(weights, x["value"])
    return (output, weights) if return_weights else (output,)


def all_visible(x: Arrays) -> Outputs:
    weights = softmax(dot_logits(x["query"], x["key"]))
    return combine(weights, x["value"]), weights


def layer(x: Arrays, use_bias: bool, is_causal: bool, scale: float | None = None) -> Outputs:
    def projected(name: str, kernel: str) -> np.ndarray:
        heads = np.einsum("bse,enh->bsnh", x[name], x[f"{kernel}_kernel"])
        return np.asarray(heads + x[f"{kernel}_bias"] if use_bias else heads)

    query, key, value = (projected(name, name) for name in ("query", "key", "value"))
    t, s = grid(T, S)
    logits = hide(dot_logits(query, key, scale), (s <= t) | (not is_causal))
    output = np.einsum("btnv,nve->bte", combine(softmax(logits), value), x["output_kernel"])
    return (output + x["output_bias"] if use_bias else output,)


KERNELS: dict[str, tuple[int, ...]] = {
    "query_kernel": (E, N, H),
    "key_kernel": (E, K, H),
    "value_kernel": (E, K, V),
    "output_kernel": (N, V, E),
}
BIASES: dict[str, tuple[int, ...]] = {"query_bias": (N, H), "key_bias": (K, H), "value_bias": (K, V), "output_bias": (E,)}
INPUTS: dict[str, tuple[int, ...]] = {"query": (B, T, E), "key": (B, S, E), "value": (B, S, E)}
LISTED: dict[str, tuple[int, ...]] = {"query": (B, T, N, H), "value": (B, S, K, H), "key": (B, S, K, H)}
ASSEMBLED: dict[str, tuple[int, ...]] = {
    "query": (B, T, N, H), "key": (B, C, K, H), "value": (B, C, K, V), "past_key": (B, P, K, H), "past_value": (B, P, K, V),
    "appended_key": (K, H), "appended_value": (K, V),
}  # fmt: skip


def window_example(stride: int, left: int) -> Example:
    return Example(
        "dilated",
        f"stride{stride}-left{left}",
        QKV,
        lambda x: (attention(x["query"], x["key"], x["value"], dilated(stride, left)),),
        {"stride": stride, "left": left},
    )


def layer_example(name: str, **options: Any) -> Example:
    biases = BIASES if options["use_bias"] else {}
    return Example(
        "projected_layer",
        name,
        {**INPUTS, **KERNELS, **biases},
        lambda x: layer(x, **options),
        options,
        weights=(*KERNELS, *biases),
    )


EXAMPLES = [
    window_example(2, 6),
    window_example(3, 0),
    Example("prefix_lm", "lengths", QKV, prefix, {"prefix_lengths": LENGTHS}),
    Example("relative_bias", "clipped", {**QKV, "table": (N, R)}, relative_bias),
    Example("sink", "causal", {**QKV, "sink": (N,)}, sink),
    Example("assembled_keys", "all", ASSEMBLED, assembled),
    Example("list_input", "three", LISTED, lambda x: listed(x, False), {}, ("query", "value", "key")),
    Example(
        "list_input",
        "two-causal",
        {name: LISTED[name] for name in ("query", "value")},
        lambda x: listed(x, True),
        {"is_causal": True},
        ("query", "value"),
    ),
    Example("several_outputs", "plain", QKV, several),
    Example("several_outputs", "bias", {**QKV, "bias": (1, N, T, 1)}, several),
    Example("two_paths", "fused", QKV, lambda x: two_paths(x, False), {"mask": MASK}),
    Example("two_paths", "weights", QKV, all_visible, {"return_weights": True}),
    layer_example("bias", use_bias=True, is_causal=False),
    layer_example("plain-causal", use_bias=False, is_causal=True, scale=0.5),
]
