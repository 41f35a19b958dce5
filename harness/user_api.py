"""What users import: the command line as a function, and a user's function as tests of their own suite.

    from attnspec.harness import check, conforms

    run = check("my_pkg.kernels:attention", "jax.nn.dot_product_attention", seed=1)
    assert run.passed, run.findings

    test_attention = conforms("my_pkg.kernels:attention", "jax.nn.dot_product_attention")

The second line is a whole test file: pytest shows `test_attention[mask.causal-float32]` and so on, one test for each
clause of the API and each dtype.
"""

from __future__ import annotations

import importlib.util
import inspect
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attnspec.harness import check_command
from attnspec.harness.conductor import Conductor
from attnspec.harness.conformance import Conformance, clauses
from attnspec.harness.events import Finished, Subscriber
from attnspec.harness.plan import DTYPES
from attnspec.harness.subjects import SubjectError

CASES = 24


def check(
    subject: str | Callable[..., Any],
    api: str,
    *,
    framework: str | None = None,
    python: str | None = None,
    dtypes: Sequence[str] = DTYPES,
    profile: str = "quick",
    cases: int | None = None,
    gradient_cases: int | None = None,
    seed: int | None = None,
    inputs: Sequence[str | Path] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
    checks: Sequence[str] = (),
    skip_check: Sequence[str] = (),
    deadline: float = 120.0,
    subscribers: Iterable[Subscriber] = (),
) -> Finished:
    """Check a function as `attnspec check SUBJECT --as API` does; the options are that command's.

    The result has `passed`, `findings`, `errors` and `tally`. `subscribers` hear of the run as it goes on. Raises
    SubjectError for what cannot be called, InputsError for saved tensors that are no call (`inputs`, with other arguments in
    `settings`), and UsageError or SpecError for an API that there is not.
    """
    options = _options(
        subject,
        api=api,
        framework=framework,
        python=[python] if python else [],
        dtypes=tuple(dtypes),
        profile=profile,
        cases=cases,
        gradient_cases=gradient_cases,
        seed=seed,
        inputs=[Path(file) for file in inputs],
        set=[f"{name}={value!r}" for name, value in settings.items()],
        checks=tuple(checks),
        skip_check=tuple(skip_check),
        deadline=deadline,
    )
    return Conductor(check_command.plan_of(options), list(subscribers)).run()


def conforms(
    subject: str | Callable[..., Any],
    api: str,
    *,
    framework: str | None = None,
    python: str | None = None,
    dtypes: Sequence[str] = DTYPES,
    cases: int = CASES,
    seed: int = 0,
    deadline: float = 120.0,
) -> Callable[..., None]:
    """A test function for pytest that shows a function to be the API: parametrized by clause and dtype.

    Each test runs `cases` cases in which its clause shows, alone as far as that goes, forward and backward, and always the
    same ones; `together` is about what calls combine, `arguments` about silently ignored ones. The function runs
    in a process of its own, one for each worker, started with the first test. A test is skipped, and says why, where the
    function does not offer the clause or its framework lacks the dtype.
    """
    import pytest

    spec, _ = check_command.found(api)
    given = {"framework": framework, "python": [python] if python else [], "seed": seed, "deadline": deadline}
    options = _options(subject, api=api, cases=cases, **given)
    named = [pytest.param(clause, dtype, id=f"{clause}-{dtype}") for clause in clauses(spec) for dtype in dtypes]
    named += [pytest.param(clause, "float32", id=clause) for clause in ("preconditions", "signature")]
    opened: list[Conformance] = []

    @pytest.mark.parametrize(("clause", "dtype"), named)
    def conforms_to_the_api(clause: str, dtype: str, request: pytest.FixtureRequest) -> None:
        if not opened:
            opened.append(Conformance(check_command.plan_of(options)))
            request.config.add_cleanup(opened[0].close)
        lacking = opened[0].lacks(clause, dtype)
        if lacking:
            pytest.skip(lacking)
        findings = opened[0].findings(clause, dtype)
        if findings:
            pytest.fail("\n\n".join("\n".join(finding.lines()) for finding in findings), pytrace=False)

    return conforms_to_the_api


def _options(subject: str | Callable[..., Any], **given: Any) -> Namespace:
    """The command line's options at their defaults, but for those that are given."""
    parser = ArgumentParser()
    check_command.add_arguments(parser)
    options = parser.parse_args([])
    options.what = [name_of(subject)]
    for name, value in given.items():
        setattr(options, name, value)
    return options


def name_of(subject: str | Callable[..., Any]) -> str:
    """`module:function` of a function, or `file.py:function` where its module is no import path. Raises SubjectError."""
    if isinstance(subject, str):
        return subject
    module, name = getattr(subject, "__module__", None), getattr(subject, "__qualname__", "")
    if not module or not name or "<" in name:
        raise SubjectError(f"Expected a function that can be imported, or `module:function`, got {subject!r}")
    try:
        file = inspect.getsourcefile(inspect.unwrap(subject))
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a test module has a name that nobody can import
        return f"{file}:{name}"
    except TypeError:  # a builtin has no file
        return f"{module}:{name}"
    return f"{module if found is not None and found.origin == file else file}:{name}"
