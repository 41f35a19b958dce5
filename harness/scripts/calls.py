"""One call of a subject as source: its tensors, its layer where it is one, and the call itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnspec.harness.adapter import Adapter
from attnspec.harness.arrangement import Arrangement
from attnspec.harness.arrays import arrays
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes import call
from attnspec.harness.lanes.messages import Array
from attnspec.harness.scripts.dialects import Code, Dialect, Keras, Layer
from attnspec.harness.subjects import Subject, small_block
from attnspec.spec.model import Spec, Weight

Given = Mapping[str, Array]
Earlier = tuple[Configuration, Given]


@dataclass(frozen=True, slots=True)
class Source:
    """A call: its tensors by variable, the statements that make a layer, what is called (a layer's variable) with what."""

    tensors: Mapping[str, str]
    setup: Sequence[str]
    function: str
    arguments: str
    variables: Sequence[str]
    is_layer: bool = False

    @property
    def call(self) -> str:
        return f"{self.function}({self.arguments})"


@dataclass(frozen=True, slots=True)
class Author:
    """Writes the calls of one subject. A user's adapter says by which names and in which layouts."""

    spec: Spec
    subject: Subject
    dialect: Dialect
    adapter: Adapter | None = None
    given: Given | None = None
    arrangement: Arrangement | None = None

    def arrays(self, case: Case) -> Given:
        """The arrays of a case: a user's own, or those that its seed makes."""
        return arrays(case, self.spec) if self.given is None else self.given

    def imports(self) -> list[str]:
        """What makes the subject known. A native one is in its framework, another one is found where it is found now."""
        if self.subject.is_native:
            return []
        file = Path(self.subject.module)
        folder, name = (str(file.parent), file.stem) if file.suffix == ".py" else (os.getcwd(), self.subject.module)
        found = [f"sys.path.insert(0, {folder!r})", f"subject = importlib.import_module({name!r})"]
        if self.subject.name.endswith("@blockwise"):
            found.append(f"subject.BLOCK = {small_block(self.subject.lane)}")
        return found

    @property
    def function(self) -> str:
        """What is called: a function, or a layer's class."""
        if self.subject.is_native:
            return f"{self.subject.module}.{self.subject.function}"
        return self._entry("function") if self.adapter else f"subject.{self.subject.function}"

    @property
    def vjp(self) -> str:
        """NumPy's function of gradients."""
        return self._entry("vjp") if self.adapter else f"{self.function}_vjp"

    def source(self, configuration: Configuration, given: Given, *, leaf: str = "", earlier: Earlier | None = None) -> Source:
        """The call on those arrays. What an `earlier` call has made goes by its name, other things are called `other_`.

        With a `leaf` every floating tensor is asked for its gradient.
        """
        before, known = earlier or (configuration, {})
        shared = {name for name, array in known.items() if name in given and _same(array, given[name])}
        prefix = "other_" if earlier else ""
        names = {name: name if name in shared else f"{prefix}{name}" for name in given}
        made = self._tensors(configuration, given, bool(leaf))
        weights = call.weights_of(self.spec, made)
        tensors = {names[name]: text for name, text in made.items() if name not in weights and name not in shared}
        own = _Given(
            configuration,
            {n: Code(variable) for n, variable in names.items()},
            [names[n] for n in made if n not in weights],
            prefix,
        )
        if self.spec.form == "layer":
            source = self._layer(own, tensors, {name: Code(text) for name, text in weights.items()})
            is_made = (
                earlier is not None
                and weights.keys() <= shared
                and self._constructor(before) == self._constructor(configuration)
            )
            return replace(source, setup=[], function="layer") if source.is_layer and is_made else source
        return Source(tensors, [], self.function, self._arguments(own), own.names)

    def key(self, weight: Weight) -> str:
        """Where the layer keeps a weight: torch by a key of its state, Keras in a sublayer, or by itself."""
        if self._is_ported:
            return ""
        return weight.path if isinstance(self.dialect, Keras) else self.spec.state_key(weight)

    def laid_out(self, source: Source, given: Given, kind: str) -> dict[str, str]:
        """The tensors of a second call: those of the first one, elsewhere in memory."""
        moved = {f"other_{name}": (name, array) for name, array in self._moved(given).items()}
        return {variable: self.dialect.laid_out(*moved[variable], kind) for variable in source.tensors}

    def tensor(self, name: str, array: Array, dtype: str) -> str:
        """A tensor that is no argument: a cotangent."""
        return self.dialect.tensor(self._moved({name: array})[name], dtype)

    def place(self, name: str, index: Sequence[int]) -> tuple[int, ...]:
        """Where an element of a tensor is in the subject's own layout."""
        own = self.adapter.place(self.spec, name, tuple(index)) if self.adapter else tuple(index)
        return self.arrangement.place(name, own) if self.arrangement else own

    def own_name(self, name: str) -> str:
        """The subject's name for a tensor."""
        return self.adapter.own_name(name) if self.adapter else name

    def _moved(self, given: Given) -> Given:
        own = self.adapter.into(self.spec, given) if self.adapter else given
        return self.arrangement.apart(own) if self.arrangement else own

    def _tensors(self, configuration: Configuration, given: Given, leaves: bool) -> dict[str, str]:
        dtypes = {name: plan.dtype for name, plan in configuration.tensors}
        moved = self._moved(given)
        return {n: self.dialect.tensor(a, dtypes[n], leaf=leaves and "float" in dtypes[n]) for n, a in moved.items()}

    def _arguments(self, given: _Given, *first: Code, modes: bool = True, **more: Any) -> str:
        """The arguments of the call; an adapter's function has them by its own names."""
        positional, keywords = call.bind(self.spec, dict(given.configuration.values), given.variables, modes=modes)
        if self.adapter:
            order = [argument.name for argument in self.spec.arguments]
            every = dict(zip(order, positional, strict=False)) | keywords
            positional, keywords = [], {self.adapter.own_name(name): value for name, value in every.items()}
        return _text([*first, *positional], {**keywords, **more})

    def _layer(self, given: _Given, tensors: Mapping[str, str], weights: Mapping[str, Code]) -> Source:
        """A layer's class is constructed before; otherwise its function has weights first, and the constructor's arguments."""
        spec, values = self.spec, dict(given.configuration.values)
        constructor = self._constructor(given.configuration)
        if not self.dialect.classes:
            name = f"{given.prefix}weights"
            arguments = self._arguments(given, Code(name), **constructor)
            return Source(tensors, [f"{name} = {dict(weights)}"], self.function, arguments, [name, *given.names])
        arguments = self._arguments(given, modes=self.subject.lane != "torch")
        source = Source(tensors, [], f"{given.prefix}layer", arguments, given.names, is_layer=True)
        training = any(bool(values.get(argument.name)) for argument in spec.arguments if argument.mode)
        keys = {weight.name: self.key(weight) for weight in spec.weights}
        made = f"{self.function}({_text([], constructor)})"
        layer = Layer(source.function, made, source.call, weights, keys, given.configuration.dtype, training)
        return replace(source, setup=self.dialect.layer(layer))

    def _constructor(self, configuration: Configuration) -> dict[str, Any]:
        """The constructor's arguments, with the sizes that are told: to classes of torch, TensorFlow and ported ones."""
        told: dict[str, Any] = dict(call.constructor_arguments(self.spec, dict(configuration.values)))
        sized = self.subject.lane in ("torch", "tensorflow") and not isinstance(self.dialect, Keras)
        return told | (call.layer_sizes(self.spec, configuration) if sized or self._is_ported else {})

    @property
    def _is_ported(self) -> bool:
        """Whether it is a layer of another framework, generated for Keras: it reads no sizes off its inputs."""
        in_keras = self.subject.lane.startswith("keras-") and not self.subject.is_brought
        is_list = any(argument.elements for argument in self.spec.arguments)
        return in_keras and self.spec.form == "layer" and self.spec.owner != "keras" and not is_list

    def _entry(self, name: str) -> str:
        assert self.adapter is not None
        place = f"subject.{self.subject.function}"
        return f"{place}[{name!r}]" if self.adapter.is_mapping else f"{place}.{name}"


@dataclass(frozen=True, slots=True)
class _Given:
    """What a call is given: tensors and weights as variables, the tensors' names. The prefix is for what else it names."""

    configuration: Configuration
    variables: Mapping[str, Code]
    names: Sequence[str]
    prefix: str


def _text(positional: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    return ", ".join([*map(repr, positional), *(f"{name}={value!r}" for name, value in keywords.items())])


def _same(one: Array, other: Array) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
