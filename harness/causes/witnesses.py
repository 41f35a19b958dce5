"""The wrong answers behind a failure of two calls: what they agree on is the cause, which single calls may show too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attnspec.harness.causes.search import Witness
from attnspec.harness.checks import arguments, related_calls
from attnspec.harness.checks.agreement import compare
from attnspec.harness.checks.arguments import Call
from attnspec.harness.checks.evidence import Part
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle import judge
from attnspec.spec.model import Spec

FEW = 3  # pairs of calls: each call is judged under every perturbation
Made = tuple[Configuration, Mapping[str, Array], Part]


def of_two_calls(check: str, clause: str, spec: Spec, call: Call, cases: Iterable[Case]) -> list[Witness]:
    """The calls that `relations` or `arguments` compares, where the subject answers them wrongly."""
    found = []
    for case in list(cases)[:FEW]:
        for configuration, given, part in _related(clause, spec, case) if check == "relations" else _varied(clause, spec, case):
            answer = call(configuration, given, gradient=part == "gradients")
            if isinstance(answer, Returned) and is_wrong(spec, Case(configuration, case.seed), given, answer, part):
                found.append(Witness(Case(configuration, case.seed), answer, part, given))
    return found


def _related(relation: str, spec: Spec, case: Case) -> Iterator[Made]:
    for each in related_calls.relations(spec, case):
        if each.relation == relation:
            part: Part = "gradients" if each.gradient else "outputs"
            yield each.case.configuration, each.given, part
            if not each.rate:  # no oracle judges dropout
                yield each.changed, each.other, part


def _varied(argument: str, spec: Spec, case: Case) -> Iterator[Made]:
    for each in arguments.variations(spec, case):
        if each.argument == argument and each.apart is not None and not each.singular:
            yield each.case.configuration, each.given, "outputs"
            yield each.changed, each.other, "outputs"


def is_wrong(spec: Spec, case: Case, given: Mapping[str, Array], answer: Returned, part: Part, but: str = "") -> bool:
    """Whether the oracle contradicts one part of an answer, but for the tensor of a name."""
    verdict = judge(spec, case, given, part == "gradients")
    golds, tensors = (verdict.outputs, answer.outputs) if part == "outputs" else (verdict.gradients, answer.gradients)
    return not verdict.ill_conditioned and not all(
        name in tensors and compare(tensors[name], gold).agrees for name, gold in golds.items() if name != but
    )
