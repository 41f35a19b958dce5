"""Statements about arguments, from the compiler's Python to R; what has no form there is refused by name."""

from __future__ import annotations

import pytest

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.module import covers
from attnspec.codegen.program import Line
from attnspec.codegen.prologue import prologue
from attnspec.codegen.r.lines import axes, in_r_text, literal, string, variable
from attnspec.codegen.targets.r import R
from attnspec.spec.loader import builtin


@pytest.mark.parametrize(
    ("python", "r"),
    [
        ("sizes: dict[str, tuple[int, str]] = {}", 'sizes <- .sizes("RuntimeError")'),
        (
            'sizes: dict[str, tuple[int, str]] = {"H": (head_dim, "head_dim")}',
            'sizes <- .sizes("RuntimeError", H = list(head_dim, "head_dim"))',
        ),
        ('query = _tensor(sizes, "query", query, "bool", "B T")', 'query <- .tensor(sizes, "query", query, "bool", "B T")'),
        ("if mask is not None:\n    mask = _f(mask)", "if (!is.null(mask)) {\n    mask <- .f(mask)\n}"),
        ("key = value if key is None else key", "if (is.null(key)) key <- value"),
        ('left, right = _pair("window", window)', 'window <- .pair("window", window)\nleft <- window[1]\nright <- window[2]'),
        ('a, b = _members("x", x, 1, 2)', 'x <- .members("x", x, 1, 2)\na <- x[[1]]\nb <- x[[2]]'),
        ("_choice(\"how\", how, ('a', 'b'))", '.choice("how", how, c("a", "b"))'),
        ("lifted = _lacks_leading_axis(3, query=query)", "lifted <- .lacks_leading_axis(sizes, 3, query = query)"),
        ("if lifted:\n    a = a[None]", "if (lifted) {\n    a <- array(a, c(1, dim(a)))\n}"),
        ("a, b = a[None], b[None]", "a <- array(a, c(1, dim(a)))\nb <- array(b, c(1, dim(b)))"),
        (
            "if mask is not None and mask.ndim == 3:\n    mask = mask[:, None, :, :]",
            "if (!is.null(mask) && length(dim(mask)) == 3) {\n    mask <- array(mask, append(dim(mask), 1, 1))\n}",
        ),
        ('w = _tensor(sizes, "w", params["w"], "floating", "E")', 'w <- .tensor(sizes, "w", params[["w"]], "floating", "E")'),
        ("_same_dtype(query=query, key=key)", ""),
        (
            'sizes: dict[str, tuple[int, str]] = {"J": (3, "3"), "(J*N)": (3 * heads, "3 * heads"), "1": (1, "1")}',
            'sizes <- .sizes("RuntimeError", J = list(3, "3"), "(J*N)" = list(3 * heads, "3 * heads"), "1" = list(1, "1"))',
        ),
        ('sizes["(B*N)"] = (sizes["B"][0] * sizes["N"][0], "B * N")', '.set_size(sizes, "(B*N)", sizes$B * sizes$N, "B * N")'),
        ('x = _f(x, "B T" if first else "T B")', 'x <- .f(x, if (first) "B T" else "T B")'),
        ("_lacks_it_too(lifted, 1, mask=mask)", ".lacks_it_too(sizes, lifted, 1, mask = mask)"),
        ("width = whole // part", "width <- whole %/% part"),
    ],
)
def test_a_line_in_r(python: str, r: str) -> None:
    assert in_r_text(python, "RuntimeError") == r


@pytest.mark.parametrize(
    "line", ["x = [y for y in z]", "for x in y:\n    pass", "x = y[1]", "x = y[None, None]", "del x", "x += 1"]
)
def test_what_is_not_in_the_subset_is_refused(line: str) -> None:
    with pytest.raises(LoweringError, match="has no form in R"):
        in_r_text(line, "ValueError")


@pytest.mark.parametrize("name", sorted(name for name, spec in builtin().items() if covers(R, spec)))
def test_every_line_of_every_prologue_has_a_form(name: str) -> None:
    spec = builtin()[name]
    lines = [statement.text for statement in prologue(spec) if isinstance(statement, Line)]
    assert len([in_r_text(line, spec.layout_error) for line in lines]) > 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"), (True, "TRUE"), (4, "4L"), (0.5, "0.5"), (50.0, "50"), (1e-5, "1e-05"), ("a", '"a"'),
        ((3, 2), "c(3L, 2L)"),
    ],
)  # fmt: skip
def test_a_constant_in_r(value: object, text: str) -> None:
    assert literal(value) == text


def test_names_that_r_cannot_read_are_quoted() -> None:
    assert [variable(name) for name in ("query", "repeat", "_x", "T")] == ["query", "`repeat`", "`_x`", "T"]
    assert string('a "quoted" \\ path') == '"a \\"quoted\\" \\\\ path"'


def test_axes_are_written_as_one_would() -> None:
    assert [axes(places) for places in ([3], [1, 2, 3], [1, 3])] == ["3", "1:3", "c(1, 3)"]
