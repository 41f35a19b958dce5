"""The blockwise form of Keras: what the direct form gives on every backend, traced or not; derivatives; what it refuses."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from attnspec.codegen.blocks.analysis import analyse
from attnspec.codegen.blocks.table import SKIP, block_table
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import masks
from attnspec.spec.model import Spec
from blockwise_specs import LOOKED_UP, SPECS, looked_up
from builtin_calls import function
from by_hand import random_arrays
from compiling import blockwise_module_of, choosing_module_of, module_of
from in_keras import BACKEND, WIDE, Tensors, array_of, keras, ops, outputs_and_gradients, tensors_of

CLOSE = 1e-12 if WIDE == "float64" else 3e-6
LENGTHS = [(11, 7), (1, 5), (0, 3), (3, 0)][: 1 if BACKEND == "jax" else 4]  # jax compiles each of them, and each mask
SOME, SOME_LOOKED_UP = (["two ranges"], ["documents"]) if BACKEND == "jax" else ([*SPECS], [*LOOKED_UP])


def blockwise(spec: Spec, block: int) -> ModuleType:
    """The blockwise module of a spec, in blocks of that length."""
    module = blockwise_module_of(spec, "keras")
    vars(module)["BLOCK"] = block
    return module


def lengths(rows: int, keys: int, batch: int = 1) -> dict[str, np.ndarray]:
    return random_arrays(rows, query=(batch, rows, 2, 3), key=(batch, keys, 1, 3), value=(batch, keys, 1, 2))


def agree(blocks: Callable[..., Any], direct: Callable[..., Any], arrays: dict[str, np.ndarray]) -> None:
    """Outputs and gradients are those of the direct form."""
    cotangents = [np.cos(np.arange(arrays["query"][..., :2].size)).reshape(arrays["query"][..., :2].shape)]
    found, expected = (
        outputs_and_gradients(lambda x, attend=attend: (attend(**x),), tensors_of(arrays), cotangents)
        for attend in (blocks, direct)
    )
    np.testing.assert_allclose(found[0][0], expected[0][0], atol=CLOSE)
    for name, slope in expected[1].items():
        np.testing.assert_allclose(found[1][name], slope, atol=10 * CLOSE, err_msg=name)


@pytest.mark.parametrize("name", SOME)
def test_blocks_give_what_the_direct_form_gives(name: str) -> None:
    """Blocks of 4: queries and keys that do not fill them, some without a key, several ranges, and none at all."""
    blocks, direct = blockwise(SPECS[name], 4).tried, module_of(SPECS[name], "keras").tried
    for rows, keys in LENGTHS:
        agree(blocks, direct, lengths(rows, keys))


@pytest.mark.parametrize("name", SOME_LOOKED_UP)
def test_blocks_give_what_the_direct_form_gives_where_masks_look_up(name: str) -> None:
    spec = LOOKED_UP[name]
    blocks, direct = blockwise(spec, 4).tried, module_of(spec, "keras").tried
    for rows, keys in ((11, 7), (4, 9))[: 1 if BACKEND == "jax" else 2]:
        entries = {name: ops.convert_to_tensor(each) for name, each in looked_up(spec, rows, rows, keys).items()}
        agree(functools.partial(blocks, **entries), functools.partial(direct, **entries), lengths(rows, keys, 2))


@pytest.mark.parametrize("name", SPECS)
def test_the_blocks_that_are_visited_are_those_of_the_analysis(name: str) -> None:
    spec, rows, keys = SPECS[name], 40, 37
    visible = blockwise(spec, 4)._visible
    given = {a.name: a.default for a in spec.arguments if a.role == "integer"}
    numbers = [given[each] for each in visible.__code__.co_varnames[4 : visible.__code__.co_argcount]]
    table = block_table(analyse(masks(spec), vocabulary_of(spec)), {"T": rows, "S": keys, **given}, (4, 4))[0, 0]
    np.testing.assert_array_equal(array_of(visible(rows, keys, 4, 4, *numbers)), table != SKIP)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others know all sizes")
@pytest.mark.parametrize("by_xla", [False, True])
def test_a_graph_of_tensorflow_knows_no_sizes_and_may_be_compiled(by_xla: bool) -> None:
    import tensorflow as tf

    spec = SPECS["two ranges"]

    def both(attend: Callable[..., Any], *at: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(at)
            output = attend(*at)
        return [output, *tape.gradient(output, at, output_gradients=tf.cos(output))]

    signature = [tf.TensorSpec((None, None, *heads), WIDE) for heads in ((2, 3), (1, 3), (1, 2))]
    program = functools.partial(both, blockwise(spec, 4).tried)
    graph = tf.function(program, autograph=False, jit_compile=by_xla, input_signature=signature)
    for rows, keys in LENGTHS[:2] if by_xla else LENGTHS:
        given = tensors_of(lengths(rows, keys)).values()
        for found, expected in zip(graph(*given), both(module_of(spec, "keras").tried, *given), strict=True):
            np.testing.assert_allclose(found, expected, atol=CLOSE)


@pytest.mark.skipif(BACKEND != "jax", reason="jax's programs")
def test_the_program_of_jax_has_the_same_size_for_every_length_and_repeats_no_head() -> None:
    import jax

    def text(length: int) -> str:
        shapes = [jax.ShapeDtypeStruct((1, length, heads, 8), "float32") for heads in (6, 2, 2)]
        return str(jax.make_jaxpr(function("causal_gqa_blockwise", "keras"))(*shapes))

    assert text(256).count("=") == text(2048).count("=")
    assert not re.search(r"f32\[(\d+,)*6,128,8\] = broadcast_in_dim\[[^\]]*\] [a-z]*:f32\[(\d+,)*2", text(2048))


def traced(program: Callable[[Tensors], Any], at: Tensors) -> None:
    """The program under a tracer."""
    if BACKEND == "jax":
        program(at)
        return
    import tensorflow as tf

    tf.function(program, autograph=False).get_concrete_function(at)


def slope_of(attend: Callable[..., Any]) -> Callable[[Tensors], Any]:
    """The gradient of the query as a function, to be derived again."""

    def program(x: Tensors) -> Any:
        if BACKEND == "torch":
            import torch

            return torch.autograd.grad(ops.sum(ops.sin(attend(**x))), x["query"], create_graph=True)[0]
        if BACKEND == "jax":
            import jax

            return jax.grad(lambda query: ops.sum(ops.sin(attend(**{**x, "query": query}))))(x["query"])
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x["query"])
            total = ops.sum(ops.sin(attend(**x)))
        return tape.gradient(total, x["query"])

    return program


def test_second_derivatives_are_those_of_the_direct_form_or_refused() -> None:
    spec = SPECS["chunks of a window"]
    arrays = tensors_of(random_arrays(0, query=(1, 5, 2, 3), key=(1, 6, 1, 3), value=(1, 6, 1, 2)))
    cotangent = np.cos(np.arange(30)).reshape(1, 5, 2, 3)
    twice = [slope_of(form.tried) for form in (blockwise(spec, 4), module_of(spec, "keras"))]
    if BACKEND != "torch":
        with pytest.raises(NotImplementedError, match="keras: the blockwise form has no second derivative where it is traced"):
            traced(lambda x: outputs_and_gradients(lambda x: (twice[0](x),), x, [cotangent]), arrays)
    if BACKEND == "jax":
        return
    found, expected = (outputs_and_gradients(lambda x, f=f: (f(x),), arrays, [cotangent])[1] for f in twice)
    for name, slope in expected.items():
        np.testing.assert_allclose(found[name], slope, atol=1e-11)
        assert np.abs(slope).max() > 0.01


def test_short_calls_are_taken_at_once() -> None:
    spec = SPECS["bottom-right"]
    chosen, direct = choosing_module_of(spec, "keras", 12), module_of(spec, "keras")
    for rows, calls in ((3, 1), (4, 1)):
        given = tensors_of(lengths(rows, 4))
        np.testing.assert_allclose(array_of(chosen.tried(**given)), array_of(direct.tried(**given)), atol=CLOSE)
        assert chosen._direct.call_count == calls


def test_derivatives_by_numbers_are_refused_by_name() -> None:
    """None is better than one of zero."""
    x = ops.convert_to_tensor(np.ones((1, 3, 1, 2)), WIDE)
    attend = function("gemma2_blockwise", "keras")
    missing = "keras: the blockwise form has no derivative by `cap`; the direct form has"
    with pytest.raises(NotImplementedError, match=missing):
        outputs_and_gradients(lambda at: (attend(x, x, x, **at),), {"cap": ops.convert_to_tensor(2.0)}, [np.ones((1, 3, 1, 2))])


def test_it_trains_inside_a_model_as_keras_compiles_it(tmp_path: Path) -> None:
    """With jax.jit, with XLA under tf.function, eagerly in torch; on symbolic tensors of any length, and from a file."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 4, 2))
    attended = function("causal_gqa_blockwise", "keras")(inputs, inputs, inputs)
    assert attended.shape == (None, None, 4, 2)
    model = keras.Model(inputs, keras.layers.Dense(1)(attended))
    model.compile("adam", "mse", jit_compile="auto")
    x = np.random.default_rng(0).standard_normal((8, 6, 4, 2)).astype("float32")
    losses = model.fit(x, x[..., :1], epochs=2, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x[:2, :5], verbose=0), model.predict(x[:2, :5], verbose=0), atol=1e-6)
