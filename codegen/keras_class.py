"""A class of Keras, from its methods."""

from __future__ import annotations

from collections.abc import Iterable

from attnspec.codegen.printer import Target, indent

Method = tuple[str, str, str, Iterable[str]]
"""Its name, its signature, what it returns and its lines."""


def layer_class(
    name: str,
    target: Target,
    docstring: str,
    methods: Iterable[Method],
    properties: Iterable[str] = (),
    base: str = "layers.Layer",
) -> str:
    """A class that the framework saves and loads."""
    texts = [
        f"def {own}({signature}) -> {returned}:\n{indent(chr(10).join(body))}" for own, signature, returned, body in methods
    ]
    texts += [f"@property\ndef {own}(self) -> Any:\n    return self._{own}" for own in properties]
    head = f"@{target.name}.saving.register_keras_serializable(__name__)\nclass {name}({target.name}.{base}):"
    return "\n\n".join((f"{head}\n{indent(docstring)}", *map(indent, texts)))


__all__ = ["Method", "layer_class"]
