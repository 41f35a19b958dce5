"""Compile every kernel for every chip, dtype and head dim: `make kernels-full`.

What each uses goes to `benchmarks/results/kernels_<chip>.json`; it exits with 1 where something is over its limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import triton

from ahead_of_time import ALWAYS, CHIPS, OPERANDS, SDPA, Choice, excesses, measured, module
from compiling import GENERATED, ROOT

DTYPES, WIDTHS = ("fp16", "bf16", "fp32"), (64, 128, 256)
GIVEN = (*ALWAYS, *OPERANDS, "is_causal", "seed")
RESULTS = ROOT / "benchmarks" / "results"


def choices(chip: str, dtypes: list[str], widths: list[int]) -> Iterator[Choice]:
    """Every kernel of every generated file, given all that it may be given."""
    for path in sorted((GENERATED / "triton").glob("[a-z]*.py")):
        kernels = ["decode", *(name[1:-7] for name in vars(module(path.stem)) if name.endswith("_kernel"))]
        given = tuple(name for name in GIVEN if path.stem != SDPA or name != "is_causal")  # which takes no mask beside it
        for kernel, dtype, width in product(kernels, dtypes, widths):
            yield Choice(chip, path.stem, kernel, width, dtype, given)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", nargs="+", default=list(CHIPS), choices=CHIPS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--widths", nargs="+", default=list(WIDTHS), type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    over = [found for chip in options.chips for found in compile_all(chip, options.dtypes, options.widths)]
    print("\n".join(over) or "all are within their limits")
    return 1 if over else 0


def compile_all(chip: str, dtypes: list[str], widths: list[int]) -> list[str]:
    """Compile for one chip and write what that took; returns what is over its limit."""
    rows, over = [], []
    with TemporaryDirectory() as folder:
        for choice in choices(chip, dtypes, widths):
            name = f"{choice.spec} {choice.kernel} {choice.dtype} {choice.width}"
            try:
                used = measured(choice, Path(folder))
                excess = list(excesses(choice, used))
            except Exception as error:  # whatever a compiler raises is one line of the log
                used, excess = {}, [f"{type(error).__name__}: {error}".splitlines()[0]]
            rows.append({"kernel": name, **used, "over": excess})
            over += [f"{chip} {name}: {each}" for each in excess]
            print(chip, name, *excess, flush=True)
    log = {"triton": triton.__version__, "chip": chip, "kernels": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"kernels_{chip}.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    return over


if __name__ == "__main__":
    sys.exit(main())
