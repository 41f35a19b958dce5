"""Print the table of planted faults: `make faults`. Exit code 1 where one is not found by its check within the cases."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from attnspec.spec.loader import builtin
from planted_bugs import drops, faults, wider_faults
from planted_bugs.faults import APIS, CASES, GENERATED, Fault
from planted_bugs.hunt import Seen, hunt

FAULTS = (*faults.FAULTS, *wider_faults.FAULTS)
THRESHOLDS = frozenset((*faults.THRESHOLDS, *wider_faults.THRESHOLDS))
FEW = 20
USUAL_TEST = {True: "passes", False: "fails", None: ""}


def main() -> int:
    """The tables: faults, and arguments that are dropped."""
    console = Console(width=None if Console().is_terminal else 128)
    missed = [*_faults(console), *_drops(console)]
    console.print(*(f"missed: {each}" for each in missed), sep="\n", highlight=False)
    return 1 if missed else 0


def _faults(console: Console) -> list[str]:
    """One row per fault: whether the usual test misses it, which checks see it after how many cases. Those that none sees."""
    found = dict(_hunted())
    table = Table("fault", "of", "assert_close", "found by (cases needed)")
    for fault, seen in found.items():
        by = ", ".join(f"{check} ({cases})" for check, cases in sorted(seen.items()))
        table.add_row(fault.name, fault.framework, USUAL_TEST[fault.survives], by or "-")
    console.print(table)
    for kind, chosen in (("first-order", found.keys() - THRESHOLDS), ("threshold", found.keys() & THRESHOLDS)):
        needed = [found[fault].get(fault.seen_by[0], CASES + 1) for fault in chosen]
        within = ", ".join(f"{sum(each <= most for each in needed)} within {most}" for most in (FEW, CASES))
        console.print(f"{len(needed)} {kind} faults: {within} cases", highlight=False)
    return [fault.name for fault, seen in found.items() if seen.get(fault.seen_by[0], CASES + 1) > CASES]


def _drops(console: Console) -> list[str]:
    """One row per implementation: how many drops of one argument each check finds first; those that none finds."""
    seen_by = (*drops.FINDERS, drops.HIDDEN, drops.MISSED)
    table, missed = Table("arguments dropped by", "in", *seen_by), []
    for target in drops.TARGETS:
        for subject, found in drops.hunted(target, list(builtin().values())):
            counts = Counter(found.values())
            table.add_row(subject.name, str(len(found)), *(str(counts[each]) for each in seen_by))
            missed += [f"{subject.name}: {drop}" for drop, seen in found.items() if seen == drops.MISSED]
    console.print(table)
    return missed


def _hunted() -> Iterator[tuple[Fault, Seen]]:
    """Every fault with the checks that see it."""
    with TemporaryDirectory() as folder:
        for base in (*APIS, *GENERATED):
            mine = [fault for fault in FAULTS if fault.framework == base]
            seen = hunt(base, mine, Path(folder))
            yield from ((fault, seen[fault.name]) for fault in mine)


if __name__ == "__main__":
    sys.exit(main())
