"""Every fault planted in a generated kernel is found within three cases, and the kernel as it is has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from planted_bugs.kernel_faults import CORRECT, FAULTS, PALLAS, TPU, PallasFault, hunt, hunt_in_pallas


def test_every_fault_in_a_kernel_is_found_by_its_check(tmp_path: Path) -> None:
    seen = hunt((*CORRECT, *FAULTS), tmp_path)
    assert [seen.pop(correct.name) for correct in CORRECT] == [set(), set(), set()]
    assert {fault.name for fault in FAULTS if fault.seen_by not in seen[fault.name]} == set()


@pytest.mark.parametrize("faults", [PALLAS, TPU], ids=["gpu", "tpu"])
def test_every_fault_in_a_pallas_kernel_is_found_by_its_check(faults: Sequence[PallasFault], tmp_path: Path) -> None:
    seen = hunt_in_pallas(faults, tmp_path)
    assert seen.pop("correct") == set()
    assert {fault.name for fault in faults if fault.seen_by not in seen.get(fault.name, fault.seen_by)} == set()
