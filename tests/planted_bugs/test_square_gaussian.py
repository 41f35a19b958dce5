"""The test that is usually written lets most of the faults pass: why the harness draws other inputs.

Square Gaussian inputs (T = S, N = K, float32), plain and causal, output and gradients against a reference, at the
tolerance that `torch.testing.assert_close` has by default.
"""

from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planted_bugs.faults import FAULTS, HERE, Fault

Arrays = list[np.ndarray]
SHAPE = (2, 8, 8, 4)  # T = N: square whichever of the two axes comes first


def gaussian() -> Arrays:
    """Query, key, value and the output's cotangent."""
    random = np.random.default_rng(0)
    return [random.standard_normal(SHAPE, np.float32) for _ in range(4)]


def load(file: Path, name: str) -> Any:
    """The function of that name in the file."""
    found = util.spec_from_file_location(file.stem, file)
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, name)


def run_numpy(file: Path, fault: Fault, arrays: Arrays, is_causal: bool) -> Arrays:
    query, key, value, d_output = arrays
    output = load(file, fault.function)(query, key, value, is_causal=is_causal)
    gradients = load(file, f"{fault.function}_vjp")(d_output, query, key, value, is_causal=is_causal)
    return [output, *gradients.values()]


def run_torch(file: Path, fault: Fault, arrays: Arrays, is_causal: bool) -> Arrays:
    import torch

    *tensors, d_output = (torch.from_numpy(array) for array in arrays)
    for tensor in tensors:
        tensor.requires_grad_()
    output = load(file, fault.function)(*tensors, is_causal=is_causal)
    return [part.detach().numpy() for part in (output, *torch.autograd.grad(output, tensors, d_output))]


def run_jax(file: Path, fault: Fault, arrays: Arrays, is_causal: bool) -> Arrays:
    import jax

    attention = load(file, fault.function)
    output, backward = jax.vjp(lambda *tensors: attention(*tensors, is_causal=is_causal), *arrays[:3])
    return [np.asarray(part) for part in (output, *backward(arrays[3]))]


RUN = {"numpy": run_numpy, "torch": run_torch, "jax": run_jax}


def passes(fault: Fault, file: Path, is_causal: bool) -> bool:
    """Whether the faulty file agrees with the correct one as far as this test can see."""
    correct = HERE / f"{fault.framework}_attention.py"
    run, arrays = RUN[fault.framework], gaussian()
    try:
        found = run(file, fault, arrays, is_causal)
    except RuntimeError:  # torch refuses to write to a tensor that requires gradients
        return False
    pairs = zip(found, run(correct, fault, arrays, is_causal), strict=True)
    return all(got.dtype == want.dtype and np.allclose(got, want, rtol=1.3e-6, atol=1e-5) for got, want in pairs)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_survives_square_gaussian_inputs(fault: Fault, tmp_path: Path) -> None:
    file = fault.write(tmp_path)
    assert fault.survives == (passes(fault, file, is_causal=False) and passes(fault, file, is_causal=True))


def test_most_faults_survive() -> None:
    assert len(FAULTS) >= 20
    assert sum(fault.survives for fault in FAULTS) >= 8
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
