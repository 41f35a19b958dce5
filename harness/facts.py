"""The facts of a configuration, for guards and preconditions."""

from __future__ import annotations

from dataclasses import replace

from attnspec.harness.configuration import Configuration
from attnspec.spec.model import Spec
from attnspec.spec.resolve import Facts, ShapeMismatch, facts_of, same_places


def facts(spec: Spec, configuration: Configuration) -> Facts:
    """What `spec` can know of a call with this configuration; ShapeMismatch where its tensors do not fit together."""
    plans = dict(configuration.tensors)
    shapes = {name: plan.shape for name, plan in plans.items()}
    dtypes = {name: plan.dtype for name, plan in plans.items()}
    return facts_of(spec, dict(configuration.values), shapes, dtypes)


def facts_as_meant(spec: Spec, configuration: Configuration) -> Facts:
    """The facts of a call that may be invalid: where its tensors do not fit together, the sizes are those it was made from."""
    try:
        return facts(spec, configuration)
    except ShapeMismatch:
        alone = facts_of(spec, dict(configuration.values), {}, {})
    sizes, values = dict(configuration.sizes), dict(configuration.values)
    plans = dict(configuration.tensors)
    places = {each.name: str(values[each.name]) for each in spec.tensor_arguments if values.get(each.name) in plans}
    plans |= {name: plans[other] for name, other in places.items()}
    return replace(
        alone,
        shapes={name: plan.shape for name, plan in plans.items()},
        dtypes={name: plan.dtype for name, plan in plans.items()},
        same=same_places(places),
        sizes=sizes,
        scope={**alone.scope, **sizes},
    )
