"""The form by rows for graphs, in tensorflow: a loop of the graph over blocks of queries, each with all keys that it visits.

Sizes inside a loop of the graph may differ from turn to turn, so a block takes the keys that some of its queries see, as whole
blocks of them, and its softmax is that of whole rows. Hidden logits get the least number: beside others that is as good as
-inf, and a row of nothing else still has a softmax. The graph has one size for all lengths, known while it is traced or not.
Nothing but the inputs is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from attnspec.codegen.blockwise.choice import direct_function
from attnspec.codegen.blockwise.coverage import BLOCKED, lookups, rule_of_masks
from attnspec.codegen.blockwise.heads_first import ENDS, LOWEST, HeadsFirst, at_level, others, public, seen_blocks
from attnspec.codegen.blockwise.lookups import along, extremes
from attnspec.codegen.blockwise.scaling import scaled_queries
from attnspec.codegen.lower import HIDDEN
from attnspec.codegen.module import aliases
from attnspec.codegen.printer import Target, indent
from attnspec.codegen.program import Dims, Line, Ref
from attnspec.spec.model import Spec

_JOINED: dict[str, Dims] = {
    "query": ("T", "B", "N", "H"), "key": ("S", "B", "K", "H"), "value": ("S", "B", "K", "V"), "output": ("T", "B", "N", "V"),
}  # fmt: skip
"""How results lie while they are made: positions in front."""


def parts(spec: Spec, target: Target, auto: bool) -> Iterator[str]:
    """The definitions of a blockwise module."""
    loops = _Loops(spec, target)
    yield _visible(spec, target)
    yield loops.forward()
    yield loops.backward()
    yield _attend(spec)
    if auto:
        yield direct_function(spec, target, "_shape({})")
    yield public(spec, target, "_attend", auto)


def _visible(spec: Spec, target: Target) -> str:
    """The function that says which keys are visited, by the formulas of the masks."""
    seen, read = seen_blocks(spec, target)
    numbers = [name for name in read if name not in ENDS]
    parameters = "".join(f", {name}: Any" for name in numbers)
    lines = [f"{name} = _within_reach({name})" for name in numbers if spec.argument(name).role == "integer"]
    lines += [_EXTREMES[along(spec, name)].format(", ".join(extremes(name)), name) for name in lookups(spec) if name in read]
    lines += ["low = tf.range(0, S, BLOCK, tf.int64)"]
    lines += ["high = tf.minimum(low + BLOCK, S)"] if "high" in read else []
    lines += [f"# {rule_of_masks(spec)}", f"return _in_blocks({seen}, BLOCK, S)"]
    return (
        f"def _visible(start: Any, stop: Any, T: Any, S: Any{parameters}) -> tf.Tensor:\n"
        f'    """The keys of all blocks that some of the queries `start <= t < stop` see."""\n' + indent("\n".join(lines))
    )


def _attend(spec: Spec) -> str:
    """The function whose derivative is that of the loops; of numbers it has none."""
    given, numbers = others(spec), _numbers(spec)
    return _ATTEND.format(
        parameters="".join(f", {name}: Any" for name in given),
        names="".join(f", {name}" for name in given),
        numbers="".join(f", {name}: tf.Tensor" for name in numbers),
        guarded="".join(f', _without_derivative("{name}", {name})' for name in numbers),
        gradients=", ".join(("*gradients", *(f"tf.zeros_like({name})" for name in numbers))),
    )


class _Loops(HeadsFirst):
    """The loop over blocks of queries, forward and backward, as text."""

    def __init__(self, spec: Spec, target: Target) -> None:
        super().__init__(spec, target, "_shape({})")
        hidden = (replace(s, value=LOWEST) if s.target == HIDDEN else s for s in self.logits)
        self.logits = scaled_queries(hidden)

    def forward(self) -> str:
        """The loop that makes the output."""
        block = self.text(*self.logits, Line(_SOFTMAX, self.softmax), *self.combine)
        return self.function(_FORWARD, block=block)

    def backward(self) -> str:
        """The loop that makes and adds up the gradients."""
        last = "return d_query_block, (_added(d_keys, s, d_key_block), _added(d_values, s, d_value_block))"
        weights = _SOFTMAX, "weights_of_rows = weights", "d_output = tf.where(empty, tf.zeros_like(d_output), d_output)"
        mean = "tf.reduce_sum(weights_of_rows * d_weights, axis=-1, keepdims=True)"
        return self.function(_BACKWARD, again=self.text(*self.again(self.lines(weights), mean, last)))

    def lines(self, texts: Iterable[str]) -> Iterator[Line]:
        """Lines of the softmax."""
        return (Line(text, self.softmax) for text in texts)

    def function(self, skeleton: str, **inner: str) -> str:
        """A skeleton with the stages on blocks, layouts and sizes filled in."""
        given = {name: self.heads_first(name) for name in (*BLOCKED, "output")}
        given |= {f"{name}_returned": self.as_given(name) for name in (*BLOCKED, "output")}
        given |= {"gradient": self.heads_first("output", "gradient_output")}
        given |= {name: at_level(2, f"{self.looked_up()}{text}") for name, text in inner.items()}
        given |= {"V": aliases(self.spec).get("V", "V"), "empty_row": self.printer.comment("policy.empty_row")}
        seen = (name for name in seen_blocks(self.spec, self.printer.target)[1] if name not in ENDS)
        parameters = "".join(f", {name}: Any" for name in others(self.spec))
        text = skeleton.format(head=_HEAD, seen="".join(f", {name}" for name in seen), parameters=parameters, **given)
        return text.replace(_HEAD, at_level(1, self.head(text)))

    def looked_up(self) -> str:
        """The entries that masks look up for the block."""
        queries = (f"{name}_block = {name}[:, start:stop]\n" for name in self.entries("T"))
        return "".join((*queries, *(f"{name}_block = tf.gather({name}, s, axis=1)\n" for name in self.entries("S"))))

    def head(self, text: str) -> str:
        """Dtypes, the sizes that the rest reads, and numbers in the dtype of the logits."""
        numbers = (Line(f"{name} = _scalar({name}, compute)") for name in _numbers(self.spec))
        return self.text(*self.layouts.head(text), *numbers)

    def as_given(self, name: str) -> str:
        """What the loop made, in the layout of the call."""
        return self.transposed(Ref(_MADE[name], _JOINED[name]), self.layouts.dims(name))


_EXTREMES = {
    "T": "{0} = tf.reduce_min({1}[:, start:stop]), tf.reduce_max({1}[:, start:stop])",
    "S": "{0} = _extremes({1}, BLOCK)",
    "": "{0} = tf.reduce_min({1}), tf.reduce_max({1})",
}
"""How the least and the greatest of what masks look up is found, for a block of queries or all blocks of keys."""


def _numbers(spec: Spec) -> list[str]:
    return [argument.name for argument in spec.arguments if argument.role == "number"]


_MADE = {"query": "d_queries", "key": "d_keys", "value": "d_values", "output": "outputs"}
"""What the loops make of each tensor."""
_SOFTMAX = "weights, empty = _softmax_and_empty(logits)"
_HEAD = "    # sizes and dtypes"
_FORWARD = """def _forward(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor{parameters}) -> tf.Tensor:
{head}
    queries, keys, values = {query}, {key}, {value}

    def of_queries(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, Any]:
        s = _visible(start, stop, T, S{seen})
        t, rows, columns = tf.range(start, stop), stop - start, tf.size(s, tf.int64)
        query_block = queries[:, :, start:stop]
        key_block, value_block = tf.gather(keys, s, axis=2), tf.gather(values, s, axis=2)
{block}
        {empty_row}
        return tf.where(empty, tf.zeros((), dtype), tf.cast(output, dtype)), ()

    outputs, _ = _by_blocks(of_queries, BLOCK, (T, B, N, {V}), dtype)
    return {output_returned}"""
_BACKWARD = '''def _backward(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, gradient_output: tf.Tensor{parameters}
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of query, key and value; the weights are computed again, block by block."""
{head}
    queries, keys, values = {query}, {key}, {value}
    d_outputs = {gradient}

    def of_queries(start: tf.Tensor, stop: tf.Tensor, d_keys: tf.Tensor, d_values: tf.Tensor) -> tuple[tf.Tensor, Any]:
        s = _visible(start, stop, T, S{seen})
        t, rows, columns = tf.range(start, stop), stop - start, tf.size(s, tf.int64)
        query_block = queries[:, :, start:stop]
        key_block, value_block = tf.gather(keys, s, axis=2), tf.gather(values, s, axis=2)
        d_output = tf.cast(d_outputs[:, :, start:stop], compute)
{again}

    totals = tf.zeros((S, B, K, H), compute), tf.zeros((S, B, K, {V}), compute)
    d_queries, (d_keys, d_values) = _by_blocks(of_queries, BLOCK, (T, B, N, H), compute, *totals)
    d_query = {query_returned}
    d_key = {key_returned}
    d_value = {value_returned}
    return tf.cast(d_query, dtype), tf.cast(d_key, dtype), tf.cast(d_value, dtype)'''
_ATTEND = '''def _attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor{parameters}) -> tf.Tensor:
    """The loops as one step with a derivative of its own, which keeps nothing of T times S."""

    @tf.custom_gradient
    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor{numbers}) -> tuple[tf.Tensor, Any]:
        # An eager tape would keep every turn of the loop.
        given = map(tf.stop_gradient, (query, key, value)) if tf.executing_eagerly() else (query, key, value)

        def pulled_back(gradient_output: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradients = _backward(query, key, value, gradient_output{names})
            return {gradients}

        return _forward(*given{names}), pulled_back

    return attend(query, key, value{guarded})'''
