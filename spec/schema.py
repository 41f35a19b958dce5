"""The TOML of the spec files as pydantic models: which keys there are, and what types they take.

Only form is checked here: unknown and missing keys, types, choices. Expressions, layouts and names are still text;
`build.py` gives them a meaning, and `form.py` words the errors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from attnspec.spec.model import DType, Initializer, Kind, Role, Source
from attnspec.spec.toml_types import (
    Attribute,
    Clause,
    Dim,
    Dotted,
    Either,
    Exception_,
    ExpressionText,
    Identifier,
    Layouts,
    Line,
    Literal_,
    NumberLiteral,
    Slug,
)

MAX_ITEMS = 64
"""Entries of any list or table: many more than an attention has, few enough to check each against all."""
MAX_PATHS = 16


class Table(BaseModel):
    """A TOML table: no key but the declared ones, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ParameterTable(Table):
    """`[parameters]` of attention.toml, and of an API file."""

    doc: Line
    value: str | None = None
    unset: str | None = None
    requires: str | None = None
    violate: NumberLiteral = 0
    examples: list[Literal_] = Field(default=[], max_length=MAX_ITEMS)


class PolicyRule(Table):
    """`[policies]` of attention.toml: what a policy may be."""

    values: list[str]
    default: str
    with_: list[str] = Field(default=[], alias="with")
    default_with: str = ""


class Declared(Table):
    """What any file may declare: dims, sizes, tensors, parameters and clauses."""

    dims: dict[Dim, Line] = Field(default={}, max_length=MAX_ITEMS)
    sizes: dict[Dim, str] = Field(default={}, max_length=MAX_ITEMS)
    tensors: dict[Identifier, str] = Field(default={}, max_length=MAX_ITEMS)
    dtypes: dict[Identifier, DType] = Field(default={}, max_length=MAX_ITEMS)
    parameters: dict[Identifier, ParameterTable] = Field(default={}, max_length=MAX_ITEMS)
    score: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    modifier: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    mask: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)


class OperatorFile(Declared):
    """attention.toml and masks.toml, read together."""

    order: list[str]
    docs: dict[Identifier, Line]
    policies: dict[str, PolicyRule]
    project: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    assemble: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    softmax: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    dropout: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    combine: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    rows: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    output: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)


class DocumentedTable(Table):
    """`[documented]`."""

    url: Line = ""
    text: Line = ""
    version: Line = ""
    drift: list[Line] = Field(default=[], max_length=MAX_ITEMS)


class ElementTable(Table):
    """`[[argument.element]]`: one member of a list input."""

    name: Identifier
    layout: Layouts
    default: Literal["None"] | None = None
    unset: str | None = None
    dtype: DType = "floating"
    feeds: str = ""
    inert: Line = ""
    doc: Line = ""


class ArgumentTable(Table):
    """`[[argument]]` and `[[constructor]]`."""

    name: Identifier
    role: Role | None = None
    kind: Kind = "positional"
    default: Literal_ = None
    nullable: bool = False
    when: str | None = None
    layout: Layouts = []
    dtype: DType = "floating"
    element: list[ElementTable] = Field(default=[], max_length=MAX_ITEMS)
    least: int = Field(default=0, ge=0, le=MAX_ITEMS)
    names: list[Identifier] = Field(default=[], max_length=MAX_ITEMS)
    choices: list[Line] = Field(default=[], max_length=MAX_ITEMS)
    unset: str | None = None
    feeds: str = ""
    inert: Line = ""
    tells: list[Dim] = Field(default=[], max_length=MAX_ITEMS)
    several: bool = False
    mode: bool = False
    swapped_unless: str = ""
    examples: list[Literal_] = Field(default=[], max_length=MAX_ITEMS)
    doc: Line = ""


class WeightTable(Table):
    """`[[weight]]`."""

    name: Identifier
    layout: str
    initializer: Initializer = "glorot_uniform"
    when: str | None = None
    chosen_by: str = ""
    path: Line = ""
    fans: list[ExpressionText] = Field(default=[], max_length=2)
    doc: Line = ""


class PolicyTable(Table):
    """One entry of `[path.policies]`."""

    value: str
    source: Source
    with_: str = Field(default="", alias="with")
    version: Line = ""
    why: Line = ""


class StageTable(Table):
    """`[[path.stage]]`: a clause by name (`use`), or one written here (`clause`, `defines`, `rule`)."""

    use: str | None = None
    clause: Clause | None = None
    defines: str | None = None
    rule: str | None = None
    bind: dict[str, ExpressionText] = Field(default={}, max_length=MAX_ITEMS)
    when: str | None = None


class PathTable(Table):
    """`[[path]]`."""

    name: Slug
    when: str | None = None
    policies: dict[str, PolicyTable] = Field(default={}, max_length=MAX_ITEMS)
    stage: list[StageTable] = Field(max_length=MAX_ITEMS)


class ShortcutTable(Table):
    """`[[shortcut]]`."""

    name: Slug
    when: str
    doc: Line = ""


class OutputTable(Table):
    """`[[output]]`."""

    name: Identifier
    tensor: str
    layout: Layouts
    when: str | None = None
    stop_gradient: bool = False
    otherwise: Literal["None"] | None = None
    swapped_unless: str = ""
    doc: Line = ""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Violations = Annotated[list[dict[str, Literal_]], BeforeValidator(_listed)]
"""One table or several."""


class PreconditionTable(Table):
    """`[[precondition]]`."""

    clause: Slug
    requires: str
    raises: Exception_
    message: Line
    source: Source
    when: str | None = None
    violate: Violations = Field(default=[], max_length=MAX_ITEMS)


class ApiFile(Declared):
    """apis/*.toml."""

    api: Dotted
    form: Literal["function", "layer"]
    owner: Slug
    defined_as: Slug | None = None
    summary: Line
    shapes_raise: Exception_ | None = None
    methods: list[Attribute] = Field(default=[], max_length=MAX_ITEMS)
    attributes: dict[Attribute, str] = Field(default={}, max_length=MAX_ITEMS)
    properties: list[Attribute] = Field(default=[], max_length=MAX_ITEMS)
    hook: list[Identifier] = Field(default=[], max_length=MAX_ITEMS)
    documented: DocumentedTable = DocumentedTable()
    constructor: list[ArgumentTable] = Field(default=[], max_length=MAX_ITEMS)
    argument: list[ArgumentTable] = Field(min_length=1, max_length=MAX_ITEMS)
    weight: list[WeightTable] = Field(default=[], max_length=MAX_ITEMS)
    path: list[PathTable] = Field(min_length=1, max_length=MAX_PATHS)
    shortcut: list[ShortcutTable] = Field(default=[], max_length=MAX_PATHS)
    output: list[OutputTable] = Field(min_length=1, max_length=MAX_ITEMS)
    precondition: list[PreconditionTable] = Field(default=[], max_length=MAX_ITEMS)


class VariantParameter(Table):
    """An entry of a variant's `[parameters]` that becomes a keyword argument."""

    default: NumberLiteral
    examples: list[NumberLiteral] = Field(default=[], max_length=MAX_ITEMS)
    doc: Line = ""


class VariantPolicy(Table):
    """An entry of a variant's `[policies]` that needs more than a value."""

    value: str
    with_: str = Field(default="", alias="with")
    why: Line = ""


class VariantFile(Table):
    """variants/*.toml."""

    variant: Identifier
    summary: Line
    score: str = "dot"
    modifiers: list[str] = Field(default=[], max_length=MAX_ITEMS)
    masks: list[str] = Field(default=[], max_length=MAX_ITEMS)
    softmax: str = "plain"
    parameters: dict[str, Either[VariantParameter, ExpressionText]] = Field(default={}, max_length=MAX_ITEMS)
    policies: dict[str, Either[VariantPolicy, str]] = Field(default={}, max_length=MAX_ITEMS)
    layouts: dict[str, str] = Field(default={}, max_length=MAX_ITEMS)
    dims: dict[Dim, Line] = Field(default={}, max_length=MAX_ITEMS)
    sizes: dict[Dim, str] = Field(default={}, max_length=MAX_ITEMS)
    tensors: dict[Identifier, str] = Field(default={}, max_length=MAX_ITEMS)
    dtypes: dict[Identifier, DType] = Field(default={}, max_length=MAX_ITEMS)
    modifier: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
    mask: dict[str, dict[str, str]] = Field(default={}, max_length=MAX_ITEMS)
