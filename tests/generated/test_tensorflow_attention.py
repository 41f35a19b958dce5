"""The founding document's network in Keras 2: its own layer and the generated one, on the same weights."""

import tensorflow as tf
import tf_keras

import cnn_attention as example
from attnspec.generated.tensorflow import tf_keras_layers_attention as generated


def layers() -> tuple[tf_keras.layers.Layer, tf_keras.layers.Layer]:
    embedding = tf_keras.layers.Embedding(example.VOCABULARY, example.DIMENSION)
    convolution = tf_keras.layers.Conv1D(example.FILTERS, example.WIDTH, padding="same")
    convolution(embedding(example.QUERY))
    embedding.set_weights([example.EMBEDDINGS])
    convolution.set_weights([example.KERNEL, example.BIAS])
    return embedding, convolution


def test_as_the_document_writes_it() -> None:
    embedding, convolution = layers()
    query_input, value_input = (tf_keras.Input((None,), dtype="int32") for _ in range(2))
    query, value = convolution(embedding(query_input)), convolution(embedding(value_input))
    attended = tf_keras.layers.Attention()([query, value])
    pooled = [tf_keras.layers.GlobalAveragePooling1D()(each) for each in (query, attended)]
    model = tf_keras.Model([query_input, value_input], tf_keras.layers.Concatenate()(pooled))
    example.agree(model([example.QUERY, example.VALUE]))


def test_with_the_generated_attention() -> None:
    """A `tf.Module` for now, so called in a function and not on symbolic inputs."""
    embedding, convolution = layers()
    attention = generated.Attention()

    @tf.function
    def network(query_tokens: tf.Tensor, value_tokens: tf.Tensor) -> tf.Tensor:
        query, value = convolution(embedding(query_tokens)), convolution(embedding(value_tokens))
        attended = attention([query, value])
        return tf.concat([tf.reduce_mean(query, 1), tf.reduce_mean(attended, 1)], -1)

    example.agree(network(example.QUERY, example.VALUE))
