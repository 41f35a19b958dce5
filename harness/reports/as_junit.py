"""The run as JUnit XML, for CI servers: a suite per subject and a test per check, with the findings as failures."""

from __future__ import annotations

import re
from typing import TextIO
from xml.etree import ElementTree as Xml

from attnspec.harness.events import Event, Finished, Started

RUN = "attnspec"
# What XML 1.0 cannot hold, escaped or not.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JunitReport:
    """Keeps the first event and writes the whole file at the last."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._checks: tuple[str, ...] = ()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._checks = event.checks
        if isinstance(event, Finished):
            tree = suites(self._checks, event)
            Xml.indent(tree)
            self._out.write(Xml.tostring(tree, encoding="unicode", xml_declaration=True) + "\n")


def suites(checks: tuple[str, ...], finished: Finished) -> Xml.Element:
    """The run as one element. The run's own errors, and what was not covered, are a suite of their own."""
    root = Xml.Element("testsuites", name=RUN, time=f"{finished.seconds:.3f}")
    tally = finished.tally
    for api, subject in dict.fromkeys([*((api, subject) for api, subject, _ in tally.cells), *tally.arguments]):
        suite = Xml.SubElement(root, "testsuite", name=_text(subject))
        for check in (check for check in checks if check != "coverage"):
            case = Xml.SubElement(suite, "testcase", classname=_text(f"{api}.{subject}"), name=check)
            for finding in finished.findings:
                if (finding.failure.subject, finding.failure.api, finding.failure.check) == (subject, api, check):
                    failure = Xml.SubElement(case, "failure", message=_text(finding.title), type=_text(finding.failure.clause))
                    failure.text = _text("\n".join(finding.lines()))
    _add_run(root, finished)
    for suite in root:
        _count(suite)
    _count(root)
    return root


def _add_run(root: Xml.Element, finished: Finished) -> None:
    suite = Xml.SubElement(root, "testsuite", name=RUN)
    run = Xml.SubElement(suite, "testcase", classname=RUN, name="run")
    for error in finished.errors:
        Xml.SubElement(run, "error", message=_text(error))
    for line in finished.not_covered:
        case = Xml.SubElement(suite, "testcase", classname=RUN, name=_text(line.partition(":")[0]))
        Xml.SubElement(case, "skipped", message=_text(line))


def _count(element: Xml.Element) -> None:
    """Tests, not findings: a test with two failures failed once."""
    cases = list(element.iter("testcase"))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    element.set("tests", str(len(cases)))


def _text(text: str) -> str:
    return FORBIDDEN.sub("?", text)
