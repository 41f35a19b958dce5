"""The types of values in spec files: names, lines of text, literals, expressions; each says what it expects."""

from __future__ import annotations

import keyword
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from attnspec.spec.errors import described
from attnspec.spec.expression import FUNCTIONS, MAX_INTEGER


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
Attribute = Annotated[str, Field(pattern=r"^_?[a-z][a-z0-9_]{1,63}$")]
Line = Annotated[str, AfterValidator(_line)]
Dim = Annotated[str, Field(pattern=r"^[A-Z]$")]
Clause = Annotated[str, Field(pattern=r"^[a-z]+\.[a-z][a-z0-9_]{0,63}$")]
Dotted = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$", max_length=120)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
Exception_ = Literal["ValueError", "TypeError", "RuntimeError", "NotImplementedError", "IndexError", "AssertionError"]

_A = TypeVar("_A")
_B = TypeVar("_B")
Either = Annotated[Annotated[_A, Tag("table")] | Annotated[_B, Tag("plain")], Discriminator(_form)]
"""A table or a plain value, told apart first so that an error speaks of the one that was meant."""
