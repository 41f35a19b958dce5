"""Known deviations: the file, version ranges, and that the ledger is strict both ways."""

from dataclasses import replace
from pathlib import Path

import pytest

from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import NAMES
from attnspec.harness.checks.failure import Failure
from attnspec.harness.known_deviations import Deviation, DeviationError, Ledger, load, within
from attnspec.harness.plan import Item
from attnspec.harness.recorder import Recorder
from attnspec.harness.subjects import natives
from attnspec.spec.loader import builtin

SPEC = builtin()["torch.nn.functional.scaled_dot_product_attention"]
POOL = pool(SPEC, "float32", 24)
CAUSAL = next(c for c in POOL if dict(c.values).get("is_causal"))
PLAIN = next(c for c in POOL if not dict(c.values).get("is_causal"))
SUBJECT = "native:torch.nn.functional.scaled_dot_product_attention"
DEVIATION = Deviation(SUBJECT, ">=2.13,<2.14", "oracle", "output", "outside the bound", "it differs", when="is_causal")
FAILURE = Failure(SUBJECT, "oracle", "output", "outside the bound", "`output` is outside the bound", SPEC.name, Case(CAUSAL, 1))


def ledger(version: str = "2.13.0+cpu", checks: tuple[str, ...] = NAMES) -> Ledger:
    return Ledger([DEVIATION], {SUBJECT: version}, checks)


def test_the_committed_file_names_subjects_and_checks_that_exist() -> None:
    names = {subject.name for spec in builtin().values() for subject in natives(spec)}
    for deviation in load():
        assert deviation.subject in names
        assert deviation.check in NAMES


@pytest.mark.parametrize(
    ("version", "versions", "inside"),
    [
        ("2.13.0+cpu", ">=2.13,<2.14", True),
        ("2.14.0", ">=2.13,<2.14", False),
        ("0.10.2", "==0.10.2", True),
        ("0.10.2", "==0.10", False),
        ("0.10", "==0.10.0", True),
        ("0.10.2", ">0.10.2", False),
        ("0.10.2", "<=0.10.2", True),
        ("unknown", ">=1", False),
    ],
)
def test_version_ranges_go_by_numbers(version: str, versions: str, inside: bool) -> None:
    assert within(version, versions) is inside


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[deviaton]]\n", "deviaton: expected [[deviation]] entries only"),
        ("[[deviation]]\ncolour = 'red'\n", "deviation[0].colour: unknown key; there are check, clause, "),
        ("[[deviation]]\nsubject = 3\n", "deviation[0].subject: expected text, got 3"),
        ("[[deviation]]\nsubject = 'x'\n", "deviation[0].versions: is missing"),
        (
            "[[deviation]]\nsubject='s'\nversions='2'\ncheck='oracle'\nclause='c'\nseen='accepted'\nwhy='w'\n",
            "deviation[0]: versions: expected comparisons like `>=2.13`, got '2'",
        ),
        (
            "[[deviation]]\nsubject='s'\nversions='>=2'\ncheck='orakel'\nclause='c'\nseen='accepted'\nwhy='w'\n",
            "deviation[0].check: expected one of answers, oracle, ",
        ),
        (
            "[[deviation]]\nsubject='s'\nversions='>=2'\ncheck='oracle'\nclause='c'\nseen='accepted'\nwhy='w'\nwhen='f('\n",
            "deviation[0]: ",
        ),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "deviations.toml"
    file.write_text(text)
    with pytest.raises(DeviationError) as caught:
        load(file)
    assert message in str(caught.value)


def test_a_matching_failure_is_excused_and_counted() -> None:
    book = ledger()
    assert book.excuses(FAILURE, SPEC)
    assert book.seen == {DEVIATION: 1}
    assert book.stale == book.untried == ()


@pytest.mark.parametrize(
    "other",
    [
        replace(FAILURE, subject="native:other"),
        replace(FAILURE, check="gradients"),
        replace(FAILURE, clause="query"),
        replace(FAILURE, seen="NaN"),
        replace(FAILURE, case=Case(PLAIN, 1)),
        replace(FAILURE, case=None),
    ],
)
def test_nothing_else_is_excused(other: Failure) -> None:
    assert not ledger().excuses(other, SPEC)


def test_one_that_was_tried_and_does_not_show_is_stale() -> None:
    book = ledger()
    book.tried(SUBJECT, "oracle", SPEC, CAUSAL)
    assert book.stale == (DEVIATION,)


def test_pairwise_agreement_does_not_find_again_what_is_excused() -> None:
    alone, excused = (Recorder(None, Item(SPEC, SPEC.name, ()), None, ledger(), None) for _ in range(2))  # type: ignore[arg-type]
    apart = replace(FAILURE, check="pairwise")
    alone.add([apart])
    excused.add([FAILURE, apart])
    assert (len(alone._records), len(excused._records)) == (1, 0)


def test_one_whose_guard_never_held_is_untried() -> None:
    book = ledger()
    book.tried(SUBJECT, "oracle", SPEC, PLAIN)
    book.tried(SUBJECT, "oracle", SPEC, CAUSAL, clause="another")
    assert (book.stale, book.untried) == ((), (DEVIATION,))


@pytest.mark.parametrize("book", [ledger("2.14.1"), ledger(checks=("pairwise",)), Ledger([DEVIATION], {}, NAMES)])
def test_another_version_check_or_run_is_not_concerned(book: Ledger) -> None:
    book.tried(SUBJECT, "oracle", SPEC, CAUSAL)
    assert not book.excuses(FAILURE, SPEC)
    assert book.stale == book.untried == ()


def test_one_cause_may_reach_several_clauses() -> None:
    several = replace(DEVIATION, check="gradients", clause="query,key")
    found = Ledger([several], {SUBJECT: "2.13.0"}, NAMES)
    for clause, excused in (("query", True), ("key", True), ("value", False)):
        assert found.excuses(replace(FAILURE, check="gradients", clause=clause), SPEC) is excused
    assert (found.seen[several], found.stale) == (2, ())


def test_what_shows_seldom_may_not_show() -> None:
    for deviation, stale in ((DEVIATION, True), (replace(DEVIATION, seldom="just over a bound"), False)):
        found = Ledger([deviation], {SUBJECT: "2.13.0"}, NAMES)
        found.tried(SUBJECT, "oracle", SPEC, CAUSAL)
        assert bool(found.stale) is stale
