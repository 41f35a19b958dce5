"""The first part of a program: check the documented arguments and bring them to canonical form.

Checks come before any arithmetic. Static facts (ranks, dtypes, known sizes, Python values) always raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from attnspec.codegen.program import Assign, Check, Default, Derived, Dims, If, Line, Op, Ref, Sizes, Statement
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Number, Unary, names, walk
from attnspec.spec.model import Argument, Axis, Layout, Precondition, Spec

_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def prologue(spec: Spec) -> Iterator[Statement]:
    """Unpack lists, check tensors, bind sizes, fill in defaults, check preconditions, lift missing axes."""
    for argument in spec.arguments:
        if argument.role == "tensors":
            yield from _unpack(argument)
        elif isinstance(argument.unset, Name) and argument.role == "tensor":
            yield _stand_in(argument)
    yield from _told(spec)
    for argument in spec.tensor_arguments:
        yield from _tensor(argument)
    yield from _weights(spec)
    yield from _same_dtype(spec)
    yield from _sizes(spec)
    for argument in (*spec.constructor, *spec.arguments):
        yield from _scalars(argument)
    for precondition in spec.preconditions:
        yield _check(spec, precondition)
    yield from _derived(spec)
    yield from _lift(spec)
    yield from _lacking_axes(spec)


def constructor_checks(spec: Spec) -> Iterator[Check]:
    """The preconditions that a constructor can tell by itself."""
    yield from (_check(spec, precondition) for precondition in spec.preconditions if _is_constructors(spec, precondition))


def call_checks(spec: Spec) -> Iterator[Check]:
    """The preconditions that ask for something of a call."""
    yield from (_check(spec, precondition) for precondition in spec.preconditions if not _is_constructors(spec, precondition))


def tensor_checks(spec: Spec) -> Iterator[Statement]:
    """The tensors of a call: their shapes, their kinds of dtype, and the sizes that they share."""
    yield Line("sizes: dict[str, tuple[int, str]] = {}")
    for argument in spec.tensor_arguments:
        yield from _tensor(argument)


def _is_constructors(spec: Spec, precondition: Precondition) -> bool:
    parts = (part for part in (precondition.when, precondition.requires) if part is not None)
    return frozenset().union(*map(names, parts)) <= {argument.name for argument in spec.constructor}


def canonical_dims(layout: Layout, canonical: Dims) -> Dims:
    """A layout's dims in the operator's letters: where an API says `B S K H` for value, its last axis is `V`."""
    extra = [dim for dim in canonical if dim not in layout.dims]
    return tuple(dim if dim in canonical else extra.pop(0) if extra else dim for dim in layout.dims)


def layout_text(layout: Layout) -> str:
    """The layout as the spec writes it: `... N|1 T S`."""
    return " ".join((*(["..."] if layout.batched else []), *map(_axis_text, layout.axes)))


def _axis_text(axis: Axis) -> str:
    text = axis.dims[0] if len(axis.dims) == 1 else f"({' '.join(axis.dims)})"
    return f"{text}|1" if axis.or_one else text


def _unpack(argument: Argument) -> Iterator[Statement]:
    names = [element.name for element in argument.elements]
    least = sum(element.required for element in argument.elements)
    yield Line(f'{", ".join(names)} = _members("{argument.name}", {argument.name}, {least}, {len(names)})')
    for element in argument.elements:
        if isinstance(element.unset, Name):
            yield _stand_in(element)


def _stand_in(argument: Argument) -> Line:
    """Another tensor in place of one that is not given."""
    assert isinstance(argument.unset, Name)
    return Line(f"{argument.name} = {argument.unset.name} if {argument.name} is None else {argument.name}")


def _told(spec: Spec) -> Iterator[Statement]:
    """The sizes that arguments of the constructor tell, before any tensor is looked at."""
    tellers = [argument for argument in spec.constructor if argument.tells]
    yield from (Line(f'{a.name} = _integer("{a.name}", {a.name})') for a in tellers)
    told = ", ".join(f'"{dim}": ({a.name}, "{a.name}")' for a in tellers for dim in a.tells)
    yield Line(f"sizes: dict[str, tuple[int, str]] = {{{told}}}")


def _tensor(argument: Argument) -> Iterator[Statement]:
    layouts = ", ".join(f'"{layout_text(layout)}"' for layout in argument.layouts)
    call = f'{argument.name} = _tensor(sizes, "{argument.name}", {argument.name}, "{argument.dtype}", {layouts})'
    stands_in = isinstance(argument.unset, Name)
    yield Line(call if not argument.optional or stands_in else f"if {argument.name} is not None:\n    {call}")


def _weights(spec: Spec) -> Iterator[Statement]:
    for when, weights in groupby(spec.weights, key=lambda weight: weight.when):
        lines = [
            Line(f'{w.name} = _tensor(sizes, "{w.name}", params["{w.name}"], "floating", "{layout_text(w.layout)}")')
            for w in weights
        ]
        yield from lines if when is None else (If(when, tuple(lines)),)


def _same_dtype(spec: Spec) -> Iterator[Statement]:
    always = [a for a in spec.tensor_arguments if not a.optional or isinstance(a.unset, Name)]
    names = [a.name for a in always if a.dtype == "floating"]
    if len(names) > 1:
        yield Line(f"_same_dtype({', '.join(f'{name}={name}' for name in names)})")


def _sizes(spec: Spec) -> Iterator[Statement]:
    bound = sorted({dim for a in spec.tensor_arguments if not a.optional for layout in a.layouts[:1] for dim in _named(layout)})
    bound += sorted({dim for w in spec.weights if w.when is None for dim in w.layout.dims} - set(bound))
    yield Sizes(tuple(bound))


def _derived(spec: Spec) -> Iterator[Statement]:
    """Sizes that follow from others, where no tensor that is always there has them."""
    bound = {name for statement in _sizes(spec) if isinstance(statement, Sizes) for name in statement.names}
    yield from (Derived(name, rule) for name, rule in spec.sizes.items() if name not in bound)


def _named(layout: Layout) -> list[str]:
    return [dim for axis in layout.axes if not axis.or_one for dim in axis.dims]


def lift_names(spec: Spec) -> list[str]:
    """Tensors that may come without their leading axes."""
    return [
        a.name for a in spec.tensor_arguments if len({len(layout.axes) for layout in a.layouts if not _broadcasts(layout)}) > 1
    ]


def _broadcasts(layout: Layout) -> bool:
    return any(axis.or_one for axis in layout.axes)


def _lift(spec: Spec) -> Iterator[Statement]:
    names = lift_names(spec)
    if not names:
        return
    shortest = min(len(layout.axes) for layout in spec.argument(names[0]).layouts)
    given = ", ".join(f"{name}={name}" for name in names)
    yield Line(f"lifted = _lacks_leading_axis({shortest}, {given})")
    yield Line(f"if lifted:\n    {', '.join(names)} = {', '.join(f'{name}[None]' for name in names)}")


def _lacking_axes(spec: Spec) -> Iterator[Statement]:
    """A shorter layout gets the axes that it lacks where later ones go between them: `T S` of `B T S`, for `B N T S`."""
    for argument in spec.tensor_arguments:
        longest = argument.layouts[0].dims
        ends = spec.tensors["logit"][-len(longest) :] == longest
        for own in (layout.dims for layout in argument.layouts[1:] if _broadcasts(layout) and not layout.batched):
            if longest[-len(own) :] != own or not ends:
                inserted = tuple(dim for dim in longest if dim not in own)
                name = argument.name
                ranked: Expression = Binary("==", Call("rank", (Name(name),)), Number(len(own)))
                if argument.optional:
                    ranked = Binary("and", Unary("not", IsNone(name)), ranked)
                widened = Op("align", (Ref(name, own),), longest, (("inserted", inserted),))
                yield If(ranked, (Assign(Ref(name, longest), widened),))


def _scalars(argument: Argument) -> Iterator[Statement]:
    if argument.role == "sizes":
        yield Line(f'{", ".join(argument.names)} = _pair("{argument.name}", {argument.name})')
    elif argument.role == "choice":
        yield Line(f'_choice("{argument.name}", {argument.name}, {argument.choices!r})')
    elif argument.role == "number" and argument.unset is not None:
        yield Default(argument.name, argument.unset)
    elif argument.role in ("number", "integer") and not argument.tells:
        checked = f'{argument.name} = _{argument.role}("{argument.name}", {argument.name})'
        yield Line(f"if {argument.name} is not None:\n    {checked}" if argument.optional else checked)


def _check(spec: Spec, precondition: Precondition) -> Check:
    fails = negate(precondition.requires)
    if precondition.when is not None:
        fails = Binary("and", precondition.when, fails)
    read = frozenset(each.name for each in walk(fails) if isinstance(each, Name))  # `x is None` does not ask for a value
    numbers = tuple(a.name for a in (*spec.constructor, *spec.arguments) if a.role in ("number", "integer") and a.name in read)
    sizes = tuple(sorted(read & (_bound(spec) | spec.sizes.keys())))
    return Check(fails, precondition.raises, precondition.message, f"precondition.{precondition.clause}", numbers, sizes)


def _bound(spec: Spec) -> set[str]:
    """The dims that tensors and weights bind."""
    layouts = [layout for a in spec.tensor_arguments for layout in a.layouts] + [weight.layout for weight in spec.weights]
    return {dim for layout in layouts for dim in layout.dims}


def negate(expression: Expression) -> Expression:
    """The negation, pushed inward so that it reads as one would write it."""
    match expression:
        case Binary(operator, left, right) if operator in _NEGATED:
            return Binary(_NEGATED[operator], left, right)
        case Binary("and", left, right):
            return Binary("or", negate(left), negate(right))
        case Binary("or", left, right):
            return Binary("and", negate(left), negate(right))
        case Unary("not", operand):
            return operand
    return Unary("not", expression)
