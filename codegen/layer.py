"""What a layer adds to its function: initial weights, and for torch an `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from attnspec.codegen.printer import Printer, Target, indent
from attnspec.spec.expression import Access, Expression, Name, Sum, walk
from attnspec.spec.model import Spec, Weight

_INIT_HEAD = {
    "numpy": ("rng: np.random.Generator", "dtype: type = np.float32", "np.ndarray"),
    "jax": ("key: jax.Array", "dtype: jnp.dtype = jnp.float32", "jax.Array"),
}
_CONSTANT = {
    "numpy": "np.{0}({1}, dtype)",
    "jax": "jnp.{0}({1}, dtype)",
    "torch": "nn.init.{0}_(self.{2})",
    "tensorflow": "tf.{0}({1}, dtype)",
}
_GLOROT = {
    "numpy": "_glorot_uniform(rng, {1}, {3}, {4}).astype(dtype)",
    "jax": "_glorot_uniform(next(keys), {1}, {3}, {4}).astype(dtype)",
    "torch": "_glorot_uniform_(self.{2}, {3}, {4})",
    "tensorflow": "_glorot_uniform({1}, {3}, {4}, dtype)",
}


def init_text(spec: Spec, target: Target, parameters: list[str]) -> str:
    """`<name>_init`: weights by name, with the documented distributions, for numpy and jax."""
    source, dtype, array = _INIT_HEAD[target.name]
    lines = [f'"""Initial weights of `{spec.function_name}`; {", ".join(size_names(spec))} are the sizes of their dims."""']
    if target.name == "jax":
        lines.append(f"keys = iter(jax.random.split(key, {len(spec.weights)}))")
    lines.append(f"params: dict[str, {array}] = {{}}")
    lines += _each(spec, target, lambda w: f'params["{w.name}"] = {_initial(spec, w, target.name)}')
    lines.append("return params")
    sizes = [f"{name}: int" for name in size_names(spec)]
    signature = ", ".join((source, "*", *parameters, *sizes, dtype))
    return f"def {spec.function_name}_init({signature}) -> dict[str, {array}]:\n{indent(chr(10).join(lines))}"


def module_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The `nn.Module` of a layer: weights as parameters under their documented names."""
    sizes = [f"{name}: int" for name in size_names(spec)]
    made_on = ("device: torch.device | None = None", "dtype: torch.dtype | None = None")
    signature = ", ".join(("self", *parameters, "*", *sizes, *made_on))
    kept = [f"self.{a.name} = {a.name}" for a in spec.constructor]
    made = _each(spec, target, lambda w: f"self.{w.name} = nn.Parameter(torch.empty({_shape(w)}, device=device, dtype=dtype))")
    reset = _each(spec, target, lambda w: _reset(spec, w), prefix="self.")
    passed = (a.name if a.kind == "positional" else f"{a.name}={a.name}" for a in spec.arguments)
    named = ", ".join((*passed, *(f"{a.name}=self.{a.name}" for a in spec.constructor)))
    return "\n".join(
        (
            f"class {spec.function_name}(nn.Module):",
            indent(docstring),
            "",
            indent(f"def __init__({signature}) -> None:"),
            indent(indent("\n".join(("super().__init__()", *kept, *made, "self.reset_parameters()")))),
            "",
            indent("def reset_parameters(self) -> None:"),
            indent(indent("\n".join(('"""Draw the documented initial weights."""', *reset)))),
            "",
            indent(f"def forward({', '.join(('self', *call))}) -> Any:"),
            indent(indent(f"return _apply(dict(self.named_parameters()), {named})")),
        )
    )


def tensorflow_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The `tf.Module` of a layer: weights as variables under their documented names."""
    sizes = [f"{name}: int" for name in size_names(spec)]
    made_with = ("dtype: tf.DType = tf.float32", "name: str | None = None")
    signature = ", ".join(("self", *parameters, "*", *sizes, *made_with))
    kept = [f"self.{a.name} = {a.name}" for a in spec.constructor]
    made = _each(spec, target, lambda w: f'self.{w.name} = tf.Variable({_initial(spec, w, target.name)}, name="{w.name}")')
    held = _each(spec, target, lambda w: f'params["{w.name}"] = self.{w.name}', prefix="self.")
    passed = (a.name if a.kind == "positional" else f"{a.name}={a.name}" for a in spec.arguments)
    named = ", ".join((*passed, *(f"{a.name}=self.{a.name}" for a in spec.constructor)))
    return "\n".join(
        (
            f"class {spec.function_name}(tf.Module):",
            indent(docstring),
            "",
            indent(f"def __init__({signature}) -> None:"),
            indent(indent("\n".join(("super().__init__(name=name)", *kept, *made)))),
            "",
            indent(f"@{target.decorator}\ndef __call__({', '.join(('self', *call))}) -> Any:"),
            indent(indent("\n".join(("params: dict[str, tf.Variable] = {}", *held, f"return _apply(params, {named})")))),
        )
    )


def size_names(spec: Spec) -> list[str]:
    """Dims of the weights, in order."""
    return list(dict.fromkeys(dim for weight in spec.weights for dim in weight.layout.dims))


def fans(spec: Spec, weight: Weight) -> tuple[str, str]:
    """Products of the weight's contracted and of its remaining dims: what glorot calls fan in and fan out."""
    contracted = _contracted(spec, weight.name)
    inner = [dim for dim in weight.layout.dims if dim.lower() in contracted]
    outer = [dim for dim in weight.layout.dims if dim.lower() not in contracted]
    return " * ".join(inner) or "1", " * ".join(outer) or "1"


def _contracted(spec: Spec, name: str) -> set[str]:
    """Indices that are summed where the weight is read."""
    rules: Iterator[Expression] = (stage.expression for path in spec.paths for stage in path.stages)
    sums = [e for rule in rules for e in walk(rule) if isinstance(e, Sum)]
    return {s.index for s in sums if any(e == Name(name) or (isinstance(e, Access) and e.tensor == name) for e in walk(s.body))}


def _shape(weight: Weight) -> str:
    return f"({', '.join(weight.layout.dims)}{',' if len(weight.layout.dims) == 1 else ''})"


def _initial(spec: Spec, weight: Weight, target: str) -> str:
    fan_in, fan_out = fans(spec, weight)
    template = _GLOROT if weight.initializer == "glorot_uniform" else _CONSTANT
    return template[target].format(weight.initializer, _shape(weight), weight.name, fan_in, fan_out)


def _reset(spec: Spec, weight: Weight) -> str:
    """One weight drawn again; its fans are read off its own shape."""
    line = _initial(spec, weight, "torch")
    if weight.initializer != "glorot_uniform":
        return line
    return f"{', '.join(weight.layout.dims)} = self.{weight.name}.shape\n{line}"


def _each(spec: Spec, target: Target, line: Callable[[Weight], str], prefix: str = "") -> Iterator[str]:
    """A line for every weight, under the guard of those that exist only sometimes."""
    for when, weights in groupby(spec.weights, key=lambda weight: weight.when):
        text = "\n".join(map(line, weights))
        guard = "" if when is None else Printer(target, batched=False).guard(when)[0]
        yield f"if {prefix}{guard}:\n{indent(text)}" if guard else text
