"""How a user's function is called whose signature is no API's: its names, its layouts, and what it supports.

An adapter is a dict, a dataclass or any other object with these entries. It stands in the user's own module and imports
nothing of attnspec; the subject is then `my_module:attention`:

    attention = {
        "function": flash_attention,
        "arguments": {"query": "q", "key": "k", "value": "v", "is_causal": "causal"},
        "layouts": {"query": "B N T H", "key": "B K S H", "value": "B K S H", "output": "B N T H"},
        "dtypes": ["float32", "bfloat16"],
        "requires": ["N == K", "H <= 128"],
    }

function   what is called, with keywords
arguments  the API's names and the function's own; a list where they are the same. What is left out is not supported
layouts    the axes of a tensor in the function's order, in the letters of the API's layout
dtypes     those to try; without it all
requires   what a call must fulfil, in the spec's expression language: other calls must raise
vjp        NumPy's gradients: called like the function with the cotangents first, returns them by argument
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import SimpleNamespace
from typing import Any

from attnspec.harness.lanes.messages import Array, Tensor
from attnspec.spec.model import Layout, Spec
from attnspec.spec.suggestions import did_you_mean


class AdapterError(ValueError):
    """An adapter that is none; the message says which entry is wrong."""


@dataclass(frozen=True)
class Adapter:
    """A user's adapter, read. `arguments` is None where the names are the API's and everything is supported."""

    function: Callable[..., Any]
    arguments: Mapping[str, str] | None = None
    layouts: Mapping[str, str] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    vjp: Callable[..., Any] | None = None
    is_mapping: bool = True  # how its entries are reached: by key, or as attributes

    def described(self) -> dict[str, Any]:
        """What the conductor has to know of it."""
        arguments = None if self.arguments is None else dict(self.arguments)
        said = {"arguments": arguments, "layouts": dict(self.layouts), "dtypes": self.dtypes, "requires": self.requires}
        return {**said, "is_mapping": self.is_mapping}

    def own_name(self, name: str) -> str:
        """The function's name for an argument of the API. Raises NotImplementedError."""
        if self.arguments is None:
            return name
        if name not in self.arguments:
            raise NotImplementedError(f"the adapter does not offer `{name}`")
        return self.arguments[name]

    def called(self, spec: Spec) -> Callable[..., Any]:
        """The function under the API's signature."""
        return self._renamed(self.function, spec, 0)

    def pulled_back(self, spec: Spec) -> Callable[..., Any] | None:
        """The gradients' function under the API's signature, with the cotangents first."""
        if self.vjp is None:
            return None
        vjp = self._renamed(self.vjp, spec, 1)
        names = {self.own_name(a.name): a.name for a in spec.tensor_arguments if self._offers(a.name)}

        def gradients(*args: Any, **keywords: Any) -> dict[str, Any]:
            return {names.get(name, name): value for name, value in vjp(*args, **keywords).items()}

        return gradients

    def into(self, spec: Spec, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The API's arrays with their axes in the function's order, contiguous and read-only like those."""
        moved = {name: array.transpose(self._order(spec, name, array.ndim)).copy() for name, array in arrays.items()}
        for array in moved.values():
            array.flags.writeable = False
        return moved

    def place(self, spec: Spec, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
        """Where an element of one of the API's tensors is in the function's."""
        return tuple(index[axis] for axis in self._order(spec, name, len(index)))

    def back(self, spec: Spec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The function's tensors with their axes in the API's order."""
        moved = {}
        for name, tensor in tensors.items():
            order = self._order(spec, name, tensor.array.ndim)
            moved[name] = Tensor(tensor.array.transpose(tuple(map(order.index, range(len(order))))), tensor.dtype)
        return moved

    def _offers(self, name: str) -> bool:
        return self.arguments is None or name in self.arguments

    def _renamed(self, function: Callable[..., Any], spec: Spec, leading: int) -> Callable[..., Any]:
        order = [argument.name for argument in spec.arguments]

        def call(*args: Any, **keywords: Any) -> Any:
            given = dict(zip(order, args[leading:], strict=False)) | keywords
            return function(*args[:leading], **{self.own_name(name): value for name, value in given.items()})

        return call

    def _order(self, spec: Spec, name: str, rank: int) -> tuple[int, ...]:
        """Where each of the function's axes is in the API's layout of that rank; batch axes stay in front."""
        tensor = name.removeprefix("d_")
        layout = _layout(spec, tensor, rank) if tensor in self.layouts else None
        if layout is None:
            return tuple(range(rank))
        front = rank - len(layout.axes)
        return (*range(front), *(front + place for place in reordered(layout, self.layouts[tensor])))


def reordered(layout: Layout, text: str) -> tuple[int, ...]:
    """The places of a layout's axes in the order of `text`: its letters that the layout has."""
    letters = [axis.dims[0] for axis in layout.axes]
    return tuple(letters.index(letter) for letter in text.split() if letter in letters)


def from_described(said: Mapping[str, Any]) -> Adapter:
    """The adapter of `Adapter.described`, which names and lays out but calls nothing."""
    arguments, layouts = said["arguments"], said["layouts"]
    return Adapter(_not_here, arguments, layouts, tuple(said["dtypes"]), tuple(said["requires"]), None, said["is_mapping"])


def _not_here(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("the function is in its lane")


def layouts_of(spec: Spec) -> dict[str, tuple[Layout, ...]]:
    """The layouts of every argument and output."""
    arguments = {argument.name: argument.layouts for argument in spec.tensor_arguments}
    return arguments | {output.name: output.layouts for output in spec.outputs}


def _layout(spec: Spec, tensor: str, rank: int) -> Layout | None:
    layouts = layouts_of(spec)[tensor]
    exact = [layout for layout in layouts if not layout.batched and len(layout.axes) == rank]
    return next(iter([*exact, *(layout for layout in layouts if layout.batched and len(layout.axes) <= rank)]), None)


def read(value: Any) -> Adapter | None:
    """The adapter that a module's attribute is, or None where it is something to call. Raises AdapterError."""
    entries = _entries(value)
    if entries is None:
        return None
    known = [each.name for each in fields(Adapter) if each.name != "is_mapping"]
    for key in entries:
        if key not in known:
            raise AdapterError(f"the adapter has an unknown entry {key!r}.{did_you_mean(str(key), known)}")
    if not callable(entries.get("function")):
        raise AdapterError(f"the adapter's `function` must be callable, got {entries.get('function')!r}")
    return Adapter(
        function=entries["function"],
        arguments=_arguments(entries.get("arguments")),
        layouts=_texts("layouts", entries.get("layouts") or {}),
        dtypes=_words("dtypes", entries.get("dtypes") or ()),
        requires=_words("requires", entries.get("requires") or ()),
        vjp=entries.get("vjp"),
        is_mapping=isinstance(value, Mapping),
    )


def _entries(value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type) and hasattr(value, "function"):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return dict(vars(value)) if isinstance(value, SimpleNamespace) else None


def _arguments(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    return _texts("arguments", value if isinstance(value, Mapping) else {name: name for name in _words("arguments", value)})


def _texts(entry: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise AdapterError(f"the adapter's `{entry}` must map names to texts, got {value!r}")
    return dict(value)


def _words(entry: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        raise AdapterError(f"the adapter's `{entry}` must be a list of texts, got {value!r}")
    return tuple(value)
