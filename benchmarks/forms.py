"""Where the direct form is as fast as the blockwise one: what `attnspec generate --form auto` chooses by.

    python benchmarks/forms.py [TARGET ...]

Both forms of `causal_gqa` take turns in one process for each target, on one core and one thread, forward, 8 heads of 64, at
lengths that double. `ratios` are the best processor times of the direct form by those of the blockwise one, by length, and
`direct_up_to` is T * S of the longest of the lengths up to which the direct form never takes longer, 0 where there is none.
Results go to results/forms.json, and by hand to `DIRECT_UP_TO` in codegen/blockwise/choice.py; of Keras's backends the least.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from blockwise import FRAMEWORKS, Case, compare, run_worker, seconds

RESULTS = Path(__file__).parent / "results" / "forms.json"
LENGTHS = (32, 64, 128, 256, 512, 1024)
SECONDS = 1.0  # for the turns of a length


def ratio(framework: str, length: int) -> float:
    """Best time of the direct form by that of the blockwise one."""
    case = Case(f"{framework}-forms", 1.0, length=length, peer="graph" if framework == "tensorflow" else "")
    forms = [next(FRAMEWORKS[framework](replace(case, form=form), length)) for form in ("", "_blockwise")]
    compare(*(form() for form in forms))
    taken: list[list[float]] = []
    begun = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - begun < SECONDS:
        taken.append([seconds(form) for form in forms])
    direct, blocks = (min(column) for column in zip(*taken, strict=True))
    return round(direct / blocks, 2)


def direct_up_to(ratios: dict[str, float]) -> int:
    """The greatest T * S up to which the direct form takes no longer; 0 where there is none."""
    return max((int(length) ** 2 for length, _ in takewhile(lambda each: each[1] <= 1, ratios.items())), default=0)


def main(chosen: list[str]) -> None:
    """Measure, print and keep."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for framework in chosen or FRAMEWORKS:
        ratios = {str(length): float(run_worker(__file__, framework, length)) for length in LENGTHS}
        kept[framework] = {"ratios": ratios, "direct_up_to": direct_up_to(ratios)}
        print(framework, kept[framework], flush=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(ratio(sys.argv[2], int(sys.argv[3])))
    else:
        main(sys.argv[1:])
