"""Reverse-mode derivative of a program: the statements of its `vjp`.

Works backwards over the stages. The adjoint of variable `x` is `d_x`. A value that its statement overwrites and that
the backward pass still needs is kept under a name of its own (`logits_before_softcap`). Gradients are held in the
accumulation dtype and rounded once, at the end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from attnspec.codegen.adjoint import SELF, Leaf, adjoint
from attnspec.codegen.folding import folded, unfolded
from attnspec.codegen.index_notation import elementwise
from attnspec.codegen.printer import at_axis
from attnspec.codegen.program import Assign, Dims, If, Line, Node, Op, Program, Ref, Return, Statement, reads, statements, walk
from attnspec.codegen.prologue import given_as_swapped, is_grouped, lacking_axis, lift_names, swap
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Unary
from attnspec.spec.layouts import swapped
from attnspec.spec.model import Argument, Output, Spec


def vjp_program(spec: Spec, program: Program) -> Program:
    """The program of `<name>_vjp(d_output, ...)`. Raises LoweringError for what has no derivative here."""
    prologue, body = split_prologue(program.body)
    noted = (line for statement in prologue for line in _noting_given(spec, statement))
    prologue = tuple(dict.fromkeys(noted))  # a shape once, before the first of several layouts is taken apart
    return Program(f"{program.name}_vjp", (*prologue, *vjp_body(spec, body)), program.batched)


def reverse_stages(spec: Spec, stages: tuple[Statement, ...], output: Ref) -> tuple[list[Statement], list[Statement]]:
    """(the stages with kept values, their reverse) for unconditional stages and the cotangent `d_<output>`."""
    reverse = _Reverse(spec, stages, (Return((output,)),))
    backward = [*reverse.push(output, Ref(f"d_{output.name}", output.dims), None, False), *reverse.reverse(stages, False)]
    return list(reverse.forward(stages)), backward


def _noting_given(spec: Spec, statement: Statement) -> Iterator[Statement]:
    """Where an absent member stands in for another, remember that it was absent: its gradient goes there."""
    for argument in spec.tensor_arguments:
        body = statement.body if isinstance(statement, If) else (statement,)
        if any(regroups(each, argument.name) for each in body):
            given = f"() if {argument.name} is None else " if argument.optional else ""
            yield Line(f"{argument.name}_shape = {given}{argument.name}.shape")
        defaulted = (
            isinstance(statement, Line) and statement.text.startswith(f"{argument.name} = ") and " if " in statement.text
        )
        if argument.unset is not None and defaulted:
            yield Line(f"{argument.name}_given = {argument.name} is not None")
    yield statement


def regroups(statement: Statement, name: str) -> bool:
    """Whether a statement takes the axes of the tensor `name` apart."""
    value = statement.value if isinstance(statement, Assign) else None
    return isinstance(value, Op) and value.name == "regroup" and value.arguments[0] == Ref(name, value.arguments[0].dims)


def cotangent_name(spec: Spec) -> str:
    """The first parameter: one cotangent, or a tuple where several differentiable outputs are returned."""
    return "d_output" if len(_differentiable(spec)) == 1 else "d_outputs"


def split_prologue(body: tuple[Statement, ...]) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """What a function does before the attention, and the attention."""
    first = next(i for i, s in enumerate(body) if _begins(s))
    return body[:first], body[first:]


def _begins(statement: Statement) -> bool:
    """Whether the stages begin here: with the dtype to work in, or a path."""
    if isinstance(statement, Assign):
        return statement.target.name == "dtype"
    return isinstance(statement, If) and statement.clause.startswith("path.")


def vjp_body(spec: Spec, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Forward and backward of one path, and of each where there are several: backward, paths share nothing."""
    last = body[-1]
    if isinstance(last, If) and last.clause.startswith("path."):
        shared = body[:-1]
        one, other = vjp_body(spec, (*shared, *last.body)), vjp_body(spec, (*shared, *last.orelse))
        return (If(last.test, one, other, last.clause),)
    first = next(i for i, s in enumerate(body) if isinstance(s, Return) or getattr(s, "clause", "").startswith("returns."))
    return tuple(_Reverse(spec, body[:first], body[first:]).statements())


def _differentiable(spec: Spec) -> list[str]:
    return list(dict.fromkeys(output.name for output in spec.outputs if not output.stop_gradient))


@dataclass
class _Reverse:
    """One pass backwards over the stages of one path."""

    spec: Spec
    stages: tuple[Statement, ...]
    returns: tuple[Statement, ...]
    live: set[str] = field(default_factory=set)
    saves_before: dict[int, set[str]] = field(default_factory=dict)
    saves_after: dict[int, set[str]] = field(default_factory=dict)

    def statements(self) -> Iterator[Statement]:
        backward = [*self.seeds(), *self.reverse(self.stages, conditional=False)]
        end = tuple(self.collect())
        yield from pruned(tuple(self.forward(self.stages)), (*backward, *end))
        yield Line("# Backward, last stage first.")
        yield Line("gradients: dict[str, np.ndarray] = {}")
        yield from (self.where_given(name, _zeros(name), floating=False) for name in sorted(self.needs_zero()))
        yield from backward
        yield from end

    # Forward, with what the backward pass needs kept.

    def forward(self, block: tuple[Statement, ...]) -> Iterator[Statement]:
        for statement in block:
            if isinstance(statement, If):
                yield If(statement.test, tuple(self.forward(statement.body)), (), statement.clause)
                continue
            assert isinstance(statement, Assign)
            if any(isinstance(node, Op) and node.name == "dropout" for node in walk(statement.value)):
                yield from self.without_mask()
                if not self.seeds_dropout():
                    continue
            for name in sorted(self.saves_before.get(id(statement), ())):
                yield Assign(Ref(_before(name, statement)), Ref(name))
            yield statement
            for name in sorted(self.saves_after.get(id(statement), ())):
                yield Assign(Ref(_after(name, statement)), Ref(name))

    def seeds_dropout(self) -> str:
        """The argument that decides what dropout draws: with it forward and backward draw the same."""
        return next((argument.name for argument in self.spec.constructor if argument.role == "seed"), "")

    def without_mask(self) -> Iterator[Statement]:
        """Refuse a gradient through a mask that nobody knows any more."""
        seed = self.seeds_dropout()
        raised = 'raise NotImplementedError("numpy: the vjp of dropout needs {}")'
        if seed:
            yield Line(f"if {seed} is None:\n    {raised.format(f'`{seed}`, which the forward call had')}")
        else:
            yield Line(raised.format("the mask that the forward call drew"))

    # Backward.

    def seeds(self) -> Iterator[Statement]:
        """Cotangents in the accumulation dtype, pushed through the expressions of the outputs."""
        every = _differentiable(self.spec)
        names = [name for name in every if name in self.returned()]
        lifted = any(statement.lifted for statement in self.returns if isinstance(statement, Return))
        values = [assign for assign in _assigns(self.returns) if assign.target.name in names]
        if len(every) > 1:
            yield from self.unpack(names)
        for output in (output for output in self.spec.outputs if output.name in names):
            text = f"d_{output.name}"
            if lifted:
                text = f"{at_axis(text, lacking_axis(output.layouts), 'None')} if lifted else {text}"
            text = folded(self.spec, f"d_{output.name}", output.layouts[0], text)
            body: list[Statement] = [Line(f"d_{output.name} = np.asarray({text}).astype(compute)")]
            before = set(self.live)
            if output.swapped_unless:
                body.append(If(given_as_swapped(output.swapped_unless), (swap(f"d_{output.name}", _swapped_dims(output)),)))
            made = next((assign for assign in values if assign.target.name == output.name), None)
            if made is not None:
                values.remove(made)
                body += self.push(made.value, Ref(f"d_{output.name}", made.value.dims), None, conditional=False)
            else:
                self.live.add(output.name)
            if output.when is None:
                yield from body
            else:
                absent = tuple(_zeros(name) for name in sorted((self.live - before) & self.always_assigned()))
                yield If(output.when, tuple(body), absent, f"returns.{output.name}")

    def returned(self) -> set[str]:
        """The outputs that this path may return."""
        return {ref.name for s in statements(self.returns) if isinstance(s, Return) for ref in s.values}

    def unpack(self, names: list[str]) -> Iterator[Statement]:
        optional = [output for output in self.spec.outputs if output.when is not None and output.name in names]
        every = ", ".join(f"d_{name}" for name in names)
        if not optional or len({_names(s) for s in statements(self.returns) if isinstance(s, Return)}) == 1:
            yield Line(f"{every} = d_outputs")
            return
        when = optional[0].when
        assert when is not None
        rest = ", ".join(f"d_{name}" for name in names if name != optional[0].name)
        yield If(when, (Line(f"{every} = d_outputs"),), (Line(f"{rest} = d_outputs"),))

    def reverse(self, block: tuple[Statement, ...], conditional: bool) -> Iterator[Statement]:
        for statement in reversed(block):
            if isinstance(statement, If):
                before = set(self.live)
                body = tuple(self.reverse(statement.body, conditional=True))
                absent = tuple(_zeros(name) for name in sorted((self.live - before) & self.always_assigned()))
                if body:
                    yield If(statement.test, body, absent, statement.clause)
            elif isinstance(statement, Assign) and statement.target.name in self.live and statement.target.dims is not None:
                upstream = Ref("d_" + statement.target.name, statement.value.dims)
                yield from self.push(statement.value, upstream, statement, conditional)

    def push(self, value: Node, upstream: Node, statement: Assign | None, conditional: bool) -> Iterator[Statement]:
        """The adjoint statements of `target = value`; the target's own adjoint is replaced last."""
        found = ((ref, self.kept(node, ref, statement)) for ref, node in adjoint(value, upstream, statement))
        leaves = _added_up((ref, node) for ref, node in found if self.wants(ref))
        own = statement.target.name if statement else ""
        shared = conditional and statement is not None and self.assigned_before(statement)
        self.live.discard(own)
        for ref, node in sorted(leaves, key=lambda leaf: leaf[0].name == own):
            if node == Ref(f"d_{ref.name}", ref.dims):
                self.live.add(ref.name)
            else:
                yield self.accumulate(ref, node, statement, conditional)
        if shared and own not in self.live:
            self.live.add(own)
            yield _zeros(own, Ref("d_" + own))  # of its shape here: later stages may have made it longer

    def assigned_before(self, statement: Assign) -> bool:
        """Whether an earlier stage assigns the same variable, which this one replaces where its guard holds."""
        earlier = itertools.takewhile(lambda other: other is not statement, _assigns(self.stages))
        return any(other.target.name == statement.target.name for other in earlier)

    def always_assigned(self) -> set[str]:
        """Variables that some stage assigns under no guard."""
        return {statement.target.name for statement in self.stages if isinstance(statement, Assign)}

    def wants(self, ref: Ref) -> bool:
        """Index grids, sizes, integer and boolean tensors have no gradient."""
        if ref.dims is None or ref.dims == (ref.name.upper(),):
            return False
        given = {a.name: a for a in self.spec.tensor_arguments}
        return ref.name not in given or "floating" in given[ref.name].dtype

    def accumulate(self, ref: Ref, node: Node, statement: Assign | None, conditional: bool) -> Assign:
        clause = statement.clause if statement else ""
        own = statement is not None and statement.target.name == ref.name
        begun = ref.name in self.needs_zero() or ref.name in self.live
        optional = ref.name in self.leaf_names() and conditional and not own and not begun
        name = f'gradients["{ref.name}"]' if optional else f"d_{ref.name}"
        if ref.name in self.broadcast_names():
            node = Op("sum_to", (node, ref), ref.dims)
        if optional:
            return Assign(Ref(name), Op("cast", (node,), ref.dims, (("to", f"{ref.name}.dtype"),)), clause)
        live = not own and begun
        self.live.add(ref.name)
        return Assign(
            Ref(name, ref.dims), elementwise("add", (Ref(name, ref.dims), node), ref.dims or ()) if live else node, clause
        )

    def kept(self, node: Node, leaf: Ref, statement: Assign | None) -> Node:
        """The gradient with every overwritten forward value read from where it was kept."""
        if isinstance(node, Op):
            return Op(node.name, tuple(self.kept(a, leaf, statement) for a in node.arguments), node.dims, node.attributes)
        if not isinstance(node, Ref) or node.dims is None or node.name.startswith("d_") or statement is None:
            return node
        if node.name == SELF:
            return self.after(Ref(statement.target.name, node.dims), statement)
        return self.before(node, statement)

    def before(self, ref: Ref, statement: Assign) -> Ref:
        if not any(s.target.name == ref.name for s in self.from_(statement)):
            return ref
        self.saves_before.setdefault(id(statement), set()).add(ref.name)
        return Ref(_before(ref.name, statement), ref.dims)

    def after(self, ref: Ref, statement: Assign) -> Ref:
        if not any(s.target.name == ref.name for s in self.from_(statement)[1:]):
            return ref
        self.saves_after.setdefault(id(statement), set()).add(ref.name)
        return Ref(_after(ref.name, statement), ref.dims)

    def from_(self, statement: Assign) -> list[Assign]:
        """The statement and all assignments after it."""
        assigns = list(_assigns(self.stages))
        return assigns[next(i for i, s in enumerate(assigns) if s is statement) :]

    # Arguments.

    def leaf_names(self) -> set[str]:
        return {a.name for a in self.spec.tensor_arguments} | {w.name for w in self.spec.weights}

    def broadcast_names(self) -> set[str]:
        """Arguments that may have been broadcast: leading axes, or axes of size 1."""
        return {a.name for a in self.spec.tensor_arguments if any(_may_broadcast(a) for _ in a.layouts)}

    def needs_zero(self) -> set[str]:
        """Arguments read under a condition and elsewhere too: their gradient starts at zero.

        Where a stage writes to the variable of an argument, what reads it later is no argument any more.
        """
        counts: dict[str, list[bool]] = {}
        overwritten: set[str] = set()
        for statement in self.stages:
            for assign in _assigns((statement,)):
                overwritten.add(assign.target.name)
                for leaf, _ in adjoint(assign.value, Ref("upstream", assign.value.dims), assign):
                    if leaf.name in self.leaf_names() - overwritten and self.wants(leaf):
                        counts.setdefault(leaf.name, []).append(isinstance(statement, If))
        return {name for name, inside in counts.items() if any(inside) and len(inside) > 1} | self.rewritten()

    def rewritten(self) -> set[str]:
        """Arguments whose own variable some stage changes, such as a padded mask: their gradient begins in that shape."""
        names = {assign.target.name for assign in _assigns(self.stages)} - self.always_assigned()
        return {a.name for a in self.spec.tensor_arguments if a.name in names and "floating" in a.dtype}

    def collect(self) -> Iterator[Statement]:
        for argument in self.spec.tensor_arguments:
            if argument.unset is not None and argument.optional:
                other = getattr(argument.unset, "name", "")
                yield Line(f"if not {argument.name}_given:\n    d_{other} = d_{other} + d_{argument.name}")
        yield from self.swapped()
        lifted = set(lift_names(self.spec))
        layouts = {a.name: a.layouts[0] for a in self.spec.tensor_arguments} | {w.name: w.layout for w in self.spec.weights}
        for name, layout in layouts.items():
            if name in self.live or name in self.needs_zero():
                text = f"d_{name}"
                if name in lifted:
                    text = f"({at_axis(text, lacking_axis(self.spec.argument(name).layouts), '0')} if lifted else {text})"
                text = unfolded(self.spec, layout, text)
                given = f"if {name}_given:\n    " if self.stands_in(name) else ""
                yield self.where_given(name, Line(f'{given}gradients["{name}"] = {text}.astype({name}.dtype)'))
        yield from self.regrouped()
        yield Line("return gradients")

    def swapped(self) -> Iterator[Statement]:
        """The gradients of batches in the order in which these came."""
        for argument in self.spec.tensor_arguments:
            if argument.swapped_unless and argument.name in self.live | self.needs_zero():
                dims = argument.layouts[0].dims
                yield If(given_as_swapped(argument.swapped_unless), (swap(f"d_{argument.name}", dims),))

    def regrouped(self) -> Iterator[Statement]:
        """The gradients of tensors whose axes were taken apart, in their shapes."""
        grouped = [(a.name, f"{a.name}_shape") for a in self.spec.tensor_arguments if any(map(is_grouped, a.layouts))]
        grouped += [(w.name, f'params["{w.name}"].shape') for w in self.spec.weights if is_grouped(w.layout)]
        for name, shape in grouped:
            yield self.where_given(name, Line(f'gradients["{name}"] = gradients["{name}"].reshape({shape})'))

    def where_given(self, name: str, statement: Statement, floating: bool = True) -> Statement:
        """The statement, under a guard where the tensor `name` may be absent and nothing stands in for it.

        What some stage rewrites has a gradient on the way even where it is boolean; it is given back where it is `floating`.
        """
        guards: dict[str, Expression | None] = {weight.name: weight.when for weight in self.spec.weights}
        optional = [a.name for a in self.spec.tensor_arguments if a.optional and not self.stands_in(a.name)]
        guards |= {each: Unary("not", IsNone(each)) for each in optional}
        for rewritten in self.rewritten() if floating else ():
            given: Expression = Unary("not", IsNone(rewritten))
            guards[rewritten] = Binary("and", given, Call("is_floating", (Name(rewritten),)))
        guard = guards.get(name)
        return statement if guard is None else If(guard, (statement,))

    def stands_in(self, name: str) -> bool:
        return any(a.name == name and a.optional and a.unset is not None for a in self.spec.tensor_arguments)


def pruned(block: tuple[Statement, ...], after: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The statements whose results something later reads."""
    kept: list[Statement] = []
    for statement in reversed(block):
        rest = (*reversed(kept), *after)
        if isinstance(statement, Assign) and statement.target.name not in _read_names(rest):
            continue
        if isinstance(statement, If):
            statement = replace(statement, body=pruned(statement.body, rest))
            if not statement.body:
                continue
        kept.append(statement)
    return tuple(reversed(kept))


def _read_names(block: tuple[Statement, ...]) -> set[str]:
    texts = " ".join(s.text for s in statements(block) if isinstance(s, Line))
    return reads(block) | set(re.findall(r"\w+", texts)) | {"dtype", "compute"}


def _added_up(leaves: Iterable[Leaf]) -> list[Leaf]:
    """One gradient for each variable, however often the expression reads it."""
    totals: dict[str, Leaf] = {}
    for ref, node in leaves:
        before = totals.get(ref.name)
        totals[ref.name] = (ref, elementwise("add", (before[1], node), ref.dims or ()) if before else node)
    return list(totals.values())


def _names(returned: Return) -> tuple[str, ...]:
    return tuple(value.name for value in returned.values)


def _swapped_dims(output: Output) -> Dims:
    """The dims of an output whose first two axes come in the other order."""
    return swapped(output.layouts)[0].dims


def _zeros(name: str, like: Ref | None = None) -> Assign:
    """The gradient of something that may not have been used."""
    return Assign(Ref("d_" + name), Op("zeros_like", (like or Ref(name),), None))


def _may_broadcast(argument: Argument) -> bool:
    return any(layout.batched or is_grouped(layout) or any(axis.or_one for axis in layout.axes) for layout in argument.layouts)


def _assigns(block: tuple[Statement, ...]) -> Iterator[Assign]:
    for statement in block:
        if isinstance(statement, If):
            yield from _assigns(statement.body)
        elif isinstance(statement, Assign):
            yield statement


def _before(name: str, statement: Assign) -> str:
    return f"{name}_before_{statement.clause.rpartition('.')[2]}"


def _after(name: str, statement: Assign) -> str:
    return f"{name}_after_{statement.clause.rpartition('.')[2]}"
