"""The wrong answers behind a failure of two calls: what they agree on is the cause, which single calls may show too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attnspec.harness.causes import Witness
from attnspec.harness.checks import arguments, related_calls
from attnspec.harness.checks.agreement import compare
from attnspec.harness.checks.arguments import Call
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle import judge
from attnspec.spec.model import Spec

FEW = 3  # pairs of calls: each call is judged under every perturbation
Made = tuple[Configuration, Mapping[str, Array]]


def of_two_calls(check: str, clause: str, spec: Spec, call: Call, cases: Iterable[Case]) -> list[Witness]:
    """The calls that `relations` or `arguments` compares, where the subject answers them wrongly."""
    found = []
    for case in list(cases)[:FEW]:
        for configuration, given in _related(clause, spec, case) if check == "relations" else _varied(clause, spec, case):
            answer = call(configuration, given)
            if isinstance(answer, Returned) and _is_wrong(spec, Case(configuration, case.seed), given, answer):
                found.append(Witness(Case(configuration, case.seed), answer, "outputs", given))
    return found


def _related(relation: str, spec: Spec, case: Case) -> Iterator[Made]:
    for each in related_calls.relations(spec, case):
        if each.relation == relation:
            yield each.case.configuration, each.given
            if not each.rate:  # no oracle judges dropout
                yield each.changed, each.other


def _varied(argument: str, spec: Spec, case: Case) -> Iterator[Made]:
    for each in arguments.variations(spec, case):
        if each.argument == argument and each.apart is not None:
            yield each.case.configuration, each.given
            yield each.changed, each.other


def _is_wrong(spec: Spec, case: Case, given: Mapping[str, Array], answer: Returned) -> bool:
    verdict = judge(spec, case, given, False)
    golds = verdict.outputs.items()
    return not verdict.ill_conditioned and not all(
        name in answer.outputs and compare(answer.outputs[name], gold).agrees for name, gold in golds
    )
