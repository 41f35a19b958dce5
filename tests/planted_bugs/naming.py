"""What a run says of a planted fault: its cause by name, from at most six failing calls, and how small a call shows it.

`CAUSES` holds words of each fault's true cause: those of a cause of `harness/causes/`, or of the finding itself where that is
all there is to say (an invalid call that is accepted). A fault that is not in it has no name: the vocabulary lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from attnspec.harness import checks
from attnspec.harness.conductor import Conductor
from attnspec.harness.findings import Finding
from attnspec.harness.plan import PROFILES, Item, Plan, Profile
from attnspec.harness.subjects import user
from attnspec.spec.loader import builtin
from planted_bugs.faults import APIS, GENERATED, Fault

SEED = 2
SHRUNK = replace(PROFILES["quick"], shrink_seconds=3.0)  # more faults than seconds
FOUND = replace(PROFILES["ci"], shrink_seconds=0.0, shrink_examples=1)  # whether, not how small
CHECKS = tuple(name for name in checks.NAMES if name not in ("pairwise", "coverage"))  # there is nobody else, and no other call
TENSORS = ("query", "key", "value")

CAUSES = {
    "mask-polarity": "`mask.explicit` has the other polarity",
    "mask-dropped-when-bias-is-given": "`mask.explicit` is dropped",
    "rank-3-mask-read-as-batch": "`mask` of rank 3 is read as a batch",
    "causal-aligned-bottom-right": "`mask.causal` is aligned bottom-right",
    "window-edge-off-by-one": "`mask.window` is one key narrower on the left",
    "window-sides-swapped": "`mask.window` has its sides swapped",
    "key-lengths-ignored": "`mask.key_length` is dropped",
    "key-length-off-by-one": "`mask.key_length` ends one key later",
    "rows-past-query-length-not-zeroed": "`rows.query_length` is dropped",
    "float-mask-read-as-boolean": "a floating `attn_mask` is added, and read as boolean too",
    "causal-aligned-bottom-right-in-torch": "`mask.causal` is aligned bottom-right",
    "rows-past-query-length-not-zeroed-in-jax": "`rows.query_length` is dropped",
    "empty-row-is-nan": "an empty row is NaN",
    "empty-row-is-zero": "an empty row is zero",
    "fill-too-small": "hidden logits are replaced by -1e4",
    "masked-nan-leaks": "hidden logits are increased by",
    "empty-row-is-nan-in-torch": "an empty row is NaN",
    "scale-by-model-dim": "the scale is (N * H) ** -0.5",
    "given-scale-ignored": "the scale is H ** -0.5 whatever is given",
    "heads-tiled-not-repeated": "key/value heads are tiled",
    "bias-scaled-too": "`modifier.bias` comes before `modifier.scale`",
    "bias-of-first-head-for-all": "`bias` of the first head is taken for all",
    "scale-by-value-dim": "the scale is V ** -0.5",
    "logits-in-input-dtype": "`logits.dtype` is input",
    "output-left-in-float32": "`output` is left in float32",
    "softmax-in-input-dtype": "`softmax.dtype` is input",
    "log-sum-exp-base-2": "adds to the peak a logarithm to base 2",
    "float64-computed-in-float32": "float64 is computed in float32",
    "fp16-logits-overflow": "`logits.dtype` is input",
    "delta-term-missing": "lacks its row sums (delta)",
    "scale-missing-in-d-key": "the gradient of `key` lacks the scale",
    "d-key-of-first-head-in-group": "the gradient of `key` is that of the first query head",
    "d-bias-averaged-not-summed": "the gradient of `bias` is the mean over the axes",
    "padding-rows-leak-into-gradients": "`rows.query_length` is dropped",
    "gradient-flows-into-hidden-logits": "gradients reach hidden logits",
    "gradient-of-empty-row-is-nan": "the gradient of an empty row is NaN",
    "keys-past-64-dropped": "keys from 64 on are not seen",
    "partial-block-of-keys-dropped": "keys of the last, partial block of 16 are not seen",
    "mask-of-first-batch-for-all": "`mask` of the first batch is taken for all",
    "key-length-of-first-batch-for-all": "`mask.key_length` takes the first batch's values for all",
    "bias-dropped-in-float16": "`modifier.bias` is dropped",
    "window-dropped-beside-causal": "`mask.window` is dropped",
    "query-length-dropped-beside-key-length": "`mask.query_length` is dropped",
    "bias-subtracted": "`modifier.bias` is subtracted",
    "scale-missing-in-d-query": "the gradient of `query` lacks the scale",
    "causal-hides-the-diagonal": "`mask.causal` ends one key earlier",
    "heads-tiled-in-torch": "key/value heads are tiled",
    "queries-past-64-dropped": "queries from 64 on give zero",
    "queries-past-128-dropped": "queries from 128 on give zero",
    "large-values-cut": "doubled-values",
    "large-cotangents-cut": "cotangents are cut at 1",
    "not-the-same-twice": "twice",
    "dropout-not-scaled": "neither zero nor 1 / (1 - rate)",
    "dropout-drawn-anew-in-the-backward-pass": "dropout-mask",
    "dropout-drops-what-it-should-keep": "weights are kept",
    "keys-read-in-memory-order": "memory-",
    "input-is-written": "was written to",
    "longer-value-cut-to-key": "must raise",
    "negative-window-accepted": "must raise",
    "refusal-leaves-state": "gives something else after one that breaks `dtype of mask`",
    "mask-and-causal-accepted": "must raise",
    "scale-may-be-positional": "scale",
    "window-aligned-bottom-right": "`mask.window` is aligned bottom-right",
    "window-right-edge-off-by-one": "`mask.window` is one key narrower on the right",
    "one-window-size-means-the-left-side": "`mask.window` has a right side of 0",
    "mask-dropped-beside-causal": "`mask.explicit` is dropped",
    "causal-dropped-beside-mask": "`mask.causal` is dropped",
    "causal-dropped-beside-bias": "`mask.causal` is dropped",
    "square-mask-transposed": "`mask` is transposed",
    "key-lengths-hide-what-is-inside": "`mask.key_length` has the other polarity",
    "heads-and-queries-swapped": "`output` has its queries and heads swapped",
    "scaled-twice": "the scale is applied twice",
    "scale-without-its-root": "the scale is 1 / H",
    "bias-of-first-query-for-all": "`bias` of the first query is taken for all",
    "log-sum-exp-without-its-peak": "lacks the peak of its row",
    "logits-summed-in-half": "`logits.dtype` is input",
    "d-value-of-first-head-in-group": "the gradient of `value` is that of the first query head",
    "groups-averaged-not-summed": "are the mean of a group",
    "d-bias-scaled-too": "the gradient of `bias` is scaled once more",
    "cap-before-the-scale": "`modifier.softcap` comes before `modifier.scale`",
    "cap-cuts": "`modifier.softcap` cuts",
    "cap-inside-alone": "`modifier.softcap` only divides",
    "cap-outside-alone": "`modifier.softcap` only multiplies",
    "window-one-key-short": "`mask.window` is one key narrower on the left",
    "heads-of-a-group-apart": "query heads are read as (G, K)",
    "weights-of-the-first-head": "is that of the first head",
    "weights-summed-over-heads": "is the sum over heads",
    "bias-of-query-for-key": "`project.key_bias` reads `in_proj_bias[0]`",
    "padding-mask-inverted": "`mask.key_padding` has the other polarity",
    "mask-dropped-where-weights-are-returned": "`mask.attn_mask` is dropped",
    "heads-interleaved": "`in_proj_weight` has its heads interleaved",
    "output-projection-transposed": "`out_proj_weight` is transposed",
    "head-dims-past-64-dropped": "head dims from 64 on are not multiplied",
    "partial-block-of-queries-dropped": "queries of the last, partial block of 16 give zero",
    "mask-of-the-next-batch-row": "`mask` is taken of the batch row before",
    "bias-of-first-batch-for-all": "`bias` of the first batch is taken for all",
    "d-query-of-wrong-head": "in the gradient of `query` key/value heads are taken from the other end",
    "d-bias-of-first-batch-where-it-broadcasts": "the gradient of `bias` is that of the first batch row",
    "scale-ends-at-head-dim-16": "the scale is min(H, 16) ** -0.5",
    "keys-wrap-at-128": "keys from 128 on are the first ones again",
    "softmax-sums-64-keys": "the softmax's sum takes the first 64 keys alone",
    "softmax-overflows": "the softmax does not subtract the peak of a row",
    "values-summed-in-half": "values are summed in half precision",
    "softmax-over-queries": "the softmax's sum is over queries",
    "weights-overflow-in-half": "the softmax cuts logits at 11",
    "cap-on-hidden-logits-too": "`modifier.softcap` is applied once more, to hidden logits too",
}


@dataclass(frozen=True, slots=True)
class Naming:
    """A fault, what a run found of it, and whether its true cause is among those that are named, and the only one."""

    fault: Fault
    findings: tuple[Finding, ...]

    @property
    def _telling(self) -> Finding | None:
        """The finding that has the true cause among its own."""
        words = CAUSES.get(self.fault.name)
        return next((each for each in self.findings if words and any(words in text for text in _texts(each))), None)

    @property
    def is_listed(self) -> bool:
        return self._telling is not None

    @property
    def is_alone(self) -> bool:
        return self._telling is not None and len(_texts(self._telling)) == 1

    @property
    def said(self) -> str:
        """The causes that are named."""
        shown = self._telling or next(iter(self.findings), None)
        return "; or ".join(_texts(shown)) if shown else "nothing"

    @property
    def scalars(self) -> int | None:
        """How many numbers query, key and value have, all together, in the smallest call of any finding."""
        cases = [each.failure.case for each in self.findings if each.failure.case is not None]
        plans = ([plan for name, plan in case.configuration.tensors if name in TENSORS] for case in cases)
        return min((sum(prod(plan.shape) for plan in each) for each in plans), default=None)


def _texts(finding: Finding) -> tuple[str, ...]:
    return finding.causes or (finding.seen,)


def namings(base: str, faults: Sequence[Fault], folder: Path, profile: Profile = SHRUNK) -> Iterator[Naming]:
    """What one run finds of all faults of an implementation, each judged alone."""
    spec, lane = builtin()[(APIS | GENERATED)[base]], base if base in APIS else "numpy"
    subjects = {fault.name: user(f"{fault.write(folder)}:{fault.function}", spec, lane) for fault in faults}
    item = Item(spec, spec.name, tuple(subjects.values()))
    done = Conductor(Plan(items=(item,), profile=profile, seed=SEED, lanes=(lane,), checks=CHECKS)).run()
    for fault in faults:
        mine = tuple(each for each in done.findings if each.failure.subject == subjects[fault.name].name)
        yield Naming(fault, mine)
