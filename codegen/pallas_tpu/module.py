"""One generated file: that of `codegen/pallas`, by the skeleton for TPUs."""

from __future__ import annotations

from attnspec.codegen.pallas.module import text_in
from attnspec.codegen.pallas_tpu.language import LANGUAGE
from attnspec.spec.model import Spec


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    return text_in(LANGUAGE, "attnspec.codegen.pallas_tpu", spec, "Pallas kernels for TPUs")
