"""The projections of a spec's layer, as sublayers of a Keras layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnspec.codegen.folding import several
from attnspec.codegen.keras_settings import guarded_by, kept, size_text
from attnspec.spec.expression import Access, Binary, Call, Name, Sum, names
from attnspec.spec.model import Spec, Stage, Weight

_SPARE = "opqruwxyz"
"""Letters of an equation that no dim of a projection has."""


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


def einsum_dense(spec: Spec, dense: Dense, *more: str) -> str:
    """The sublayer of a projection, constructed."""
    made = spec.tensors[dense.defines][2:]
    bias = "".join(dense.bias.layout.dims).lower() if dense.bias else ""
    equation, biases = f'"{dense.equation}"', f'"{bias}"'
    last = several(spec, dense.kernel.layout)
    if last is not None:
        dim = dense.kernel.layout.dims[-1].lower()
        equation, biases = f'f"{dense.equation.replace(dim, f"{{{dim}}}")}"', dim
    only = f" if {guarded_by(spec, dense.bias.when, dense.kernel.when)} else None" if dense.bias and dense.bias.when else ""
    arguments = [
        equation,
        f"output_shape=(None, {', '.join(size_text(spec, dim) for dim in made)})",
        f"bias_axes={biases}{only}" if bias else "bias_axes=None",
        *([f'activation="{dense.activation}"'] if dense.activation else []),
        *more,
    ]
    return f"_EinsumDense({', '.join(arguments)})"


def last_projection(spec: Spec, dense: Dense) -> Iterator[str]:
    """The body of the hook that makes the last projection, whose output may have several axes."""
    yield '"""The last projection."""'
    last = several(spec, dense.kernel.layout)
    if last is not None:
        dim = dense.kernel.layout.dims[-1].lower()
        yield f'{dim} = "{dim}{_SPARE}"[: len({kept(spec, last.name)} or "{dim}")]'
    yield f"return {einsum_dense(spec, dense, 'name=name', '**common_kwargs')}"


def common_settings(spec: Spec) -> Iterator[str]:
    """What all sublayers share; each gets initialisers of its own, for an initialiser draws the same again."""
    yield '"""What all sublayers share; an initialiser each, for one that is shared would draw the same for all."""'
    for argument in spec.constructor:
        if argument.role == "object" and argument.name.endswith("initializer"):
            own = kept(spec, argument.name)
            yield f"{argument.name} = {own}.__class__.from_config({own}.get_config())"
    objects = [a.name for a in spec.constructor if a.role == "object"]
    passed = [f'"{name}": {name if name.endswith("initializer") else kept(spec, name)}' for name in objects]
    passed.append('"dtype": self.dtype_policy')
    yield f"return {{{', '.join(passed)}}}"


__all__ = ["Dense", "common_settings", "dense_layers", "einsum_dense", "last_projection"]
