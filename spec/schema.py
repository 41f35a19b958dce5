"""The TOML of the spec files as pydantic models: which keys there are, and what types they take.

Only form is checked here: unknown and missing keys, types, choices. Expressions, layouts and names are still text;
`build.py` gives them a meaning. Every error of a file is collected, none stops the others.
"""

from __future__ import annotations

import copy
import keyword
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from attnspec.spec.errors import Errors, Key, alternatives, described
from attnspec.spec.expression import FUNCTIONS, MAX_INTEGER
from attnspec.spec.model import DType, Kind, Role, Source
from attnspec.spec.suggestions import did_you_mean


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


_Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
_Float = Annotated[float, Field(allow_inf_nan=False)]
Literal_ = bool | _Integer | _Float | str | list[_Integer]
"""A literal in TOML: "None" is None, a list of integers a tuple."""
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
    violate: _Integer | _Float | None = None
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
    layout: str | list[str]
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
    default: Literal_ | None = None
    layout: str | list[str] = []
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
    bind: dict[str, str | _Integer | _Float] = {}
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
    layout: str | list[str]
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

    default: bool | _Integer | _Float
    examples: list[bool | _Integer | _Float] = []
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
    modifiers: list[str] = []
    masks: list[str] = []
    softmax: str = "plain"
    parameters: dict[str, VariantParameter | _Integer | _Float | str] = {}
    policies: dict[str, VariantPolicy | str] = {}
    layouts: dict[str, str] = {}
    dims: dict[Dim, Line] = {}
    sizes: dict[Dim, str] = {}
    tensors: dict[Identifier, str] = {}
    dtypes: dict[Identifier, DType] = {}
    modifier: dict[str, dict[str, str]] = {}
    mask: dict[str, dict[str, str]] = {}


T = TypeVar("T", bound=Table)


def validate(model: type[T], data: Mapping[str, Any], errors: Errors) -> T | None:
    """The file as `model`, its errors of form noted; None where it is too broken to look at its meaning.

    A file with such errors is mended by leaving the wrong keys out, so that errors of meaning show at the same time.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        errors.add(labelled(data, detail["loc"]), _message(detail, model))
    try:
        return model.model_validate(_mended(data, details))
    except (ValidationError, KeyError, IndexError, TypeError):
        return None


def _mended(data: Mapping[str, Any], details: list[ErrorDetails]) -> Mapping[str, Any]:
    rest = copy.deepcopy(dict(data))
    for loc in {_existing(data, detail["loc"]) for detail in details}:
        table: Any = rest
        for part in loc[:-1]:
            table = table[part]
        if isinstance(table, dict):
            table.pop(loc[-1], None)
    return rest


def _existing(data: Any, loc: Key) -> Key:
    """The part of a pydantic location that is in the file: members of unions follow it."""
    found: list[str | int] = []
    for part in loc:
        inside = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not inside and not (isinstance(data, dict) and part in data):
            break
        data = data[part]
        found.append(part)
    return tuple(found)


def labelled(data: Any, loc: Key) -> Key:
    """A location as people read it: `argument.mask.dtype`, not `argument[4].dtype`."""
    found: list[str | int] = []
    existing = _existing(data, loc)
    for part in existing:
        data = data[part]
        label = _label(data) if isinstance(part, int) else part
        found.append(label or (part + 1 if isinstance(part, int) else part))
    missing = loc[len(existing) :][:1]
    return (*found, *missing) if isinstance(data, dict) else tuple(found)


def _label(item: Any) -> str:
    keys = ("name", "clause", "use")
    words = (item.get(key) for key in keys) if isinstance(item, dict) else ()
    return next((word for word in words if isinstance(word, str) and word), "")


def _message(detail: ErrorDetails, model: type[Table]) -> str:
    got = described(detail["input"])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "spec":
            return detail["msg"]
        case "missing":
            return "expected a value, got nothing"
        case "extra_forbidden":
            return f"unknown key.{did_you_mean(str(detail['loc'][-1]), _keys_at(model, detail['loc'][:-1]))}"
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"expected {alternatives(choices)}, got {got}.{did_you_mean(str(detail['input']), choices)}"
        case "string_pattern_mismatch":
            return f"expected text like {_PATTERNS.get(context['pattern'], 'a dotted name')}, got {got}"
    return f"expected {_EXPECTED.get(detail['type'], detail['msg'].lower())}, got {got}"


_PATTERNS = {
    r"^[A-Z]$": "N (one capital letter)",
    r"^[a-z]+\.[a-z][a-z0-9_]{0,63}$": "mask.causal",
    r"^[A-Za-z][A-Za-z0-9_-]*$": "a-word",
}
_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_short": "at least one",
    "finite_number": "a finite number",
    "less_than_equal": f"a number up to {MAX_INTEGER}",
    "greater_than_equal": f"a number of at least -{MAX_INTEGER}",
}


def _keys_at(model: type[Table], loc: Key) -> list[str]:
    """The keys that the table at a location takes."""
    fields: dict[str, Any] = dict(model.model_fields)
    for part in loc:
        inner = fields[part].annotation if part in fields else None
        tables = [t for t in getattr(inner, "__args__", ()) if isinstance(t, type) and issubclass(t, Table)]
        if isinstance(inner, type) and issubclass(inner, Table):
            tables = [inner]
        fields = dict(tables[0].model_fields) if tables else fields
    return [field.alias or name for name, field in fields.items()]
