"""A finding: one fault of one subject, in its smallest case, with every subject's answer to it and how to see it again."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnspec.harness.checks.evidence import Evidence, Part
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.messages import Array, Raised, Returned
from attnspec.harness.subjects import Subject, from_dict
from attnspec.spec.model import Spec

if TYPE_CHECKING:
    from attnspec.harness.mask_pictures import Picture


@dataclass(frozen=True, slots=True)
class Shown:
    """What one subject answered, at the element that the finding is about."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`failing` of `cases` cases showed it, in `dtypes`. `case` is in words, only what is not default, `path` where it goes.

    `causes` are the changes of the spec that the subject equals on `explained` of the `asked` failing cases; without any,
    `stage` says where it first differs. `script` shows it without attnspec (`harness/scripts/`); `file` is where it was
    written. `also` is what other checks saw of the same cause. `pictures` are of the masks at the call.
    """

    failure: Failure
    case: str
    failing: int
    cases: int
    dtypes: tuple[str, ...]
    versions: Mapping[str, str]
    answers: tuple[Shown, ...]
    replay: str
    path: str = ""
    causes: tuple[str, ...] = ()
    explained: int = 0
    asked: int = 0
    stage: str = ""
    script: str = ""
    file: str = ""
    also: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    given: Mapping[str, Array] | None = None  # where the case's seed did not make its arrays

    @property
    def title(self) -> str:
        if self.causes:
            return f"{self.failure.subject}: {'; or '.join(self.causes)}"
        return f"{self.failure.subject}: {self.seen}"

    @property
    def seen(self) -> str:
        """What the check says."""
        return f"{self.failure.check}: {self.failure.message}"

    def lines(self) -> Iterator[str]:
        """The finding as text: the cause first, then what helps."""
        yield self.title
        if self.causes:
            others = "; no single change explains the others" if self.explained < self.asked else ""
            yield f"  cause    equal on {self.explained} of {self.asked} failing cases{others}"
            yield f"  seen     {self.seen}"
            yield from (f"  also     {seen}" for seen in self.also)
        elif self.asked:
            yield f"  cause    no single change of the spec explains it ({self.asked} failing cases)"
            if self.stage:
                yield f"  stage    it first differs {self.stage}"
        if self.case:
            yield f"  call     {self.case}"
        if self.failure.worst is not None:
            yield f"  worst    {worst_text(self.failure.clause, self.failure.worst)}"
        for number, shown in enumerate(self.answers):
            yield f"  {'answers' if number == 0 else '       '}  {shown.subject:<{self._width}}  {shown.text}"
        if self.cases:
            where = f" ({', '.join(self.dtypes)})" if self.dtypes else ""
            yield f"  shown by {self.failing} of {self.cases} cases{where}"
        yield f"  versions {', '.join(f'{name} {version}' for name, version in self.versions.items())}"
        yield f"  replay   {self.replay}"
        if self.file:
            yield f"  script   {self.file}"

    @property
    def _width(self) -> int:
        return max((len(shown.subject) for shown in self.answers), default=0)


def worst_text(name: str, worst: Worst) -> str:
    """The element, what it is, what it should be, and by how much it misses."""
    index = ", ".join(map(str, worst.index))
    return (
        f"{worst.tensor or name}[{index}]: got {worst.got:.9g}, want {worst.want:.9g} +- {worst.bound:.2g},"
        f" error/bound {worst.error_over_bound:.3g}"
    )


def answers_at(evidence: Evidence, failure: Failure) -> tuple[Shown, ...]:
    """Every subject's answer to the case, at the failure's worst element."""
    part: Part = "gradients" if failure.check == "gradients" else "outputs"
    return tuple(Shown(subject, _answer_text(evidence, failure, subject, part)) for subject in evidence.answers)


def _answer_text(evidence: Evidence, failure: Failure, subject: str, part: Part) -> str:
    answer = evidence.answers[subject]
    if not isinstance(answer, Returned):
        return f"raised {answer}" if isinstance(answer, Raised) else str(answer)
    tensors = answer.outputs if part == "outputs" else answer.gradients
    if failure.clause not in tensors:
        return "returned" if failure.clause not in evidence.golds(part) else "nothing"
    tensor = tensors[failure.clause]
    comparison = evidence.comparison(subject, part, failure.clause)
    if comparison.worst is None and not comparison.agrees:
        return comparison.message
    index = failure.worst.index if failure.worst is not None else ()
    value = f"{float(tensor.array[index]):.9g}" if len(index) == tensor.array.ndim else f"shape {tensor.array.shape}"
    if evidence.verdict.ill_conditioned:
        return f"{value}  (ill-conditioned)"
    return f"{value}  (error/bound at most {comparison.ratio:.2g})"


def case_text(spec: Spec, case: Case) -> str:
    """The call in words: the tensors' shapes, then every argument that is not at its default."""
    tensors = (f"{name} {plan.dtype} {_shape(plan.shape)}" for name, plan in case.configuration.tensors)
    return ", ".join((*tensors, *values_given(spec, case.configuration)))


def values_given(spec: Spec, configuration: Configuration) -> Iterator[str]:
    """Every Python value that is not at its default, as it is written in a call."""
    values = dict(configuration.values)
    for argument in (*spec.constructor, *spec.arguments):
        if argument.name in values and (argument.required or values[argument.name] != argument.default):
            yield f"{argument.name}={values[argument.name]!r}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


@dataclass(frozen=True, slots=True)
class Replay:
    """All that a fresh process needs to see a finding again. `spec` is a built-in's name or a file's path, `python` the
    subject's interpreter where it is another one."""

    spec: str
    subject: Subject
    check: str
    clause: str
    case: Case | None
    generated: str = ""
    python: str = ""

    def to_text(self) -> str:
        data = {
            "spec": self.spec,
            "subject": self.subject.to_dict(),
            "check": self.check,
            "clause": self.clause,
            "configuration": self.case.configuration.to_dict() if self.case else None,
            "seed": self.case.seed if self.case else 0,
            "generated": self.generated,
            "python": self.python,
        }
        return json.dumps(data, separators=(",", ":"))

    def to_token(self) -> str:
        """The text, short enough for a command line."""
        return base64.urlsafe_b64encode(zlib.compress(self.to_text().encode(), 9)).decode().rstrip("=")


class ReplayError(ValueError):
    """Not a token of a finding."""


def read_replay(text: str) -> Replay:
    """The replay of a token, of its JSON, or of a file that holds either."""
    with suppress(OSError):  # a token is too long for a file's name, and is none
        text = Path(text).read_text(encoding="utf-8")
    text = text.strip()
    try:
        data = json.loads(text if text.startswith("{") else _decoded(text))
        case = Case(Configuration.from_dict(data["configuration"]), data["seed"]) if data["configuration"] else None
        subject = from_dict(data["subject"])
        return Replay(data["spec"], subject, data["check"], data["clause"], case, data["generated"], data["python"])
    except (binascii.Error, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ReplayError(f"Expected the token of a finding or a file that holds one, got {text[:40]!r}") from error


def _decoded(token: str) -> str:
    return zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))).decode()


def size_of(case: Case) -> tuple[int, int, int]:
    """What makes a case small: few numbers, then few arguments, then a plain seed."""
    tensors: Mapping[str, Any] = dict(case.configuration.tensors)
    scalars = sum(int(np.prod(plan.shape)) for plan in tensors.values())
    return scalars, len(tensors) + len(dict(case.configuration.values)), case.seed
