"""One generated file: header, imports, the helpers it uses, and the documented function."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from attnspec.codegen import VERSION
from attnspec.codegen.derivative import cotangent_name, vjp_program
from attnspec.codegen.explicit_casts import explicit_casts
from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.keras_hooks import hook_specs
from attnspec.codegen.keras_layer import keras_class
from attnspec.codegen.keras_list_layer import inner_specs, is_list_layer, list_layer_class
from attnspec.codegen.keras_port import ported_layer, seeded
from attnspec.codegen.layer import init_text, module_class, tensorflow_class
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Program
from attnspec.codegen.tf_keras_layer import tf_keras_layer
from attnspec.codegen.tf_keras_list_layer import tf_keras_list_layer
from attnspec.codegen.unit_dims import without_unit_dims
from attnspec.codegen.verify import verify
from attnspec.spec.expression import fold, to_text
from attnspec.spec.model import Argument, Layout, Spec

HELPERS = "# -- helpers: argument checks, and what the framework lacks " + "-" * 60
_IN_PLACE = ("keras", "tf_keras")
"""Targets whose layers are classes in the place of the owner's, with its hooks."""
_MADE_BY = {
    ("keras", False): keras_class,
    ("keras", True): list_layer_class,
    ("tf_keras", False): tf_keras_layer,
    ("tf_keras", True): tf_keras_list_layer,
}
"""What prints a class, by target and whether the layer takes a list."""
_PYTHON_TYPES = {
    "number": "float", "integer": "int", "flag": "bool", "choice": "str", "sizes": "int | tuple[int, int]",
    "axes": "int | tuple[int, ...]",
    "training": "bool", "seed": "int", "object": "str", "placement": "",
}  # fmt: skip


def module_text(spec: Spec, target: Target) -> str:
    """The source of one implementation, before formatting. Raises LoweringError."""
    require(target, spec)
    spec = without_unit_dims(spec)
    if takes_a_place(spec, target):
        return _keras_text(spec, target)
    if spec.form == "layer" and target.name == "keras":
        target, spec = replace(target, decorator=""), seeded(spec)  # the layer is the operation, and draws
    program = lower_spec(spec)
    verify(program, spec)
    parts = [function_text(spec, program, target), *_layer_parts(spec, target)]
    if target.name == "numpy":
        derived = vjp_program(spec, program)
        verify(derived, spec)
        parts.append(vjp_text(spec, derived, target))
    return assemble(spec, target, f"`{spec.name}` for {target.name}.\n\n{spec.summary}\n", parts)


def require(target: Target, spec: Spec) -> None:
    """LoweringError where the target does not cover the spec."""
    if not covers(target, spec):
        raise LoweringError(f"{spec.name}: tf_keras has layers of its own APIs alone; its programs take tensorflow's files")


def covers(target: Target, spec: Spec) -> bool:
    """Whether the target has that spec: tf_keras has what replaces its own layers, and nothing else."""
    return target.name != "tf_keras" or spec.owner == target.name


def takes_a_place(spec: Spec, target: Target) -> bool:
    """Whether the layer stands in the place of one of Keras's, with its hooks and its places in a checkpoint."""
    if spec.form != "layer" or target.name not in _IN_PLACE:
        return False
    return is_list_layer(spec) or (spec.owner == target.name and all(weight.path for weight in spec.weights))


def _keras_text(spec: Spec, target: Target) -> str:
    """A layer for Keras or tf_keras: its class, and the attention between its projections."""
    plain = replace(target, decorator="") if target.name == "keras" else target
    is_list = is_list_layer(spec)
    constructor = list(_starred(spec.constructor, plain))
    make = _MADE_BY[target.name, is_list]
    layer = make(spec, plain, _docstring(spec, plain), constructor, list(_call_parameters(spec, plain)))
    functions = []
    for inner in inner_specs(spec) if is_list else hook_specs(spec):
        program = lower_spec(inner)
        verify(program, inner)
        functions.append(function_text(inner, program, plain))
    title = f"`{spec.name}` for {target.name}: a layer in its place.\n\n{spec.summary}\n"
    return assemble(spec, plain, title, [layer, *functions], ("from typing import Any",))


def _layer_parts(spec: Spec, target: Target) -> Iterator[str]:
    if spec.form != "layer":
        return
    own = spec.constructor if spec.owner == target.name else [a for a in spec.constructor if a.role != "placement"]
    constructor = list(_starred(own, target))
    if target.name == "keras":
        yield ported_layer(spec, target, _docstring(spec, target), constructor, list(_call_parameters(spec, target)))
    elif target.name == "tensorflow":
        yield tensorflow_class(spec, target, _docstring(spec, target), constructor, list(_call_parameters(spec, target)))
    elif target.name == "torch":
        call = replace(spec, arguments=tuple(argument for argument in spec.arguments if not argument.mode))
        yield module_class(spec, target, _docstring(call, target), constructor, list(_call_parameters(call, target)))
    else:
        yield init_text(spec, target, constructor)


def assemble(spec: Spec, target: Target, title: str, parts: Sequence[str], imports: tuple[str, ...] = ()) -> str:
    """Header, imports, the parts, and below them the helpers that they use: a reader came for the attention."""
    helpers, helper_imports = _helpers(target, "\n".join((*parts, target.decorator)))
    decorator = helpers.pop(target.decorator, "")  # the one that has to be there before its function
    if target.name == "tf_keras":
        helpers = dict(_unconverted(helpers, parts[0], target))
    below = [HELPERS, *helpers.values()] if helpers else []
    layout_error = f"_LayoutError = {spec.layout_error}" if any("_LayoutError" in text for text in below) else ""
    head = "\n".join((header(spec), f'"""{title}"""', "", "from __future__ import annotations", ""))
    lines = "\n".join(sorted({*imports, *helper_imports, *target.imports}))
    body = "\n\n\n".join(part for part in (layout_error, decorator, *parts, *below) if part)
    return f"{head}\n{lines}\n\n{body}\n"


def function_text(spec: Spec, program: Program, target: Target) -> str:
    """The public function: signature, docstring, body."""
    printer = Printer(target, program.batched, aliases(spec), rules_of(spec))
    program = explicit_casts(spec, program) if target.explicit_casts else program
    return f"{signature_text(spec, target)}\n{indent(printer.function_body(program))}"


def signature_text(spec: Spec, target: Target) -> str:
    """Decorator, `def` line and docstring of the public function."""
    decorator = f"@{target.decorator}\n" if target.decorator else ""
    name = "_apply" if spec.form == "layer" and target.name in ("torch", "tensorflow", "keras") else spec.function_name
    signature = f"def {name}({', '.join(_parameters(spec, target))}) -> {_returned_type(spec, target)}:"
    return f"{decorator}{signature}\n{indent(_docstring(spec, target))}"


def vjp_text(spec: Spec, program: Program, target: Target) -> str:
    """The function that returns the gradients of the one above."""
    printer = Printer(target, program.batched, aliases(spec))
    cotangent = cotangent_name(spec)
    kind = "np.ndarray" if cotangent == "d_output" else "tuple[np.ndarray, ...]"
    parameters = ", ".join((f"{cotangent}: {kind}", *_parameters(spec, target)))
    doc = f'"""Gradients of `{spec.function_name}` for the given floating tensors, by name, for cotangent `{cotangent}`."""'
    return (
        f"def {program.name}({parameters}) -> dict[str, np.ndarray]:\n{indent(doc)}\n{indent(printer.function_body(program))}"
    )


def rules_of(spec: Spec) -> dict[str, str]:
    """Clause -> the spec's own rule of it, and policies with their values, for comments; not where paths differ."""
    found = [(stage.clause, to_text(fold(stage.expression))) for path in spec.paths for stage in path.stages]
    found += [(f"policy.{name}", policy.value) for path in spec.paths for name, policy in path.policies.items()]
    rules = set(found)
    return {clause: rule for clause, rule in found if sum(clause == other for other, _ in rules) == 1}


def aliases(spec: Spec) -> dict[str, str]:
    """Sizes whose canonical letter the API's layouts do not use (jax.nn's value is `B S K H`: V is H)."""
    bound = {dim for a in spec.tensor_arguments for layout in a.layouts for dim in layout.dims}
    bound |= {dim for weight in spec.weights for dim in weight.layout.dims}
    return {} if "V" in bound else {"V": "H"}


def header(spec: Spec) -> str:
    """Who wrote the file, from what, and how to write it again."""
    return (
        f"# Generated by attnspec {VERSION} from {spec.file} (sha256 {spec.digest[:16]}). Do not edit:\n"
        f"# change the spec and run `attnspec generate`."
    )


def _parameters(spec: Spec, target: Target) -> Iterator[str]:
    """A layer's function takes its weights first, and its constructor's arguments last, by keyword."""
    if spec.weights:
        yield f"params: dict[str, {target.array_type}]"
    yield from _call_parameters(spec, target)
    if spec.constructor and not any(argument.kind == "keyword-only" for argument in spec.arguments):
        yield "*"
    yield from (_parameter(argument, target) for argument in spec.constructor if argument.role not in ("object", "placement"))


def _call_parameters(spec: Spec, target: Target) -> Iterator[str]:
    yield from _starred(spec.arguments, target)


def _starred(arguments: Iterable[Argument], target: Target) -> Iterator[str]:
    """Parameters in order; a star before those that are given by name alone."""
    starred = False
    for argument in arguments:
        if argument.kind == "keyword-only" and not starred:
            starred = True
            yield "*"
        yield _parameter(argument, target)


def _parameter(argument: Argument, target: Target) -> str:
    base = {"tensor": target.array_type, "tensors": f"list[{target.array_type} | None]"}.get(argument.role)
    role, base = argument.role, "Any" if argument.role == "object" and target.name in _IN_PLACE else base
    role = "axes" if argument.several else role  # an int, or several
    kind = base or (f"{target.name}.{argument.name}" if role == "placement" else _PYTHON_TYPES[role])
    if argument.required:
        return f"{argument.name}: {kind}{' | None' if argument.nullable else ''}"
    return f"{argument.name}: {kind}{' | None' if argument.default is None else ''} = {argument.default!r}"


def _returned_type(spec: Spec, target: Target) -> str:
    kinds = {o.name: f"{target.array_type} | None" if o.otherwise else target.array_type for o in spec.outputs}
    many = f"tuple[{', '.join(kinds.values())}]"
    if len(kinds) == 1:
        return target.array_type
    return many if all(o.when is None or o.otherwise for o in spec.outputs) else f"{target.array_type} | {many}"


def _docstring(spec: Spec, target: Target) -> str:
    lines = [f'"""{spec.summary}', "", "Args:"]
    lines += [f"    {_argument_line(argument)}" for a in spec.arguments for argument in (a.elements or (a,))]
    lines += [f"    {_argument_line(argument)}" for argument in spec.constructor]
    lines += ["", "Returns:"]
    for output in spec.outputs:
        lines.append(f"    {output.name}, {_shape_text(output.layouts)}: {output.doc}".rstrip(": "))
    lines += ["", "Raises:", *(f"    {line}" for line in _raises(spec))]
    source = spec.documented.url and f"{spec.documented.url} ({spec.documented.version})"
    lines += ["", f"Source: {source or spec.file}", '"""']
    return "\n".join(wrapped for line in lines for wrapped in _wrap(line))


def _wrap(line: str) -> list[str]:
    """A docstring line, broken before the margin; what is broken off is indented further."""
    margin = len(line) - len(line.lstrip())
    return textwrap.wrap(line, 116, subsequent_indent=" " * (margin + 4), break_long_words=False) or [""]


def _argument_line(argument: Argument) -> str:
    swap = f", with the first two axes in the other order unless {argument.swapped_unless}" if argument.swapped_unless else ""
    shape = f", {_shape_text(argument.layouts)}{swap}, {argument.dtype}" if argument.role == "tensor" else ""
    inert = f" (inert: {argument.inert})" if argument.inert else ""
    return f"{argument.name}{shape}: {argument.doc}{inert}".rstrip(": ")


def _shape_text(layouts: Iterable[Layout]) -> str:
    return " or ".join(f"({', '.join(_axes_text(layout))})" for layout in layouts)


def _axes_text(layout: Layout) -> Iterator[str]:
    if layout.batched:
        yield "..."
    for axis in layout.axes:
        yield (" * ".join(axis.dims) or "1") + ("|1" if axis.or_one else "")


def _raises(spec: Spec) -> Iterator[str]:
    yield f"{spec.layout_error}: a tensor's shape or dtype does not fit."
    for precondition in spec.preconditions:
        where = f" where `{to_text(precondition.when)}`" if precondition.when is not None else ""
        yield f"{precondition.raises}: unless `{to_text(precondition.requires)}`{where} ({precondition.clause})."


@cache
def _support(name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Functions, classes and constants of a support module by name, and its import lines."""
    source = (files("attnspec.codegen.support") / f"{name}.py").read_text(encoding="utf-8")
    definitions: dict[str, str] = {}
    imports: list[str] = []
    for node in ast.parse(source).body:
        text = ast.get_source_segment(source, node) or ""
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            definitions[node.name] = text
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions[node.targets[0].id] = text
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and "attnspec" not in text and "__future__" not in text:
            imports.append(text)
    definitions.pop("_LayoutError", None)
    return definitions, tuple(imports)


def _helpers(target: Target, code: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The helpers that `code` needs by name, with what they need themselves, in the order of their modules; their imports."""
    definitions: dict[str, str] = {}
    imports: tuple[str, ...] = ()
    for module in ("common", *(["unknown_sizes"] if target.unknown_size else []), *target.borrows, target.name):
        found, lines = _support(module)
        definitions |= found
        imports += lines
    wanted = _closure(code, definitions)
    helpers = {name: text for name, text in definitions.items() if name in wanted}
    used = _words("\n".join((*helpers.values(), code)))
    return helpers, tuple(line for line in imports if _words(line.partition("import")[2]) & used)


def _unconverted(helpers: dict[str, str], layer: str, target: Target) -> Iterator[tuple[str, str]]:
    """The helpers, those that the layer itself calls out of AutoGraph's reach: in its first graph it would convert them all."""
    called = _words(layer)
    for name, text in helpers.items():
        yield name, f"@{target.decorator}\n{text}" if name in called and text.startswith("def ") else text


def _closure(code: str, definitions: dict[str, str]) -> set[str]:
    wanted: set[str] = set()
    queue = _words(code) & definitions.keys()
    while queue:
        name = queue.pop()
        wanted.add(name)
        queue |= (_words(definitions[name]) & definitions.keys()) - wanted
    return wanted


def _words(code: str) -> set[str]:
    return set(re.findall(r"\w+", code))
