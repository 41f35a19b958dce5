"""Generated `tf.Module`s in programs of Keras 2: the founding document's network, and weights of its own layers."""

import numpy as np
import tensorflow as tf
import tf_keras

import cnn_attention as example
from attnspec.generated.tensorflow import tf_keras_layers_attention as generated
from attnspec.generated.tensorflow import tf_keras_layers_multi_head_attention as multi_head_attention


def layers() -> tuple[tf_keras.layers.Layer, tf_keras.layers.Layer]:
    embedding = tf_keras.layers.Embedding(example.VOCABULARY, example.DIMENSION)
    convolution = tf_keras.layers.Conv1D(example.FILTERS, example.WIDTH, padding="same")
    convolution(embedding(example.QUERY))
    embedding.set_weights([example.EMBEDDINGS])
    convolution.set_weights([example.KERNEL, example.BIAS])
    return embedding, convolution


def test_the_documents_network_with_the_generated_module() -> None:
    """Called in a function, for a `tf.Module` takes no symbolic inputs."""
    embedding, convolution = layers()
    attention = generated.Attention()

    @tf.function
    def network(query_tokens: tf.Tensor, value_tokens: tf.Tensor) -> tf.Tensor:
        query, value = convolution(embedding(query_tokens)), convolution(embedding(value_tokens))
        attended = attention([query, value])
        return tf.concat([tf.reduce_mean(query, 1), tf.reduce_mean(attended, 1)], -1)

    example.agree(network(example.QUERY, example.VALUE))


def test_the_weights_of_keras_2_are_those_of_the_generated_multi_head_attention() -> None:
    """In the order of `get_weights`, both ways, with equal results."""
    settings = {"num_heads": 2, "key_dim": 3, "value_dim": 4, "output_shape": 5}
    native = tf_keras.layers.MultiHeadAttention(**settings)
    random = np.random.default_rng(0)
    query, value = (random.normal(size=(2, length, 6)).astype(np.float32) for length in (4, 7))
    mask = random.random((2, 4, 7)) < 0.6
    native(query, value)
    layer = multi_head_attention.MultiHeadAttention(**settings, E=6)
    names = [f"{owner}_{kind}" for owner in ("query", "key", "value", "attention_output") for kind in ("kernel", "bias")]
    for name, weight in zip(names, native.get_weights(), strict=True):
        getattr(layer, name).assign(weight + 0.1)
    native.set_weights([getattr(layer, name).numpy() for name in names])
    for call in ({}, {"attention_mask": mask}, {"attention_mask": mask, "use_causal_mask": True}):
        for one, other in zip(
            *(each(query, value, return_attention_scores=True, **call) for each in (native, layer)), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-5)
