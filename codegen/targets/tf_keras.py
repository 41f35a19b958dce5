"""tf_keras (Keras 2): the layers of its own APIs, over TensorFlow's operations."""

from __future__ import annotations

from dataclasses import replace

from attnspec.codegen.targets.tensorflow import TENSORFLOW

TF_KERAS = replace(TENSORFLOW, name="tf_keras", imports=(*TENSORFLOW.imports, "import tf_keras"), borrows=("tensorflow",))
