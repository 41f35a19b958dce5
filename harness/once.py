"""What is worked out once, whichever thread asks first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """`make` of a key. Others wait for who makes it: the same work beside it would take both of them longer."""

    def __init__(self, make: Callable[[Key], Value]) -> None:
        self._make = make
        self._made: dict[Key, Value] = {}
        self._lock = Lock()

    def __call__(self, key: Key) -> Value:
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]
