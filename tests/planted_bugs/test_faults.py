"""Every planted fault is found within 200 cases by the check that should find it, and with that switched off by none.

`make faults` prints how many cases each needs, those of `wider_faults.py` among them, and fails where one is missed.
"""

from pathlib import Path

import pytest

from attnspec.harness import checks
from attnspec.harness.cli import main
from planted_bugs.faults import APIS, CASES, CORRECT, FAULTS, Fault
from planted_bugs.hunt import hunt
from planted_bugs.wider_faults import FAULTS as WIDER


@pytest.mark.parametrize("framework", APIS)
def test_every_fault_is_found_by_its_check_and_lost_without(framework: str, tmp_path: Path) -> None:
    """All faults of a framework at once: its lane starts, and the oracle works, once for all of them."""
    faults = [fault for fault in (*CORRECT, *FAULTS) if fault.framework == framework]
    seen = hunt(framework, faults, tmp_path)
    missed = [fault.name for fault in faults for check in fault.seen_by[:1] if seen[fault.name].get(check, CASES + 1) > CASES]
    by_others = {fault.name: others for fault in faults if (others := set(seen[fault.name]) - set(fault.seen_by))}
    assert (missed, by_others) == ([], {})


def test_there_are_enough_faults_and_each_can_be_planted() -> None:
    """`make faults` hunts the wider ones."""
    every = (*FAULTS, *WIDER)
    assert len({fault.name for fault in every}) == len(every) >= 80
    for fault in every:
        compile(fault.source, fault.name, "exec")


BY_CHECK = {fault.seen_by[0]: fault for fault in FAULTS if fault.framework == "numpy"}


@pytest.mark.parametrize("fault", BY_CHECK.values(), ids=BY_CHECK)
def test_command_loses_the_fault_when_its_checks_are_off(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = f"{fault.write(tmp_path)}:{fault.function}"
    command = ["check", subject, "--as", fault.api, "--seed", "2", "--cases", "200", "--dtypes", "float32"]
    without = sorted({*fault.seen_by, "coverage"})
    assert main([*command, "--checks", ",".join(sorted(fault.seen_by))]) == 1
    assert fault.name.replace("-", "_") in capsys.readouterr().out
    assert main([*command, "--skip-check", ",".join(without)]) == 0
    assert set(checks.NAMES) > set(without)
