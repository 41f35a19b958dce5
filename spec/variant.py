"""A variant to the API file that it stands for: arguments, stages and preconditions follow from the clauses it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from attnspec.spec.declarations import Clause, Declarations, Parameter, extended
from attnspec.spec.errors import Errors, Key, described
from attnspec.spec.expression import names, to_text, walk
from attnspec.spec.layouts import layout_text
from attnspec.spec.model import Axis, Layout
from attnspec.spec.nodes import Access, Name
from attnspec.spec.reading import Reading
from attnspec.spec.schema import ApiFile, Declared, VariantFile, VariantParameter
from attnspec.spec.suggestions import did_you_mean

LAYOUTS = {"query": "B T N H", "key": "B S K H", "value": "B S K V", "output": "B T N V"}
PATH = "variant"


def expand(file: VariantFile, operator: Declarations, errors: Errors) -> ApiFile | None:
    """The API file that a variant stands for; None, with errors noted, where it names what there is not."""
    before = len(errors.found)
    own = Declared(
        dims=file.dims, sizes=file.sizes, tensors=file.tensors, dtypes=file.dtypes, modifier=file.modifier, mask=file.mask
    )
    expansion = _Expansion(file, extended(operator, own, errors), operator, errors)
    expanded = expansion.api()
    if len(errors.found) > before:  # else `build` reads the declarations again
        return None
    errors.renamed = partial(_own_key, file)
    return ApiFile.model_validate(expanded)


def _own_key(file: VariantFile, key: Key) -> Key:
    """A key of the expanded file as the variant writes it."""
    match key:
        case ("path", "variant", "stage", _, "bind", name):
            return ("parameters", name)
        case ("path", "variant", "policies", *rest):
            return ("policies", *rest)
        case ("path", "variant", "stage", str(clause), *_):
            kind, _, name = clause.partition(".")
            if name in {"modifier": file.modifier, "mask": file.mask}.get(kind, ()):
                return (kind, name, {"modifier": "logit", "mask": "attends"}[kind])
            return ({"modifier": "modifiers", "mask": "masks"}.get(kind, kind), name)
        case ("argument" | "output", name, "layout"):
            return ("layouts", name)
    return key


@dataclass
class _Expansion:
    file: VariantFile
    declared: Declarations
    operator: Declarations
    errors: Errors

    def api(self) -> dict[str, Any]:
        clauses = list(self.clauses())
        self.check(clauses)
        file = self.file
        return {
            "api": file.variant, "form": "function", "owner": "attnspec", "summary": file.summary,
            "dims": file.dims, "sizes": file.sizes, "tensors": file.tensors, "dtypes": file.dtypes,
            "modifier": file.modifier, "mask": file.mask, "parameters": self.new_parameters(clauses),
            "argument": [*self.tensors(clauses), *self.scalars(clauses)],
            "path": [{"name": PATH, "policies": self.policies(), "stage": [self.stage(clause) for clause in clauses]}],
            "output": [{"name": "output", "tensor": "output", "layout": self.layout("output"), "doc": "the attended values"}],
            "precondition": [*self.preconditions(clauses)],
        }  # fmt: skip

    def clauses(self) -> Iterator[Clause]:
        """Every clause in the order of the stages; unknown ones are noted."""
        wanted: list[tuple[Key, str]] = [(("score",), f"score.{self.file.score}")]
        wanted += [(("score",), "modifier.scale")] if self.file.score == "dot" else []
        wanted += [(("modifiers",), f"modifier.{name}") for name in self.file.modifiers]
        wanted += [(("masks",), f"mask.{name}") for name in self.file.masks]
        wanted += [(("softmax",), f"softmax.{self.file.softmax}"), (("combine",), "combine.weighted")]
        for key, name in wanted:
            clause = self.declared.clauses.get(name)
            if clause is not None:
                yield clause
                continue
            kind, _, word = name.partition(".")
            if word in {"modifier": self.file.modifier, "mask": self.file.mask}.get(kind, ()):
                continue  # it is there and cannot be read, which is noted already
            known = [c.partition(".")[2] for c in self.declared.clauses if c.startswith(f"{kind}.")]
            self.errors.add(key, f"unknown {kind} {described(word)}.{did_you_mean(word, known)}")

    def parameters(self, clauses: list[Clause]) -> list[str]:
        """The parameters of the clauses, in order of use."""
        known = {*self.declared.parameters, *self.file.parameters}
        return _in_order(clauses, known)

    def operands(self, clauses: list[Clause]) -> list[str]:
        """The tensors that a caller passes: those named that no stage defines, query, key and value first."""
        defined = {clause.defines for clause in clauses} | {"query", "key", "value"}
        used = _in_order(clauses, {*self.declared.tensors} - defined)
        return ["query", "key", "value", *used]

    def check(self, clauses: list[Clause]) -> None:
        """Note what the file names and nothing has. Told after `clauses`, so unknown clauses are noted already."""
        if not self.errors.found:
            self.check_parameters(self.parameters(clauses))
        for name in self.file.policies:
            if name not in self.declared.policies:
                self.errors.add(("policies", name), f"unknown policy.{did_you_mean(name, self.declared.policies)}")
        known = [*self.operands(clauses), "output"]
        reading = Reading(self.errors)
        for name, text in self.file.layouts.items():
            reading.layout(text, ("layouts", name))
            if name not in known:
                self.errors.add(("layouts", name), f"unknown tensor.{did_you_mean(name, known)}")
        for name, value in self.file.parameters.items():
            if isinstance(value, str):
                reading.expression(value, ("parameters", name))

    def check_parameters(self, wanted: list[str]) -> None:
        given = self.file.parameters
        for name in given.keys() - {*wanted}:
            self.errors.add(("parameters", name), f"is named by no clause of the variant.{did_you_mean(name, wanted)}")
        for name in wanted:
            declared = self.declared.parameters.get(name)
            has_rule = declared is not None and (declared.value is not None or declared.unset is not None)
            if name not in given and not has_rule:
                self.errors.add(("parameters", name), f"expected {name} = {{ default = ... }} or a value, got nothing")

    def new_parameters(self, clauses: list[Clause]) -> dict[str, Any]:
        """Parameters that only the variant's own clauses have."""
        own = [n for n in self.parameters(clauses) if n not in self.operator.parameters]
        return {name: {"doc": self.doc(name)} for name in own}

    def doc(self, name: str) -> str:
        value = self.file.parameters.get(name)
        own = value.doc if isinstance(value, VariantParameter) else ""
        return own or (self.operator.parameters[name].doc if name in self.operator.parameters else "")

    def layout(self, tensor: str) -> str:
        if tensor in self.file.layouts:
            return self.file.layouts[tensor]
        return LAYOUTS.get(tensor) or layout_text(Layout(tuple(Axis((dim,)) for dim in self.declared.tensors[tensor])))

    def tensors(self, clauses: list[Clause]) -> Iterator[dict[str, Any]]:
        for name in self.operands(clauses):
            dtype = self.declared.dtypes.get(name, "floating")
            kind = "positional" if name in LAYOUTS else "keyword-only"
            doc = self.declared.docs.get(name, "")
            yield {"name": name, "kind": kind, "layout": self.layout(name), "dtype": dtype, "doc": doc}

    def scalars(self, clauses: list[Clause]) -> Iterator[dict[str, Any]]:
        """Parameters that a caller may set: those the variant gives a default, and those with an `unset` rule."""
        for name in self.parameters(clauses):
            value, declared = self.file.parameters.get(name), self.declared.parameters.get(name)
            table = {"name": name, "kind": "keyword-only", "doc": self.doc(name)}
            if isinstance(value, VariantParameter):
                examples = value.examples or [value.default]
                yield {**table, "role": _role(value.default), "default": value.default, "examples": examples}
            elif value is None and declared is not None and declared.value is None and declared.unset is not None:
                unset = to_text(declared.unset)
                yield {**table, "role": "number", "default": "None", "unset": unset, "examples": list(declared.examples)}

    def stage(self, clause: Clause) -> dict[str, Any]:
        """A stage with what the variant fixes bound in."""
        fixed = {n: v for n, v in self.file.parameters.items() if not isinstance(v, VariantParameter)}
        bind = {name: value for name, value in fixed.items() if name in names(clause.rule)}
        return {"use": clause.name, "bind": bind}

    def policies(self) -> dict[str, Any]:
        given = {}
        for name, value in self.file.policies.items():
            table = {"value": value} if isinstance(value, str) else value.model_dump(by_alias=True)
            given[name] = {**table, "source": "ruled"}
        return given

    def preconditions(self, clauses: list[Clause]) -> Iterator[dict[str, Any]]:
        ruled = {"raises": "ValueError", "source": "ruled"}
        message = "the {N} heads of query must be a multiple of the {K} heads of key and value"
        yield {
            **ruled,
            "clause": "heads-divide",
            "requires": "K > 0 and N % K == 0",
            "message": message,
            "violate": [{"N": 3, "K": 2}, {"K": 0}],
        }
        for name in self.parameters(clauses):
            declared = self.declared.parameters.get(name)
            if isinstance(self.file.parameters.get(name), VariantParameter) and declared and declared.requires:
                yield {**ruled, **_range(name, declared)}


def _range(name: str, declared: Parameter) -> dict[str, Any]:
    assert declared.requires is not None
    requires = to_text(declared.requires)
    message = f"`{name}` must satisfy {requires}, got {{{name}}}"
    clause = f"{name.replace('_', '-')}-range"
    return {"clause": clause, "requires": requires, "message": message, "violate": {name: declared.violate}}


def _role(default: bool | int | float) -> str:
    if isinstance(default, bool):
        return "flag"
    return "integer" if isinstance(default, int) else "number"


def _in_order(clauses: list[Clause], wanted: set[str]) -> list[str]:
    """The wanted names in the order in which the clauses name them."""
    nodes = (node for clause in clauses for node in walk(clause.rule))
    named = (node.tensor if isinstance(node, Access) else node.name for node in nodes if isinstance(node, (Access, Name)))
    return list(dict.fromkeys(name for name in named if name in wanted))
