"""The harness: what is tried, what is right, who answers, and what is reported.

    from attnspec.harness import check, conforms

`check` does what `attnspec check` does; `conforms` makes it a test of pytest (see `user_api.py`). Everything is imported
when it is asked for: a lane's interpreter may have nothing but NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnspec.harness.user_api import check, conforms

__all__ = ["check", "conforms"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attnspec.harness import user_api

    return getattr(user_api, name)
