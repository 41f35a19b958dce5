"""Every fault planted in a generated kernel is found within three cases, and the kernel as it is has none."""

from __future__ import annotations

from pathlib import Path

from planted_bugs.kernel_faults import CORRECT, FAULTS, PALLAS, hunt, hunt_in_pallas


def test_every_fault_in_a_kernel_is_found_by_its_check(tmp_path: Path) -> None:
    seen = hunt((*CORRECT, *FAULTS), tmp_path)
    assert [seen.pop(correct.name) for correct in CORRECT] == [set(), set(), set()]
    assert {fault.name for fault in FAULTS if fault.seen_by not in seen[fault.name]} == set()


def test_every_fault_in_a_pallas_kernel_is_found_by_its_check(tmp_path: Path) -> None:
    seen = hunt_in_pallas(tmp_path)
    assert seen.pop("correct") == set()
    assert {fault.name for fault in PALLAS if fault.seen_by not in seen.get(fault.name, fault.seen_by)} == set()
