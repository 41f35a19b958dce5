"""HTML and SVG elements as text. Whatever is not an element already is escaped, so nothing in a run can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

VOID = frozenset({"meta", "wbr"})


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Attribute = str | float | None


def element(name: str, *children: str | None, **attributes: Attribute) -> Html:
    """`element("a", "there", href="#x")`. `class_` is `class`, `aria_label` is `aria-label`.

    An attribute that is None or False is left out, one that is True has no value.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    written = "".join(_attribute(key, value) for key, value in given.items())
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(children)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {key}"
    return f' {key}="{f"{value:g}" if isinstance(value, float) else escape(str(value))}"'


def join(children: Iterable[str | None]) -> Html:
    """Elements and texts one after another; None is nothing."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


def breakable(name: str) -> Html:
    """A dotted name that may go on in the next line after a dot or an underscore."""
    return join(part for piece in re.split(r"(?<=[._])", name) for part in (piece, element("wbr")))


def prose(text: str) -> Html:
    """A text with what stands between backticks as code."""
    return join(element("code", part) if number % 2 else part for number, part in enumerate(re.split(r"`([^`]*)`", text)))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], class_: str | None = None) -> Html:
    """A table whose first column names its rows. A cell that is a `td` or a `th` already is taken as it is."""
    columns = (element("th", each, scope="col") for each in head)
    body = (element("tr", *(_cell(each, number == 0) for number, each in enumerate(row))) for row in rows)
    return element(
        "table",
        element("thead", element("tr", *columns)),
        element("tbody", *body),
        class_=class_,
    )


def _cell(content: str, is_first: bool) -> str:
    if isinstance(content, Html) and content.startswith(("<td", "<th")):
        return content
    return element("th", content, scope="row") if is_first else element("td", content)


def details(
    summary: str, *children: str | None, id_: str | None = None, open_: bool = False, class_: str | None = None
) -> Html:
    """What can be opened."""
    return element("details", element("summary", summary), *children, id_=id_, open_=open_, class_=class_)


def command(text: str) -> Html:
    """A command to copy."""
    return element("code", text, class_="command")
