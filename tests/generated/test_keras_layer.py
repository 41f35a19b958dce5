"""The generated layer in the place of Keras's own: its tests, its files, its programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiling import GENERATED, imported
from in_keras import BACKEND, array_of, keras
from keras_layers import agree, check_hook, inputs

pytest.importorskip("absl")
from keras.src import layers as sources
from keras.src.layers.attention.grouped_query_attention_test import GroupedQueryAttentionTest

Native = keras.layers.GroupQueryAttention
Generated: Any = imported(GENERATED / "keras" / "keras_layers_group_query_attention.py").GroupQueryAttention
HEADS = {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2}
PLAIN: dict[str, Any] = {}
SETTINGS = [{"use_gate": True, "sliding_window": 2}, {"dropout": 0.5, "use_bias": False, "seed": 3}, PLAIN]
POLICIES = ["mixed_bfloat16", "mixed_float16", "bfloat16"]
if BACKEND == "jax":  # which compiles every operation of every shape by itself
    SETTINGS, POLICIES = SETTINGS[:1], POLICIES[:1]
CALLS: list[dict[str, Any]] = [{}, {"use_causal_mask": True}, {"return_attention_scores": True}]
either_way = pytest.mark.parametrize(("one", "other"), [(Native, Generated), (Generated, Native)], ids=["read", "written"])


class TestAsKerasTestsIt(GroupedQueryAttentionTest):  # type: ignore[misc]
    """Keras's own tests of its layer, of this one."""

    @pytest.fixture(autouse=True)
    def _in_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "GroupedQueryAttention", Generated)


del GroupedQueryAttentionTest


def masks() -> dict[str, Any]:
    random = np.random.default_rng(1)
    every = {"query_mask": (2, 5), "value_mask": (2, 7), "attention_mask": (2, 5, 7)}
    return {name: random.random(shape) < 0.6 for name, shape in every.items()}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_and_results_are_those_of_the_native_layer(settings: dict[str, Any]) -> None:
    native, generated = Native(**HEADS, **settings), Generated(**HEADS, **settings)
    query, value = inputs(5, 7)
    for layer in (native, generated):
        layer(query, value)
    paths = [[v.path.partition("/")[2] for v in layer.weights] for layer in (native, generated)]
    assert paths[0] == paths[1]
    generated.set_weights(native.get_weights())
    for call in CALLS:
        for given in ({}, masks()):
            agree(native(query, value, **call, **given), generated(query, value, **call, **given))


def test_every_attribute_of_the_native_layer_is_there() -> None:
    layers = [layer(**HEADS) for layer in (Native, Generated)]
    for layer in layers:
        layer(*inputs(5, 7))
    assert {*dir(layers[1])} >= {*dir(layers[0])}
    for name in ("num_repeats", "feature_dim", "_inverse_sqrt_head_dim", "_return_attention_scores", "_flash_attention"):
        assert getattr(layers[0], name) == getattr(layers[1], name), name


HOOKS = {
    "_compute_attention_mask": [{"sliding_window": 2}, {}],
    "_compute_causal_mask": [{"sliding_window": 2}, {"dropout": 0.5}],
    "_compute_sliding_window_mask": [{"sliding_window": 2}],
    "_masked_softmax": [{"dropout": 0.5}],
    "_compute_attention": [{}],
}


if BACKEND == "jax":
    HOOKS = {"_masked_softmax": HOOKS["_masked_softmax"]}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_subclass_with_a_hook_of_its_own_gives_what_it_gives_on_the_native_layer(hook: str) -> None:
    check_hook((Native, Generated), hook, HEADS, HOOKS[hook])


def model_of(layer: type, **settings: Any) -> Any:
    """Masked tokens, self-attention and cross-attention, as a functional model."""
    tokens = keras.Input((6,), dtype="int32")
    embedded = keras.layers.Embedding(9, 8, mask_zero=True, name="tokens")(tokens)
    attended = layer(**HEADS, **settings, name="own")(embedded, embedded, use_causal_mask=True)
    crossed, scores = layer(**HEADS, name="cross")(attended, embedded, return_attention_scores=True)
    pooled = keras.layers.GlobalAveragePooling1D(name="pooled")(crossed)
    return keras.Model(tokens, [keras.layers.Dense(3, name="dense")(pooled), scores])


TOKENS = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1], [2, 0, 0, 0, 0, 0]], np.int32)


@either_way
@pytest.mark.parametrize("settings", SETTINGS[:2], ids=str)
def test_weights_files_are_exchanged(one: type, other: type, settings: dict[str, Any], tmp_path: Path) -> None:
    first, second = model_of(one, **settings), model_of(other, **settings)
    first.save_weights(tmp_path / "of.weights.h5")
    second.load_weights(tmp_path / "of.weights.h5")
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(array_of(a.value), array_of(b.value))
    agree(first(TOKENS), second(TOKENS))


def test_whole_models_are_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the generated layer is read as the native one where the generated one is not loaded; Keras reads its own
    layers itself, and a copy of such a model has generated ones.
    """
    ours = model_of(Generated, use_gate=True, kernel_regularizer="l2")
    ours.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    registered = keras.saving.get_registered_name(Generated)
    monkeypatch.delitem(keras.saving.get_custom_objects(), registered)  # as in a process that does not import it
    theirs = keras.models.load_model(tmp_path / "ours.keras", custom_objects={registered: Native})
    theirs.save(tmp_path / "theirs.keras")
    loaded = keras.models.load_model(tmp_path / "theirs.keras")
    back = keras.models.clone_model(loaded, clone_function=as_generated)
    back.set_weights(loaded.get_weights())
    for model, kind in ((again, Generated), (theirs, Native), (back, Generated)):
        assert [type(model.get_layer(name)) for name in ("own", "cross")] == [kind, kind]
        for a, b in zip(ours.variables, model.variables, strict=True):
            np.testing.assert_array_equal(array_of(a.value), array_of(b.value))
        agree(ours(TOKENS), model(TOKENS))
        assert model.get_layer("own").kernel_regularizer.get_config() == ours.get_layer("own").kernel_regularizer.get_config()


def as_generated(layer: Any) -> Any:
    """A native layer of a model as a generated one, any other as it is."""
    return (Generated if type(layer) is Native else type(layer)).from_config(layer.get_config())


def test_models_train_with_masks_losses_and_dropout() -> None:
    keras.utils.set_random_seed(0)
    model = model_of(Generated, dropout=0.25, seed=1, activity_regularizer="l2")
    single = keras.Model(model.inputs, model.outputs[0])
    single.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", run_eagerly=False)
    before = [array_of(v.value).copy() for v in single.trainable_variables]
    history = single.fit(TOKENS, np.array([0, 1, 2]), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    named = [v.path for v, old in zip(single.trainable_variables, before, strict=True) if (array_of(v.value) == old).all()]
    assert all("key/bias" in path for path in named), named  # no gradient: a softmax is blind to it


def test_a_mask_goes_on_to_what_follows() -> None:
    embedded = keras.layers.Embedding(9, 8, mask_zero=True)(TOKENS)
    output = Generated(**HEADS)(embedded, embedded)
    np.testing.assert_array_equal(array_of(keras.src.backend.get_keras_mask(output)), TOKENS != 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_dtype_policies(policy: str) -> None:
    layers = [layer(**HEADS, use_gate=True, dtype=policy) for layer in (Native, Generated)]
    query, value = inputs(5, 7)
    found = [layer(query, value, return_attention_scores=True) for layer in layers]
    layers[1].set_weights(layers[0].get_weights())
    agree(layers[0](query, value, return_attention_scores=True), layers[1](query, value, return_attention_scores=True), 0.05)
    assert [v.dtype for v in layers[0].weights] == [v.dtype for v in layers[1].weights]
    assert found[0][0].shape == found[1][0].shape


def test_symbolic_shapes_are_those_of_calls() -> None:
    layer = Generated(**HEADS)
    query, value = keras.Input((5, 8)), keras.Input((7, 8))
    key = keras.Input((7, 3))
    output, scores = layer(query, value, key, return_attention_scores=True)
    assert (output.shape, scores.shape) == ((None, 5, 8), (None, 4, 5, 7))
    assert layer.compute_output_shape((2, 5, 8), (2, 7, 8), (2, 7, 3)) == (2, 5, 8)
    for shapes in (((2, 5, 8), (2, 7, 6)), ((2, 5, 8), (2, 7, 8), (2, 6, 8))):
        with pytest.raises(ValueError, match="must be equal"):
            layer.compute_output_shape(*shapes)


def test_a_configuration_makes_the_same_layer() -> None:
    layer = Generated(**HEADS, use_gate=True, seed=2, kernel_initializer=keras.initializers.Zeros(), bias_constraint="non_neg")
    config = layer.get_config()
    assert config.keys() >= Native(**HEADS).get_config().keys()
    assert Generated.from_config(config).get_config() == config
    with pytest.raises(ValueError, match="`num_query_heads` must be divisible by"):
        Generated(4, 3, 2)


def test_dropout_follows_the_seed_and_the_mode() -> None:
    query, value = inputs(5, 7)
    one, same = (Generated(**HEADS, dropout=0.5, seed=7, kernel_initializer="ones") for _ in range(2))
    first = array_of(one(query, value, training=True))
    np.testing.assert_array_equal(first, array_of(same(query, value, training=True)))
    assert (first != array_of(one(query, value, training=True))).any()
    agree(one(query, value), one(query, value, training=False))
    native = Native(**HEADS, dropout=0.5, seed=7, kernel_initializer="ones")
    np.testing.assert_allclose(first, array_of(native(query, value, training=True)), rtol=1e-5)  # draws the same
