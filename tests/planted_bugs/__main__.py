"""Print the tables of planted faults: `make faults`, or `python -m planted_bugs found|named|thresholds|drops` for one of them.

Exit code 1 where a fault is not found by its check within the cases, an argument that is dropped by no check, too few of the
thresholds by the ci profile, or too few true causes are named.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from attnspec.harness.plan import Profile
from attnspec.spec.loader import builtin
from planted_bugs import drops, faults, naming, wider_faults
from planted_bugs.faults import APIS, CASES, GENERATED, Fault
from planted_bugs.hunt import Seen, hunt
from planted_bugs.naming import Naming

FAULTS = (*faults.FAULTS, *wider_faults.FAULTS)
THRESHOLDS = frozenset((*faults.THRESHOLDS, *wider_faults.THRESHOLDS))
FEW = 20
LISTED, ALONE = 1.0, 0.85
SCALARS, CI = 24, 0.95  # the largest median of a call, and the least that the ci profile finds
USUAL_TEST = {True: "passes", False: "fails", None: ""}


def main() -> int:
    """The tables that are asked for, then what is missed."""
    console = Console(width=None if Console().is_terminal else 128)
    tables = {"found": _faults, "named": _named, "thresholds": _thresholds, "drops": _drops}
    parser = ArgumentParser(prog="planted_bugs", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(tables)}; by default all")
    asked = parser.parse_args().tables
    for name in (name for name in asked if name not in tables):
        parser.error(f"expected tables of {', '.join(tables)}, got {name!r}")
    missed = [each for name in asked or tables for each in tables[name](console)]
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


def _named(console: Console) -> list[str]:
    """One row per fault: what a quick run names as its cause, and how small a call shows it. The figures that are too low."""
    table, every = Table("fault", "of", "named", "scalars"), list(_namings(FAULTS, naming.SHRUNK))
    for each in every:
        mark = "alone" if each.is_alone else "in a short list" if each.is_listed else "no"
        table.add_row(each.fault.name, each.fault.framework, f"{mark}: {each.said}", str(each.scalars or "-"))
    console.print(table)
    listed, alone = (sum(marks) for marks in ([e.is_listed for e in every], [e.is_alone for e in every]))
    size = median(each.scalars for each in every if each.scalars is not None)
    text = f"{len(every)} faults: the true cause listed for {listed}, alone for {alone}; median call of {size:g} scalars"
    console.print(text, highlight=False)
    figures = {"listed": listed / len(every) >= LISTED, "alone": alone / len(every) >= ALONE, "size": size <= SCALARS}
    return [f"causes: {name}" for name, is_enough in figures.items() if not is_enough]


def _thresholds(console: Console) -> list[str]:
    """How many of the threshold faults a run of the ci profile finds; which it does not, where those are too many."""
    chosen = [fault for fault in FAULTS if fault in THRESHOLDS]
    lost = [each.fault.name for each in _namings(chosen, naming.FOUND) if not each.findings]
    console.print(f"{len(chosen)} threshold faults: {len(chosen) - len(lost)} found by the ci profile", highlight=False)
    return lost if len(lost) > (1 - CI) * len(chosen) else []


def _namings(faults_: Sequence[Fault], profile: Profile) -> Iterator[Naming]:
    with TemporaryDirectory() as folder:
        for base in (*APIS, *GENERATED):
            mine = [fault for fault in faults_ if fault.framework == base]
            if mine:
                yield from naming.namings(base, mine, Path(folder), profile)


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
