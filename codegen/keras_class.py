"""A class of Keras, from its methods."""

from __future__ import annotations

from collections.abc import Iterable

from attnspec.codegen.printer import Target, indent

Method = tuple[str, str, str, Iterable[str]]
"""Its name, its signature (of `self`, or of `cls`), what it returns and its lines."""


def layer_class(
    name: str,
    target: Target,
    docstring: str,
    methods: Iterable[Method],
    properties: Iterable[str] = (),
    base: str = "layers.Layer",
) -> str:
    """A class that the framework saves and loads."""
    texts = [_method(method) for method in methods]
    texts += [f"@property\ndef {own}(self) -> Any:\n    return self._{own}" for own in properties]
    head = f"@{target.name}.saving.register_keras_serializable(__name__)\nclass {name}({target.name}.{base}):"
    return "\n\n".join((f"{head}\n{indent(docstring)}", *map(indent, texts)))


def _method(method: Method) -> str:
    name, signature, returned, body = method
    decorator = "@classmethod\n" if signature.startswith("cls,") else ""
    return f"{decorator}def {name}({signature}) -> {returned}:\n{indent(chr(10).join(body))}"


__all__ = ["Method", "layer_class"]
