"""R text as one would lay it out: two spaces an indent, long lines broken where they read on."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 100
LAST_RESORT = 99
_LOOSER = ("&", "&&", "|", "||", ",")  # than the operators that are not named, each more than those before it
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[([{]|[)\]}]|, | (?:<<?-|&&?|\|\|?|[<>]=?|[-+*/]) ')


def laid_out(text: str) -> str:
    """Code that was indented by four, broken at the margin."""
    halved = (re.sub(r"^ +", lambda indent: " " * (len(indent[0]) // 2), line) for line in text.split("\n"))
    return "\n".join(part for line in halved for part in _folded(line))


def _folded(line: str) -> Iterator[str]:
    margin = len(line) - len(line.lstrip())
    while len(line) > WIDTH and not line.lstrip().startswith("#"):
        place = _break(line, margin + 8)
        if place is None:
            break
        yield line[:place].rstrip()
        line = " " * (margin + 4) + line[place:]
    yield line


def _break(line: str, least: int) -> int | None:
    """After which comma or operator: the outermost, and of those the last that leaves the line short enough."""
    places: list[tuple[int, int, int]] = []
    depth = 0
    for token in _TOKEN.finditer(line):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif token[0].endswith("<- "):
            places.append((-LAST_RESORT, 0, token.end()))
        elif not token[0].startswith('"') and least < token.end() <= WIDTH:
            places.append((-depth, _looseness(token[0].strip()), token.end()))
    return max(places)[-1] if places else None


def _looseness(operator: str) -> int:
    return _LOOSER.index(operator) if operator in _LOOSER else -1
