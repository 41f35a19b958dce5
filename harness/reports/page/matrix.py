"""The matrix: APIs by lanes, each place with its state, the worst error over bound, and the way to what is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnspec.harness.reports.page.elements import Html, breakable, element, join, table
from attnspec.harness.reports.page.states import NOT_ASKED, Place, State, apis, lanes, places
from attnspec.harness.reports.saved_run import SavedRun


def matrix(run: SavedRun) -> Html:
    """The table with its legend; lanes that nobody asked for are named below it."""
    found, columns = places(run), lanes(run)
    rows = ([breakable(api), *(_cell(found[api, lane]) for lane in columns)] for api in apis(run))
    head = ["API", *(join([lane, element("small", _version(run, lane))]) for lane in columns)]
    left_out = [lane for lane, what in run.lanes.items() if what == NOT_ASKED]
    return join(
        [
            _legend(list(found.values())),
            table(head, rows, class_="matrix"),
            element("p", f"Lanes that were not asked for: {', '.join(left_out)}.", class_="quiet") if left_out else None,
        ]
    )


def badge(state: State) -> Html:
    """A state as symbol and word."""
    symbol = element("span", state.symbol, aria_hidden="true")
    return element("span", symbol, " ", state.word, class_=f"state {state.style}")


def ratios(place: Place) -> str:
    """The worst error over bound, outputs and gradients."""
    outputs = max((each.worst_error_over_bound for each in place.counts), default=0.0)
    gradients = max((each.worst_gradient_error_over_bound for each in place.counts), default=0.0)
    return f"{outputs:.2g} / {f'{gradients:.2g}' if place.gradient_cases else '-'}"


def _cell(place: Place) -> Html:
    if place.state is State.NOT_COVERED:
        return element("td", badge(place.state), element("small", place.why), class_=place.state.style)
    numbers = [element("small", ratios(place)), element("small", f"{place.cases} + {place.gradient_cases}")]
    link = element("a", badge(place.state), href=f"#{place.id}", aria_label=f"{place.api} in {place.lane}: {place.state.word}")
    return element("td", link, *numbers, class_=place.state.style)


def _version(run: SavedRun, lane: str) -> str:
    versions: Mapping[str, str] = run.versions.get(lane, {})
    return next((f"{name} {version}" for name, version in versions.items()), "missing")


def _legend(found: Sequence[Place]) -> Html:
    counted = [(state, sum(place.state is state for place in found)) for state in State]
    parts = [element("li", badge(state), f" {count}") for state, count in counted]
    about = (
        "Numbers are the worst error over bound of outputs / gradients (1 is the bound), then cases forward + with gradients."
    )
    return join([element("ul", *parts, class_="legend"), element("p", about, class_="quiet")])
