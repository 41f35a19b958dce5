"""The faults planted in a generated kernel: each is one named change, and the first checks of `seen_by` must find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnspec.harness.cases import pool
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.configuration import Case
from attnspec.harness.crew import Crew
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.profiles import seed_for
from attnspec.harness.subjects import Subject, generated_folder
from attnspec.spec.loader import find

SPEC = "causal_gqa"
FORWARD, BACKWARD = "oracle", "gradients"
# Five keys in blocks of four for grouped heads; 17 queries in blocks of 16 over 15 keys; NaN in a key that no query sees.
BLOCKS = "\nLAUNCHES = dict.fromkeys(LAUNCHES, ((4, 256, (16, 4, 4, 1)),))\n"
PLACES = ((2, "plain"), (8, "plain"), (0, "poisoned keys"))


@dataclass(frozen=True, slots=True)
class KernelFault:
    """One change: `right` becomes `wrong` where it stands in the generated file."""

    name: str
    seen_by: str
    right: str
    wrong: str

    def write(self, folder: Path) -> Subject:
        """The faulty file, as a subject of the lane."""
        correct = (generated_folder() / "triton" / f"{SPEC}.py").read_text(encoding="utf-8")
        if self.right not in correct:
            raise ValueError(f"{self.name}: the generated file does not hold {self.right!r}")
        file = folder / f"{self.name.replace('-', '_')}.py"
        file.write_text(correct.replace(self.right, self.wrong) + BLOCKS, encoding="utf-8")
        return Subject(f"faulty:{self.name}", SPEC, "triton", str(file), SPEC)


CORRECT = KernelFault("correct", "", "def causal_gqa(", "def causal_gqa(")
FAULTS = (
    KernelFault("off-by-one-block-range", FORWARD, "_meets(low, end, 0, stop, ", "_meets(low, end, 0, stop - 1, "),
    KernelFault("missing-tail-mask", FORWARD, "    hidden, high = _meets(low, high, S, end, hidden, BLOCK)\n", ""),
    KernelFault("wrong-rescale", FORWARD, "summed = summed * rescale[:, None]", "summed = summed * 1.0"),
    KernelFault("dropped-edge-block", FORWARD, "for TESTED in tl.static_range(2)", "for TESTED in tl.static_range(1)"),
    KernelFault("stale-maximum", FORWARD, "                    top = raised\n", ""),
    KernelFault("wrong-head-of-a-group", FORWARD, "b, s, S, n // G, v, V, TESTED)", "b, s, S, n % (N // G), v, V, TESTED)"),
    KernelFault("missing-delta", BACKWARD, "(d_weights - delta_block[:, None])", "d_weights"),
    KernelFault("tail-rows-in-d-key", BACKWARD, "    hidden, high = _meets(low, high, T, end, hidden, BLOCK)\n", ""),
    KernelFault("queries-that-are-not-there", BACKWARD, " & (t[None, :] < T)", ""),
    KernelFault("first-head-of-a-group-only", BACKWARD, "for n in range(k * G, k * G + G)", "for n in range(k * G, k * G + 1)"),
    KernelFault("forgotten-factor", BACKWARD, "summed_keys * scale", "summed_keys"),
    KernelFault("skipped-queries", BACKWARD, "_meets(low, end, start, T, ", "_meets(low, end, stop, T, "),
)


def hunt(faults: Sequence[KernelFault], folder: Path) -> dict[str, set[str]]:
    """For each fault, the checks that see it within three cases."""
    spec = find(SPEC)
    subjects = {fault.write(folder): fault.name for fault in faults}
    names = {subject.name: name for subject, name in subjects.items()}
    configurations = pool(spec, "float32", 1 + max(place for place, _ in PLACES))
    cases = [Case(configurations[place], seed_for(values)) for place, values in PLACES]
    seen: dict[str, set[str]] = {fault.name: set() for fault in faults}
    with Crew([Lane("triton")]) as crew:
        for evidence in crew.evidence(spec, tuple(subjects), cases, gradient=True):
            assert isinstance(evidence, Evidence)
            for name, answer in evidence.answers.items():  # each as if there were no other
                alone = replace(evidence, answers={name: answer})
                seen[names[name]] |= {failure.check for check in CASE_CHECKS.values() for failure in check(alone)}
    return seen
