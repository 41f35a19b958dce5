"""What differs between frameworks in a script: tensors, layers, gradients. Everything is source, in one call's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnspec.harness.lanes.memory import can_expand, poison
from attnspec.harness.lanes.messages import Array
from attnspec.harness.scripts.literals import constant, values
from attnspec.harness.subjects import Subject


@dataclass(frozen=True, slots=True)
class Code:
    """Source that stands for a value: its repr is itself, so that lists and dicts of it are source too."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Differentiated:
    """A call to differentiate: its source, what it returns by name ("" for None), which of it has a cotangent, by what.

    NumPy's is a call of `vjp` with the same arguments, whose result has the gradient at `key`, and at each of `places` another
    part of it, where one tensor was given in several.
    """

    call: str
    outputs: Sequence[str]
    cotangents: Mapping[str, str]
    by: str
    vjp: str
    arguments: str
    key: str
    places: Sequence[str] = ()

    def picked(self) -> str:
        """The call's results that have a cotangent: one, or a tuple."""
        places = [place for place, name in enumerate(self.outputs) if name in self.cotangents]
        if len(places) == len(self.outputs):
            return self.call
        return f"{self.call}[{places[0]}]" if len(places) == 1 else f"[{self.call}[place] for place in {tuple(places)}]"

    def given(self) -> str:
        """The cotangents in the order of the results, one or a tuple."""
        names = [self.cotangents[name] for name in self.outputs if name in self.cotangents]
        return names[0] if len(names) == 1 else f"({', '.join(names)})"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose class is constructed: its variable, the constructor's call, its own, the weights, a module's keys."""

    name: str
    constructed: str
    call: str
    weights: Mapping[str, Code]
    keys: Mapping[str, str]
    dtype: str
    training: bool


class Dialect:
    """NumPy's, and what the others share. `imports` come first in a script; `maker` is the module that makes tensors."""

    imports: tuple[str, ...] = ("import numpy as np",)
    maker = "np"
    array = "np.array({values}, {dtype!r})"
    layouts: Mapping[str, str] = {
        "transposed": "{x}.mT.copy().mT",
        "sliced": "np.pad({x}, 1, constant_values={poison})[(slice(1, -1),) * {x}.ndim]",
        "offset": "np.append({x}.dtype.type({poison}), {x})[1:].reshape({x}.shape)",
        "expanded": "np.broadcast_to({x}[:1], {x}.shape)",
        "reversed": "np.flip(np.flip({x}).copy())",
    }
    seeded = "np.random.seed({seed})"  # what sets the global generator
    turned = "{function}"  # the function in the lane's other mode
    classes = False  # whether a layer is a class, and not a function of its weights

    def tensor(self, array: Array, dtype: str, *, leaf: bool = False) -> str:
        """A tensor; a leaf is one whose gradient is asked for."""
        filler = constant(array)
        if filler is None:
            return self._leaf(self.array.format(values=values(array), dtype=dtype), leaf)
        return self._leaf(f"{self.maker}.full({array.shape}, {filler}, {self._dtype(dtype)})", leaf)

    def laid_out(self, variable: str, array: Array, kind: str) -> str:
        """A variable's values elsewhere in memory, as `lanes/memory.py` lays them out."""
        few = array.ndim < (2 if kind == "transposed" else 1)
        if few or not array.size or (kind == "expanded" and not can_expand(array)):
            return variable
        return self.layouts[kind].format(x=variable, poison=poison(array.dtype))

    def _dtype(self, dtype: str) -> str:
        return f"dtype={dtype!r}"

    def _leaf(self, text: str, leaf: bool) -> str:
        return text

    def layer(self, made: Layer) -> list[str]:
        """Statements that construct a layer with its weights, where it is a class."""
        raise NotImplementedError

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        """How a call is differentiated by a weight: statements before it, the call, and the source of the weight."""
        return [], call, name

    def gradient(self, what: Differentiated) -> list[str]:
        """Statements that end with `gradient = `."""
        called = f"{what.vjp}({what.given()}, {what.arguments})"
        if not what.places:
            return [f"gradient = {called}[{what.key!r}]"]
        return [f"found = {called}", f"gradient = {' + '.join(f'found[{key!r}]' for key in (what.key, *what.places))}"]

    def second(self, what: Differentiated, leaves: Sequence[str]) -> list[str]:
        """The same with how the gradient changes along all leaves; NumPy has none."""
        raise NotImplementedError

    def forward(self, target: str, call: str, variables: Sequence[str], is_layer: bool) -> list[str]:
        """Statements that make a call without gradients; `variables` are those that it uses."""
        return [f"{target} = {call}"]


class Torch(Dialect):
    """torch's: leaves are marked when they are made, and layers are modules with a state."""

    imports: tuple[str, ...] = ("import torch",)
    seeded = "torch.manual_seed({seed})"
    turned = 'torch.compile({function}, backend="eager")'
    maker = "torch"
    array = "torch.tensor({values}, dtype=torch.{dtype})"
    layouts: Mapping[str, str] = {
        "transposed": "{x}.mT.contiguous().mT",
        "sliced": "torch.nn.functional.pad({x}, (1, 1) * {x}.ndim, value={poison})[(slice(1, -1),) * {x}.ndim]",
        "offset": "torch.cat([{x}.new_full((1,), {poison}), {x}.flatten()])[1:].view({x}.shape)",
        "expanded": "{x}[:1].expand_as({x})",
    }
    classes = True

    def _dtype(self, dtype: str) -> str:
        return f"dtype=torch.{dtype}"

    def _leaf(self, text: str, leaf: bool) -> str:
        return f"{text[:-1]}, requires_grad=True)" if leaf else text

    def layer(self, made: Layer) -> list[str]:
        mode = "train" if made.training else "eval"
        keys = {made.keys[name]: weight for name, weight in made.weights.items()}
        return [
            f"{made.name} = {made.constructed}.to(torch.{made.dtype}).{mode}()",
            f"{made.name}.load_state_dict({keys})",
        ]

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        return [], call, f"{layer}.get_parameter({key!r})"

    def gradient(self, what: Differentiated) -> list[str]:
        return [
            f"torch.autograd.backward({what.picked()}, {what.given()})",
            f"gradient = torch.zeros_like({what.by}) if {what.by}.grad is None else {what.by}.grad",
        ]

    def second(self, what: Differentiated, leaves: Sequence[str]) -> list[str]:
        every = ", ".join(leaves)
        return [
            f"outputs, cotangents = {what.picked()}, {what.given()}",
            f"kept = torch.autograd.grad(outputs, [{every}], cotangents, create_graph=True, materialize_grads=True)",
            f"along = sum((one * leaf.detach()).sum() for one, leaf in zip(kept, [{every}])) + 0 * {what.by}.sum()",
            f"(gradient,) = torch.autograd.grad(along, {what.by})",
        ]

    def forward(self, target: str, call: str, variables: Sequence[str], is_layer: bool) -> list[str]:
        if not is_layer:  # whose weights ask for gradients
            return super().forward(target, call, variables, is_layer)
        return ["with torch.no_grad():", f"    {target} = {call}"]


class Jax(Dialect):
    """jax's: gradients are pulled back through a function of one tensor."""

    imports: tuple[str, ...] = ("import jax",)
    maker = "jax.numpy"
    array = "jax.numpy.array({values}, {dtype!r})"

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        return [f"{name} = weights[{name!r}]"], call.replace("weights", f"{{**weights, {name!r}: {name}}}", 1), name

    def forward(self, target: str, call: str, variables: Sequence[str], is_layer: bool) -> list[str]:
        names = ", ".join(variables)
        return [f"{target} = jax.jit(lambda {names}: {call})({names})"]

    def gradient(self, what: Differentiated) -> list[str]:
        return [
            f"_, pull = jax.vjp(jax.jit(lambda {what.by}: {what.picked()}), {what.by})",
            f"(gradient,) = pull({what.given()})",
        ]

    def second(self, what: Differentiated, leaves: Sequence[str]) -> list[str]:
        every = ", ".join(leaves)
        return [
            f"first = jax.jit(lambda {every}: jax.vjp(lambda {every}: {what.picked()}, {every})[1]({what.given()}))",
            f"gradient = jax.vjp(first, {every})[1](({every},))[{leaves.index(what.by)}]",
        ]


class TensorFlow(Dialect):
    """TensorFlow's: gradients come from a tape, and a layer's weights are its attributes."""

    imports = ("import tensorflow as tf",)
    seeded = "tf.random.set_seed({seed})"
    turned = "tf.function({function})"
    maker = "tf"
    array = "tf.constant({values}, {dtype!r})"
    classes = True

    def tensor(self, array: Array, dtype: str, *, leaf: bool = False) -> str:
        filler = constant(array)
        return super().tensor(array, dtype) if filler is None else f"tf.fill({array.shape}, tf.constant({filler}, {dtype!r}))"

    def layer(self, made: Layer) -> list[str]:
        return [f"{made.name} = {made.constructed}", f"vars({made.name}).update({dict(made.weights)})"]

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        return [f"{name} = {layer}.{name}"], call, name

    def gradient(self, what: Differentiated) -> list[str]:
        return [
            "with tf.GradientTape() as tape:",
            f"    tape.watch({what.by})",
            f"    output = {what.picked()}",
            f"gradient = tape.gradient(output, {what.by}, {what.given()})",
        ]

    def second(self, what: Differentiated, leaves: Sequence[str]) -> list[str]:
        every = ", ".join(leaves)
        return [
            "with tf.GradientTape() as outer, tf.GradientTape() as tape:",
            f"    for each in [{every}]: outer.watch(each), tape.watch(each)",
            f"    output = {what.picked()}",
            f"    first = tape.gradient(output, [{every}], {what.given()})",
            f'gradient = outer.gradient(first, {what.by}, [{every}], unconnected_gradients="zero")',
        ]


class Keras(Dialect):
    """Keras on a backend, whose tensors and gradients are its own."""

    seeded = "keras.utils.set_random_seed({seed})"
    classes = True

    def __init__(self, name: str, backend: Dialect) -> None:
        self._backend = backend
        self.layouts = backend.layouts
        self.imports = (f'os.environ["KERAS_BACKEND"] = "{name}"', "import keras", *backend.imports)

    def tensor(self, array: Array, dtype: str, *, leaf: bool = False) -> str:
        return self._backend.tensor(array, dtype, leaf=leaf)

    def layer(self, made: Layer) -> list[str]:
        constructed = f"{made.constructed[:-1]}, dtype={made.dtype!r})".replace("(, ", "(")
        statements = [f"{made.name} = {constructed}", made.call]  # which builds it
        if made.weights:
            assigned = f"[each.assign(weights[{self._name(next(iter(made.keys.values())))}]) for each in {made.name}.weights]"
            statements += [f"weights = {dict(made.weights)}", assigned]
        return statements

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        variable = f"next(each for each in {layer}.weights if {self._name(key)} == {name!r})"
        if not isinstance(self._backend, Jax):
            return [f"{name} = {variable}.value"], call, name
        statements = [
            f"variable, {name} = {variable}, weights[{name!r}]",
            f"def attend({name}):",
            f"    with keras.StatelessScope([(variable, {name})]):",
            f"        return {call}",
        ]
        return statements, f"attend({name})", name

    def _name(self, key: str) -> str:
        """The spec's name of a variable: its own, or with that of the sublayer that keeps it (`query_dense/0`)."""
        return "'_'.join(each.path.split('/')[-2:])" if key else "each.name"

    def gradient(self, what: Differentiated) -> list[str]:
        return self._backend.gradient(what)

    def forward(self, target: str, call: str, variables: Sequence[str], is_layer: bool) -> list[str]:
        return self._backend.forward(target, call, variables, is_layer)


class Triton(Torch):
    """Triton's kernels on torch's tensors, interpreted."""

    imports = ('os.environ["TRITON_INTERPRET"] = "1"', *Torch.imports)


class Pallas(Jax):
    """Pallas's kernels on jax's arrays, interpreted."""

    imports = ('os.environ["PALLAS_INTERPRET"] = "1"', *Jax.imports)


class Keras2(Keras):
    """Keras 2, whose variables are TensorFlow's: `attention/scale:0`."""

    def __init__(self, backend: Dialect) -> None:
        super().__init__("tensorflow", backend)
        self.imports = ("import tf_keras", *backend.imports)

    def _name(self, key: str) -> str:
        return "'_'.join(each.name[:-2].split('/')[-2:])" if key else "each.name.split('/')[-1][:-2]"

    def by_weight(self, layer: str, name: str, key: str, call: str) -> tuple[list[str], str, str]:
        return [f"{name} = next(each for each in {layer}.weights if {self._name(key)} == {name!r})"], call, name


_TORCH, _JAX, _TENSORFLOW = Torch(), Jax(), TensorFlow()
DIALECTS: Mapping[str, Dialect] = {
    "numpy": Dialect(),
    "torch": _TORCH,
    "triton": Triton(),
    "jax": _JAX,
    "pallas": Pallas(),
    "pallas_tpu": Pallas(),
    "tensorflow": _TENSORFLOW,
    "keras-torch": Keras("torch", _TORCH),
    "keras-jax": Keras("jax", _JAX),
    "keras-tensorflow": Keras("tensorflow", _TENSORFLOW),
}


def dialect_of(subject: Subject, owner: str) -> Dialect:
    """The dialect of a subject's lane, or of the owner that it hosts there."""
    is_hosted = subject.name.startswith("tf_keras:") or (subject.is_native and owner == "tf_keras")
    return Keras2(_TENSORFLOW) if is_hosted else DIALECTS[subject.lane]
