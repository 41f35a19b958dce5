"""The expression language of the spec files: a small, closed subset of Python's syntax, parsed with `ast`, never run.

    sum(h, query[b,t,n,h] * key[b,s,n//G,h])        index notation, one lower-case letter per dim
    cap * tanh(logit / cap)                         a bare tensor name stands for its canonical indices
    -left <= s - (t + offset) <= right              predicates
    bias is not None and rank(query) == 4           guards, over arguments; `mode == "dot"` of a choice

Vocabulary: names, numbers, texts, `+ - * / // % **`, comparisons, `and or not`, `is None`, `is not None`, subscripts, and the
functions of `FUNCTIONS`. Everything else is an `ExpressionError` that names the column. The nodes are in `nodes.py`,
text to nodes in `parser.py`, nodes to text in `unparser.py`; other packages import all of it from here.
"""

from __future__ import annotations

from attnspec.spec.nodes import (
    Access,
    Binary,
    Call,
    Concat,
    Expression,
    ExpressionError,
    IsNone,
    Name,
    Number,
    Sum,
    Text,
    Unary,
    children,
    fold,
    names,
    substitute,
    walk,
)
from attnspec.spec.parser import ELEMENTWISE, FUNCTIONS, GUARD_FUNCTIONS, parse
from attnspec.spec.scanner import MAX_DEPTH, MAX_INTEGER, MAX_LENGTH
from attnspec.spec.unparser import to_text

__all__ = [
    "ELEMENTWISE",
    "FUNCTIONS",
    "GUARD_FUNCTIONS",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MAX_LENGTH",
    "Access",
    "Binary",
    "Call",
    "Concat",
    "Expression",
    "ExpressionError",
    "IsNone",
    "Name",
    "Number",
    "Sum",
    "Text",
    "Unary",
    "children",
    "fold",
    "names",
    "parse",
    "substitute",
    "to_text",
    "walk",
]
