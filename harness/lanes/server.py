"""The lane's process: keeps specs, configurations and subjects by number, runs batches, answers in one message.

A request is a JSON text; `op` is one of

    run        {"subjects": [...], "cases": [[configuration, seed], ...], "gradient", "attempt"}
    call       {"subject": ..., "configuration": number, "arrays": {name: [dtype, shape, hex]}, "layout", "turned", "second"}
    signature  {"subject": ...}
    forget     {}

and any request may bring `specs` {name: JSON} and `configurations` {number: JSON} that it or later ones name, and
`forget`, numbers that none will name again.

The reply is ("done", header, bytes, seconds that it took). While a batch runs, ("beat", case, "", 0.0) goes out about twice a
second: the conductor takes silence, not a long batch, for a hang.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from attnspec.harness.arrangement import Arrangement
from attnspec.harness.arrays import arrays
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.lanes import call
from attnspec.harness.lanes.framework import Call, Framework, framework
from attnspec.harness.lanes.messages import Answer, Array, Raised, Returned, pack
from attnspec.harness.subjects import Loaded, from_dict, load
from attnspec.spec.interchange import from_json
from attnspec.spec.model import Spec

BEAT_SECONDS = 0.5


def serve(channel: Any, name: str, memory: int) -> None:
    """Import the framework, say hello (or why not), answer requests until the conductor closes the channel."""
    try:
        running = framework(name)
    except ImportError as error:
        channel.send(("missing", str(error), b"", 0.0))
        return
    limit_memory(memory)
    channel.send(("hello", json.dumps({"pid": os.getpid(), "versions": running.versions()}), b"", 0.0))
    server = Server(running, lambda case: channel.send(("beat", str(case), b"", 0.0)))
    for request in channel:
        started = time.monotonic()
        channel.send(("done", *server.handle(json.loads(request)), time.monotonic() - started))


def limit_memory(extra: int) -> None:
    """Let the process allocate `extra` bytes on top of what the framework already took.

    RLIMIT_DATA counts what is written to and not what is reserved, so unlike RLIMIT_AS it leaves torch's and XLA's
    address space alone; over it an allocation fails at once, as an exception of that framework or, where it has none, a
    death of the lane. Systems without it (macOS, Windows) have no limit.
    """
    try:
        import resource

        with open("/proc/self/status", encoding="ascii") as status:
            used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + extra, used + extra))
    except (ImportError, OSError, StopIteration, ValueError):
        return


class Server:
    """Runs requests. Holds nothing about the conductor but the specs and configurations it was told."""

    def __init__(self, running: Framework, beat: Any) -> None:
        self._framework = running
        self._beat = beat
        self._beaten = time.monotonic()
        self._specs: dict[str, Spec] = {}
        self._configurations: dict[int, Configuration] = {}
        self._loaded: dict[str, Loaded] = {}
        self._calls: dict[tuple[str, int, bool], Call] = {}

    def handle(self, request: Mapping[str, Any]) -> tuple[str, bytes]:
        """Header and bytes of the reply."""
        self._learn(request)
        match request["op"]:
            case "run":
                return pack(self._run(request))
            case "call":
                given = {name: decoded(*entry) for name, entry in request["arrays"].items()}
                return pack([self._answer(request["subject"], request["configuration"], given, request)])
            case "signature":
                return json.dumps(self._signature(request["subject"])), b""
            case "forget":
                return "", b""
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")

    def _learn(self, request: Mapping[str, Any]) -> None:
        for name, text in request.get("specs", {}).items():
            self._specs[name] = from_json(text)
        for number, data in request.get("configurations", {}).items():
            self._configurations[int(number)] = Configuration.from_dict(data)
        forgotten = set(request.get("forget", ()))
        if forgotten:
            self._configurations = {n: kept for n, kept in self._configurations.items() if n not in forgotten}
            self._calls = {key: kept for key, kept in self._calls.items() if key[1] not in forgotten}

    def _run(self, request: Mapping[str, Any]) -> list[Answer]:
        """Answers case by case, and within a case subject by subject."""
        answers: list[Answer] = []
        for position, (number, seed) in enumerate(request["cases"]):
            self._breathe(position)
            configuration = self._configurations[number]
            spec = self._specs[configuration.spec]
            given = call.filler(configuration) if request["attempt"] else arrays(Case(configuration, seed), spec)
            for array in given.values():
                array.flags.writeable = False  # a subject that writes to its inputs raises
            for subject in request["subjects"]:
                answers.append(self._answer(subject, number, given, request))
        return answers

    def _breathe(self, position: int) -> None:
        now = time.monotonic()
        if now - self._beaten > BEAT_SECONDS:
            self._beat(position)
            self._beaten = now

    def _answer(
        self, subject: Mapping[str, str], number: int, given: Mapping[str, Array], request: Mapping[str, Any]
    ) -> Answer:
        forward: dict[str, Any] = {}
        try:
            prepared = self._call(subject, number, request["attempt"])
            asked = {name: request[name] for name in ("layout", "turned", "second") if request.get(name)}
            prepared = replace(prepared, **asked)
            adapter = prepared.subject.adapter
            given = adapter.into(prepared.spec, given) if adapter else given
            spread = prepared.arrangement
            given = spread.apart(given) if spread else given
            forward = self._framework.run(self._seeded(prepared, request), given)
            gradients = self._framework.gradients(self._seeded(prepared, request), given) if request["gradient"] else {}
            if spread:
                forward, gradients = spread.together(forward), spread.together(gradients)
            if adapter:
                forward, gradients = adapter.back(prepared.spec, forward), adapter.back(prepared.spec, gradients)
        except Exception as error:  # whatever a subject raises is its answer
            types = tuple(kind.__name__ for kind in type(error).__mro__[:-1])
            return Raised(types, str(error)[:2000], "gradients" if forward else "forward")
        return Returned(forward, gradients)

    def _seeded(self, prepared: Call, request: Mapping[str, Any]) -> Call:
        """With a seed: the generator as it was before, and nothing kept that might have drawn from it already."""
        if not request.get("seed"):
            return prepared
        self._framework.seed(request["seed"])
        return replace(prepared, compiled={})

    def _call(self, subject: Mapping[str, str], number: int, attempt: bool) -> Call:
        key = subject["name"], number, attempt
        if key not in self._calls:
            configuration = self._configurations[number]
            spec = self._specs[configuration.spec]
            outputs = None if attempt else call.output_names(spec, configuration)
            dtypes = {name: plan.dtype for name, plan in configuration.tensors}
            values = dict(configuration.values)
            spread = Arrangement.of(spec, configuration)
            configuration = spread.configuration(configuration) if spread else configuration
            loaded = self._load(subject).under(spec)
            self._calls[key] = Call(loaded, spec, configuration, values, outputs, dtypes, arrangement=spread)
        return self._calls[key]

    def _load(self, subject: Mapping[str, str]) -> Loaded:
        name = subject["name"]
        if name not in self._loaded:
            self._loaded[name] = load(from_dict(subject))
        return self._loaded[name]

    def _signature(self, subject: Mapping[str, str]) -> dict[str, Any]:
        """The parameters as Python sees them, or the docstring of a builtin that has no signature, and a user's adapter."""
        try:
            loaded = self._load(subject)
        except Exception as error:  # a subject that cannot be imported
            return {"error": f"{type(error).__name__}: {error}"}
        function = loaded.function
        found: dict[str, Any] = {"kind": "class" if isinstance(function, type) else type(function).__name__}
        if loaded.adapter:
            found["adapter"] = loaded.adapter.described()
        try:
            found["parameters"] = _parameters(function)
        except (TypeError, ValueError):  # a builtin without one, or nothing that can be called
            found["doc"] = inspect.getdoc(function) or ""
        call = _call_of(function) if isinstance(function, type) else None
        if call is not None:
            found["call"] = _parameters(call)[1:]  # without self
        found["callable"] = callable(function)
        return found


def decoded(dtype: str, shape: list[int], data: str) -> Array:
    """An array that a request brings along."""
    return np.frombuffer(bytes.fromhex(data), dtype).reshape(shape)


def _call_of(layer: type) -> Any:
    """The method that a layer's class defines for its call: Keras's `call`, torch's `forward`, or Python's own."""
    methods = (vars(kind).get(name) for name in ("call", "forward", "__call__") for kind in layer.__mro__)
    return next((method for method in methods if method is not None), None)


def _parameters(function: Any) -> list[list[Any]]:
    """Name, kind and default of each parameter."""
    parameters = inspect.signature(function).parameters.values()
    return [[p.name, p.kind.name, None if p.default is p.empty else _literal(p.default)] for p in parameters]


def _literal(value: Any) -> str:
    """A default as text that compares equal wherever the values do: `2.0` and `2` differ, a list is a tuple."""
    return repr(tuple(value) if isinstance(value, list) else value)
