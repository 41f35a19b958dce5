"""Cases: what a call looks like (`configuration.py`), and which calls are tried (`pool.py`)."""

from __future__ import annotations

from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.pool import free, large, pool

__all__ = ["Case", "Configuration", "TensorPlan", "free", "large", "pool"]
