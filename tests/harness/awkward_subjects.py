"""Subjects that a lane has to survive. They run inside lanes, on any framework's arrays."""

import os
import sys
import time
from typing import Any


def crash(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    os.abort()


def leave(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    raise SystemExit(3)


def crash_for_scale(query: Any, key: Any, value: Any, *, scale: float | None = None, **rest: Any) -> Any:
    if scale is not None:
        os.abort()
    return value


def hang(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    time.sleep(3600)


def slow_but_alive(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    time.sleep(0.2)
    return value


def hungry(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    bytearray(1 << 36)


def hasty(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    return value * int(os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "0"))


def noisy(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    print("to standard output")
    return value


def scribble(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    query[...] = 0
    return value


def two_values(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    return value, value


def refuse(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    raise NotImplementedError("`anything` is not supported")


def value_itself(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    return value


def value_itself_vjp(d_output: Any, query: Any, key: Any, value: Any, **rest: Any) -> Any:
    return {"query": query, "key": key, "value": d_output}


def imported(query: Any, key: Any, value: Any, **rest: Any) -> Any:
    raise RuntimeError(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
