"""All there is to judge one case by: what the oracle says and what every subject answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from attnspec.harness.checks.agreement import Comparison, compare
from attnspec.harness.configuration import Case
from attnspec.harness.lanes.messages import Answer, Returned, Tensor
from attnspec.harness.oracle import Gold, Verdict
from attnspec.spec.model import Spec

Part = Literal["outputs", "gradients"]


@dataclass
class Evidence:
    """One case. Comparisons are made once, whichever checks and counts ask for them."""

    spec: Spec
    case: Case
    verdict: Verdict
    answers: Mapping[str, Answer]
    gradient: bool = False
    _compared: dict[tuple[str, Part, str], Comparison] = field(default_factory=dict)

    def golds(self, part: Part) -> Mapping[str, Gold]:
        return self.verdict.outputs if part == "outputs" else self.verdict.gradients

    def returned(self, part: Part) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """Each subject that returned, with what it returned."""
        for subject, answer in self.answers.items():
            if isinstance(answer, Returned):
                yield subject, answer.outputs if part == "outputs" else answer.gradients

    def comparison(self, subject: str, part: Part, name: str) -> Comparison:
        """The subject's `name` against the oracle's. The subject must have returned it."""
        key = subject, part, name
        if key not in self._compared:
            tensors = dict(self.returned(part))[subject]
            self._compared[key] = compare(tensors[name], self.golds(part)[name])
        return self._compared[key]

    def agrees(self, subject: str, part: Part) -> bool:
        """Whether the subject returned all of a part, and rightly."""
        tensors, golds = dict(self.returned(part)).get(subject, {}), self.golds(part)
        return all(name in tensors and self.comparison(subject, part, name).agrees for name in golds)
