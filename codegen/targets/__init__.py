"""One table per target. `TARGETS` have one; `NAMES` has R and kernels besides, which have rooms of their own."""

from attnspec.codegen.printer import Target
from attnspec.codegen.targets.jax import JAX
from attnspec.codegen.targets.keras import KERAS
from attnspec.codegen.targets.numpy import NUMPY
from attnspec.codegen.targets.tensorflow import TENSORFLOW
from attnspec.codegen.targets.tf_keras import TF_KERAS
from attnspec.codegen.targets.torch import TORCH

TARGETS: dict[str, Target] = {target.name: target for target in (NUMPY, TORCH, JAX, TENSORFLOW, KERAS, TF_KERAS)}
NAMES = (*TARGETS, "r", "triton", "pallas", "pallas_tpu")
