"""Every capability of the language, compiled to TensorFlow: values and two orders of derivatives, eager and traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from by_hand import Arrays, central_differences, random_arrays
from capabilities import EXAMPLES, E, Example, H, K, N, V
from compiling import capability

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
Tensors = dict[str, Any]


def attention(example: Example) -> Callable[[Tensors], tuple[Any, ...]]:
    """The outputs of the function, or of the module with these weights."""
    generated = getattr(capability(example.spec, "tensorflow"), example.spec)
    layer = layer_of(example) if example.weights else None

    def outputs(tensors: Tensors) -> tuple[Any, ...]:
        arguments = example.arguments(tensors, tf.constant)
        for name, weight in arguments.pop("params", {}).items():
            setattr(layer, name, weight)
        constructor = ("use_bias", "scale") if layer is not None else ()
        found = (layer or generated)(**{name: value for name, value in arguments.items() if name not in constructor})
        return found if isinstance(found, tuple) else (found,)

    return outputs


def layer_of(example: Example) -> Any:
    options = {name: value for name, value in example.others.items() if name in ("use_bias", "scale")}
    return capability(example.spec, "tensorflow").projected_layer(**options, E=E, N=N, H=H, K=K, V=V, dtype=tf.float64)


def traced(example: Example, function: Callable[[Tensors], Any]) -> Callable[[Tensors], Any]:
    """`function` as a graph that knows no size of any input but those of a layer's weights."""
    signature = {
        name: tf.TensorSpec(shape if name in example.weights else [None] * len(shape), tf.float64, name=name)
        for name, shape in example.shapes.items()
    }
    return tf.function(function, input_signature=[signature], autograph=False)


def tensors_of(example: Example) -> Tensors:
    return {name: tf.constant(array) for name, array in example.arrays().items()}


@each_example
def test_values_are_those_written_by_hand(example: Example) -> None:
    for output, expected in zip(attention(example)(tensors_of(example)), example.reference(example.arrays()), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-13)


@each_example
def test_a_graph_that_knows_no_sizes_gives_the_same_and_two_orders_of_derivatives(example: Example) -> None:
    """In one trace: outputs, gradients, and what the gradients change by along a direction."""
    cotangents, arrays, attend = example.cotangents(), example.arrays(), attention(example)
    direction = random_arrays(7, **example.shapes)

    def by_hand(x: Arrays) -> float:
        return float(sum((c * o).sum() for c, o in zip(cotangents, example.reference(x), strict=True)))

    def derivatives(x: Tensors) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                outputs = attend(x)
            gradients = inner.gradient(outputs, x, output_gradients=list(map(tf.constant, cotangents)))
            along = tf.add_n([tf.reduce_sum(gradients[name] * direction[name]) for name in direction])
        return outputs, gradients, outer.gradient(along, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    compute = traced(example, derivatives)
    outputs, gradients, changes = compute(tensors_of(example))
    for output, expected in zip(outputs, example.reference(arrays), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-13)
    for name, slope in central_differences(by_hand, arrays).items():
        np.testing.assert_allclose(gradients[name], slope, atol=1e-8, err_msg=name)
    moved = ({n: tf.constant(x + step * direction[n]) for n, x in arrays.items()} for step in (1e-5, -1e-5))
    ahead, behind = (compute(at)[1] for at in moved)
    for name, change in changes.items():
        np.testing.assert_allclose(change, (ahead[name] - behind[name]) / 2e-5, atol=1e-5, rtol=1e-6, err_msg=name)


def test_a_layer_has_its_weights_under_their_documented_names_with_the_documented_distributions() -> None:
    tf.random.set_seed(0)
    layer = capability("projected_layer", "tensorflow").projected_layer(E=60, N=6, H=10, K=3, V=20)
    weights = {variable.name.partition(":")[0]: variable.numpy() for variable in layer.trainable_variables}
    assert {name: weight.shape for name, weight in weights.items()} == {
        "query_kernel": (60, 6, 10), "key_kernel": (60, 3, 10), "value_kernel": (60, 3, 20), "output_kernel": (6, 20, 60),
        "query_bias": (6, 10), "key_bias": (3, 10), "value_bias": (3, 20), "output_bias": (60,),
    }  # fmt: skip
    assert all((weight == 0).all() for name, weight in weights.items() if name.endswith("bias"))
    limits = {"query_kernel": (6 / 120) ** 0.5, "key_kernel": (6 / 90) ** 0.5, "output_kernel": (6 / 180) ** 0.5}
    for name, limit in limits.items():
        assert 0.97 * limit < np.abs(weights[name]).max() <= limit
        assert weights[name].std() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_a_layer_without_biases_has_none() -> None:
    layer = capability("projected_layer", "tensorflow").projected_layer(use_bias=False, E=E, N=N, H=H, K=K, V=V)
    names = sorted(variable.name for variable in layer.variables)
    assert names == ["key_kernel:0", "output_kernel:0", "query_kernel:0", "value_kernel:0"]


def test_a_layer_is_trained_through_its_variables() -> None:
    layer = capability("projected_layer", "tensorflow").projected_layer(E=E, N=N, H=H, K=K, V=V)
    x = tf.random.stateless_normal((2, 3, E), (1, 2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, x, x, is_causal=True) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        variable.assign_sub(1e-3 * gradient)
    assert tf.reduce_sum(layer(x, x, x, is_causal=True) ** 2) < loss


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_the_gradient_of_what_is_repeated_is_rounded_once(dtype: Any) -> None:
    """TensorFlow sums float16 in float16: along 400 rows that would show."""
    layer = capability("projected_layer", "tensorflow").projected_layer(E=E, N=N, H=H, K=K, V=V, dtype=dtype)
    x = tf.cast(tf.random.stateless_normal((2, 200, E), (1, 2)), dtype)
    cotangent = tf.cast(tf.random.stateless_uniform((2, 200, E), (3, 4)), dtype)
    with tf.GradientTape() as tape:
        output = layer(x, x, x)
    found = tape.gradient(output, layer.output_bias, output_gradients=cotangent)
    exact = tf.reduce_sum(tf.cast(cotangent, tf.float64), (0, 1))
    np.testing.assert_allclose(tf.cast(found, tf.float64), exact, rtol=1.01 * {tf.float16: 2**-11, tf.bfloat16: 2**-8}[dtype])


def test_a_layer_can_be_saved_and_loaded(tmp_path: Any) -> None:
    layer = capability("projected_layer", "tensorflow").projected_layer(E=E, N=N, H=H, K=K, V=V)
    of_any_length = [tf.TensorSpec((None, None, E))] * 3
    layer.attend = tf.function(lambda q, k, v: layer(q, k, v, is_causal=True), input_signature=of_any_length)
    tf.saved_model.save(layer, str(tmp_path / "saved"))
    x = tf.random.stateless_normal((2, 3, E), (1, 2))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.attend(x, x, x), layer.attend(x, x, x))
    np.testing.assert_array_equal(loaded.query_kernel, layer.query_kernel)
