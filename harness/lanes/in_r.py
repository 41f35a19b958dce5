"""R's side of a lane: a long-lived Rscript behind this process, asked with calls as an R user would write them.

Arrays travel as raw bytes, first axis fastest. R has doubles, integers and logicals; no gradients come back. When R ends or
hangs, so does this process, and the conductor sees what it sees of any other lane.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import Call
from attnspec.harness.lanes.messages import Array, Tensor

SERVER = Path(__file__).with_name("r_server.R")
CALL, FORMALS = 1, 2
_TYPES = {"f": ("double", "<f8"), "i": ("integer", "<i4"), "u": ("integer", "<i4"), "b": ("logical", "<i4")}
_STORED = {"double": ("<f8", "float64"), "integer": ("<i4", "int32"), "logical": ("<i4", "bool")}


class REnded(BaseException):
    """The R process is gone. No exception of a subject: the lane ends with it."""


class RError(Exception):
    """A condition that R signalled; its classes are classes of the exception, so that `ValueError` is found among them."""


class RFramework:
    """Calls in R, float64 alone."""

    name = "r"

    def __init__(self) -> None:
        rscript()

    def versions(self) -> dict[str, str]:
        return {"r": session().version}

    def seed(self, number: int) -> None:
        """R gives no gradients, for which the same draws would be asked again."""

    def run(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        args, keywords = call.bind(request.spec, request.values, arrays)
        if request.spec.form == "layer":
            args.insert(0, call.weights_of(request.spec, arrays))
            keywords |= call.constructor_arguments(request.spec, request.values)
        result = request.subject.function(*args, **keywords)
        return {name: Tensor(value, str(value.dtype)) for name, value in call.named(request.outputs, result).items()}

    def gradients(self, request: Call, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        raise NotImplementedError("r: functions in R have no gradients")


@dataclass(frozen=True)
class RFunction:
    """A function of an R file, called with NumPy arrays and Python values. Several values come back as a tuple."""

    file: str
    name: str

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        found = tuple(session().call(self.file, self.name, args, keywords).values())
        return found[0] if len(found) == 1 else found

    @property
    def __signature__(self) -> inspect.Signature:
        """As R has it, where every argument may be given by position or by name."""
        parameters = [_parameter(name, text) for name, text in session().formals(self.file, self.name)]
        # R lets a required argument follow one with a default, inspect.Signature does not.
        return inspect.Signature(parameters, __validate_parameters__=False)


def _parameter(name: str, default: str) -> inspect.Parameter:
    if name == "...":
        return inspect.Parameter("dots", inspect.Parameter.VAR_KEYWORD)
    value = ast.literal_eval(default) if default else inspect.Parameter.empty
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value)


def rscript() -> str:
    """Where Rscript is; ImportError where it is not."""
    found = shutil.which("Rscript")
    if found is None:
        raise ImportError("there is no Rscript on the path")
    return found


def load(file: str, name: str) -> RFunction:
    """The function of that name in an R file; an RError where the file does not run, or has none."""
    session().formals(file, name)
    return RFunction(file, name)


@cache
def session() -> Session:
    """This process's R."""
    return Session()


class Session:
    """One Rscript, which ends where its input does. What it prints goes nowhere: answers come over a pipe of their own."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [rscript(), "--vanilla", str(SERVER), str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
        )
        os.close(writer)
        self._answers = os.fdopen(reader, "rb")
        self.version = self._read_string()  # it comes when R is ready

    def call(self, file: str, function: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Array | None]:
        """What `function(args, keywords)` returns, by name where R has given it one: arrays, and NULL among them."""
        arrays: dict[str, Array] = {}
        given = [_text(value, arrays) for value in args]
        given += [f"{_name(name)} = {_text(value, arrays)}" for name, value in keywords.items()]
        self._send(struct.pack("<i", CALL), _string(file), _string(f"{_name(function)}({', '.join(given)})"))
        self._send(struct.pack("<i", len(arrays)), *(part for item in arrays.items() for part in _array(*item)))
        return {name or str(place): array for place, (name, array) in enumerate(self._received(self._read_array))}

    def formals(self, file: str, function: str) -> list[tuple[str, str]]:
        """The parameters of a function with their defaults as Python literals, empty where one is required."""
        self._send(struct.pack("<i", FORMALS), _string(file), _string(function))
        return self._received(lambda: (self._read_string(), self._read_string()))

    def _send(self, *parts: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"".join(parts))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise REnded("the R process ended") from None

    def _received(self, read: Any) -> list[Any]:
        if self._number() == 0:
            return [read() for _ in range(self._number())]
        classes, message = self._read_string().split("\n"), self._read_string()
        raise _exception(classes)(message)

    def _read(self, count: int) -> bytes:
        found = self._answers.read(count)
        if len(found) < count:
            raise REnded("the R process ended")
        return found

    def _number(self) -> int:
        (number,) = struct.unpack("<i", self._read(4))
        return int(number)

    def _read_string(self) -> str:
        return self._read(self._number()).decode()

    def _read_array(self) -> tuple[str, Array | None]:
        name, kind = self._read_string(), self._read_string()
        shape = struct.unpack(f"<{(rank := self._number())}i", self._read(4 * rank))
        if kind == "NULL":
            return name, None
        stored, dtype = _STORED[kind]
        flat = np.frombuffer(self._read(int(np.prod(shape, dtype=int)) * np.dtype(stored).itemsize), stored)
        return name, flat.reshape(shape, order="F").astype(dtype)


def _exception(classes: Sequence[str]) -> type[RError]:
    """An exception class named after R's first class, below RError."""
    return type(classes[0], (RError,), {})


def _text(value: Any, arrays: dict[str, Array]) -> str:
    """An argument as R text; an array becomes a variable. Sizes are written as doubles, as R users write them."""
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return name
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return f"list({', '.join(f'{_name(name)} = {_text(member, arrays)}' for name, member in value.items())})"
    if isinstance(value, list):
        return f"list({', '.join(_text(member, arrays) for member in value)})"
    if isinstance(value, tuple):
        return f"c({', '.join(_text(member, arrays) for member in value)})"
    return repr(value)


def _name(name: str) -> str:
    return f"`{name}`"


def _array(name: str, array: Array) -> tuple[bytes, ...]:
    kind, stored = _TYPES[array.dtype.kind]
    shape = array.shape or (1,)
    head = struct.pack(f"<{1 + len(shape)}i", len(shape), *shape)
    return _string(name), _string(kind), head, array.astype(stored).tobytes(order="F")


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<i", len(encoded)) + encoded
