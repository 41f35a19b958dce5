"""A function that drops an argument in one mode of its lane alone: what the arguments check says of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from attnspec.harness.checks import arguments
from attnspec.harness.checks.arguments import variations
from attnspec.harness.checks.failure import Failure
from attnspec.harness.subjects import user
from attnspec.spec.loader import builtin
from planted_bugs.faults import APIS

KEPT = {
    "torch": ("import torch\nfrom planted_bugs.torch_attention import *", "not torch.compiler.is_compiling()"),
    "jax": ("import jax\nfrom jax.nn import dot_product_attention", "isinstance(query, jax.core.Tracer)"),
}


def found_when_turned(framework: str, call: Any, folder: Path) -> Failure:
    """The one failure of a function that is causal in the usual mode only; `call` is a lane's."""
    spec, (imports, kept) = builtin()[APIS[framework]], KEPT[framework]
    (folder / "modes.py").write_text(
        f"{imports}\ndef attention(query, key, value, is_causal=False):\n"
        f"    return {spec.name.rpartition('.')[2]}(query, key, value, is_causal=is_causal and {kept})\n"
    )
    subject = user(f"{folder / 'modes.py'}:attention", spec, framework)
    cases = [case for case in arguments.cases(spec, "float32")[0] if dict(case.configuration.values) == {"is_causal": True}]
    usual = [each for case in cases for each in variations(spec, case) if each.argument == "is_causal"]
    found = list(arguments.outcomes(partial(call, spec, subject), [*usual, *arguments.turned(spec, subject, usual)]))
    assert [(each.status, each.turned) for each in found] == [("honoured", False), ("ignored", True)]
    (failure,) = arguments.check(spec, subject, found)
    return failure
