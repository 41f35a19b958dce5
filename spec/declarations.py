"""What spec files may name: dims, sizes, tensors, parameters, policies and clauses, of the operator and of one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from attnspec.spec.errors import Errors, Key
from attnspec.spec.expression import Expression
from attnspec.spec.form import validate
from attnspec.spec.model import DType
from attnspec.spec.reading import Reading
from attnspec.spec.schema import Declared, OperatorFile, ParameterTable, PolicyRule
from attnspec.spec.suggestions import did_you_mean
from attnspec.spec.toml_text import read

FOLDER = Path(__file__).parent
CLAUSE_KINDS = ("project", "assemble", "score", "modifier", "mask", "softmax", "dropout", "combine", "rows", "output")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar of the operator: `value` stands in where nobody sets it, `unset` where a caller passes None."""

    doc: str
    value: Expression | None
    unset: Expression | None
    requires: Expression | None
    violate: int | float
    examples: tuple[bool | int | float | str | list[int], ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule with a name: `[mask.causal] attends = "..."`."""

    name: str
    defines: str
    rule: Expression

    @property
    def kind(self) -> str:
        """`mask` of `mask.causal`."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Declarations:
    """Everything that is declared, ready to be named."""

    dims: tuple[str, ...]
    sizes: dict[str, Expression]
    tensors: dict[str, tuple[str, ...]]
    parameters: dict[str, Parameter]
    policies: dict[str, PolicyRule]
    clauses: dict[str, Clause]
    order: tuple[str, ...]
    dtypes: dict[str, DType]
    docs: dict[str, str]

    @property
    def indices(self) -> frozenset[str]:
        """The letters that run over a dim."""
        return frozenset(dim.lower() for dim in self.dims)

    @property
    def size_names(self) -> tuple[str, ...]:
        """Dims and derived sizes."""
        return (*self.dims, *self.sizes)


@cache
def operator() -> tuple[Declarations, bytes]:
    """attention.toml with masks.toml, and the bytes of both."""
    errors = Errors("spec/attention.toml")
    (one, attention), (two, masks) = (read(FOLDER / name, f"spec/{name}") for name in ("attention.toml", "masks.toml"))
    file = validate(OperatorFile, {**attention, **masks}, errors)
    errors.raise_any()
    assert file is not None
    nothing = Declarations((), {}, {}, {}, file.policies, {}, tuple(file.order), {}, dict(file.docs))
    declared = extended(nothing, file, errors)
    errors.raise_any()
    return declared, one + two


def extended(base: Declarations, file: Declared, errors: Errors) -> Declarations:
    """`base` with what a file adds: it never redefines, but it may say how a dim derives from others (`S = "P + C"`)."""
    reading = Reading(errors)
    for table in ("dims", "sizes", "tensors", "parameters"):
        for name in getattr(file, table).keys() & set(getattr(base, table)):
            errors.add((table, name), "is declared by the operator already; choose another name")
    dims = (*base.dims, *(d for d in file.dims if d not in base.dims))
    added = replace(base, dims=dims, dtypes={**base.dtypes, **file.dtypes})
    added = replace(added, sizes=_sizes(file, reading) | base.sizes)
    added = replace(added, tensors=_tensors(file, added, reading) | base.tensors)
    added = replace(added, parameters=_parameters(file, reading) | base.parameters)
    clauses = _clauses(file, reading)
    for name in clauses.keys() & base.clauses.keys():
        errors.add(tuple(name.split(".")), "is declared by the operator already; choose another name")
    return replace(added, clauses=clauses | base.clauses)


def _sizes(file: Declared, reading: Reading) -> dict[str, Expression]:
    read_sizes = {name: reading.expression(text, ("sizes", name)) for name, text in file.sizes.items()}
    return {name: rule for name, rule in read_sizes.items() if rule is not None}


def _tensors(file: Declared, base: Declarations, reading: Reading) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, text in file.tensors.items():
        layout = reading.layout(text, ("tensors", name))
        if layout is None:
            continue
        unknown = [dim for dim in layout.dims if dim not in base.dims]
        if unknown or layout.batched or any(axis.or_one or len(axis.dims) > 1 for axis in layout.axes):
            reading.errors.add(("tensors", name), f'expected plain axes of declared dims, got "{text}"')
        found[name] = layout.dims
    return found


def _parameters(file: Declared, reading: Reading) -> dict[str, Parameter]:
    return {name: _parameter(table, ("parameters", name), reading) for name, table in file.parameters.items()}


def _parameter(table: ParameterTable, key: Key, reading: Reading) -> Parameter:
    value, unset, requires = (reading.optional(getattr(table, k), (*key, k)) for k in ("value", "unset", "requires"))
    return Parameter(table.doc, value, unset, requires, table.violate, tuple(table.examples))


def _clauses(file: Declared, reading: Reading) -> dict[str, Clause]:
    found = {}
    for kind in CLAUSE_KINDS:
        for name, rules in getattr(file, kind, {}).items() if isinstance(getattr(file, kind, None), dict) else ():
            clause = _clause(kind, name, rules, reading)
            if clause is not None:
                found[clause.name] = clause
    return found


def _clause(kind: str, name: str, rules: dict[str, str], reading: Reading) -> Clause | None:
    key: Key = (kind, name)
    if len(rules) != 1:
        reading.errors.add(key, f"expected one rule, got {len(rules)}")
        return None
    [(defines, text)] = rules.items()
    if not defined_by(kind, defines):
        close = did_you_mean(defines, [DEFINES[kind]])
        reading.errors.add((*key, defines), f"expected {DEFINES[kind]}, which a {kind} defines.{close}")
    rule = reading.expression(text, (*key, defines))
    return None if rule is None else Clause(f"{kind}.{name}", defines, rule)


DEFINES = {
    "score": "logit", "modifier": "logit", "mask": "attends", "softmax": "weight", "dropout": "weight", "combine": "output",
    "rows": "output",
}  # fmt: skip
"""What a kind of clause defines; project, assemble and output may define any tensor."""


def defined_by(kind: str, defines: str) -> bool:
    """Whether a clause of that kind may define that tensor."""
    return DEFINES.get(kind, defines) == defines
