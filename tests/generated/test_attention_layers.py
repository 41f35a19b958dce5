"""keras.layers.Attention for NumPy: the numbers of Keras's own tests, and what a query gets that sees nothing."""

import numpy as np
import pytest

from attnspec.generated.numpy.keras_layers_attention import attention, attention_init

QUERY = np.array([[[1.0, 0.0], [0.0, 1.0]]])
KEY = np.array([[[0.0, 1.0], [1.0, 0.0]]])
VALUE = np.array([[[1.0, 2.0], [3.0, 4.0]]])
INPUTS = [QUERY, VALUE, KEY]


def test_the_numbers_of_keras() -> None:
    output, scores = attention({}, INPUTS, return_attention_scores=True)
    np.testing.assert_allclose(output, [[[2.462, 3.462], [1.538, 2.538]]], atol=1e-3)
    np.testing.assert_allclose(scores, [[[0.269, 0.731], [0.731, 0.269]]], atol=1e-3)
    params = attention_init(np.random.default_rng(0), use_scale=True, score_mode="concat", dtype=np.float64)
    assert {name: (weight.shape, float(weight)) for name, weight in params.items()} == {
        "scale": ((), 1.0),
        "concat_score_weight": ((), 1.0),
    }
    output, scores = attention(params, INPUTS, return_attention_scores=True, use_scale=True, score_mode="concat")
    np.testing.assert_allclose(output, [[[1.727, 2.727], [2.272, 3.272]]], atol=1e-3)
    np.testing.assert_allclose(scores, [[[0.636, 0.363], [0.363, 0.636]]], atol=1e-3)


def test_masks() -> None:
    seen = np.array([[True, False]])
    output, scores = attention({}, [QUERY, VALUE], [seen, seen], return_attention_scores=True)
    np.testing.assert_array_equal(scores, [[[1.0, 0.0], [1.0, 0.0]]])
    np.testing.assert_array_equal(output, [[[1.0, 2.0], [0.0, 0.0]]])
    _, causal = attention({}, INPUTS, [None, seen[:, ::-1]], return_attention_scores=True, use_causal_mask=True)
    np.testing.assert_array_equal(causal[0, 1], [0.0, 1.0])


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 5.0), (np.float16, 3.0)])
def test_a_query_that_sees_nothing_gets_the_mean_while_logits_are_small(dtype: type, size: float) -> None:
    inputs = [(QUERY * size).astype(dtype), VALUE.astype(dtype), KEY.astype(dtype)]
    output = attention({}, inputs, [None, np.zeros((1, 2), bool)])
    np.testing.assert_array_equal(output, np.broadcast_to(VALUE.mean(1, keepdims=True), (1, 2, 2)).astype(dtype))


def test_and_what_rounding_leaves_of_them_beyond() -> None:
    hidden = [None, np.zeros((1, 2), bool)]
    large = [(QUERY * 1000).astype(np.float32), VALUE.astype(np.float32), KEY.astype(np.float32)]
    np.testing.assert_array_equal(attention({}, large, hidden)[0, 0], VALUE[0, 1])
    low = [(QUERY * 0 - 9).astype(np.float16), VALUE.astype(np.float16), (KEY * 0 + 9).astype(np.float16)]
    assert np.isnan(attention({}, low, hidden)).all()


def test_lists_and_choices_are_checked() -> None:
    with pytest.raises(ValueError, match="`inputs` must be a list of 2 to 3 tensors"):
        attention({}, [QUERY])
    with pytest.raises(ValueError, match="`mask` must be a list of 2 to 3 tensors"):
        attention({}, INPUTS, [np.ones((1, 2), bool)])
    with pytest.raises(ValueError, match=r"Expected one of \{'dot', 'concat'\}. Received: score_mode=product"):
        attention({}, INPUTS, score_mode="product")
