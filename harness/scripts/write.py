"""The script of a failure: the call, or the two calls that a check compares, and what it got and what it wants."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import sqrt

import numpy as np

from attnspec.harness.adapter import Adapter
from attnspec.harness.arrangement import Arrangement
from attnspec.harness.checks import aftermath, agreement, arguments, drawn, dropout, preconditions, related_calls, second_order
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.checks.setting import Related, setting_of
from attnspec.harness.checks.stacked import Merged
from attnspec.harness.checks.variation import Variation
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes import call
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import judge
from attnspec.harness.scripts.calls import Author, Earlier, Source
from attnspec.harness.scripts.dialects import DIALECTS, Differentiated, dialect_of
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

LINES = 20
WIDTH = 118
STANDARD = ("base64", "importlib", "inspect", "os", "sys", "zlib")
NUMPY = "import numpy as np"


def script(
    spec: Spec,
    subject: Subject,
    failure: Failure,
    about: str,
    adapter: Adapter | None = None,
    given: Mapping[str, Array] | None = None,
) -> str:
    """The failure as a script; none for R, whose calls have no dialect here. `about` becomes its comment.

    `adapter` is the user's own as the lane describes it, `given` the arrays where the case's seed did not make them.
    """
    if subject.lane not in DIALECTS:
        return ""
    spread = Arrangement.of(spec, failure.case.configuration) if failure.case else None
    author = Author(spec, subject, dialect_of(subject, spec.owner), adapter, given, spread)
    first, second, rest = _parts(author, failure)
    imports = _imports(author, failure.case, "\n".join([*first.values(), *second.values(), *rest]))
    room = LINES - len(imports) - len(rest)
    assigned = _assigned(room - 2, first, second)
    return "\n".join([*_comment(room - len(assigned), about), *imports, *assigned, *rest, ""])


def _comment(room: int, about: str) -> list[str]:
    """A few lines, or a single one where no more room is left."""
    text = " ".join(about.split())
    lines = textwrap.wrap(text, WIDTH)
    return [f"# {line}" for line in (lines if len(lines) <= min(room, 4) else [textwrap.shorten(text, 2 * WIDTH)])]


def _imports(author: Author, case: Case | None, text: str) -> list[str]:
    own = [*author.dialect.imports, *author.imports()]
    whole = "\n".join([text, *own])
    standard = [name for name in STANDARD if f"{name}." in whole]
    numbers = [name for name in ("inf", "nan") if re.search(rf"(?<![\w.\"]){name}\b", text)]
    found = [f"import {', '.join(standard)}"] if standard else []
    found += [f"from math import {', '.join(numbers)}"] if numbers else []
    found += [NUMPY] if "np." in text and NUMPY not in own else []
    if "jax" in author.subject.lane and case is not None and case.configuration.dtype == "float64":
        own.append('jax.config.update("jax_enable_x64", True)')
    return [*found, *own]


def _assigned(room: int, *calls: Mapping[str, str]) -> list[str]:
    """A line for each tensor, or one for all of a call where there is no room."""
    if sum(map(len, calls)) <= room:
        return [f"{name} = {text}" for tensors in calls for name, text in tensors.items()]
    return [f"{', '.join(tensors)} = {', '.join(tensors.values())}" for tensors in calls if tensors]


Tensors = Mapping[str, str]


def _parts(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """The tensors of the first call, those of the second one, and all other statements."""
    match failure.check:
        case "signature":
            return {}, {}, _signature(author, failure)
        case "preconditions" if failure.clause.startswith(aftermath.AFTER):
            return _after(author, failure)
        case "answers" | "preconditions":
            return _raising(author, failure)
        case "arguments":
            return _ignored(author, failure)
        case "relations":
            return _related(author, failure)
    return _compared(author, failure)


def _shown(got: str, want: str) -> list[str]:
    return [f'print("got ", {got})', f'print("want", {want})']


def _signature(author: Author, failure: Failure) -> list[str]:
    return _shown(f"inspect.signature({author.function})", repr(failure.message))


# -- one call -----------------------------------------------------------------------------------------------------


def _compared(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """An output or a gradient at its worst element, or its shape or dtype."""
    assert failure.case is not None
    spec, case, name = author.spec, failure.case, failure.clause
    given = author.arrays(case)
    names = call.output_names(spec, case.configuration)
    if failure.check == "gradients" or name not in names:
        tensors, statements = _differentiated(author, case, given, name)
        value = "gradient"
    else:
        source = author.source(case.configuration, call.inputs(given))
        tensors, value = source.tensors, name
        statements = _made(author, source, ", ".join(each or "_" for each in names))
    return tensors, {}, [*statements, *_element(author, value, failure)]


def _element(author: Author, value: str, failure: Failure) -> list[str]:
    worst = failure.worst
    if failure.seen == agreement.WRONG_SHAPE:
        return _shown(f"tuple({value}.shape)", repr(failure.message))
    if failure.seen == agreement.WRONG_DTYPE:
        return _shown(f"{value}.dtype", repr(failure.message))
    if worst is None:
        return _shown(f"type({value})", repr(failure.message))
    return _shown(
        f"float({value}[{_index(author.place(failure.clause, worst.index))}])", f'{_number(worst.want)}, "+- {worst.bound:.2g}"'
    )


def _unraveled(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(each) for each in np.unravel_index(place, shape))


def _index(index: Sequence[int]) -> str:
    return ", ".join(map(str, index)) or "()"


def _number(value: float) -> str:
    return f"{value:.9g}" if np.isfinite(value) else f'"{value}"'


def _differentiated(
    author: Author,
    case: Case,
    given: Mapping[str, Array],
    name: str,
    earlier: Earlier | None = None,
    dropped: Configuration | None = None,
    second: bool = False,
) -> tuple[Mapping[str, str], list[str]]:
    """Statements that end with the gradient of one tensor or weight. After an `earlier` call everything is called `other_`.

    With `dropped` that is the call, and the case is the one without dropout, which can be judged. The `second` derivative is
    along all floating tensors.
    """
    spec, prefix = author.spec, "other_" if earlier else ""
    source = author.source(dropped or case.configuration, call.inputs(given), leaf=name, earlier=earlier)
    outputs = judge(spec, case, given, False).outputs
    dtypes = {f"{call.COTANGENT}{each}": outputs[each].dtype for each in call.cotangents(given)}
    cotangents = {f"{prefix}{each}": author.tensor(each, given[each], dtype) for each, dtype in dtypes.items()}
    tensors = {**source.tensors, **cotangents}
    before: list[str] = []
    text, by = source.call, f"{prefix}{name}"
    if name in {weight.name for weight in spec.weights}:
        key = next(author.key(weight) for weight in spec.weights if weight.name == name)
        before, text, by = author.dialect.by_weight(source.function, name, key, text)
    names = call.output_names(spec, case.configuration)
    given_by = {each.removeprefix(call.COTANGENT): f"{prefix}{each}" for each in dtypes}
    places = [author.own_name(each) for each, other in case.configuration.values if other == name]
    what = Differentiated(text, names, given_by, by, author.vjp, source.arguments, author.own_name(name), places)
    leaves = [each for each, plan in case.configuration.tensors if "float" in plan.dtype]
    gradient = author.dialect.second(what, leaves) if second else author.dialect.gradient(what)
    return tensors, [*source.setup, *before, *gradient]


def _raising(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """A call that must return, or must not."""
    assert failure.case is not None
    case = failure.case
    if failure.clause == "gradients" and failure.check == "answers":
        given = author.arrays(case)
        leaf = next(name for name, plan in case.configuration.tensors if "float" in plan.dtype)
        tensors, statements = _differentiated(author, case, given, leaf)
    else:
        attempt = failure.check == "preconditions"
        given = call.filler(case.configuration) if attempt else call.inputs(author.arrays(case))
        source = author.source(case.configuration, given)
        tensors, statements = source.tensors, _made(author, source, "output")
    want = repr("an answer" if failure.check == "answers" else _refusal(author.spec, failure))
    tried = [f"    {line}" for line in statements]
    raised = '"raised " + repr(error)[:200]'
    return (
        tensors,
        {},
        ["try:", *tried, '    got = "an answer"', "except Exception as error:", f"    got = {raised}", *_shown("got", want)],
    )


def _after(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """A valid call before and after one that must raise."""
    assert failure.case is not None
    valid, clause = failure.case.configuration, failure.clause.removeprefix(aftermath.AFTER)
    broken = aftermath.violations(author.spec, valid.dtype, author.subject.lane)
    invalid = next(each.configuration for each in broken if each.clause == clause)
    given = call.inputs(author.arrays(failure.case))
    first = author.source(valid, given)
    second = author.source(invalid, call.filler(invalid), earlier=(valid, given))
    names = call.output_names(author.spec, valid)
    before, after = (_made(author, first, _target(names, names[0], variable)) for variable in ("output", "other"))
    tried = [f"    {line}" for line in _made(author, second, "_")]
    same = "bool(np.all(np.asarray(output) == np.asarray(other)))"
    return first.tensors, second.tensors, [*before, "try:", *tried, "except Exception: pass", *after, *_shown(same, "True")]


def _refusal(spec: Spec, failure: Failure) -> str:
    assert failure.case is not None
    raises = preconditions.violation_of(spec, failure.clause, failure.case.configuration).raises
    return f"raised {' or '.join(dict.fromkeys(raises))}: {failure.clause}"


# -- two calls ----------------------------------------------------------------------------------------------------


def _ignored(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """An argument given in two ways: the element at which right results are furthest apart, or an invalid second call."""
    assert failure.case is not None
    spec = author.spec
    found = next(each for each in arguments.variations(spec, failure.case) if each.argument == failure.clause)
    first = author.source(found.case.configuration, found.given)
    second = author.source(found.changed, found.other, earlier=(found.case.configuration, found.given))
    if found.apart is None:
        statements = _two_calls(author, (first, "output"), (second, "other"))
        return first.tensors, second.tensors, [*statements, *_shown('"two answers"', repr("the second call raises"))]
    if drawn.drops(spec, found.changed):
        return first.tensors, second.tensors, _of_drawn(author, found, first, second)
    name = next(iter(found.apart))
    targets = (
        (first, _target(call.output_names(spec, found.case.configuration), name, "output")),
        (second, _target(call.output_names(spec, found.changed), name, "other")),
    )
    is_turned = arguments.is_turned(failure, author.subject.lane)
    statements = list(_turned_calls(author, *targets)) if is_turned else _two_calls(author, *targets)
    one = judge(spec, found.case, found.given, False).outputs[name].value
    other = judge(spec, Case(found.changed, found.case.seed), found.other, False).outputs[name].value
    index = _unraveled(int(np.nanargmax(np.abs(one - other))), one.shape)
    place, bound = _index(author.place(name, index)), float(np.broadcast_to(found.apart[name], one.shape)[index])
    got = f'float(output[{place}]), "and", float(other[{place}])'
    return first.tensors, second.tensors, [*statements, *_shown(got, f'"further apart than {bound:.2g}"')]


def _of_drawn(author: Author, found: Variation, first: Source, second: Source) -> list[str]:
    """Two calls of which one drops weights, or both do from the same seed: they must not give the same."""
    name = author.spec.outputs[0].name
    targets = (
        (source, _target(call.output_names(author.spec, configuration), name, variable))
        for source, configuration, variable in ((first, found.case.configuration, "output"), (second, found.changed, "other"))
    )
    seeded = [author.dialect.seeded.format(seed=found.seed)] if found.seed else []
    statements = [line for source, target in targets for line in (*seeded, *_made(author, source, target))]
    return [*statements, *_shown("bool(np.all(np.asarray(output) == np.asarray(other)))", "False")]


def _of_seed(author: Author, related: Related, second: Source) -> list[str]:
    """One call twice, from the same seed."""
    names, seeded = call.output_names(author.spec, related.changed), author.dialect.seeded.format(seed=dropout.SEED)
    made = ([seeded, *_made(author, second, _target(names, names[0], variable))] for variable in ("output", "other"))
    got = "bool(np.all(np.asarray(output) == np.asarray(other)))"
    return [*chain.from_iterable(made), *_shown(got, "True")]


def _related(author: Author, failure: Failure) -> tuple[Tensors, Tensors, list[str]]:
    """Two calls that must give the same, at the element where they do not."""
    assert failure.case is not None
    spec, worst = author.spec, failure.worst
    pairs = related_calls.relations(spec, failure.case)
    related = next(each for each in pairs if each.relation == failure.clause)
    if related.relation == dropout.MASK and worst is not None:
        return _of_mask(author, related, worst)
    if related.relation == second_order.NAME and worst is not None:
        return _of_second(author, related, worst)
    if related.gradient and worst is not None:
        return _of_gradients(author, failure.case, related, worst)
    first = author.source(related.case.configuration, related.given)
    known = {} if related.layout else related.given
    second = author.source(related.changed, related.other, earlier=(related.case.configuration, known))
    if related.layout:
        second = replace(second, tensors=author.laid_out(second, related.other, related.layout))
    if related.relation == dropout.SEEDED:
        source = author.source(related.changed, related.other)
        return source.tensors, {}, _of_seed(author, related, source)
    if related.rate:
        return first.tensors, second.tensors, _of_dropout(author, failure, related, first, second)
    if worst is None:
        return (
            first.tensors,
            second.tensors,
            [*_two_calls(author, (first, "output"), (second, "other")), *_shown("other", "output")],
        )
    if isinstance(related, Merged):
        return first.tensors, second.tensors, _of_halves(author, related, worst, first, second)
    statements = _two_calls(
        author,
        (first, _target(call.output_names(spec, related.case.configuration), worst.tensor, "output")),
        (second, _target(call.output_names(spec, related.changed), worst.tensor, "other")),
    )
    got = f"float(other[{_index(author.place(worst.tensor, worst.index))}])"
    return first.tensors, second.tensors, [*statements, *_shown(got, _wanted(author, related, worst, "output"))]


def _wanted(author: Author, related: Related, worst: Worst, variable: str) -> str:
    """The sum of the first call's elements that the second one must give."""
    shape = dict(related.case.configuration.tensors)[worst.tensor].shape if related.gradient else None
    shape = shape or judge(author.spec, related.case, related.given, False).outputs[worst.tensor].value.shape
    places = _places(author, related, worst, shape)
    terms = [f"{factor} * float({variable}[{place}])" for (factor, _), place in zip(related.terms, places, strict=True)]
    return f'{" + ".join(terms).removeprefix("1 * ")}, "+- {worst.bound:.2g}"'


def _places(author: Author, related: Related, worst: Worst, shape: tuple[int, ...]) -> list[str]:
    """Where the first call has the element of each term."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    found = [int(moved(worst.tensor, numbers)[worst.index]) for _, moved in related.terms]
    return [_index(author.place(worst.tensor, _unraveled(each, shape))) for each in found]


def _of_gradients(author: Author, case: Case, related: Related, worst: Worst) -> tuple[Tensors, Tensors, list[str]]:
    """Gradients of two calls."""
    earlier = related.case.configuration, related.given
    first, one = _differentiated(author, related.case, related.given, worst.tensor)
    second, other = _differentiated(author, Case(related.changed, case.seed), related.other, worst.tensor, earlier)
    got = f"float(gradient[{_index(author.place(worst.tensor, worst.index))}])"
    return first, second, [*one, "first = gradient", *other, *_shown(got, _wanted(author, related, worst, "first"))]


def _of_second(author: Author, related: Related, worst: Worst) -> tuple[Tensors, Tensors, list[str]]:
    """A gradient's own derivative."""
    tensors, statements = _differentiated(author, related.case, related.given, worst.tensor, second=True)
    got = f"float(gradient[{_index(author.place(worst.tensor, worst.index))}])"
    return tensors, {}, [*statements, *_shown(got, f'{_number(worst.want)}, "+- {worst.bound:.2g}"')]


def _of_mask(author: Author, related: Related, worst: Worst) -> tuple[Tensors, Tensors, list[str]]:
    """The sum of the weights that the output shows, and the gradient at the same draw."""
    (name,), seeded = related.outputs, author.dialect.seeded.format(seed=dropout.SEED)
    source = author.source(related.changed, call.inputs(related.other))
    target = _target(call.output_names(author.spec, related.changed), name, "dropped")
    tensors, gradient = _differentiated(author, related.case, related.other, worst.tensor, dropped=related.changed)
    shape = judge(author.spec, related.case, related.given, False).outputs[name].value.shape
    place = dropout.column(setting_of(author.spec, related), name, shape, worst.index)
    rows = ", ".join(":" if each is None else str(each) for each in place)
    got = f"float(gradient[{_index(author.place(worst.tensor, worst.index))}])"
    statements = [seeded, *_made(author, source, target), seeded, *gradient]
    return tensors, {}, [*statements, *_shown(got, f'float(dropped[{rows}].sum()), "+- {worst.bound:.2g}"')]


def _of_halves(author: Author, related: Merged, worst: Worst, first: Source, second: Source) -> list[str]:
    """Two parts of a row, weighed by their log-sum-exps."""
    golds = judge(author.spec, related.case, related.given, False).outputs
    name = related.log_sum
    row = worst if worst.tensor == name else replace(worst, tensor=name, index=related.row_of(worst.index))
    one, other = (f"float(logs[{each}])" for each in _places(author, related, row, golds[name].value.shape))
    want = f"np.logaddexp({one}, {other})"
    if worst.tensor != name:
        parts = _places(author, related, worst, golds[worst.tensor].value.shape)
        shares = f"np.exp({one} - {want})", f"np.exp({other} - {want})"
        want = " + ".join(f"{share} * float(output[{part}])" for share, part in zip(shares, parts, strict=True))
    variables = {name: "logs", **{each: "output" for each in related.outputs if each != name}}
    target = ", ".join(variables.get(each, "_") for each in call.output_names(author.spec, related.case.configuration))
    names = call.output_names(author.spec, related.changed)
    statements = _two_calls(author, (first, target), (second, _target(names, worst.tensor, "other")))
    got = f"float(other[{_index(author.place(worst.tensor, worst.index))}])"
    return [*statements, *_shown(got, f'{want}, "+- {worst.bound:.2g}"')]


def _of_dropout(author: Author, failure: Failure, related: Related, first: Source, second: Source) -> list[str]:
    """How many weights are neither zero nor scaled, or how many are kept."""
    name, kept = related.outputs[0], 1 - related.rate
    bound = dropout.allowance(author.spec, related, name)
    names = call.output_names(author.spec, related.case.configuration)
    statements = _two_calls(author, (first, _target(names, name, "output")), (second, _target(names, name, "other")))
    if failure.seen == dropout.NEITHER:
        wrong = f"(other != 0) & (abs(other - {1 / kept} * output) > {bound:.2g})"
        return [*statements, *_shown(f"np.count_nonzero({wrong})", '0, "+- 0"')]
    count = int(np.prod(judge(author.spec, related.case, related.given, False).outputs[name].value.shape))
    want = f'{count * kept}, "+- {dropout.SIGMAS * sqrt(count * kept * related.rate):.3g}"'
    return [*statements, *_shown("np.count_nonzero(other != 0)", want)]


def _two_calls(author: Author, *calls: tuple[Source, str]) -> list[str]:
    """Both calls, each with the variables that take its results."""
    return [line for source, target in calls for line in _made(author, source, target)]


def _turned_calls(author: Author, *calls: tuple[Source, str]) -> Iterator[str]:
    """Both calls of a function in the lane's other mode."""
    for source, target in calls:
        yield f"{target} = {author.dialect.turned.format(function=source.function)}({source.arguments})"


def _made(author: Author, source: Source, target: str) -> list[str]:
    """The call, and the layer that it is of."""
    return [*source.setup, *author.dialect.forward(target, source.call, source.variables, source.is_layer)]


def _target(names: Sequence[str], name: str, variable: str) -> str:
    return ", ".join(variable if each == name else "_" for each in names)
