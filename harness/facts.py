"""The facts of a configuration, for guards and preconditions."""

from __future__ import annotations

from attnspec.harness.configuration import Configuration
from attnspec.spec.model import Spec
from attnspec.spec.resolve import Facts, facts_of


def facts(spec: Spec, configuration: Configuration) -> Facts:
    """What `spec` can know of a call with this configuration; ShapeMismatch where its tensors do not fit together."""
    plans = dict(configuration.tensors)
    shapes = {name: plan.shape for name, plan in plans.items()}
    dtypes = {name: plan.dtype for name, plan in plans.items()}
    return facts_of(spec, dict(configuration.values), shapes, dtypes)
