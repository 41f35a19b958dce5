"""Casts written out for TensorFlow: where kinds of numbers meet, what wins, and nothing cast that need not be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attnspec.codegen.explicit_casts import explicit_casts
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.program import Assign, Const, If, Op, Program, Ref, Statement, nodes
from attnspec.codegen.verify import verify
from attnspec.spec.expression import parse
from attnspec.spec.loader import builtin, load
from attnspec.spec.model import Spec
from compiling import SPECS, forward_text, spec_of

ALL = {**builtin(), **{path.stem: load(path) for path in sorted(SPECS.glob("*.toml"))}}
S, T = Ref("s", ("S",)), Ref("t", ("T",))
LOGITS, BIAS = Ref("logits", ("T", "S")), Ref("bias", ("T", "S"))


def cast(spec: Spec, *body: Statement) -> tuple[Statement, ...]:
    return explicit_casts(spec, Program("f", body, batched=False)).body


def lines(name: str) -> list[str]:
    return [line.strip() for line in forward_text(ALL[name], "tensorflow").splitlines()]


def test_what_has_a_dtype_of_its_own_takes_that_of_the_logits() -> None:
    assert "logits = logits + tf.cast(bias, compute)" in lines("jax.nn.dot_product_attention")


def test_what_is_repeated_is_repeated_in_the_dtype_that_its_gradient_is_summed_in() -> None:
    """A bias along batch and length, a sink along queries, a table's entries, a key of every batch."""
    layer = forward_text(ALL["projected_layer"], "tensorflow")
    assert "query = tf.cast(query, compute) + tf.cast(query_bias, compute)\n        query = tf.cast(query, dtype)" in layer
    assert "tf.broadcast_to(tf.cast(sink, compute)[:, None, None], (*_shape(logits)[:-1], 1))" in forward_text(
        ALL["sink"], "tensorflow"
    )
    assert "tf.gather(tf.cast(table, compute), " in forward_text(ALL["relative_bias"], "tensorflow")
    appended = lines("assembled_keys")
    assert "appended_key_piece = tf.broadcast_to(tf.cast(appended_key, compute)[None, None, :, :], (B, 1, K, H))" in appended
    assert "appended_key_piece = tf.cast(appended_key_piece, dtype)" in appended


def test_a_number_that_arrays_meet_may_be_a_tensor_and_one_that_only_decides_stays_as_it_is() -> None:
    found = lines("torch.nn.functional.scaled_dot_product_attention")
    assert "scale = _scalar(scale, compute)" in found
    assert not any(line.startswith("dropout_p = _scalar") for line in found)


def test_the_first_branch_of_where_decides_the_dtype() -> None:
    found = lines("causal_gqa")
    assert "logits = tf.where(s <= t[:, None], logits, hidden)" in found
    assert "weights = tf.where(empty, tf.constant(0.0, compute), weights)" in found


def test_a_size_in_arithmetic_on_floats_is_cast() -> None:
    assert "logits = logits * _scalar(H, compute) ** -0.5" in lines("two_paths")


@pytest.mark.parametrize(
    ("modifier", "printed"),
    [
        ("logit + 0.5 * s", "logits + 0.5 * tf.cast(s, compute)"),
        ("logit + t / S", "logits + tf.cast(t, compute)[:, None] / _scalar(S, compute)"),
        ("logit + slope[n] * t", "logits + tf.cast(slope, compute)[:, None, None] * tf.cast(t, compute)[:, None]"),
        ("logit * (s + 1)", "logits * tf.cast(s + 1, compute)"),
        ("logit + max(0, s - t)", "logits + tf.cast(tf.maximum(s - t[:, None], 0), compute)"),
        ("where(s == t, 0, logit)", "tf.where(s == t[:, None], tf.constant(0, compute), logits)"),
        ("logit + where(s < t, 0, s)", "logits + tf.cast(tf.where(s < t[:, None], tf.constant(0, tf.int64), s), compute)"),
        ("where(s == t, cap, logit)", "tf.where(s == t[:, None], tf.convert_to_tensor(cap, compute), logits)"),
        ("min(cap, logit)", "tf.minimum(logits, cap)"),
    ],
)
def test_indices_become_floats_where_they_meet_some(modifier: str, printed: str, tmp_path: Path) -> None:
    text = f"""
        variant = "positional"
        summary = "Positions in the logits."
        modifiers = ["softcap", "positional"]

        [parameters]
        cap = {{ default = 2.0, examples = [2.0] }}

        [modifier.positional]
        logit = "{modifier}"
        """
    spec = spec_of(text, tmp_path)
    assert f"logits = {printed}" in forward_text(spec, "tensorflow")


def test_a_variable_has_the_same_kind_whether_or_not_a_branch_ran() -> None:
    """A bias of float64 under a guard leaves inputs of float16 what they were."""
    spec = ALL["jax.nn.dot_product_attention"]
    query = Ref("query", ("S",))
    added = Assign(query, Op("cast", (query,), ("S",), (("to", "float32"),)))
    (guarded,) = cast(spec, If(parse("is_causal"), (added,)))
    assert isinstance(guarded, If)
    (assign,) = guarded.body
    assert isinstance(assign, Assign) and isinstance(assign.value, Op)
    assert assign.value["to"] == "dtype"


def test_what_a_branch_makes_has_a_kind_after_it() -> None:
    """Under the same guard later on, a gate in the dtype of the inputs needs no cast."""
    found = forward_text(ALL["keras.layers.GroupQueryAttention"], "tensorflow")
    assert "output = output * gate\n" in found


def test_a_cast_to_what_it_is_already_is_left_out() -> None:
    spec = ALL["causal_gqa"]
    key = Ref("key", ("S",))
    other, to_dtype = Ref("other", ("S",)), Op("cast", (key,), ("S",), (("to", "dtype"),))
    assert cast(spec, Assign(other, to_dtype)) == (Assign(other, key),)
    assert cast(spec, Assign(key, to_dtype)) == ()


def test_joined_pieces_are_of_one_kind() -> None:
    spec = ALL["jax.nn.dot_product_attention"]
    pieces = Op("concat", (Ref("key", ("S",)), Ref("bias", ("S",))), ("S",), (("dim", "S"),))
    (joined,) = cast(spec, Assign(Ref("both", ("S",)), pieces))
    assert isinstance(joined, Assign) and isinstance(joined.value, Op)
    key, bias = joined.value.arguments
    assert key == Ref("key", ("S",))
    assert isinstance(bias, Op) and bias["to"] == "dtype"


def test_numbers_alone_stay_python() -> None:
    (plain,) = cast(ALL["causal_gqa"], Assign(Ref("x"), Op("mul", (Const(2.0), Const(3)), None)))
    assert plain == Assign(Ref("x"), Op("mul", (Const(2.0), Const(3)), None))


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_program_stays_well_formed_and_needs_no_second_pass(name: str) -> None:
    spec = ALL[name]
    once = explicit_casts(spec, lower_spec(spec))
    verify(once, spec)
    casts = [node for node in nodes(once.body) if isinstance(node, Op) and node.name == "cast"]
    assert not any(isinstance(node.arguments[0], Op) and node.arguments[0].name == "cast" for node in casts)


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_other_target_has_casts_for_it(name: str) -> None:
    assert not re.search(r"_scalar|_float\(", forward_text(ALL[name], "jax"))
