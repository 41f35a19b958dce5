"""What is under check: native APIs, generated files, a user's callable. Found by name, loaded inside a lane.

A subject's name is `<lane>:<api>` for a generated implementation (`<lane>:<api>@blockwise` for another form of it) and
`native:<api>` for the framework's own function (`native:<api>@<backend>` for Keras's, which has one lane per backend). What is
generated for a framework that another one's lane hosts has its name instead: `tf_keras:<api>`. A user's own is called what they
typed, `module:function` or `path/to/file.py:function`. `module:make()` is what `make` returns, so that factories and classes
can be named too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from attnspec.harness import adapter
from attnspec.spec.model import Spec
from attnspec.spec.suggestions import did_you_mean

CLASSES = ("torch", "tensorflow", "keras-jax", "keras-tensorflow", "keras-torch")  # the lanes whose layers are classes
KERNELS = ("triton", "pallas", "pallas_tpu")  # the lanes that interpret what is written for other devices
LANES = ("numpy", "torch", "jax", "tensorflow", "keras-jax", "keras-tensorflow", "keras-torch", "r", *KERNELS)
HOSTED = {"tf_keras": ("tensorflow",)}  # owners without lanes of their own, and where they run
FORMS = ("", "blockwise")  # how one target may compute the same: `<module>.py`, `<module>_blockwise.py`
SMALL_BLOCK = 16  # the block of the blockwise form in lanes: the pool's sizes lie around its edges, and take up to five
SMALL_BLOCKS = {"jax": 2, "keras-jax": 2}  # a short run gives a lane that compiles every call no others than the smallest
SMALL_LAUNCH = tuple((size, 256, (16, 8, 4, 1)) for size in (2, 4))  # blocks of kernels in lanes, where they are interpreted
SMALL_LAUNCHES: Mapping[str, Any] = {"triton": SMALL_LAUNCH, "pallas": SMALL_LAUNCH, "pallas_tpu": (16, 8)}
SMALL_CALL = 12  # T * S up to which files that choose take the direct form in lanes: some calls of the pool, not all
SMALL_SHARE = 4  # keys of which programs of Triton's may share out a row


@dataclass(frozen=True, slots=True)
class Subject:
    """One implementation of one API. `module` is an import path, a .py or an .R file, `function` a name in it."""

    name: str
    api: str
    lane: str
    module: str
    function: str

    @property
    def is_native(self) -> bool:
        return self.name.startswith("native:")

    @property
    def is_brought(self) -> bool:
        """Whether it is a user's own."""
        return is_brought(self.name)

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A subject inside its lane: the callable, its `<function>_vjp` where the module has one, the user's adapter."""

    function: Callable[..., Any]
    vjp: Callable[..., Any] | None
    adapter: adapter.Adapter | None = None

    def under(self, spec: Spec) -> Loaded:
        """The subject under its API's signature."""
        if self.adapter is None:
            return self
        return replace(self, function=self.adapter.called(spec), vjp=self.adapter.pulled_back(spec))


class SubjectError(ValueError):
    """A subject that cannot be found; the message says what was looked for."""


def is_brought(name: str) -> bool:
    """Whether a subject of that name is a user's own."""
    return name.partition(":")[0] not in ("native", *LANES, *HOSTED)


def generated_folder() -> Path:
    """Where the committed generated files are."""
    import attnspec.generated

    return Path(next(iter(attnspec.generated.__path__)))


def target_of(lane: str) -> str:
    """The target whose files a lane runs: `keras` of `keras-torch`."""
    return lane.partition("-")[0]


def lanes_of(target: str) -> tuple[str, ...]:
    """The lanes in which a target's files run."""
    return tuple(lane for lane in LANES if target_of(lane) == target)


def generated(spec: Spec, lane: str, folder: Path | None = None) -> Iterator[Subject]:
    """The generated implementations of `spec` that run in `lane`: the direct one, and others by form."""
    for form in FORMS:
        module = f"{spec.module_name}{form and '_' + form}"
        path = f"r/R/{module}.R" if lane == "r" else f"{target_of(lane)}/{module}.py"
        function = (
            module if lane == "r" else spec.class_name if spec.form == "layer" and lane in CLASSES else spec.function_name
        )
        file = (folder or generated_folder()) / path
        if file.is_file():
            name = f"{lane}:{spec.name}{form and '@' + form}"
            yield Subject(name, spec.name, lane, str(file.resolve()), function)
    for owner in (owner for owner, hosts in HOSTED.items() if lane in hosts and _is_installed(owner)):
        file = (folder or generated_folder()) / owner / f"{spec.module_name}.py"
        if file.is_file():
            yield Subject(f"{owner}:{spec.name}", spec.name, lane, str(file.resolve()), spec.class_name)


def small_block(lane: str) -> int:
    """The block of blockwise forms in a lane."""
    return SMALL_BLOCKS.get(lane, SMALL_BLOCK)


def natives(spec: Spec) -> tuple[Subject, ...]:
    """The framework's own function, or layer where lanes can call one, in each of its lanes."""
    lanes = HOSTED.get(spec.owner, lanes_of(spec.owner))
    layers = ("keras", "torch", *HOSTED)
    if spec.family != "api" or (spec.form == "layer" and spec.owner not in layers) or not _is_installed(spec.owner):
        return ()
    module, _, function = spec.name.rpartition(".")
    return tuple(Subject(_native_name(spec, lane), spec.name, lane, module, function) for lane in lanes)


def _is_installed(owner: str) -> bool:
    """Whether what runs in another framework's lane is there beside it."""
    return owner not in HOSTED or importlib.util.find_spec(owner) is not None


def _native_name(spec: Spec, lane: str) -> str:
    backend = lane.partition("-")[2]
    return f"native:{spec.name}{backend and '@' + backend}"


def user(text: str, spec: Spec, lane: str) -> Subject:
    """A user's `module:function` in that lane (see introduce.py for how it is chosen)."""
    module, function = split(text)
    return Subject(text, spec.name, lane, module, function)


def split(text: str) -> tuple[str, str]:
    """Module (or the path of a file) and function of a user's `module:function`. Raises SubjectError."""
    module, colon, function = text.rpartition(":")
    if not colon or not module or not function:
        raise SubjectError(f"Expected a subject like `my_module:my_attention`, got {text!r}")
    if not module.endswith((".py", ".R")):
        return module, function
    file = Path(module)
    if not file.is_file():
        raise SubjectError(f"{text}: there is no file {module}")
    return str(file.resolve()), function


def subjects_of(
    spec: Spec, lanes: Sequence[str], *, native_too: bool = True, folder: Path | None = None
) -> tuple[Subject, ...]:
    """Every subject of `spec` in those lanes: the generated ones, and the framework's own function."""
    found = [subject for lane in lanes for subject in generated(spec, lane, folder)]
    own = [subject for subject in natives(spec) if subject.lane in lanes] if native_too else []
    return (*found, *own)


def load(subject: Subject) -> Loaded:
    """Import the subject. Runs inside its lane; whatever its module raises comes out as it is."""
    if subject.module.endswith(".R"):
        return Loaded(importlib.import_module("attnspec.harness.lanes.in_r").load(subject.module, subject.function), None)
    module = _module(subject.module)
    if not (subject.is_brought or subject.is_native):  # a file with blocks is that of a form, or has chosen it
        small = {"BLOCK": small_block(subject.lane), "DIRECT_UP_TO": SMALL_CALL}
        vars(module).update({name: size for name, size in small.items() if name in vars(module)})
    if subject.name.partition(":")[0] in KERNELS:
        vars(module)["LAUNCHES"] = dict.fromkeys(vars(module)["LAUNCHES"], SMALL_LAUNCHES[subject.lane])
        if "SHARE" in vars(module):
            vars(module)["SHARE"] = SMALL_SHARE
    value: Any = module
    for part in subject.function.removesuffix("()").split("."):
        if not hasattr(value, part):
            raise AttributeError(f"there is no `{part}` in {subject.module}.{did_you_mean(part, dir(value))}")
        value = getattr(value, part)
    if subject.function.endswith("()"):
        value = value()
    described = adapter.read(value)
    if described is not None:
        return Loaded(described.function, described.vjp, described)
    return Loaded(value, getattr(module, f"{subject.function}_vjp", None))


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    # A file may have the name of another one: its path, not its name, is its identity.
    unique = f"attnspec_subject_{sha256(name.encode()).hexdigest()[:16]}"
    if unique in sys.modules:
        return sys.modules[unique]
    found = importlib.util.spec_from_file_location(unique, name)
    if found is None or found.loader is None:
        raise ImportError(f"cannot import {name}")
    module = importlib.util.module_from_spec(found)
    sys.modules[unique] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


def from_dict(data: Mapping[str, str]) -> Subject:
    """The subject of `Subject.to_dict`."""
    return Subject(**data)
