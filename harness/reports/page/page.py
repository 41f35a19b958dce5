"""The whole page, in one text: style and script are inside, and a policy in its head forbids every request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files

from attnspec.harness.reports.page.apis import all_apis
from attnspec.harness.reports.page.elements import Html, command, element, join, prose, table
from attnspec.harness.reports.page.findings import findings
from attnspec.harness.reports.page.histograms import histograms
from attnspec.harness.reports.page.matrix import matrix
from attnspec.harness.reports.saved_run import SavedRun

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SECTIONS = {"matrix": "Matrix", "findings": "Findings", "histograms": "Error over bound", "apis": "APIs", "run": "The run"}


def page(run: SavedRun) -> str:
    """The page of a run."""
    written = {
        "matrix": matrix(run),
        "findings": findings(run),
        "histograms": histograms(run),
        "apis": all_apis(run),
        "run": _run(run),
    }
    sections = (element("section", element("h2", SECTIONS[name]), content, id_=name) for name, content in written.items())
    body = element("body", _head(run), element("main", *sections), element("script", Html(_file("page.js"))))
    return f"<!DOCTYPE html>\n{element('html', _metadata(run), body, lang='en')}\n"


def _metadata(run: SavedRun) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"attnspec: {verdict(run)}"),
        element("style", Html(_file("page.css"))),
    )


def _file(name: str) -> str:
    return files("attnspec.harness.reports.page").joinpath(name).read_text(encoding="utf-8")


# -- the head -----------------------------------------------------------------------------------------------------


def verdict(run: SavedRun) -> str:
    """The outcome in words."""
    counted = ((len(run.findings), "finding", "findings"), (len(run.errors), "error of the run", "errors of the run"))
    said = [f"{count} {one if count == 1 else many}" for count, one, many in counted if count]
    left_out = [f"{len(run.not_covered)} not covered"] if run.not_covered else []
    return ", ".join([*(said or ["passed" if run.passed else "not passed"]), *left_out])


def _head(run: SavedRun) -> Html:
    symbol, style = ("✓", "pass") if run.passed else ("✗", "finding")
    told = f"{run.cases} cases, seed {run.seed}, profile {run.profile}, {run.seconds:.1f} s"
    links = (element("a", title, href=f"#{name}") for name, title in SECTIONS.items())
    return element(
        "header",
        element("h1", "attnspec"),
        element("p", element("span", f"{symbol} {verdict(run)}", class_=f"state verdict {style}"), " ", told),
        _listed("Errors of the run", run.errors, "finding"),
        _listed("Not covered", run.not_covered, "not-covered"),
        element(
            "nav", *links, element("button", "open all", type_="button", id_="open-all", hidden=True), aria_label="Sections"
        ),
    )


def _listed(title: str, lines: Sequence[str], style: str) -> Html | None:
    if not lines:
        return None
    return element(
        "div", element("b", title), element("ul", *(element("li", prose(line)) for line in lines)), class_=f"listed {style}"
    )


# -- the run ------------------------------------------------------------------------------------------------------


def _run(run: SavedRun) -> Html:
    facts = element("dl", *(part for name, value in _facts(run) for part in (element("dt", name), element("dd", value))))
    versions = ([lane, ", ".join(f"{name} {number}" for name, number in found.items())] for lane, found in run.versions.items())
    return join(
        [
            facts,
            element("h3", "Versions"),
            table(("lane", "distributions"), versions) if run.versions else element("p", "No lane was open."),
            element("h3", "Cases that judged nobody"),
            _shares(run),
            _listed("Notes", run.notes, "not-covered"),
        ]
    )


def _facts(run: SavedRun) -> Iterator[tuple[str, str]]:
    if run.command:
        yield "the same run again", command(run.command)
    yield "seed", str(run.seed)
    yield "profile", run.profile
    yield "checks", ", ".join(run.checks)


def _shares(run: SavedRun) -> Html:
    head = ("API", "dtype", "cases", "ill-conditioned", "invalid", "looked at", "of these vacuous")
    numbers = ((each, (each.cases, each.ill_conditioned, each.invalid, each.sampled, each.vacuous)) for each in run.shares)
    rows = ([each.api, each.dtype, *map(str, counts)] for each, counts in numbers)
    return table(head, rows, class_="numbers") if run.shares else element("p", "0 cases.")
