"""Print the table of planted faults: `make faults`. Exit code 1 where one is not found by its check within the cases."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from planted_bugs import faults, wider_faults
from planted_bugs.faults import APIS, CASES, GENERATED, Fault
from planted_bugs.hunt import Seen, hunt

FAULTS = (*faults.FAULTS, *wider_faults.FAULTS)
THRESHOLDS = frozenset((*faults.THRESHOLDS, *wider_faults.THRESHOLDS))
FEW = 20
USUAL_TEST = {True: "passes", False: "fails", None: ""}


def main() -> int:
    """One row per fault: whether the usual test misses it, and which checks see it after how many cases."""
    found = dict(_hunted())
    table = Table("fault", "of", "assert_close", "found by (cases needed)")
    for fault, seen in found.items():
        by = ", ".join(f"{check} ({cases})" for check, cases in sorted(seen.items()))
        table.add_row(fault.name, fault.framework, USUAL_TEST[fault.survives], by or "-")
    console = Console(width=None if Console().is_terminal else 128)
    console.print(table)
    for kind, chosen in (("first-order", found.keys() - THRESHOLDS), ("threshold", found.keys() & THRESHOLDS)):
        needed = [found[fault].get(fault.seen_by[0], CASES + 1) for fault in chosen]
        within = ", ".join(f"{sum(each <= most for each in needed)} within {most}" for most in (FEW, CASES))
        console.print(f"{len(needed)} {kind} faults: {within} cases", highlight=False)
    missed = [fault.name for fault, seen in found.items() if seen.get(fault.seen_by[0], CASES + 1) > CASES]
    console.print(*(f"missed: {name}" for name in missed), sep="\n", highlight=False)
    return 1 if missed else 0


def _hunted() -> Iterator[tuple[Fault, Seen]]:
    """Every fault with the checks that see it."""
    with TemporaryDirectory() as folder:
        for base in (*APIS, *GENERATED):
            mine = [fault for fault in FAULTS if fault.framework == base]
            seen = hunt(base, mine, Path(folder))
            yield from ((fault, seen[fault.name]) for fault in mine)


if __name__ == "__main__":
    sys.exit(main())
