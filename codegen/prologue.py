"""The first part of a program: check the documented arguments and bring them to canonical form.

Checks come before any arithmetic. Static facts (ranks, dtypes, known sizes, Python values) always raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import groupby

from attnspec.codegen.folding import axes_argument, folded, spans_line
from attnspec.codegen.printer import at_axis
from attnspec.codegen.program import Assign, Check, Default, Derived, Dims, If, Line, Op, Ref, Sizes, Statement
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Number, Unary, names, substitute, to_text, walk
from attnspec.spec.layouts import layout_text, swapped
from attnspec.spec.model import Argument, Layout, Precondition, Spec, Weight

_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def prologue(spec: Spec) -> Iterator[Statement]:
    """Unpack lists, check tensors, bind sizes, fill in defaults, check preconditions, lift missing axes."""
    for argument in spec.arguments:
        if argument.role == "tensors":
            yield from _unpack(argument)
        elif isinstance(argument.unset, Name) and argument.role == "tensor":
            yield _stand_in(argument)
    early = _told_by_rule(spec)
    yield from _told(spec)
    yield from spans_line(spec)
    if early:
        yield from _constructed(spec)
    yield _first_sizes(spec)
    for argument in spec.tensor_arguments:
        yield from _tensor(spec, argument)
    yield from _late(spec)
    yield from _weights(spec)
    yield from _same_dtype(spec)
    yield from _sizes(spec)
    axes = axes_argument(spec)
    if axes is not None:
        yield Line(f"{axes.name} = _attended(spans)")
    for argument in (*(() if early else spec.constructor), *spec.arguments):
        yield from _scalars(argument, spec.preconditions)
    done = _own_preconditions(spec) if early else ()
    for precondition in (each for each in spec.preconditions if each not in done):
        yield _check(spec, precondition)
    yield from _derived(spec)
    yield from _lift(spec)
    yield from _lacking_axes(spec)
    yield from _regrouped(spec)


def constructor_checks(spec: Spec) -> Iterator[Check]:
    """The preconditions that a constructor can tell by itself."""
    yield from (_check(spec, precondition) for precondition in _own_preconditions(spec))


def call_checks(spec: Spec) -> Iterator[Check]:
    """The preconditions that ask for something of a call."""
    own = _own_preconditions(spec)
    yield from (_check(spec, precondition) for precondition in spec.preconditions if precondition not in own)


def tensor_checks(spec: Spec) -> Iterator[Statement]:
    """The tensors of a call: their shapes, their kinds of dtype, and the sizes that they share."""
    yield Line("sizes: dict[str, tuple[int, str]] = {}")
    for argument in spec.tensor_arguments:
        yield from _tensor(spec, argument)


def _own_preconditions(spec: Spec) -> tuple[Precondition, ...]:
    """The preconditions over the constructor's arguments alone, of a function over those that tell sizes."""
    own = {argument.name for argument in (*spec.constructor, *spec.tellers) if argument.role != "axes"}

    def named(precondition: Precondition) -> frozenset[str]:
        parts = (part for part in (precondition.when, precondition.requires) if part is not None)
        return frozenset().union(*map(names, parts))

    return tuple(precondition for precondition in spec.preconditions if named(precondition) <= own)


def _constructed(spec: Spec) -> Iterator[Statement]:
    """What a constructor checks, before sizes are made of its arguments."""
    for argument in spec.constructor:
        yield from _scalars(argument, spec.preconditions)
    yield from constructor_checks(spec)


def canonical_dims(layout: Layout, canonical: Dims) -> Dims:
    """A layout's dims in the operator's letters: where an API says `B S K H` for value, its last axis is `V`."""
    extra = [dim for dim in canonical if dim not in layout.dims]
    return tuple(dim if dim in canonical else extra.pop(0) if extra else dim for dim in layout.dims)


def _unpack(argument: Argument) -> Iterator[Statement]:
    names = [element.name for element in argument.elements]
    if argument.optional:
        absent = ", ".join(["None"] * argument.least)
        yield Line(f"{argument.name} = [{absent}] if {argument.name} is None else {argument.name}")
    yield Line(f'{", ".join(names)} = _members("{argument.name}", {argument.name}, {argument.least}, {len(names)})')
    for element in argument.elements:
        if isinstance(element.unset, Name):
            yield _stand_in(element)


def _stand_in(argument: Argument) -> Line:
    """Another tensor in place of one that is not given."""
    assert isinstance(argument.unset, Name)
    return Line(f"{argument.name} = {argument.unset.name} if {argument.name} is None else {argument.name}")


def _told(spec: Spec) -> Iterator[Statement]:
    """The sizes that arguments tell, before any tensor is looked at."""
    for argument in spec.tellers:
        unset = f"{to_text(argument.unset)} if {argument.name} is None else " if argument.unset is not None else ""
        if not is_late(spec, argument):
            yield Line(f"{argument.name} = {unset}{_as_integer(argument)}")


def is_late(spec: Spec, argument: Argument) -> bool:
    """Whether what stands in for a size that is not told is that of a tensor."""
    return argument.unset is not None and not names(argument.unset) <= {each.name for each in spec.tellers}


def _late(spec: Spec) -> Iterator[Statement]:
    """The sizes that stand in for what is not told, once the tensors that have them are known."""
    for argument in spec.tellers:
        if is_late(spec, argument) and argument.unset is not None:
            bound = substitute(argument.unset, {dim: Name(f'sizes["{dim}"][0]') for dim in names(argument.unset)})
            if argument.several:
                yield Line(several_sizes(argument, to_text(bound)))
                yield Line(f"{argument.name} = _product({argument.axes_name})")
            else:
                yield Line(f"{argument.name} = {to_text(bound)} if {argument.name} is None else {_as_integer(argument)}")
            yield from (Line(f'sizes["{dim}"] = ({argument.name}, "{argument.name}")') for dim in argument.tells)


def _as_integer(argument: Argument) -> str:
    """The argument, checked."""
    return f'_{argument.role}("{argument.name}", {argument.name})'


def several_sizes(argument: Argument, default: str) -> str:
    """The statement that gives the sizes of the axes of a dim."""
    return f'{argument.axes_name} = _several("{argument.name}", {argument.name}, {default})'


def _first_sizes(spec: Spec) -> Line:
    """The sizes by dim that no tensor has to tell, each with its owner."""
    told = ", ".join(f'"{dim}": ({to_text(rule)}, "{to_text(rule)}")' for dim, rule in _first(spec).items())
    return Line(f"sizes: dict[str, tuple[int, str]] = {{{told}}}")


def _first(spec: Spec) -> dict[str, Expression]:
    """The told sizes, and those of axes that are made of these: `(N*H)`, and `1`."""
    late = {dim for argument in spec.tellers if is_late(spec, argument) for dim in argument.tells}
    told = {dim: rule for dim, rule in told_sizes(spec).items() if dim not in late}
    grouped = [weight.layout for weight in spec.weights]
    grouped += [layout for a in spec.tensor_arguments for layout in a.layouts]
    axes = dict.fromkeys(axis.dims for layout in grouped for axis in layout.axes if len(axis.dims) != 1)
    return told | {_axis_text(dims): axis_size(spec, dims) for dims in axes if set(dims) <= told.keys()}


def axis_size(spec: Spec, dims: Dims) -> Expression:
    """The size of an axis: `embed_dim` for `num_heads * (embed_dim // num_heads)`, which divides."""
    told = {dim: spec.told.get(dim, Name(dim)) for dim in dims}
    for dim, rule in list(told.items()):
        match rule:
            case Binary("//", whole, part) if part in told.values():
                del told[next(each for each, one in told.items() if one == part)]
                told[dim] = whole
    return reduce(lambda one, other: Binary("*", one, other), told.values()) if told else Number(1)


def _axis_text(dims: Dims) -> str:
    """A grouped axis as one word, which its size is known by."""
    return f"({'*'.join(dims)})" if dims else "1"


def _written(layout: Layout) -> str:
    """The layout as generated checks read it: one word per axis."""
    axes = (layout_text(Layout((axis,))) if len(axis.dims) == 1 else _axis_text(axis.dims) for axis in layout.axes)
    return " ".join((*(["..."] if layout.batched else []), *axes))


def told_sizes(spec: Spec) -> dict[str, Expression]:
    """The dims of layouts whose sizes arguments decide."""
    layouts = [layout for a in spec.tensor_arguments for layout in a.layouts] + [weight.layout for weight in spec.weights]
    used = {dim for layout in layouts for dim in layout.dims} | {dim for a in spec.tellers for dim in a.tells}
    return {dim: rule for dim, rule in spec.told.items() if dim in used}


def _told_by_rule(spec: Spec) -> bool:
    """Whether some size is worked out of arguments: then these are checked first."""
    return any(not isinstance(rule, Name) for rule in told_sizes(spec).values())


def _tensor(spec: Spec, argument: Argument) -> Iterator[Statement]:
    yield from (_bound_by_call(dims) for dims in _first_met(spec, argument))
    layouts = ", ".join(f'"{_written(layout)}"' for layout in argument.layouts)
    if argument.swapped_unless:
        other = _written(swapped(argument.layouts)[0])
        kept = _written(argument.layouts[0])
        layouts = layouts.replace(f'"{kept}"', f'"{kept}" if {argument.swapped_unless} else "{other}"', 1)
    truth = argument.dtype == "bool or number"
    value, kind = (f"_truth({argument.name})", "bool") if truth else (argument.name, argument.dtype)
    value = folded(spec, argument.name, argument.layouts[0], value)
    call = f'{argument.name} = _tensor(sizes, "{argument.name}", {value}, "{kind}", {layouts})'
    stands_in = isinstance(argument.unset, Name)
    yield Line(call if not argument.optional or stands_in else f"if {argument.name} is not None:\n    {call}")


def _first_met(spec: Spec, argument: Argument) -> list[Dims]:
    """The grouped axes of a tensor whose sizes no argument tells, and which no tensor before it has."""
    told, every = told_sizes(spec).keys(), spec.tensor_arguments
    before = {axis.dims for other in every[: every.index(argument)] for layout in other.layouts for axis in layout.axes}
    axes = dict.fromkeys(axis.dims for layout in argument.layouts for axis in layout.axes if len(axis.dims) > 1)
    return [dims for dims in axes if dims not in before and not set(dims) <= told]


def _bound_by_call(dims: Dims) -> Line:
    """The size of a grouped axis that some tensor before has bound a part of."""
    sizes = " * ".join(f'sizes["{dim}"][0]' for dim in dims)
    return Line(f'sizes["{_axis_text(dims)}"] = ({sizes}, "{" * ".join(dims)}")')


def _weights(spec: Spec) -> Iterator[Statement]:
    for when, weights in groupby(spec.weights, key=lambda weight: weight.when):
        lines = [
            Line(f'{w.name} = _tensor(sizes, "{w.name}", {_given(spec, w)}, "floating", "{_written(w.layout)}")')
            for w in weights
        ]
        yield from lines if when is None else (If(when, tuple(lines)),)


def _given(spec: Spec, weight: Weight) -> str:
    """A weight as it is passed, with one axis for each dim."""
    return folded(spec, weight.name, weight.layout, f'params["{weight.name}"]')


def _same_dtype(spec: Spec) -> Iterator[Statement]:
    always = [a for a in spec.tensor_arguments if not a.optional or isinstance(a.unset, Name)]
    names = [a.name for a in always if a.dtype == "floating"]
    if len(names) > 1:
        yield Line(f"_same_dtype({', '.join(f'{name}={name}' for name in names)})")


def _sizes(spec: Spec) -> Iterator[Statement]:
    bound = sorted({dim for a in spec.tensor_arguments if not a.optional for layout in a.layouts[:1] for dim in _named(layout)})
    bound += sorted(({dim for w in spec.weights if w.when is None for dim in w.layout.dims} | {*told_sizes(spec)}) - set(bound))
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
        a.name
        for a in spec.tensor_arguments
        if len({len(layout.axes) for layout in a.layouts if not _broadcasts(layout)}) > 1
        and not any(len(axis.dims) > 1 for layout in a.layouts for axis in layout.axes)
    ]


def lacking_axis(layouts: tuple[Layout, ...]) -> int:
    """The place, in the longest layout, of the axis that the shortest one lacks."""
    return next((place for place, dim in enumerate(layouts[0].dims) if dim not in layouts[-1].dims), 0)


def _broadcasts(layout: Layout) -> bool:
    return any(axis.or_one for axis in layout.axes)


def _lift(spec: Spec) -> Iterator[Statement]:
    every = lift_names(spec)
    names = [name for name in every if not spec.argument(name).optional]
    if not names:
        return
    given = ", ".join(f"{name}={name}" for name in names)
    yield Line(f"lifted = _lacks_leading_axis({_shortest(spec, names[0])}, {given})")
    for name in (name for name in every if name not in names):
        yield Line(f"_lacks_it_too(lifted, {_shortest(spec, name)}, {name}={name})")
    yield Line(f"if lifted:\n    {', '.join(names)} = {', '.join(_with_axis(spec, name) for name in names)}")
    for name in (name for name in every if name not in names):
        yield Line(f"if lifted and {name} is not None:\n    {name} = {_with_axis(spec, name)}")
    for flag, arguments in groupby((a for a in spec.tensor_arguments if a.swapped_unless), key=lambda a: a.swapped_unless):
        swaps = (swap(a.name, swapped(a.layouts)[0].dims) for a in arguments)
        yield If(given_as_swapped(flag), tuple(swaps))


def _with_axis(spec: Spec, name: str) -> str:
    return at_axis(name, lacking_axis(spec.argument(name).layouts), "None")


def given_as_swapped(flag: str) -> Expression:
    """Whether a call's batches come with their first two axes in the other order."""
    return Binary("and", Unary("not", Name("lifted")), Unary("not", Name(flag)))


def swap(name: str, dims: Dims) -> Assign:
    """The tensor with its first two axes in the other order."""
    one, two, *rest = dims
    order = (two, one, *rest)
    return Assign(Ref(name, order), Op("transpose", (Ref(name, dims),), order))


def _shortest(spec: Spec, name: str) -> int:
    return min(len(layout.axes) for layout in spec.argument(name).layouts)


def _regrouped(spec: Spec) -> Iterator[Statement]:
    """Axes that hold several dims are taken apart, axes of 1 that stand for none are left out."""
    for argument in spec.tensor_arguments:
        for layout in (layout for layout in argument.layouts if is_grouped(layout)):
            parts: list[Expression] = [Unary("not", IsNone(argument.name))] if argument.optional else []
            if len(argument.layouts) > 1:
                parts.append(Binary("==", Call("rank", (Name(argument.name),)), Number(len(layout.axes))))
            regrouped = _regroup(argument.name, layout)
            yield If(reduce(lambda one, other: Binary("and", one, other), parts), (regrouped,)) if parts else regrouped
    for when, weights in groupby((w for w in spec.weights if is_grouped(w.layout)), key=lambda weight: weight.when):
        body = tuple(_regroup(weight.name, weight.layout) for weight in weights)
        yield from body if when is None else (If(when, body),)


def is_grouped(layout: Layout) -> bool:
    """Whether an axis holds several dims, or none."""
    return any(len(axis.dims) != 1 for axis in layout.axes)


def _regroup(name: str, layout: Layout) -> Assign:
    merged = tuple(" ".join(axis.dims) or str(place) for place, axis in enumerate(layout.axes))
    return Assign(Ref(name, layout.dims), Op("regroup", (Ref(name, merged),), layout.dims))


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


def _scalars(argument: Argument, preconditions: tuple[Precondition, ...]) -> Iterator[Statement]:
    if argument.role == "sizes":
        yield Line(f'{", ".join(argument.names)} = _pair("{argument.name}", {argument.name})')
    elif argument.role == "choice" and not any(argument.name in names(each.requires) for each in preconditions):
        yield Line(f'_choice("{argument.name}", {argument.name}, {argument.choices!r})')
    elif argument.tells:
        return
    elif argument.role == "number" and argument.unset is not None:
        yield Default(argument.name, argument.unset)
    elif argument.role in ("number", "integer"):
        checked = f"{argument.name} = {_as_integer(argument)}"
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
