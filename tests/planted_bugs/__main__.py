"""Print the table of planted faults: `make faults`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from planted_bugs.faults import APIS, FAULTS
from planted_bugs.hunt import hunt


def main() -> None:
    """One row per fault: whether the usual test misses it, and which checks see it after how many cases."""
    table = Table("fault", "framework", "assert_close", "found by (cases needed)")
    with TemporaryDirectory() as folder:
        for framework in APIS:
            faults = [fault for fault in FAULTS if fault.framework == framework]
            seen = hunt(framework, faults, Path(folder))
            for fault in faults:
                found = ", ".join(f"{check} ({cases})" for check, cases in sorted(seen[fault.name].items()))
                table.add_row(fault.name, framework, "passes" if fault.survives else "fails", found or "-")
    Console(width=None if Console().is_terminal else 128).print(table)


if __name__ == "__main__":
    main()
