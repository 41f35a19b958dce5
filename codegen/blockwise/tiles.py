"""The form by tiles, for jax: blocks of queries, and for each a loop over the blocks of keys that some of them see.

All tiles have one shape, so the program that is traced has the same size whatever the lengths are; how many tiles the inner
loop visits is known when it runs. Its softmax is kept as a running peak and total. Stages, masks and derivatives are the
direct form's own, lowered on tiles; the backward pass computes the weights again from the log-sum-exp of every row.
"""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.blockwise.coverage import BLOCKED, rule_of_masks
from attnspec.codegen.blockwise.heads_first import ENDS, HEADS_FIRST, HeadsFirst, at_level, others, public, seen_blocks
from attnspec.codegen.blockwise.lookups import read_by_formulas
from attnspec.codegen.lower import Body
from attnspec.codegen.module import aliases, rules_of
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Assign, Line, Ref, Statement
from attnspec.spec.model import Spec


def parts(spec: Spec, target: Target, auto: bool) -> Iterator[str]:
    """The definitions of a blockwise module."""
    loops = _Loops(spec, target)
    yield _visible(spec, target)
    yield loops.forward()
    yield loops.backward()
    yield loops.direct()
    yield _SECOND
    yield _RULE.format(**_names(spec))
    yield public(spec, target, "_attend", auto)


def _names(spec: Spec) -> dict[str, str]:
    given = others(spec)
    return {
        "parameters": "".join(f", {name}: Any" for name in given),
        "names": "".join(f", {name}" for name in given),
        "values": "".join(f", {name}.value" for name in given),
        "numbers": ", ".join(f'"{name}": {name}' for name in given),
        "nones": ", None" * len(given),
    }


def _visible(spec: Spec, target: Target) -> str:
    """The function that says which blocks are visited, by the formulas of the masks."""
    seen, read = seen_blocks(spec, target)
    parameters = "".join(f", {name}: Any" for name in read if name in others(spec))
    lines = read_by_formulas(spec, read)
    lines += ["start = jnp.arange(0, T or 1, rows)[:, None]", "low = jnp.arange(0, S or 1, columns)"]
    lines += [_ENDS[end] for end in ENDS if end in read]
    lines += [
        f"# {rule_of_masks(spec)}",
        f"seen = jnp.broadcast_to({seen}, (len(start), len(low)))",
        "return jnp.argsort(~seen, axis=1, stable=True), seen.sum(axis=1)",
    ]
    return (
        f"def _visible(T: int, S: int, rows: int, columns: int{parameters}) -> tuple[jax.Array, jax.Array]:\n"
        f'    """For every block of queries the blocks of keys that some of them see, these first, and how many these are."""\n'
        + indent("\n".join(lines))
    )


_ENDS = {"stop": "stop = jnp.minimum(start + rows, T)", "high": "high = jnp.minimum(low + columns, S)"}


class _Loops(HeadsFirst):
    """The two loops of a spec, as text."""

    def forward(self) -> str:
        """The loops that add up the output."""
        inner = self.text(
            *self.tile(),
            *self.logits,
            _FILLED_UP,
            Line("new_peak = jnp.maximum(peak, logits.max(axis=-1, keepdims=True))", self.softmax),
            Line("weights, shrink = jnp.exp(logits - new_peak), jnp.exp(peak - new_peak)", self.softmax),
            Line("total = total * shrink + weights.sum(axis=-1, keepdims=True)", self.softmax),
            *self.combine,
            Line("return new_peak, total, attended * shrink + output"),
        )
        return self.function(_FORWARD, inner)

    def backward(self) -> str:
        """The loops that add up the gradients."""
        last = "return d_query + d_query_block, _added(d_keys, at, d_key_block), _added(d_values, at, d_value_block)"
        weights = _FILLED_UP, Line("weights = weights_of_rows = jnp.exp(logits - residual)", self.softmax)
        return self.function(_BACKWARD, self.text(*self.tile(), *self.again(weights, "mean", last)))

    def direct(self) -> str:
        """The direct form, of which second derivatives are."""
        spec, printer = (
            self.spec,
            Printer(self.printer.target, batched=False, sizes=aliases(self.spec), rules=rules_of(self.spec)),
        )
        body = Body(spec, spec.paths[0], self.layouts.scope, frozenset()).stages()
        stages = tuple(s for s in body if isinstance(s, Assign) and s.target.name not in ("dtype", "compute"))
        text = printer.branch((*stages, Line("return output")), "")
        head = printer.block(tuple(self.layouts.head(text)))
        return _DIRECT.format(body=at_level(1, f"{head}\n{text}"), **_names(spec))

    def tile(self) -> Iterator[Statement]:
        yield Line("at = visible[i]")
        yield from (Line(f"{name}_block = _block_of({name}, start, rows)") for name in self.entries("T"))
        yield from (Line(f"{name}_block = _block_of({name}, at * columns, columns)") for name in self.entries("S"))
        yield Line("key_block, value_block = keys[at], values[at]")
        yield Line("s = at * columns + jnp.arange(columns)")

    def function(self, skeleton: str, inner: str) -> str:
        """A skeleton with the body of its inner loop, layouts and sizes filled in."""
        given = {name: self.heads_first(name) for name in (*BLOCKED, "output")}
        returned = {f"{name}_returned": self.as_given(name) for name in (*BLOCKED, "output")}
        gradient = self.heads_first("output", "gradient_output")
        read = [name for name in seen_blocks(self.spec, self.printer.target)[1] if name in others(self.spec)]
        given |= {"gradient": gradient, "read": "".join(f", {name}" for name in read)}
        text = skeleton.format(inner=at_level(3, inner), head=_HEAD, **given, **returned, **_names(self.spec))
        return text.replace(_HEAD, at_level(1, self.head(text)))

    def head(self, text: str) -> str:
        """Dtypes, and the sizes that the rest reads."""
        lengths = Line("rows, columns = _block_length(T, BLOCK), _block_length(S, BLOCK)")
        return self.text(*self.layouts.head(text), lengths)

    def as_given(self, name: str) -> str:
        """What the loops made, in the layout of the call."""
        blocks, length = _MADE[name]
        return self.transposed(Ref(f"_joined({blocks}, {length})", HEADS_FIRST[name]), self.layouts.dims(name))


_MADE = {"query": ("d_queries", "T"), "key": ("d_keys", "S"), "value": ("d_values", "S"), "output": ("outputs", "T")}
"""What the loops make of each array, and its length."""
_HEAD = "    # sizes and dtypes"
_FILLED_UP = Line(
    "if T % rows or S % columns:  # what the last blocks are filled up with is no query and no key\n"
    "    logits = jnp.where((s < S) & (t[:, None] < T), logits, -jnp.inf)"
)
_FORWARD = '''@jax.custom_jvp
def _forward(query: jax.Array, key: jax.Array, value: jax.Array{parameters}) -> tuple[jax.Array, jax.Array]:
    """The output, and in blocks the log-sum-exp of every row, 0 where it is empty."""
{head}
    queries = _in_blocks({query}, rows)
    keys, values = _in_blocks({key}, columns), _in_blocks({value}, columns)

    def of_queries(block: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        start, query_block, visible, count = block
        t = start + jnp.arange(rows)

        def add_keys(i: Any, carried: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            peak, total, attended = carried
{inner}

        peak = jnp.full((*query_block.shape[:-1], 1), jnp.finfo(compute).min, compute)
        attended = jnp.zeros((*query_block.shape[:-1], values.shape[-1]), compute)
        peak, total, attended = jax.lax.fori_loop(0, count, add_keys, (peak, jnp.zeros_like(peak), attended))
        # policy.empty_row: zero
        empty = total == 0
        total = jnp.where(empty, 1, total)
        return (attended / total).astype(dtype), jnp.where(empty, 0, peak + jnp.log(total))

    visible, counts = _visible(T, S, rows, columns{read})
    outputs, residuals = jax.lax.map(of_queries, (rows * jnp.arange(len(queries)), queries, visible, counts))
    return {output_returned}, residuals'''
_BACKWARD = '''@jax.custom_jvp
def _backward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array{parameters},
    gradient_output: jax.Array,
    output: jax.Array,
    residuals: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of query, key and value; the weights are computed again, tile by tile."""
{head}
    queries = _in_blocks({query}, rows)
    keys, values = _in_blocks({key}, columns), _in_blocks({value}, columns)
    outputs = _in_blocks({output}, rows)
    d_outputs = _in_blocks({gradient}, rows)

    def of_queries(
        totals: tuple[jax.Array, jax.Array], block: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        start, query_block, output_block, d_output, residual, visible, count = block
        t = start + jnp.arange(rows)
        d_output = d_output.astype(compute)
        # The gradient of a row of weights has this mean under them.
        mean = (d_output * output_block).sum(axis=-1, keepdims=True)

        def add_keys(i: Any, carried: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            d_query, d_keys, d_values = carried
{inner}

        d_query = jnp.zeros(query_block.shape, compute)
        d_query, d_keys, d_values = jax.lax.fori_loop(0, count, add_keys, (d_query, *totals))
        return (d_keys, d_values), d_query

    visible, counts = _visible(T, S, rows, columns{read})
    blocks = rows * jnp.arange(len(queries)), queries, outputs, d_outputs, residuals, visible, counts
    totals = jnp.zeros(keys.shape, compute), jnp.zeros(values.shape, compute)
    (d_keys, d_values), d_queries = jax.lax.scan(of_queries, totals, blocks)
    d_query = {query_returned}
    d_key, d_value = {key_returned}, {value_returned}
    return d_query.astype(dtype), d_key.astype(dtype), d_value.astype(dtype)'''
_DIRECT = '''def _direct(query: jax.Array, key: jax.Array, value: jax.Array{parameters}) -> jax.Array:
    """The direct form: second derivatives, in either mode, are its own, in memory that grows with T times S."""
{body}'''
_SECOND = '''@_forward.defjvp
def _forward_changes(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """Of the residuals only `_backward` knows anything, which does not ask how they change."""
    output, residuals = _forward(*primals)
    return (output, residuals), (jax.jvp(_direct, primals, tangents)[1], jnp.zeros_like(residuals))


@_backward.defjvp
def _backward_changes(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The output and the residuals follow from the rest: of how these change the direct form knows."""

    def gradients(query: jax.Array, key: jax.Array, value: jax.Array, *rest: Any) -> Any:
        *numbers, gradient_output = rest
        return jax.vjp(lambda *at: _direct(*at, *numbers), query, key, value)[1](gradient_output)

    return _backward(*primals), jax.jvp(gradients, primals[:-2], tangents[:-2])[1]'''
_RULE = '''@jax.custom_vjp
def _attend(query: jax.Array, key: jax.Array, value: jax.Array{parameters}) -> jax.Array:
    """The loops as one step with a derivative of its own: jax cannot reverse loops of a length that it does not know."""
    return _forward(query, key, value{names})[0]


def _kept(query: Any, key: Any, value: Any{parameters}) -> tuple[jax.Array, tuple[Any, ...]]:
    """The output, and what the backward pass needs. Every argument says whether it is differentiated."""
    for name, number in {{{numbers}}}.items():
        if number.perturbed:
            raise NotImplementedError(f"jax: the blockwise form has no derivative by `{{name}}`; the direct form has")
    given = query.value, key.value, value.value{values}
    output, residuals = _forward(*given)
    return output, (given, output, residuals)


def _pulled_back(kept: Any, gradient_output: jax.Array) -> tuple[jax.Array | None, ...]:
    given, output, residuals = kept
    return (*_backward(*given, gradient_output, output, residuals){nones})


_attend.defvjp(_kept, _pulled_back, symbolic_zeros=True)'''
