"""What execnet runs first in a new lane process. It is sent as source, so it imports nothing of attnspec at the top.

The lane runs the conductor's own files, whatever attnspec its interpreter may have installed: `packages` maps each
subpackage to its folder, which is also what makes any interpreter that has NumPy and the framework good enough.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Mapping
from typing import Any

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_TRACEBACK_FILTERING": "off",  # a call that must raise spends half of its time there, and nobody sees the traceback
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}

HASTY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compile in two thirds of the time, to slower code


def mount(packages: Mapping[str, str]) -> None:
    """Make `attnspec.<name>` importable from each folder, without anything being installed."""
    root = types.ModuleType("attnspec")
    root.__path__ = []
    sys.modules["attnspec"] = root
    for name, folder in packages.items():
        qualified = f"attnspec.{name}"
        spec = importlib.util.spec_from_file_location(
            qualified, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"no package in {folder}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        spec.loader.exec_module(module)
        setattr(root, name, module)


def main(channel: Any) -> None:
    """Read the first message (packages, framework, memory limit, haste, environment) and serve until the channel closes."""
    start = channel.receive()
    for name, value in {**ENVIRONMENT, **(HASTY if start["hasty"] else {}), **start["environment"]}.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:  # what a subject returns is judged; PYTHONWARNINGS=default shows what it warns of
        warnings.simplefilter("ignore")
    sys.path[:0] = start["path"]
    mount(start["packages"])
    from attnspec.harness.lanes.server import serve

    serve(channel, start["framework"], start["memory"])


if __name__ == "__channelexec__":
    main(channel)  # type: ignore[name-defined]  # noqa: F821  execnet puts it there
