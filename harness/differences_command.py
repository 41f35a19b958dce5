"""`attnspec differences`: the questions that APIs answer differently, which is what changes when a model is ported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from attnspec.harness.check_command import UsageError, found
from attnspec.harness.exit_codes import OK, USAGE
from attnspec.spec.loader import SpecError, builtin
from attnspec.spec.model import Spec
from attnspec.spec.questions import NOTHING, Answer, answers

WIDTH = 112


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec differences`."""
    what = "names of built-in specs, or TOML files, two at least; by default all documented APIs"
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=what)


def run(options: argparse.Namespace) -> int:
    """Run `attnspec differences`: each question with its answers, and who gives them."""
    try:
        specs = [found(name)[0] for name in options.specs] or [spec for spec in builtin().values() if spec.family == "api"]
    except (UsageError, SpecError) as error:
        print(error, file=sys.stderr)
        return USAGE
    if len({spec.name for spec in specs}) < 2:
        print(f"attnspec differences: expected two specs or more, got {specs[0].name} alone", file=sys.stderr)
        return USAGE
    for line in lines(specs):
        print(line)
    return OK


def lines(specs: Sequence[Spec]) -> Iterator[str]:
    """What is printed."""
    asked = _by_question(specs)
    different = {question: given for question, given in asked.items() if len({a.text for a in given.values()}) > 1}
    for question, given in different.items():
        yield question
        for text in dict.fromkeys(answer.text for answer in given.values()):
            who = ", ".join(name + "*" * its.is_observed for name, its in given.items() if its.text == text)
            yield from (f"    {line}" for line in wrap(text, WIDTH))
            yield from (f"        {line}" for line in wrap(who, WIDTH))
        yield ""
    alike = [f"{question}: {next(iter(given.values())).text}" for question, given in asked.items() if question not in different]
    yield f"{len(asked)} questions, {len(different)} answered differently. * as installed: no document says it"
    yield from (f"alike: {line}" for line in alike)


def _by_question(specs: Sequence[Spec]) -> Mapping[str, Mapping[str, Answer]]:
    """Every question, with each spec's answer."""
    given = {spec.name: answers(spec) for spec in specs}
    questions = dict.fromkeys(question for its in given.values() for question in its)
    return {q: {name: its.get(q, Answer(NOTHING)) for name, its in given.items()} for q in questions}
