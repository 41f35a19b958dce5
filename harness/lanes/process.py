"""A lane's process as the conductor holds it: started through execnet, asked with JSON, found out when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import execnet
import psutil

import attnspec.harness
import attnspec.spec
from attnspec.harness.lanes import bootstrap, compiled
from attnspec.harness.lanes.messages import Lost

START_SECONDS = 180.0
STOP_SECONDS = 3.0
GIB = 1 << 30

Message = tuple[str, str, bytes, float]


def import_path(python: str) -> list[str]:
    """Where an interpreter finds the user's modules: here, and where this process does if it is the same one."""
    return [os.getcwd(), *(sys.path if python == sys.executable else ())]


class LaneMissing(RuntimeError):
    """The framework (or the interpreter) is not there; the message says why. Its cases are not covered."""


class Silent(Exception):
    """The process ended, or gave no sign of life before the deadline; `lost` says which."""

    def __init__(self, how: Lost) -> None:
        super().__init__(str(how))
        self.lost = how


class Process:
    """One interpreter with one framework. `deadline` is how long it may be silent, `memory` what it may allocate.

    `hasty` says that compiling should take little time, rather than the compiled code.
    """

    def __init__(self, framework: str, python: str | None, deadline: float, memory: int, hasty: bool) -> None:
        self.framework = framework
        self.versions: dict[str, str] = {}
        self.beat = 0  # the position in the batch that it last reported
        self.took = 0.0  # the seconds of its own that its last reply took
        self._python = python or sys.executable
        self._deadline = deadline
        self._memory = memory
        self._hasty = hasty
        self._group: Any = None
        self._channel: Any = None
        self._pid: int | None = None

    def start(self) -> None:
        """Start it; LaneMissing where the interpreter or its framework is not there."""
        if not Path(self._python).exists():
            raise LaneMissing(f"there is no interpreter {self._python}")
        self._group = execnet.Group()
        compiled.make_room(compiled.folder())
        try:
            gateway = self._group.makegateway(f"popen//python={self._python}//execmodel=main_thread_only")
            self._channel = gateway.remote_exec(bootstrap)
            self._channel.send(self._greeting())
            kind, text, _, _ = self._next(START_SECONDS)
        except (OSError, EOFError, Silent) as error:
            self.stop()
            raise LaneMissing(f"the process did not start: {error}") from None
        if kind == "missing":
            self.stop()
            raise LaneMissing(text)
        hello = json.loads(text)
        self.versions, self._pid = hello["versions"], hello["pid"]

    def stop(self) -> None:
        """Ask it to end, and end it where it does not listen."""
        if self._group is not None:
            if self._channel is not None:
                with contextlib.suppress(OSError):
                    self._channel.close()
            self._group.terminate(timeout=STOP_SECONDS)
            self._group = None

    def kill(self) -> None:
        """End it and what it has started, whatever they are doing."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._pid = None
        self.stop()

    def _family(self) -> list[psutil.Process]:
        """The process and those behind it: R is one that Python drives."""
        try:
            own = psutil.Process(self._pid) if self._pid is not None else None
            return [own, *own.children(recursive=True)] if own else []
        except psutil.NoSuchProcess:
            return []

    @property
    def cpu_seconds(self) -> float:
        """How long it has computed so far, on whatever cores."""
        times = [process.cpu_times() for process in self._family()]
        return float(sum(each.user + each.system for each in times))

    def send(self, request: Mapping[str, Any]) -> None:
        """Hand over a request; a process that is gone is noticed by `receive`."""
        self.beat = 0
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps(request))

    def receive(self) -> tuple[str, bytes]:
        """Header and block of the reply; Silent where none will come."""
        while True:
            kind, header, block, seconds = self._next(self._deadline)
            if kind == "done":
                self.took = seconds
                return header, block
            self.beat = int(header)

    def _greeting(self) -> dict[str, Any]:
        packages = {"spec": attnspec.spec, "harness": attnspec.harness}
        return {
            "framework": self.framework,
            "memory": self._memory,
            "hasty": self._hasty,
            "environment": compiled.environment(),
            "packages": {name: str(Path(next(iter(package.__path__)))) for name, package in packages.items()},
            "path": import_path(self._python),
        }

    def _next(self, deadline: float) -> Message:
        receive: Callable[[float], Message] = self._channel.receive
        try:
            return receive(deadline)
        except self._channel.TimeoutError:
            raise Silent(Lost("hung", f"no sign of life for {deadline:g} s")) from None
        except self._channel.RemoteError as error:
            last = str(error).strip().splitlines()[-1]
            raise Silent(Lost("crashed", f"the lane itself failed: {last}")) from None
        except (EOFError, OSError):
            raise Silent(Lost("crashed", f"the {self.framework} process ended")) from None
