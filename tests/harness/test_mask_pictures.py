"""Pictures of masks: a spec's own, and those of a finding before and after its cause."""

from __future__ import annotations

import numpy as np

from attnspec.harness.cases import Case, Configuration, TensorPlan
from attnspec.harness.causes.perturbations import Cause, perturbations
from attnspec.harness.mask_pictures import Picture, of_finding, of_spec
from attnspec.spec.loader import builtin

SPEC = builtin()["jax.nn.dot_product_attention"]


def case(*values: tuple[str, object], queries: int = 2, keys: int = 4) -> Case:
    tensors = [(name, TensorPlan((1, length, 1, 3), "float32")) for name, length in
               (("query", queries), ("key", keys), ("value", keys))]  # fmt: skip
    return Case(Configuration(SPEC.name, "float32", values=values, tensors=tuple(tensors)), 0)


def causes(about: Case, clause: str) -> list[Cause]:
    return [cause for cause, _ in perturbations(SPEC, about.configuration) if cause.clause == clause]


def test_a_spec_shows_each_of_its_masks_alone() -> None:
    pictures = {picture.title: picture for picture in of_spec(SPEC)}
    assert list(pictures) == [f"mask.{name}" for name in ("explicit", "causal", "window", "query_length", "key_length")]
    causal = pictures["mask.causal"].lines
    assert causal == tuple("".join("#" if s <= t else "." for s in range(len(causal[0]))) for t in range(len(causal)))
    assert len(set(pictures["mask.key_length"].lines)) == 1
    assert {frozenset(line) for line in pictures["mask.query_length"].lines} == {frozenset("#"), frozenset(".")}
    assert pictures["mask.window"].rule == "`-left <= s - t and s - t <= right`"


def test_a_finding_shows_what_is_declared_beside_what_its_cause_makes_of_it() -> None:
    failing = case(("is_causal", True))
    moved = next(cause for cause in causes(failing, "mask.causal") if "bottom-right" in cause.text)
    assert list(of_finding(SPEC, [(failing, None)], [moved])) == [
        Picture("declared", "", "T=2, S=4, is_causal=True", ("#...", "##..")),
        Picture("here", moved.text, "T=2, S=4, is_causal=True", ("###.", "####")),
    ]


def test_a_cause_that_is_no_mask_shows_the_declared_one_alone() -> None:
    (picture,) = of_finding(SPEC, [(case(("is_causal", True)), None)], [Cause("scale", "`scale` is dropped")])
    assert picture.title == "declared"


def test_a_users_own_lengths_are_drawn_as_they_are() -> None:
    failing = case()
    tensors = (*failing.configuration.tensors, ("key_value_seq_lengths", TensorPlan((1,), "int32")))
    own = Case(Configuration(SPEC.name, "float32", tensors=tensors), 0)
    (picture,) = of_finding(SPEC, [(own, {"key_value_seq_lengths": np.array([3], np.int32)})], [])
    assert picture.lines == ("###.", "###.")


def test_what_is_too_large_is_not_drawn() -> None:
    assert list(of_finding(SPEC, [(case(queries=2, keys=161), None)], [])) == []
