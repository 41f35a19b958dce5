"""Where a subject first differs, when no single change of the spec explains it.

The smallest call that fails has few stages left that a call may do without. Outputs that are values on the way (weights, a
log-sum-exp) tell whether a subject is wrong before them or behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attnspec.harness.arrays import arrays
from attnspec.harness.causes.search import Witness
from attnspec.harness.checks.agreement import compare
from attnspec.harness.configuration import Case
from attnspec.harness.facts import facts
from attnspec.harness.oracle import judge
from attnspec.spec.model import Spec, Stage
from attnspec.spec.resolve import Attention, resolve


def first_stage(spec: Spec, failed: Sequence[Witness], smallest: Case) -> str:
    """The stage in words, as far as it is told from others."""
    by_outputs = {text for witness in failed for text in _by_outputs(spec, witness)}
    backward = ["in the backward pass"] if failed[0].part == "gradients" and not by_outputs else []
    return "; ".join([*backward, _by_calls(spec, failed, smallest), *(by_outputs if len(by_outputs) == 1 else ())])


def _by_calls(spec: Spec, failed: Sequence[Witness], smallest: Case) -> str:
    """The stages that no failing call does without, nor the smallest one; else those that every call has."""
    first, *others = (_attention(spec, case).stages for case in (smallest, *(each.case for each in failed)))
    clauses = {stage.clause: stage.when is not None for stage in first if all(stage in stages for stages in others)}
    optional = [f"`{clause}`" for clause, is_optional in clauses.items() if is_optional]
    if optional:
        return f"at {' or '.join(optional)}, which every failing call has"
    return f"at one of {', '.join(f'`{clause}`' for clause in clauses)}, which every call has"


def _by_outputs(spec: Spec, witness: Witness) -> Iterator[str]:
    """Of several outputs the one before which an answer is wrong, or behind which."""
    given = arrays(witness.case, spec) if witness.given is None else witness.given
    attention, golds = _attention(spec, witness.case), judge(spec, witness.case, given, False).outputs
    returned = [each for each in attention.outputs if each.name in witness.answer.outputs and each.name in golds]
    placed = sorted((_place(attention.stages, each.tensor), each.name) for each in returned)
    right = [compare(witness.answer.outputs[name], golds[name]).agrees for _, name in placed]
    if len(placed) > 1 and not all(right):
        place, name = placed[max(right.index(False) - 1, 0)]
        clause = attention.stages[place].clause
        yield f"behind `{clause}`: `{name}` is right" if right[0] else f"by `{clause}`: `{name}` is wrong"


def _attention(spec: Spec, case: Case) -> Attention:
    return resolve(spec, facts(spec, case.configuration))


def _place(stages: Sequence[Stage], tensor: str) -> int:
    """The stage after which a returned tensor is what it is."""
    name, _, clause = tensor.partition("@")
    made = [n for n, each in enumerate(stages) if each.clause == clause or (not clause and each.defines == name)]
    return max(made, default=next(n for n, each in enumerate(stages) if each.kind == "softmax"))  # its log-sum-exp
