"""The TOML of the spec files as pydantic models: which keys there are, and what types they take.

Only form is checked here: unknown and missing keys, types, choices. Expressions, layouts and names are still text;
`build.py` gives them a meaning, and `form.py` words the errors.
"""

from __future__ import annotations

import keyword
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from attnspec.spec.errors import described
from attnspec.spec.expression import FUNCTIONS, MAX_INTEGER
from attnspec.spec.model import DType, Kind, Role, Source


def _identifier(word: str) -> str:
    """A name that can be an argument in every target, and that no index or function of the language has."""
    if not word.isidentifier() or not word.isascii() or keyword.iskeyword(word) or word.startswith("_") or len(word) > 64:
        raise PydanticCustomError("spec", "expected a name of letters, digits and _, got {got}", {"got": described(word)})
    if len(word) == 1 or word in FUNCTIONS:
        raise PydanticCustomError("spec", "{got} is an index, a size or a function", {"got": described(word)})
    return word


def _line(text: str) -> str:
    """Text for people, which also ends up in docstrings and comments of generated files."""
    if not text.isprintable() or '"""' in text or "\\" in text:
        raise PydanticCustomError("spec", 'expected one line without """ and backslashes, got {got}', {"got": described(text)})
    return text


def _refuse(expected: str, got: Any) -> NoReturn:
    raise PydanticCustomError("spec", "expected {expected}, got {got}", {"expected": expected, "got": described(got)})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= MAX_INTEGER


def _literal(value: Any) -> Any:
    pair = isinstance(value, list) and all(isinstance(v, int) and _is_number(v) for v in value) and len(value) < 9
    if not (pair or _is_number(value) or (isinstance(value, str) and len(_line(value)) < 200)):
        _refuse(f"a number up to {MAX_INTEGER}, text, true, false or a list of integers", value)
    return value


def _number(value: Any) -> Any:
    if not _is_number(value):
        _refuse(f"a number up to {MAX_INTEGER}, true or false", value)
    return value


def _expression(value: Any) -> Any:
    if not isinstance(value, str) and (not _is_number(value) or isinstance(value, bool)):
        _refuse(f"an expression or a number up to {MAX_INTEGER}", value)
    return value


def _texts(value: Any) -> Any:
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        _refuse("text or a list of texts", value)
    return value


def _form(value: Any) -> str:
    return "table" if isinstance(value, dict | BaseModel) else "plain"


TAGS = ("table", "plain")
Literal_ = Annotated[Any, AfterValidator(_literal)]
"""A literal in TOML: "None" is None, a list of integers a tuple."""
NumberLiteral = Annotated[Any, AfterValidator(_number)]
ExpressionText = Annotated[Any, AfterValidator(_expression)]
Layouts = Annotated[Any, AfterValidator(_texts)]
Identifier = Annotated[str, AfterValidator(_identifier)]
Line = Annotated[str, AfterValidator(_line)]
Dim = Annotated[str, Field(pattern=r"^[A-Z]$")]
Clause = Annotated[str, Field(pattern=r"^[a-z]+\.[a-z][a-z0-9_]{0,63}$")]
Dotted = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$", max_length=120)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
Exception_ = Literal["ValueError", "TypeError", "RuntimeError", "NotImplementedError", "IndexError", "AssertionError"]


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
    examples: list[Literal_] = []


class PolicyRule(Table):
    """`[policies]` of attention.toml: what a policy may be."""

    values: list[str]
    default: str
    with_: list[str] = Field(default=[], alias="with")
    default_with: str = ""


class Declared(Table):
    """What any file may declare: dims, sizes, tensors, parameters and clauses."""

    dims: dict[Dim, Line] = {}
    sizes: dict[Dim, str] = {}
    tensors: dict[Identifier, str] = {}
    dtypes: dict[Identifier, DType] = {}
    parameters: dict[Identifier, ParameterTable] = {}
    score: dict[str, dict[str, str]] = {}
    modifier: dict[str, dict[str, str]] = {}
    mask: dict[str, dict[str, str]] = {}


class OperatorFile(Declared):
    """attention.toml and masks.toml, read together."""

    order: list[str]
    docs: dict[Identifier, Line]
    policies: dict[str, PolicyRule]
    project: dict[str, dict[str, str]] = {}
    assemble: dict[str, dict[str, str]] = {}
    softmax: dict[str, dict[str, str]] = {}
    dropout: dict[str, dict[str, str]] = {}
    combine: dict[str, dict[str, str]] = {}
    rows: dict[str, dict[str, str]] = {}
    output: dict[str, dict[str, str]] = {}


class DocumentedTable(Table):
    """`[documented]`."""

    url: Line = ""
    text: Line = ""
    version: Line = ""


class ElementTable(Table):
    """`[[argument.element]]`: one member of a list input."""

    name: Identifier
    layout: Layouts
    default: Literal["None"] | None = None
    unset: str | None = None
    dtype: DType = "floating"
    feeds: str = ""
    doc: Line = ""


class ArgumentTable(Table):
    """`[[argument]]` and `[[constructor]]`."""

    name: Identifier
    role: Role | None = None
    kind: Kind = "positional"
    default: Literal_ = None
    layout: Layouts = []
    dtype: DType = "floating"
    element: list[ElementTable] = []
    names: list[Identifier] = []
    choices: list[Line] = []
    unset: str | None = None
    feeds: str = ""
    inert: Line = ""
    examples: list[Literal_] = []
    doc: Line = ""


class WeightTable(Table):
    """`[[weight]]`."""

    name: Identifier
    layout: str
    initializer: Literal["glorot_uniform", "zeros", "ones"] = "glorot_uniform"
    when: str | None = None
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
    bind: dict[str, ExpressionText] = {}
    when: str | None = None


class PathTable(Table):
    """`[[path]]`."""

    name: Slug
    when: str | None = None
    policies: dict[str, PolicyTable] = {}
    stage: list[StageTable]


class OutputTable(Table):
    """`[[output]]`."""

    name: Identifier
    tensor: str
    layout: Layouts
    when: str | None = None
    stop_gradient: bool = False
    doc: Line = ""


class PreconditionTable(Table):
    """`[[precondition]]`."""

    clause: Slug
    requires: str
    raises: Exception_
    message: Line
    source: Source
    when: str | None = None
    about: Literal["static", "values"] = "static"
    violate: dict[str, Literal_] = {}


class ApiFile(Declared):
    """apis/*.toml."""

    api: Dotted
    form: Literal["function", "layer"]
    owner: Slug
    summary: Line
    documented: DocumentedTable = DocumentedTable()
    constructor: list[ArgumentTable] = []
    argument: list[ArgumentTable] = Field(min_length=1)
    weight: list[WeightTable] = []
    path: list[PathTable] = Field(min_length=1)
    output: list[OutputTable] = Field(min_length=1)
    precondition: list[PreconditionTable] = []


class VariantParameter(Table):
    """An entry of a variant's `[parameters]` that becomes a keyword argument."""

    default: NumberLiteral
    examples: list[NumberLiteral] = []
    doc: Line = ""


class VariantPolicy(Table):
    """An entry of a variant's `[policies]` that needs more than a value."""

    value: str
    with_: str = Field(default="", alias="with")
    why: Line = ""


_A = TypeVar("_A")
_B = TypeVar("_B")
_Either = Annotated[Annotated[_A, Tag("table")] | Annotated[_B, Tag("plain")], Discriminator(_form)]
"""A table or a plain value, told apart first so that an error speaks of the one that was meant."""


class VariantFile(Table):
    """variants/*.toml."""

    variant: Identifier
    summary: Line
    score: str = "dot"
    modifiers: list[str] = []
    masks: list[str] = []
    softmax: str = "plain"
    parameters: dict[str, _Either[VariantParameter, ExpressionText]] = {}
    policies: dict[str, _Either[VariantPolicy, str]] = {}
    layouts: dict[str, str] = {}
    dims: dict[Dim, Line] = {}
    sizes: dict[Dim, str] = {}
    tensors: dict[Identifier, str] = {}
    dtypes: dict[Identifier, DType] = {}
    modifier: dict[str, dict[str, str]] = {}
    mask: dict[str, dict[str, str]] = {}
