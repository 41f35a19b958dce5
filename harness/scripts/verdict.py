"""Whether what a script printed shows its deviation: got is not what it wants."""

from __future__ import annotations

import math
import re

GOT, WANT = "got", "want"


def shows(printed: str) -> bool:
    """Read the two last lines. False where something else was printed, or where both agree."""
    lines = [line.split(maxsplit=1) for line in printed.splitlines()[-2:]]
    if [line[0] for line in lines if line] != [GOT, WANT] or any(len(line) < 2 for line in lines):
        return False
    got, want = lines[0][1], lines[1][1]
    if found := re.fullmatch(r"(\S+) \+- (\S+)", want):
        value, wanted = float(got), float(found[1])
        same = value == wanted or (math.isnan(value) and math.isnan(wanted))
        return not same and not abs(value - wanted) <= float(found[2])
    if found := re.fullmatch(r"further apart than (\S+)", want):
        one, other = map(float, got.split(" and "))
        return abs(one - other) <= float(found[1]) or one == other or (math.isnan(one) and math.isnan(other))
    if found := re.match(r"raised ([\w ]+): ", want):
        return not any(got.startswith(f"raised {name}(") for name in found[1].split(" or "))
    return got != want
