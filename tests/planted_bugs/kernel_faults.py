"""The faults planted in a generated kernel: each is one named change, and the first checks of `seen_by` must find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnspec.codegen.write import changes
from attnspec.harness.cases import pool
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.configuration import Case
from attnspec.harness.crew import Crew
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.profiles import seed_for
from attnspec.harness.subjects import Subject, generated_folder
from attnspec.spec.loader import find
from attnspec.spec.model import Spec

Places = tuple[tuple[int, int], ...]

CAUSAL, JAX, SINK = "causal_gqa", "jax.nn.dot_product_attention", str(Path(__file__).parents[1] / "specs" / "sink.toml")
FORWARD, BACKWARD = "oracle", "gradients"
LAUNCH = {**dict.fromkeys(("triton", "pallas"), ((4, 256, (16, 4, 4, 1)),)), "pallas_tpu": (16, 4)}
# Five keys in blocks of four for grouped heads; 17 queries in blocks of 16 over 15 keys; NaN in a key that no query sees. Then
# a bias for both heads, and rows that see nothing; and a sink of three heads, and of two where programs share a row.
CASES = {
    CAUSAL: ((2, seed_for("plain")), (8, seed_for("plain")), (0, seed_for("poisoned keys"))),
    JAX: ((12, seed_for("plain")), (3, seed_for("plain", "half, empty rows"))),
    SINK: ((3, seed_for("plain")), (5, seed_for("plain"))),
}


@dataclass(frozen=True, slots=True)
class KernelFault:
    """One change: `right` becomes `wrong` where it stands in the generated file."""

    name: str
    seen_by: str
    right: str
    wrong: str
    spec: str = CAUSAL
    target: str = "triton"

    def write(self, folder: Path) -> Subject:
        """The faulty file, as a subject of the lane."""
        spec = find(self.spec)
        if self.spec == SINK:
            changes([spec], [self.target], folder, False).apply()
        files = folder if self.spec == SINK else generated_folder()
        correct = (files / self.target / f"{spec.module_name}.py").read_text(encoding="utf-8")
        if self.right not in correct:
            raise ValueError(f"{self.name}: the generated file does not hold {self.right!r}")
        blocks = f"\nLAUNCHES = dict.fromkeys(LAUNCHES, {LAUNCH[self.target]})\nSHARE = 4\n"
        file = folder / f"{self.target}_{self.name.replace('-', '_')}.py"
        file.write_text(correct.replace(self.right, self.wrong) + blocks, encoding="utf-8")
        return Subject(f"faulty:{self.name}", spec.name, self.target, str(file), spec.function_name)


CORRECT = tuple(KernelFault(f"correct-{place}", "", "LAUNCHES = ", "LAUNCHES = ", spec) for place, spec in enumerate(CASES))
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
    KernelFault("bias-of-another-head", FORWARD, "tl.cast(n, tl.int64) * strides[1]", "tl.cast(b, tl.int64) * strides[1]", JAX),
    KernelFault("bias-gradient-of-one-head", BACKWARD, "own_n * HEADS + HEADS)", "own_n * HEADS + 1)", JAX),
    KernelFault("zero-where-all-is-hidden", FORWARD, "spread.to(tl.int32), 0) > 0", "spread.to(tl.int32), 0) > 1", JAX),
    KernelFault("no-share-of-hidden-keys", BACKWARD, "tl.where(attends, 0.0, share", "tl.where(attends, 0.0, 0.0 * share", JAX),
    KernelFault("a-part-without-its-last-block", FORWARD, "tl.minimum(low + blocks * BLOCK, S)", "tl.minimum(low + BLOCK, S)"),
    KernelFault("parts-that-weigh-alike", FORWARD, "(parts * weights.transpose(2, 3)[..., None]).sum(0)", "parts.mean(0)"),
    KernelFault("a-sink-in-every-part", FORWARD, "tl.program_id(2) == 0", "tl.program_id(2) >= 0", SINK),
    KernelFault("sink-that-weighs-nothing", FORWARD, 'tl.where(top == float("-inf"), 0.0, 1.0)', "tl.zeros_like(top)", SINK),
    KernelFault("sink-gradient-of-the-wrong-sign", BACKWARD, "return -(weights * _delta", "return (weights * _delta", SINK),
)


@dataclass(frozen=True, slots=True)
class PallasFault(KernelFault):
    """The same in Pallas, seen in one case: each is compiled anew."""

    target: str = "pallas"
    place: int = 0


PALLAS = (
    PallasFault("correct", BACKWARD, "LAUNCHES = ", "LAUNCHES = ", place=1),
    PallasFault("off-by-one-block-range", FORWARD, "first_query + stop - first_key, ", "first_query + stop - first_key - 1, "),
    PallasFault("missing-tail-mask", FORWARD, "    hidden, high = _meets(low, high, S, end, hidden, BLOCK)\n", "", place=1),
    PallasFault("missing-rescale", FORWARD, "summed * rescale[:, None] + _dot", "summed + _dot"),
    PallasFault("dropped-edge-block", FORWARD, "for tested in (False, True)", "for tested in (False,)"),
    PallasFault("wrong-head-of-a-group", FORWARD, "(b, 0, n // share, 0)", "(b, 0, n % share, 0)"),
    PallasFault("missing-delta", BACKWARD, "(d_weights - delta_block[:, None])", "d_weights", place=1),
    PallasFault("tail-rows-in-d-key", BACKWARD, "    hidden, high = _meets(low, high, T, end, hidden, BLOCK)\n", "", place=1),
    PallasFault("first-head-of-a-group-only", BACKWARD, "_repeated(query.shape[2], add_head", "_repeated(1, add_head"),
)


@dataclass(frozen=True, slots=True)
class TpuFault(PallasFault):
    """The same for TPUs."""

    target: str = "pallas_tpu"


TPU = (
    TpuFault("correct", BACKWARD, "LAUNCHES = ", "LAUNCHES = ", place=1),
    TpuFault("off-by-one-block-range", FORWARD, "first_query + stop - first_key, ", "first_query + stop - first_key - 1, "),
    TpuFault(
        "missing-tail-mask",
        FORWARD,
        "_attends(t, s, b, origin) & (s < S), logits",
        "_attends(t, s, b, origin), logits",
        place=1,
    ),
    TpuFault("missing-rescale", FORWARD, "summed[...] * rescale + _dot", "summed[...] + _dot"),
    TpuFault("sums-that-never-begin", FORWARD, "total[...] = jnp.zeros(total.shape, jnp.float32)", "pass"),
    TpuFault("wrong-head-of-a-group", FORWARD, "lax.div(n, jnp.int32(G))", "lax.rem(n, jnp.int32(G))"),
    TpuFault("block-beyond-the-end", "answers", "return b, column, k", "return b, column + 1, k"),
    TpuFault("missing-delta", BACKWARD, " - delta[...])", ")", place=1),
    TpuFault("first-head-of-a-group-only", BACKWARD, "grid=(B, K, count, N // K)", "grid=(B, K, count, 1)"),
)


def hunt(faults: Sequence[KernelFault], folder: Path) -> dict[str, set[str]]:
    """For each fault, the checks that see it within three cases of its spec."""
    seen: dict[str, set[str]] = {fault.name: set() for fault in faults}
    with Crew([Lane("triton")]) as crew:
        for name, places in CASES.items():
            names = {fault.write(folder): fault.name for fault in faults if fault.spec == name}
            for subject, checks in _seen(crew, find(name), tuple(names), places).items():
                seen[names[subject]] |= checks
    return seen


def hunt_in_pallas(faults: Sequence[PallasFault], folder: Path) -> dict[str, set[str]]:
    """For each of its faults, the checks that see it."""
    seen: dict[str, set[str]] = {}
    with Crew([Lane(faults[0].target, hasty=True)]) as crew:
        for check, place in sorted({(fault.seen_by, fault.place) for fault in faults}):
            mine = {fault.write(folder): fault.name for fault in faults if (fault.seen_by, fault.place) == (check, place)}
            found = _seen(crew, find(CAUSAL), tuple(mine), CASES[CAUSAL][place : place + 1], gradient=check == BACKWARD)
            seen |= {mine[subject]: checks for subject, checks in found.items()}
    return seen


def _seen(
    crew: Crew, spec: Spec, subjects: tuple[Subject, ...], places: Places, *, gradient: bool = True
) -> dict[Subject, set[str]]:
    """For each subject, the checks that fail in some of these cases: a configuration of the pool and a seed each."""
    configurations = pool(spec, "float32", 1 + max(place for place, _ in places))
    cases = [Case(configurations[place], seed) for place, seed in places]
    by_name = {subject.name: subject for subject in subjects}
    seen: dict[Subject, set[str]] = {subject: set() for subject in subjects}
    for evidence in crew.evidence(spec, subjects, cases, gradient=gradient):
        assert isinstance(evidence, Evidence)
        for name, answer in evidence.answers.items():  # each as if there were no other
            alone = replace(evidence, answers={name: answer})
            seen[by_name[name]] |= {failure.check for check in CASE_CHECKS.values() for failure in check(alone)}
    return seen
