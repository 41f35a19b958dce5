"""What there is to say of each API: its masks, what became of its arguments, and every lane in detail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attnspec.harness.reports.page.elements import Html, details, element, join, prose, table
from attnspec.harness.reports.page.findings import cause, finding_id
from attnspec.harness.reports.page.histograms import of_counts
from attnspec.harness.reports.page.matrix import badge
from attnspec.harness.reports.page.pictures import mask
from attnspec.harness.reports.page.states import Place, State, apis, lanes, places
from attnspec.harness.reports.saved_run import Counted, Known, SavedRun

MOST_VALUES = 6
STATUSES = {"honoured": "✓ honoured", "refused": "⊘ refused", "inert": "· inert", "ignored": "✗ ignored"}


def all_apis(run: SavedRun) -> Html:
    """A section for each API."""
    found = places(run)
    return join(_api(run, api, [found[api, lane] for lane in lanes(run)]) for api in apis(run))


def _api(run: SavedRun, api: str, here: Sequence[Place]) -> Html:
    pictures = run.masks.get(api, ())
    return element(
        "section",
        element("h3", api),
        *(_lane(run, place) for place in here),
        details("what each argument took, and what became of it", _arguments(run, api)),
        details(f"its masks ({len(pictures)})", element("div", *map(mask, pictures), class_="figures")) if pictures else None,
    )


# -- a lane -------------------------------------------------------------------------------------------------------


def _lane(run: SavedRun, place: Place) -> Html:
    summary = join([badge(place.state), " ", element("b", place.lane), element("small", _in_short(place))])
    if not place.counts and not place.findings:
        return element("p", summary, class_="lane")
    return details(
        summary,
        *(_finding_link(run, number) for number in place.findings),
        _known(place.known),
        _counts(run, place) if place.counts else None,
        id_=place.id,
        class_="lane",
    )


def _in_short(place: Place) -> str:
    return (
        place.why
        or f"{place.cases} + {place.gradient_cases} cases of {len({each.subject for each in place.counts})} implementation(s)"
    )


def _finding_link(run: SavedRun, number: int) -> Html:
    link = element("a", prose(cause(run.findings[number - 1])), href=f"#{finding_id(number)}")
    return element("p", badge(State.FINDING), " ", link)


def _known(entries: Sequence[Known]) -> Html | None:
    if not entries:
        return None
    rows = ([_what(each), element("td", f"{each.seen} times", class_="short"), _guard(each), _why(each)] for each in entries)
    return table(("known deviation", "seen", "where", "why"), rows)


def _what(entry: Known) -> Html:
    return join([f"{entry.check}: {entry.instead}", element("small", entry.clause.replace(",", ", "))])


def _guard(entry: Known) -> Html:
    parts = [element("code", entry.when) if entry.when else None, entry.dtype.replace(",", ", ") or None, entry.versions]
    return join(element("div", part) for part in parts if part)


def _why(entry: Known) -> Html:
    return join([prose(entry.why), " ", element("a", "upstream", href=entry.link, rel="noreferrer") if entry.link else None])


def _counts(run: SavedRun, place: Place) -> Html:
    """Each implementation and dtype: how many cases, how far inside their bounds, and the call that came nearest."""
    head = ("implementation", "dtype", "cases", "error over bound", "worst outputs", "worst gradients")
    rows = (
        [_short(each.subject, place.api), each.dtype, _cases(each), of_counts(run, [each]), *_worst(each)]
        for each in place.counts
    )
    return table(head, rows, class_="counts")


def _cases(counted: Counted) -> Html:
    unanswered = element("small", f"{counted.unanswered} unanswered") if counted.unanswered else None
    return join([f"{counted.cases} + {counted.gradient_cases}", unanswered])


def _worst(counted: Counted) -> Iterator[Html]:
    yield _nearest(counted.worst_error_over_bound, counted.worst_case, sum(counted.ratios))
    yield _nearest(counted.worst_gradient_error_over_bound, counted.worst_gradient_case, sum(counted.gradient_ratios))


def _nearest(ratio: float, call: str, judged: int) -> Html:
    """A ratio and the call that it was seen at."""
    return join([f"{ratio:.2g}", element("small", element("code", call)) if call else None]) if judged else join(["-"])


# -- arguments ----------------------------------------------------------------------------------------------------


def _arguments(run: SavedRun, api: str) -> Html:
    """Each argument: the values it took, the commonest first, and what every implementation did with it."""
    taken = run.coverage.get(api, {})
    became = {each.subject: each.arguments for each in run.subjects if each.api == api and each.arguments}
    names = dict.fromkeys([*taken, *(name for statuses in became.values() for name in statuses)])
    if not names:
        return element("p", "No argument was given.")
    head = ["argument", "values (cases)", *(_short(subject, api) for subject in became)]
    rows = (
        [name, _values(taken.get(name, {})), *(_status(statuses.get(name)) for statuses in became.values())] for name in names
    )
    return element("div", table(head, rows, class_="arguments"), class_="wide")


def _values(taken: Mapping[str, int]) -> Html:
    counted = sorted(taken.items(), key=lambda pair: -pair[1])
    more = f" and {len(counted) - MOST_VALUES} more" if len(counted) > MOST_VALUES else None
    shown = (f"{value} ({count})" for value, count in counted[:MOST_VALUES])
    return join([element("code", ", ".join(shown)), more])


def _status(status: str | None) -> Html:
    if status is None:
        return element("td", "-")
    return element("td", STATUSES.get(status, status), class_=f"argument-{status}" if status in STATUSES else None)


def _short(subject: str, api: str) -> str:
    """A subject's name without the API's, which the section says: `torch@blockwise`."""
    return subject.replace(api, "").replace(":@", "@").rstrip(":") or subject
