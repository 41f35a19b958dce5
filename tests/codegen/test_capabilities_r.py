"""Every capability of the language, compiled to R and run there: values against attention written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capabilities import EXAMPLES, Example
from in_r import needs_r, r_capability

pytestmark = needs_r


def outputs(found: Any) -> tuple[np.ndarray, ...]:
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_values_are_those_written_by_hand(example: Example, tmp_path: Path) -> None:
    function = r_capability(example.spec, tmp_path)
    found = outputs(function(**example.arguments(example.arrays(), np.asarray)))
    references = example.reference(example.arrays())
    assert len(found) == len(references)
    for output, expected in zip(found, references, strict=True):
        assert output.shape == expected.shape
        np.testing.assert_allclose(output, expected, atol=1e-13)


def test_rows_that_see_nothing_follow_the_path_that_was_taken(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if e.id == "two_paths-fused")
    arguments = example.arguments(example.arrays(), np.asarray)
    function = r_capability("two_paths", tmp_path)
    output, weights = function(**arguments, return_weights=True)
    assert np.isnan(output[0, 1]).all()
    assert np.isnan(weights[0, :, 1]).all()
    assert np.isfinite(np.delete(output.reshape(6, -1), 1, axis=0)).all()
    assert (function(**arguments)[0, 1] == 0).all()


def test_a_weight_that_does_not_fit_is_named(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if e.id == "projected_layer-bias")
    arguments = example.arguments(example.arrays(), np.asarray)
    arguments["params"]["key_bias"] = np.zeros((3, 3))
    with pytest.raises(Exception, match=r"`key_bias` must have shape \(K, H\), got \(3, 3\); K = 2 is bound by `key_kernel`"):
        r_capability("projected_layer", tmp_path)(**arguments)
