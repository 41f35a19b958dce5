"""The founding document's CNN+Attention network in torch and in JAX, with the generated attention, on the same weights.

In Keras it is in test_keras_attention.py, in Keras 2 in test_tensorflow_layers.py.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import cnn_attention as example
from attnspec.generated.jax import tf_keras_layers_attention as in_jax
from attnspec.generated.torch import tf_keras_layers_attention as in_torch


def test_in_torch() -> None:
    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(example.EMBEDDINGS))
    convolution = torch.nn.Conv1d(example.DIMENSION, example.FILTERS, example.WIDTH, padding="same")
    kernel = torch.from_numpy(example.KERNEL.transpose(2, 1, 0).copy())
    convolution.load_state_dict({"weight": kernel, "bias": torch.from_numpy(example.BIAS)})

    def encoded(tokens: np.ndarray) -> torch.Tensor:
        return convolution(embedding(torch.from_numpy(tokens)).transpose(1, 2)).transpose(1, 2)

    query, value = encoded(example.QUERY), encoded(example.VALUE)
    attended = in_torch.Attention()([query, value])
    found = torch.cat((query.mean(1), attended.mean(1)), dim=-1)
    example.agree(found.detach().numpy())
    found.sum().backward()
    assert convolution.weight.grad is not None and convolution.weight.grad.isfinite().all()


def test_in_jax() -> None:
    def encoded(tokens: np.ndarray) -> jax.Array:
        embedded = jnp.asarray(example.EMBEDDINGS)[tokens]
        made = jax.lax.conv_general_dilated(embedded, example.KERNEL, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        return made + example.BIAS

    @jax.jit
    def network() -> jax.Array:
        query, value = encoded(example.QUERY), encoded(example.VALUE)
        attended = in_jax.attention({}, [query, value])
        return jnp.concatenate((query.mean(1), attended.mean(1)), axis=-1)

    example.agree(network())


def test_the_readmes_sample() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (sample,) = (block for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL) if "tf_keras" in block)
    convolution = torch.nn.Conv1d(example.DIMENSION, example.FILTERS, example.WIDTH, padding="same")
    convolution.load_state_dict(
        {"weight": torch.from_numpy(example.KERNEL.transpose(2, 1, 0).copy()), "bias": torch.from_numpy(example.BIAS)}
    )
    names: dict[str, Any] = {
        "torch": torch,
        "embedding": torch.nn.Embedding.from_pretrained(torch.from_numpy(example.EMBEDDINGS)),
        "convolution": convolution,
        "query_tokens": torch.from_numpy(example.QUERY),
        "value_tokens": torch.from_numpy(example.VALUE),
    }
    exec(sample, names)
    example.agree(names["encoding"].detach().numpy())
    output, scores = names["masked"]
    assert (output.shape, scores.shape) == ((2, 6, example.FILTERS), (2, 6, 9))
