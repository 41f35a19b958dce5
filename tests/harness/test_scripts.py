"""Scripts: what they print is what the harness saw, for right subjects and wrong ones, and for every known deviation."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness import known_deviations
from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import CASE_CHECKS, arguments, related_calls, relations, stacked
from attnspec.harness.checks.agreement import OUTSIDE
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.cli import main
from attnspec.harness.crew import Crew
from attnspec.harness.introduce import adapter_of, introduced
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.oracle import judge
from attnspec.harness.plan import Item
from attnspec.harness.profiles import seed_for
from attnspec.harness.reproduce_command import file_of
from attnspec.harness.scripts import LINES, literals, script
from attnspec.harness.scripts.verdict import shows
from attnspec.harness.subjects import Subject, generated, user
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec
from planted_bugs.faults import APIS, FAULTS

TESTS = Path(__file__).parents[1]
REPRODUCERS = TESTS / "reproducers"
KNOWN = {REPRODUCERS / file_of(each): each for each in known_deviations.load()}
FEW = ("jax.nn.dot_product_attention", "keras.layers.GroupQueryAttention")  # where calls are compiled: a function, a layer
HOSTED = "tf_keras.layers.Attention"  # and a layer of the framework that tensorflow's lane hosts
NUMPY = [fault for fault in FAULTS if fault.framework == "numpy"]


def printed(files: Sequence[Path]) -> dict[Path, str]:
    """What each of the scripts prints, all in one process."""
    command = [sys.executable, str(TESTS / "run_scripts.py"), *map(str, files)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {Path(file): text for file, text in json.loads(run.stdout).items()}


def written(folder: Path, texts: Iterable[str]) -> list[Path]:
    files = []
    for number, text in enumerate(texts):
        assert len(text.splitlines()) <= LINES, text
        assert "attnspec" not in "\n".join(line for line in text.splitlines() if not line.startswith(("#", "sys.path")))
        files.append(folder / f"script_{number}.py")
        files[-1].write_text(text, encoding="utf-8")
    return files


# -- literals and verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3), (3, 5, 7)])
def test_arrays_read_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(1).standard_normal(shape)
    array = (np.asarray(drawn) > 0 if dtype == "bool" else np.asarray(7 * drawn)).astype(dtype)
    if array.size > 1 and dtype.startswith("float"):
        array.flat[:2] = np.inf, np.nan
    filler = literals.constant(array)
    names = {"np": np, "zlib": __import__("zlib"), "base64": __import__("base64"), "inf": np.inf, "nan": np.nan}
    again = eval(literals.values(array), names) if filler is None else np.full(array.shape, eval(filler, names))
    np.testing.assert_array_equal(np.array(again, dtype), array)


@pytest.mark.parametrize(
    ("got", "want", "shown"),
    [
        ("1.5", "1 +- 0.1", True),
        ("1.05", "1 +- 0.1", False),
        ("nan", "1 +- 0.1", True),
        ("nan", "nan +- 0.1", False),
        ("0.0", "nan +- 0", True),
        ("1.0 and 1.0", "further apart than 0.1", True),
        ("1.0 and 2.0", "further apart than 0.1", False),
        ("an answer", "raised ValueError or TypeError: integers", True),
        ("raised TypeError('no')", "raised ValueError or TypeError: integers", False),
        ("raised IndexError('no')", "raised ValueError or TypeError: integers", True),
        ("raised ValueError('no')", "an answer", True),
        ("an answer", "an answer", False),
    ],
)
def test_what_is_printed_is_judged(got: str, want: str, shown: bool) -> None:
    assert shows(f"a warning\ngot  {got}\nwant {want}\n") is shown


@pytest.mark.parametrize("text", ["", "got  1\n", "want 1\ngot 2\n", "Traceback (most recent call last):\nValueError: no\n"])
def test_anything_else_shows_nothing(text: str) -> None:
    assert not shows(text)


# -- right subjects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["numpy", "torch", "jax", "tensorflow"])
def test_a_right_subject_prints_what_is_wanted(lane: str, tmp_path: Path) -> None:
    """Scripts of generated implementations, forward and backward, about an element that is right."""
    few = (*FEW, HOSTED) if lane == "tensorflow" else FEW
    specs = [spec for name, spec in builtin().items() if lane in ("numpy", "torch") or name in few]
    subjects = [(spec, subject) for spec in specs for subject in generated(spec, lane)]
    subjects = [pair for pair in subjects if pair[1].name != f"tensorflow:{HOSTED}"]  # of one file name with the hosted one
    texts = [text for spec, subject in subjects for text in claims(spec, subject)]
    for file, text in printed(written(tmp_path, texts)).items():
        got, want = (line.split(maxsplit=1)[1] for line in text.splitlines()[-2:])
        assert not shows(text), f"{file.read_text()}\n{text}"
        assert float(got) == pytest.approx(float(want.split()[0]), rel=1e-3, abs=1e-4)


def test_keras_tells_a_layer_of_another_framework_its_sizes() -> None:
    """And finds its weights under their own names."""
    spec = builtin()["tf_keras.layers.MultiHeadAttention"]
    (subject,) = generated(spec, "keras-torch")
    for text in claims(spec, subject):
        assert ", E=" in text
        assert "weights[each.name]" in text


@pytest.mark.parametrize("lane", ["numpy", "torch", "jax"])
def test_a_right_subject_prints_what_the_parts_of_a_call_say_of_it(lane: str, tmp_path: Path) -> None:
    """Scripts of relations in which the first call's results are added up."""
    spec = builtin()["jax.nn.dot_product_attention"]
    subject = next(generated(spec, lane))
    found = {}
    for case in arguments.cases(spec, "float32")[0]:
        for each in related_calls.relations(spec, case):
            for name in each.outputs if each.relation in stacked.NAMES else ():
                found.setdefault((each.relation, name), (case, each))
    texts = []
    for (relation, name), (case, related) in found.items():
        worst = Worst((0,) * related.apart(spec, name).ndim, 0.0, 0.0, 0.0, 2.0, name)
        failure = Failure(subject.name, "relations", relation, "not the same", "", spec.name, case, worst)
        texts.append(script(spec, subject, failure, "A claim."))
    for file, text in printed(written(tmp_path, texts)).items():
        got, want = (line.split()[1] for line in text.splitlines()[-2:])
        assert float(got) == pytest.approx(float(want), rel=1e-3, abs=1e-4), file.read_text()
    assert {relation for relation, _ in found} == {*stacked.NAMES}


def claims(spec: Spec, subject: Subject) -> Iterator[str]:
    """Scripts that claim of a right subject to be wrong: of its output, and of two gradients."""
    case = Case(pool(spec, "float32", 8)[3], seed_for("plain"))
    verdict = judge(spec, case, arrays(case, spec), True)
    output = next(iter(verdict.outputs))
    gradients = [*verdict.gradients]
    for check, name, gold in (
        ("oracle", output, verdict.outputs[output]),
        *(("gradients", name, verdict.gradients[name]) for name in (gradients[0], gradients[-1])),
    ):
        index = tuple(size - 1 for size in gold.value.shape)
        worst = Worst(index, 0.0, float(gold.value[index]), float(gold.bound[index]), 2.0)
        yield script(spec, subject, Failure(subject.name, check, name, OUTSIDE, "", spec.name, case, worst), "A claim.")


def test_an_adapters_names_and_layouts_are_the_functions(tmp_path: Path) -> None:
    spec = builtin()["jax.nn.dot_product_attention"]
    subject = user(f"{TESTS / 'brought.py'}:adapted", spec, "numpy")
    with Crew([Lane("numpy")]) as crew:
        adapter = adapter_of(crew.lanes["numpy"], subject)
        spec = introduced(Item(spec, spec.name, (subject,)), crew).spec
    case = Case(pool(spec, "float32", 8)[2], seed_for("plain"))
    gold = judge(spec, case, arrays(case, spec), False).outputs["output"]
    index = tuple(size - 1 for size in gold.value.shape)
    worst = Worst(index, 0.0, float(gold.value[index]), float(gold.bound[index]), 2.0)
    failure = Failure(subject.name, "oracle", "output", OUTSIDE, "", spec.name, case, worst)
    text = script(spec, subject, failure, "A claim.", adapter)
    assert "subject.adapted['function'](q=query, k=key, v=value" in text
    (said,) = printed(written(tmp_path, [text])).values()
    assert not shows(said) and "+-" in said


def test_r_has_no_script() -> None:
    spec = builtin()["causal_gqa"]
    assert script(spec, next(generated(spec, "r")), Failure("r", "oracle", "output", OUTSIDE, ""), "") == ""


# -- wrong subjects -----------------------------------------------------------------------------------------------


def test_every_planted_fault_shows_in_its_scripts(tmp_path: Path) -> None:
    """One script for each check that sees a fault."""
    spec = builtin()[APIS["numpy"]]
    subjects = {fault.name: user(f"{fault.write(tmp_path)}:{fault.function}", spec, "numpy") for fault in NUMPY}
    with Crew([Lane("numpy")]) as crew:
        found = dict[tuple[str, str], tuple[Subject, Failure]]()
        for subject, failure in failures(spec, tuple(subjects.values()), crew):
            found.setdefault((subject.name, failure.check), (subject, failure))
    texts = [script(spec, subject, failure, failure.message) for subject, failure in found.values()]
    files = written(tmp_path, texts)
    said = printed(files)
    assert len({check for _, check in found}) >= 4
    for key, file in zip(found, files, strict=True):
        assert shows(said[file]) or key[0].endswith("not_the_same_twice.py:dot_product_attention"), (
            f"{key}\n{file.read_text()}\n{said[file]}"
        )


def failures(spec: Spec, subjects: tuple[Subject, ...], crew: Crew) -> Iterator[tuple[Subject, Failure]]:
    by_name = {subject.name: subject for subject in subjects}
    cases = [Case(each, seed_for("plain", "half", n)) for n, each in enumerate(pool(spec, "float32", 24))]
    for evidence in crew.evidence(spec, subjects, cases, gradient=True):
        assert isinstance(evidence, Evidence)
        for check in ("answers", "oracle", "gradients"):
            yield from ((by_name[failure.subject], failure) for failure in CASE_CHECKS[check](evidence))
    alone, _ = arguments.cases(spec, "float32")
    varied = [each for case in alone for each in arguments.variations(spec, case)]
    pairs = [each for case in alone for each in related_calls.relations(spec, case)]
    for subject in subjects:
        call = partial(crew.lanes["numpy"].call, spec, subject)
        yield from ((subject, each) for each in arguments.check(spec, subject, list(arguments.outcomes(call, varied))))
        yield from ((subject, each) for related in pairs for each in relations.check(spec, subject, call, related))


def test_the_command_writes_them_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "scale-may-be-positional")
    command = ["check", f"{fault.write(tmp_path)}:{fault.function}", "--as", fault.api, "--checks", "signature", "--cases", "0"]
    assert main([*command, "--scripts", str(tmp_path / "scripts")]) == 1
    files = [Path(line.split()[1]) for line in capsys.readouterr().out.splitlines() if line.startswith("  script ")]
    assert files[0].name == "1_signature_scale.py"
    assert sorted(files) == sorted((tmp_path / "scripts").iterdir())
    assert all(map(shows, printed(files).values()))
    assert main([*command, "--format", "full"]) == 1
    assert json.loads(capsys.readouterr().out)["evidence"][0]["script"].startswith("# ")


# -- known deviations ---------------------------------------------------------------------------------------------


def test_every_known_deviation_has_a_script_and_every_script_a_deviation() -> None:
    files = set(REPRODUCERS.rglob("*.py"))
    assert len(KNOWN) == len(known_deviations.load()), "two deviations have one file"
    missing = ", ".join(str(file) for file in sorted(KNOWN.keys() - files))
    assert not missing, f"run `attnspec reproduce --out tests/reproducers`: there is no {missing}"
    assert not files - KNOWN.keys(), "a script of no known deviation"


@pytest.mark.parametrize("file", KNOWN, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_deviations_script_is_short_and_needs_its_framework_alone(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    tree = ast.parse(text)
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= {*sys.stdlib_module_names, "numpy", "torch", "jax", "keras", "tensorflow", "tf_keras"}


def framework_of(subject: str) -> str:
    """What a native subject runs in."""
    owner = subject.removeprefix("native:").partition(".")[0]
    return subject.partition("@")[2] or {"tf_keras": "tensorflow"}.get(owner, owner)


@pytest.mark.parametrize("framework", ["jax", "tensorflow", "torch"])
def test_the_scripts_show_the_deviations(framework: str) -> None:
    """On the installed versions, which are those of the entries: other tests say so where they are not."""
    files = [file for file, each in KNOWN.items() if framework == framework_of(each.subject)]
    assert files
    wrong = {file: text for file, text in printed(files).items() if not shows(text) or "NameError" in text}
    assert not wrong


def test_reproduce_writes_what_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["torch.nn.functional", "rank of attn_mask", "IndexError"]
    assert main(["reproduce", *words, "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.rglob("*.py")
    assert file.read_text(encoding="utf-8") == (REPRODUCERS / file.relative_to(tmp_path)).read_text(encoding="utf-8")
    assert str(file) in capsys.readouterr().out
    assert main(["reproduce", *words, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "", "what is there is not written again"


def test_reproduce_refuses_words_that_name_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "no such thing"]) == 2
    assert capsys.readouterr().err == "no known deviation names no such thing\n"
