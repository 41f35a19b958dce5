"""What is worked out once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from attnspec.harness.once import Once


def test_it_is_made_once_for_each_key_whoever_asks() -> None:
    made: list[int] = []

    def slow(key: int) -> list[int]:
        time.sleep(0.01)
        made.append(key)
        return [key]

    once: Once[int, list[int]] = Once(slow)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(once, [1, 2, 1, 2, 1, 2, 1, 2]))
    assert found == [[1], [2]] * 4
    assert all(each is found[number % 2] for number, each in enumerate(found))
    assert sorted(made) == [1, 2]
