"""One table per target. `TARGETS` are those that print Python modules; `NAMES` has R, a package of its own, besides."""

from attnspec.codegen.printer import Target
from attnspec.codegen.targets.jax import JAX
from attnspec.codegen.targets.keras import KERAS
from attnspec.codegen.targets.numpy import NUMPY
from attnspec.codegen.targets.tensorflow import TENSORFLOW
from attnspec.codegen.targets.torch import TORCH

TARGETS: dict[str, Target] = {target.name: target for target in (NUMPY, TORCH, JAX, TENSORFLOW, KERAS)}
NAMES = (*TARGETS, "r")
