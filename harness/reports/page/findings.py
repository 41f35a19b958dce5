"""The findings: cause, call, masks, worst element, everybody's answer, how to see it again, and the script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attnspec.harness.reports.page.elements import Html, command, details, element, join, prose, table
from attnspec.harness.reports.page.matrix import badge
from attnspec.harness.reports.page.pictures import mask
from attnspec.harness.reports.page.states import State
from attnspec.harness.reports.saved_run import Evidence, Found, SavedRun, Worst


def findings(run: SavedRun) -> Html:
    """Each can be opened; the first one is."""
    if not run.findings:
        return element("p", "No findings." if run.matrix else "No findings, for nothing was checked.")
    pairs = zip(run.findings, run.evidence, strict=True)
    return join(_finding(number, finding, evidence) for number, (finding, evidence) in enumerate(pairs, start=1))


def cause(finding: Found) -> str:
    """Its first line, without the subject."""
    return finding.cause.removeprefix(f"{finding.subject}: ")


def finding_id(number: int) -> str:
    """The place of a finding on the page, by its number from 1."""
    return f"finding-{number}"


def _finding(number: int, finding: Found, evidence: Evidence) -> Html:
    about = f"{finding.subject}, as {finding.api}" if finding.api not in finding.subject else finding.subject
    summary = join([badge(State.FINDING), " ", element("b", prose(cause(finding))), element("small", about)])
    facts = element(
        "dl", *(part for name, value in _facts(finding, evidence) for part in (element("dt", name), element("dd", value)))
    )
    return details(
        summary,
        facts,
        element("div", *map(mask, evidence.pictures), class_="figures") if evidence.pictures else None,
        _answers(finding.answers),
        _script(evidence.script),
        id_=finding_id(number),
        open_=number == 1,
        class_="found",
    )


def _facts(finding: Found, evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What is known of it, a line each."""
    if finding.causes:
        others = "; no single change explains the others" if evidence.explained < evidence.asked else ""
        yield "cause", f"equal on {evidence.explained} of {evidence.asked} failing cases{others}"
    elif evidence.asked:
        yield "cause", f"no single change of the spec explains it ({evidence.asked} failing cases)"
        if finding.stage:
            yield "stage", prose(f"it first differs {finding.stage}")
    yield "seen", f"{finding.check}: {finding.clause}: {finding.seen}"
    if finding.also:
        yield "also", join(element("div", prose(each)) for each in finding.also)
    if finding.case:
        yield "call", element("code", finding.case)
    if finding.path:
        yield "path", finding.path
    if finding.worst is not None:
        yield "worst", _worst(finding.clause, finding.worst)
    if finding.cases:
        yield (
            "shown by",
            f"{finding.failing} of {finding.cases} cases" + (f" ({', '.join(finding.dtypes)})" if finding.dtypes else ""),
        )
    yield "versions", ", ".join(f"{name} {version}" for name, version in finding.versions.items())
    yield "replay", command(finding.replay)


def _worst(clause: str, worst: Worst) -> str:
    index = ", ".join(map(str, worst.index))
    inside = f"want {worst.want:.9g} ± {worst.bound:.2g}, error/bound {worst.error_over_bound:.3g}"
    return f"{clause}[{index}]: got {worst.got:.9g}, {inside}"


def _answers(answers: Mapping[str, str]) -> Html | None:
    if not answers:
        return None
    return table(("implementation", "its answer to this call"), ([name, said] for name, said in answers.items()))


def _script(script: str) -> Html | None:
    if not script:
        return None
    return details("script that shows it without attnspec", element("pre", element("code", script)), class_="script")
