"""Every planted fault is found within 200 cases, by the check that should find it; with that switched off, by none."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attnspec.harness import checks
from attnspec.harness.cli import main
from planted_bugs.faults import CASES, CORRECT, FAULTS, Fault
from planted_bugs.hunt import Seen, hunt


@cache
def seen(framework: str) -> dict[str, Seen]:
    """The hunt for all faults of a framework, once per worker."""
    with TemporaryDirectory() as folder:
        return hunt(framework, [fault for fault in (*CORRECT, *FAULTS) if fault.framework == framework], Path(folder))


def grouped(fault: Fault) -> object:
    """A parameter whose tests go to the worker that has hunted in its framework."""
    return pytest.param(fault, id=fault.name, marks=pytest.mark.xdist_group(f"hunt-{fault.framework}"))


@pytest.mark.parametrize("fault", [grouped(fault) for fault in FAULTS])
def test_found_by_its_check_and_lost_without(fault: Fault) -> None:
    found = seen(fault.framework)[fault.name]
    assert found.get(fault.seen_by[0], CASES + 1) <= CASES
    assert set(found) <= set(fault.seen_by)


@pytest.mark.parametrize("correct", [grouped(correct) for correct in CORRECT])
def test_correct_implementation_is_not_accused(correct: Fault) -> None:
    assert seen(correct.framework)[correct.name] == {}


BY_CHECK = {fault.seen_by[0]: fault for fault in FAULTS if fault.framework == "numpy"}


@pytest.mark.parametrize("fault", BY_CHECK.values(), ids=BY_CHECK)
def test_command_loses_the_fault_when_its_checks_are_off(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "check",
        f"{fault.write(tmp_path)}:{fault.function}",
        "--as",
        fault.api,
        "--seed",
        "2",
        "--cases",
        "200",
        "--dtypes",
        "float32",
    ]
    without = sorted({*fault.seen_by, "coverage"})
    assert main([*command, "--checks", ",".join(sorted(fault.seen_by))]) == 1
    assert fault.name.replace("-", "_") in capsys.readouterr().out
    assert main([*command, "--skip-check", ",".join(without)]) == 0
    assert set(checks.NAMES) > set(without)
