"""The oracle: what a call must return, forward and backward, with an a-priori error bound for every element.

It interprets the spec's own expressions over index grids in float64 (long double for float64 subjects) and shares no code
with the compiler. `plan.py` compiles a configuration once into steps (`interpreter.py`: expressions; `product.py`,
`softmax.py`, `elementwise.py`, `movement.py`: operations with their gradients); `judge` runs them on a case's arrays.
"""

from __future__ import annotations

from attnspec.harness.oracle.judge import Gold, Verdict, judge, judged

__all__ = ["Gold", "Verdict", "judge", "judged"]
