"""The signature check: what it reads off a function or a docstring, and every way in which it fails."""

from dataclasses import replace

import pytest

from attnspec.harness.checks.signature import REQUIRED, Parameter, check, differences, documented, from_docstring
from attnspec.harness.subjects import Subject
from attnspec.spec.loader import builtin
from attnspec.spec.model import Argument

SPEC = builtin()["torch.nn.functional.scaled_dot_product_attention"]
SUBJECT = Subject("torch:x", SPEC.name, "torch", "x", "f")
WANT = [
    Parameter("query", "positional", REQUIRED),
    Parameter("mask", "positional", "None"),
    Parameter("scale", "keyword-only", "None"),
]


def messages(got: list[Parameter], *, more: bool = False) -> list[str]:
    return [message for _, _, message in differences(WANT, got, more=more)]


def test_the_documented_signature_is_accepted() -> None:
    assert messages(WANT) == []


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([WANT[0], WANT[2]], "`mask` is missing"),
        ([*WANT, Parameter("extra", "keyword-only", "None")], "`extra` is not documented"),
        ([WANT[0], WANT[1], Parameter("scale", "positional", "None")], "`scale` is positional, documented keyword-only"),
        ([WANT[0], WANT[1], Parameter("scale", "keyword-only", "1.0")], "`scale`: default 1.0, documented None"),
        ([WANT[0], Parameter("mask", "positional", REQUIRED), WANT[2]], "`mask`: default required, documented None"),
        ([WANT[1], WANT[0], WANT[2]], "`mask` comes where `query` is documented"),
    ],
)
def test_every_difference_is_named(got: list[Parameter], message: str) -> None:
    assert messages(got) == [message]


def test_keywords_that_swallow_everything_hide_nothing_that_is_there() -> None:
    assert messages([WANT[0], Parameter("rest", "**", REQUIRED)]) == []


def test_a_layer_may_have_sizes_after_its_documented_arguments() -> None:
    assert messages([*WANT, Parameter("E", "keyword-only", REQUIRED)], more=True) == []


def test_the_order_of_keyword_only_arguments_is_free() -> None:
    want = [*WANT, Parameter("other", "keyword-only", "None")]
    assert list(differences(want, [*WANT[:2], want[3], want[2]])) == []


def test_a_docstring_that_begins_with_a_signature_is_one() -> None:
    doc = "attend(query, mask=None, dropout_p=0.0,\n    shape=(1, 2)) -> Tensor:\n\nText (with parentheses)."
    assert from_docstring(doc) == [
        Parameter("query", None, REQUIRED),
        Parameter("mask", None, "None"),
        Parameter("dropout_p", None, "0.0"),
        Parameter("shape", None, "(1, 2)"),
    ]


@pytest.mark.parametrize("doc", ["", "no signature", "attend(query", "attend(1, 2)"])
def test_other_docstrings_are_a_failure_and_no_pass(doc: str) -> None:
    (failure,) = check(SPEC, SUBJECT, {"doc": doc})
    assert failure.message == "it has no signature, and its docstring does not begin with one"


def test_a_subject_that_cannot_be_imported_is_a_failure() -> None:
    (failure,) = check(SPEC, SUBJECT, {"error": "ImportError: no module"})
    assert (failure.clause, failure.seen, failure.message) == ("import", "cannot be imported", "ImportError: no module")


def test_a_layer_is_judged_by_its_constructor_and_its_call() -> None:
    constructor = (Argument("rate", "number", required=False, default=0.0),)
    layer = replace(SPEC, form="layer", constructor=constructor, arguments=SPEC.arguments[:1])
    right = {
        "parameters": [["rate", "POSITIONAL_OR_KEYWORD", "0.0"], ["E", "KEYWORD_ONLY", None]],
        "call": [["query", "POSITIONAL_OR_KEYWORD", None]],
    }
    assert list(check(layer, SUBJECT, right)) == []
    wrong = {**right, "call": [["query", "KEYWORD_ONLY", None]]}
    assert [failure.clause for failure in check(layer, SUBJECT, wrong)] == ["query"]
    function = replace(SUBJECT, lane="numpy")
    flat = [["params", "POSITIONAL_OR_KEYWORD", None], right["call"][0], ["rate", "KEYWORD_ONLY", "0.0"]]
    assert list(check(layer, function, {"parameters": flat})) == []


def test_failures_name_the_parameter() -> None:
    parameters = [
        [p.name, "POSITIONAL_OR_KEYWORD", None if p.default == REQUIRED else p.default] for p in documented(SPEC, "torch")
    ]
    found = {failure.clause: failure.seen for failure in check(SPEC, SUBJECT, {"parameters": parameters})}
    assert found == {"scale": "is positional", "enable_gqa": "is positional"}
