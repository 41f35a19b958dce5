"""The arrays of a case: the same bits everywhere, in the planned shapes and dtypes, with what each profile promises."""

import hashlib
import subprocess
import sys

import numpy as np

from attnspec.harness.arrays import arrays, normals
from attnspec.harness.cases import Case, pool
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.profiles import MASKS, VALUES, masks_of, seed_for, values_of
from attnspec.harness.storage import bfloat16
from attnspec.spec.loader import builtin

JAX = builtin()["jax.nn.dot_product_attention"]
TORCH = builtin()["torch.nn.functional.scaled_dot_product_attention"]
PACKED = builtin()["packed_documents"]
VARIABLE = builtin()["variable_lengths"]


def digest(dtype: str) -> str:
    found = hashlib.sha256()
    for number, configuration in enumerate(pool(JAX, dtype, 24)):
        for name, array in sorted(arrays(Case(configuration, number * 2**40 + number), JAX).items()):
            found.update(name.encode() + array.tobytes())
    return found.hexdigest()


def test_bits_are_the_same_in_every_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_arrays import digest; print(digest(sys.argv[2]))"
    for dtype in ("float32", "bfloat16"):
        run = [sys.executable, "-c", code, str(__file__).rpartition("/")[0], dtype]
        assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == digest(dtype)


def test_words_become_numbers_by_the_stated_arithmetic() -> None:
    words = np.array([0, 2**63 - 1, 1 | 2 << 21 | 3 << 42], np.uint64)
    assert normals(words).tolist() == [-3 * (1 - 2.0**-21), 3 * (1 - 2.0**-21), (12 - 3 * (2**21 - 1)) * 2.0**-21]
    many = normals(np.random.Philox(key=7).random_raw(200_000))
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01


def test_bfloat16_rounds_half_to_even() -> None:
    given = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -1 - 2.0**-8, 3.3895e38, np.inf, -np.inf, 0.0])
    want = [1.0, 1.0, 1 + 2.0**-6, 1 + 2.0**-7, -1.0, float.fromhex("0x1.fep127"), np.inf, -np.inf, 0.0]
    assert bfloat16(given).tolist() == want
    random = np.random.default_rng(3).normal(size=4096).astype(np.float32)
    below = (random.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    above = ((random.view(np.uint32) & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    nearest = np.where(np.abs(random - below) <= np.abs(above - random), below, above)
    assert (bfloat16(random) == nearest).all()


def test_shapes_and_dtypes_are_the_planned_ones() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        for configuration in pool(JAX, dtype, 24):
            made = arrays(Case(configuration, 5), JAX)
            plans = dict(configuration.tensors)
            assert made.keys() == {*plans, "d_output"}  # no gradient flows through the residual
            for name, plan in plans.items():
                assert made[name].shape == plan.shape
                assert str(made[name].dtype) == ("float32" if plan.dtype == "bfloat16" else plan.dtype)
            assert all((bfloat16(a) == a).all() for a in made.values() if dtype == "bfloat16" and a.dtype.kind == "f")


def test_bounds_of_documents_are_in_order_and_reach_the_end_or_not() -> None:
    seen = set[str]()
    for number, configuration in enumerate(pool(VARIABLE, "float32", 24)):
        sizes = dict(configuration.sizes)
        for turn in range(8):
            made = arrays(Case(configuration, seed_for("plain", MASKS[turn].name, number)), VARIABLE)
            for bounds, size in ((made["cu_seqlens_q"], "T"), (made["cu_seqlens_k"], "S")):
                assert bounds[0] == 0
                assert bounds[-1] <= sizes[size]
                assert (np.diff(bounds) >= 0).all()
                seen |= {"not quite"} if bounds[-1] < sizes[size] else set()
                seen |= {"empty"} if (np.diff(bounds) == 0).any() else set()
                seen |= {"several"} if (np.diff(bounds) > 0).sum() > 1 else set()
    assert seen == {"not quite", "empty", "several"}


def test_lengths_reach_both_ends_and_never_leave() -> None:
    seen: set[str] = set()
    for number, configuration in enumerate(pool(JAX, "float32", 48)):
        for turn in range(16):
            made = arrays(Case(configuration, seed_for("plain", MASKS[turn % 8].name, turn + number)), JAX)
            for name, size in (("query_seq_lengths", "T"), ("key_value_seq_lengths", "S")):
                if name in made:
                    most = dict(configuration.sizes)[size]
                    assert made[name].min() >= 0
                    assert made[name].max() <= most
                    seen |= {f"{name} 0"} if (made[name] == 0).any() else set()
                    seen |= {f"{name} all"} if (made[name] == most).any() else set()
    assert len(seen) == 4


def test_masks_have_empty_rows_and_segments_are_unsorted_where_that_is_said() -> None:
    configuration = next(c for c in pool(JAX, "float32", 24) if "mask" in dict(c.tensors))
    assert not arrays(Case(configuration, seed_for("plain", "none")), JAX)["mask"].any()
    assert arrays(Case(configuration, seed_for("plain", "full")), JAX)["mask"].all()
    packed = pool(PACKED, "float32", 24)[7]
    ordered = arrays(Case(packed, seed_for("plain", "half")), PACKED)["key_value_segment_ids"]
    shuffled = arrays(Case(packed, seed_for("plain", "few")), PACKED)["key_value_segment_ids"]
    assert (np.diff(ordered) >= 0).all()
    assert not (np.diff(shuffled) >= 0).all()


def test_poison_is_only_where_no_query_looks() -> None:
    poisoned = 0
    for which in ("key", "value"):
        for configuration in pool(PACKED, "float32", 24):
            for number in range(4):
                made = arrays(Case(configuration, seed_for(f"poisoned {which}s", "few", number)), PACKED)
                seen = plan_of(PACKED, configuration).seen(made)
                heads = made[which].shape[2]
                spots = np.isnan(made[which]).any(axis=3).transpose(0, 2, 1)
                assert seen is not None
                assert not (spots & seen.reshape(seen.shape[0], heads, -1, seen.shape[2]).any(axis=2)).any()
                poisoned += int(spots.any())
    assert poisoned > 20


def test_a_layers_own_keys_are_poisoned_where_no_query_looks_and_nothing_else() -> None:
    """Behind a projection too; a value that stands in for its key, or is the query's own tensor, is left alone."""
    layer = builtin()["keras.layers.GroupQueryAttention"]
    poisoned = 0
    for configuration in pool(layer, "float32", 24):
        made = arrays(Case(configuration, seed_for("poisoned keys", "few")), layer)
        spots = {name: np.isnan(array).any(axis=-1) for name, array in made.items() if array.dtype.kind == "f"}
        seen = plan_of(layer, configuration).seen(made)
        assert not any(spot.any() for name, spot in spots.items() if name != "key")
        if "key" in spots and spots["key"].any():
            assert seen is not None
            assert not (spots["key"] & seen.any(axis=1)).any()
            poisoned += 1
    assert poisoned > 5


def test_biases_hide_keys_and_huge_logits_are_huge() -> None:
    hidden = 0
    for configuration in pool(TORCH, "float16", 24):
        made = arrays(Case(configuration, seed_for("bias_inf")), TORCH)
        hidden += "attn_mask" in made and made["attn_mask"].dtype.kind == "f" and bool(np.isneginf(made["attn_mask"]).any())
        vast = arrays(Case(configuration, seed_for("vast")), TORCH)
        query, key = (vast[name].astype(float).reshape(-1, vast[name].shape[-1]) for name in ("query", "key"))
        product = query @ key.T
        few = product.size < 100 or dict(configuration.values).get("scale") is not None
        assert few or np.abs(product).max() > 65504
    assert hidden > 2


def test_seeds_choose_profiles_and_the_smallest_is_plain() -> None:
    assert values_of(0, False).name == "plain"
    assert masks_of(0).name == "half"
    for value in VALUES:
        assert values_of(seed_for(value.name), False) is value
    for mask in MASKS:
        assert masks_of(seed_for("plain", mask.name, 9)) is mask
    assert values_of(seed_for("vast"), layer=True).name == "plain"
