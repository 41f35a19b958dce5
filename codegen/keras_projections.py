"""The projections of a spec's layer, as sublayers of a Keras layer."""

from __future__ import annotations

from dataclasses import dataclass

from attnspec.spec.expression import Access, Binary, Call, Name, Sum, names
from attnspec.spec.model import Spec, Stage, Weight


@dataclass(frozen=True, slots=True)
class Dense:
    """One projection: the stages of one tensor, as a sublayer."""

    attribute: str
    defines: str
    source: str
    equation: str
    kernel: Weight
    bias: Weight | None
    activation: str
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """`attention_output` of `attention_output_kernel`: the sublayer's own name."""
        return self.kernel.name.rpartition("_")[0]


def dense_layers(spec: Spec) -> tuple[Dense, ...]:
    """The projections in the order of their weights, which is that of a checkpoint."""
    weights = {weight.name: weight for weight in spec.weights}
    found = [dense for stage in spec.paths[-1].stages if (dense := _dense(spec, stage, weights)) is not None]
    return tuple(sorted(found, key=lambda dense: spec.weights.index(dense.kernel)))


def _dense(spec: Spec, stage: Stage, weights: dict[str, Weight]) -> Dense | None:
    """The projection that a stage begins: a product with a weight, then perhaps a bias and an activation."""
    product = stage.expression
    while isinstance(product, Sum):
        product = product.body
    match product:
        case Binary("*", Access(source, inputs), Access(kernel, own)) if kernel in weights and product is not stage.expression:
            followers = [
                s for s in spec.paths[-1].stages if s.defines == stage.defines and s is not stage and s.kind == stage.kind
            ]
            biases = [s for s in followers if names(s.expression) & weights.keys()]
            activations = [s for s in followers if isinstance(s.expression, Call)]
            bias = next((weights[name] for s in biases for name in names(s.expression) if name in weights), None)
            activation = next((s.expression.function for s in activations if isinstance(s.expression, Call)), "")
            letters = ["".join(index.name for index in side if isinstance(index, Name)) for side in (inputs, own)]
            made = "".join(spec.tensors[stage.defines]).lower()
            return Dense(
                attribute="_" + weights[kernel].path.partition("/")[0],
                defines=stage.defines,
                source=source,
                equation=f"{letters[0]},{letters[1]}->{made}",
                kernel=weights[kernel],
                bias=bias,
                activation=activation,
                stages=(stage, *biases, *activations),
            )
    return None


__all__ = ["Dense", "dense_layers"]
