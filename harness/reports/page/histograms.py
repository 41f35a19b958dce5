"""How far inside their bounds the cases lie: a histogram for each lane and dtype, over all of its APIs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attnspec.harness.reports.page.elements import Html, element, join, table
from attnspec.harness.reports.page.pictures import histogram
from attnspec.harness.reports.page.states import lanes
from attnspec.harness.reports.saved_run import Counted, SavedRun


def histograms(run: SavedRun) -> Html:
    """Lanes by dtypes."""
    where = {(each.api, each.subject): each.lane for each in run.implementations}
    dtypes = list(dict.fromkeys(each.dtype for each in run.matrix))
    if not dtypes:
        return element("p", "No case was judged.")
    rows = (
        [
            lane,
            *(of_counts(run, [c for c in run.matrix if (where.get((c.api, c.subject)), c.dtype) == (lane, d)]) for d in dtypes),
        ]
        for lane in lanes(run)
    )
    about = (
        "Each case counts once, at its largest error over bound: outputs upwards, gradients downwards. The line is the bound; "
        "what lies beyond it is dashed, and is a finding or a known deviation."
    )
    return join([element("p", about, class_="quiet"), table(["lane", *dtypes], rows, class_="histograms")])


def of_counts(run: SavedRun, counts: Sequence[Counted]) -> Html:
    """One histogram of several counts, with the worst of each half in words."""
    outputs, gradients = _sums(each.ratios for each in counts), _sums(each.gradient_ratios for each in counts)
    if not sum(outputs):
        return element("td", "not covered", class_="not-covered")
    worst = f"worst {max(each.worst_error_over_bound for each in counts):.2g}"
    if sum(gradients):
        worst += f" / {max(each.worst_gradient_error_over_bound for each in counts):.2g}"
    judged = f"{sum(outputs)} / {sum(gradients)} judged, {worst}"
    return element("td", histogram(outputs, gradients, run.ratio_edges), element("small", judged))


def _sums(counts: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=False)]
