"""Reproducers: a failure as a script of at most 20 lines that needs NumPy and the framework, and prints got and want.

literals.py   arrays as source
dialects.py   how each framework makes tensors and layers, calls and differentiates
write.py      the script of a failure, by the check that saw it
known.py      a script for each known deviation
"""

from __future__ import annotations

from attnspec.harness.scripts.write import LINES, script

__all__ = ["LINES", "script"]
