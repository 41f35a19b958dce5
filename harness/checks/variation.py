"""One argument of one call, given in two ways: what the arguments check asks, and what it has to know of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import Gold
from attnspec.harness.pool import differs, valid
from attnspec.spec.model import Argument, Default, Spec
from attnspec.spec.resolve import EvaluationError, ShapeMismatch, resolve


@dataclass(frozen=True, eq=False)
class Variation:
    """One argument of one call, given in two ways.

    `apart` says how far apart two results of the same thing may be, by output; None where the second call is invalid.
    `without` is the call without an optional tensor, to tell whether a refusal is about that. A `singular` variation is of a
    call that no other variation makes: it is built, traced or compiled for that one alone. A `seed` sets the framework's
    generator before each call; both are `turned` where they are made in the other of a lane's modes (lanes/framework.py).
    """

    argument: str
    case: Case
    given: Mapping[str, Array]
    changed: Configuration
    other: Mapping[str, Array]
    apart: Mapping[str, Array] | None
    without: Configuration | None = None
    singular: bool = False
    seed: int = 0
    turned: bool = False


def offered(spec: Spec) -> Iterator[Argument]:
    """The arguments that have to act, members of lists one by one."""
    for argument in (*spec.constructor, *spec.arguments):
        yield from (member for member in argument.elements or (argument,) if not member.inert)


def is_valid(spec: Spec, configuration: Configuration) -> bool:
    """Whether the spec allows the call."""
    try:
        return valid(spec, facts(spec, configuration))
    except (ShapeMismatch, EvaluationError):
        return False


def path_of(spec: Spec, configuration: Configuration) -> str:
    """The path that a call takes."""
    return resolve(spec, facts(spec, configuration)).path.name


def with_values(spec: Spec, configuration: Configuration, chosen: Mapping[str, Default]) -> Configuration:
    """The call with other values, in the order of the signature; one that is the default is left out."""
    values = {**dict(configuration.values), **chosen}
    order = (argument for argument in (*spec.constructor, *spec.arguments) if argument.name in values)
    kept = tuple((each.name, values[each.name]) for each in order if differs(each, values[each.name]))
    return replace(configuration, values=kept)


def alike(gold: Gold, other: Gold | None) -> bool:
    """Whether two outputs can be compared."""
    return other is not None and gold.value.shape == other.value.shape and gold.dtype == other.dtype
