"""A definition in, the expected text out: what a reader of a generated file sees."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.keras_port import seeded
from attnspec.codegen.module import aliases, covers, module_text, takes_a_place
from attnspec.codegen.targets import TARGETS
from attnspec.spec.loader import builtin, load
from compiling import SPECS, backward_text, body_of, forward_text, spec_of

RECENT = """
    variant = "recent"
    summary = "Attention to the most recent keys."
    masks   = ["window"]

    [parameters]
    scale = 1.0
    left  = { default = 2, examples = [2, 0] }
"""


def test_a_variant_gives_this_text(tmp_path: Path) -> None:
    expected = '''
def recent(query: np.ndarray, key: np.ndarray, value: np.ndarray, *, left: int = 2) -> np.ndarray:
    """Attention to the most recent keys.

    Args:
        query, (B, T, N, H), floating: queries
        key, (B, S, K, H), floating: keys; N is a multiple of K
        value, (B, S, K, V), floating: values
        left: keys visible before the query's own position, inclusive

    Returns:
        output, (B, T, N, V): the attended values

    Raises:
        ValueError: a tensor's shape or dtype does not fit.
        ValueError: unless `K > 0 and N % K == 0` (heads-divide).
        ValueError: unless `left >= 0` (left-range).

    Source: under_test.toml
    """
    sizes: dict[str, tuple[int, str]] = {}
    query = _tensor(sizes, "query", query, "floating", "B T N H")
    key = _tensor(sizes, "key", key, "floating", "B S K H")
    value = _tensor(sizes, "value", value, "floating", "B S K V")
    _same_dtype(query=query, key=key, value=value)
    B, H, K, N, S, T, V = (sizes[dim][0] for dim in "BHKNSTV")
    left = _integer("left", left)
    # precondition.heads-divide
    if K <= 0 or N % K != 0:
        raise ValueError(f"the {N} heads of query must be a multiple of the {K} heads of key and value")
    # precondition.left-range
    if left < 0:
        raise ValueError(f"`left` must satisfy left >= 0, got {left}")
    G = N // K
    dtype = query.dtype
    compute = np.promote_types(query.dtype, np.float32)
    t = np.arange(T)
    s = np.arange(S)
    # policy.mask.fill: replace
    hidden = -np.inf
    # score.dot: sum(h, query[b, t, n, h] * key[b, s, n // G, h])
    grouped_query = query.reshape(B, T, K, G, H)
    logits = np.einsum("btkgh,bskh->bkgts", grouped_query, key, dtype=compute)
    logits = logits.reshape(B, N, T, S)
    # modifier.scale: logit
    logits = logits
    # mask.window: -left <= s - t and s - t <= 0
    logits = np.where((-left <= s - t[:, None]) & (s - t[:, None] <= 0), logits, hidden)
    # policy.empty_row: zero
    empty = np.isneginf(logits).all(axis=-1, keepdims=True)
    safe_logits = np.where(empty, 0.0, logits)
    # softmax.plain: logit
    weights = _softmax(safe_logits)
    # policy.empty_row: zero
    weights = np.where(empty, 0.0, weights)
    # policy.weights.dtype: input
    weights = weights.astype(dtype)
    # combine.weighted: sum(s, weight[b, n, t, s] * value[b, s, n // G, v])
    grouped_weights = weights.reshape(B, K, G, T, S)
    output = np.einsum("bkgts,bskv->btkgv", grouped_weights, value, dtype=compute)
    output = output.reshape(B, T, N, V)
    output = output.astype(dtype)
    return output
'''
    assert forward_text(spec_of(RECENT, tmp_path)) == expected.strip("\n")


def test_its_backward_pass_gives_this_text(tmp_path: Path) -> None:
    expected = """
# Backward, last stage first.
gradients: dict[str, np.ndarray] = {}
d_output = np.asarray(d_output).astype(compute)
# combine.weighted
grouped_d_output = d_output.reshape(B, T, K, G, V)
d_weights = np.einsum("btkgv,bskv->bkgts", grouped_d_output, value, dtype=compute)
d_weights = d_weights.reshape(B, N, T, S)
grouped_weights = weights.reshape(B, K, G, T, S)
d_value = np.einsum("bkgts,btkgv->bskv", grouped_weights, grouped_d_output, dtype=compute)
# policy.empty_row
d_weights = np.where(empty, 0, d_weights)
# softmax.plain
d_safe_logits = _softmax_vjp(weights_after_plain, d_weights)
# policy.empty_row
d_logits = np.where(empty, 0, d_safe_logits)
# mask.window
d_logits = np.where((-left <= s - t[:, None]) & (s - t[:, None] <= 0), d_logits, 0)
# score.dot
grouped_d_logits = d_logits.reshape(B, K, G, T, S)
d_query = np.einsum("bkgts,bskh->btkgh", grouped_d_logits, key, dtype=compute)
d_query = d_query.reshape(B, T, N, H)
d_key = np.einsum("btkgh,bkgts->bskh", grouped_query, grouped_d_logits, dtype=compute)
gradients["query"] = d_query.astype(query.dtype)
gradients["key"] = d_key.astype(key.dtype)
gradients["value"] = d_value.astype(value.dtype)
return gradients
"""
    body = body_of(backward_text(spec_of(RECENT, tmp_path)))
    assert body[body.index("# Backward") :] == expected.strip("\n")


@pytest.mark.parametrize("target", TARGETS)
def test_every_line_that_targets_share_is_the_same(target: str, tmp_path: Path) -> None:
    """Checks are made once for all targets; a number may have no value while it is traced, in TensorFlow a size too.

    A target names the sizes that it reads.
    """
    spec = spec_of(RECENT, tmp_path)
    shared = [body_of(forward_text(spec, name)).partition("dtype = query.dtype")[0] for name in ("numpy", target)]
    numpy, other = (re.sub(r"(?m)^[A-Z, ]+ = \(sizes.*\n", "", text) for text in shared)
    other = other.replace("_concrete(K, N) and (K <= 0 or N % K != 0)", "K <= 0 or N % K != 0")
    assert numpy == other.replace("_concrete(left) and ", "")


def test_the_head_names_the_source_and_how_to_write_the_file_again(tmp_path: Path) -> None:
    spec = spec_of(RECENT, tmp_path)
    lines = module_text(spec, TARGETS["numpy"]).splitlines()
    assert lines[0] == f"# Generated by attnspec 0.1.0 from under_test.toml (sha256 {spec.digest[:16]}). Do not edit:"
    assert lines[1] == "# change the spec and run `attnspec generate`."
    assert lines[2] == '"""`recent` for numpy.'


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "tf_keras"])
def test_a_file_has_the_helpers_that_it_uses_and_no_others(target: str, tmp_path: Path) -> None:
    tree = ast.parse(module_text(spec_of(RECENT, tmp_path), TARGETS[target]))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {"_bind", "_tensor", "_same_dtype"} <= set(defined)
    assert not {"_pair", "_choice", "_members", "_dropout", "_glorot_uniform"} & set(defined)
    assert all(name in used for name in defined if name.startswith("_"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*builtin(), *(path.stem for path in sorted(SPECS.glob("*.toml")))])
def test_every_spec_gives_python_with_the_documented_signature(name: str, target: str) -> None:
    spec = builtin()[name] if name in builtin() else load(SPECS / f"{name}.toml")
    if not covers(TARGETS[target], spec):
        with pytest.raises(LoweringError, match=f"^{name}: tf_keras has layers of its own APIs alone"):
            module_text(spec, TARGETS[target])
        return
    tree = ast.parse(module_text(spec, TARGETS[target]))
    if takes_a_place(spec, TARGETS[target]):
        layer = next(node for node in tree.body if isinstance(node, ast.ClassDef))
        methods = [node for node in layer.body if isinstance(node, ast.FunctionDef)]
        made = {node.name: [a.arg for a in (*node.args.args, *node.args.kwonlyargs)] for node in methods}
        assert layer.name == (spec.defined_as or spec.class_name)
        assert made["__init__"] == ["self", *(a.name for a in spec.constructor)]
        assert made["call"] == made.get("compute_output_spec", made["call"]) == ["self", *(a.name for a in spec.arguments)]
        return
    if spec.form == "layer" and target == "keras":
        spec = seeded(spec)
    wanted = "_apply" if spec.form == "layer" and target in ("torch", "tensorflow", "keras") else spec.function_name
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == wanted)
    positional = [a.arg for a in function.args.args]
    keywords = [a.arg for a in function.args.kwonlyargs]
    assert positional == [*(["params"] if spec.weights else []), *(a.name for a in spec.arguments if a.kind == "positional")]
    assert keywords == [
        *(a.name for a in spec.arguments if a.kind != "positional"),
        *(a.name for a in spec.constructor if a.role not in ("object", "placement")),
    ]
    defaults = [ast.literal_eval(d) for d in function.args.defaults]
    assert defaults == [a.default for a in spec.arguments if a.kind == "positional" and not a.required]


def test_a_size_that_the_layouts_do_not_name_has_an_alias() -> None:
    """jax.nn's value is `B S K H`: its head dim is query's. A layer's weights name their own."""
    assert aliases(builtin()["jax.nn.dot_product_attention"]) == {"V": "H"}
    assert aliases(builtin()["causal_gqa"]) == {}
    assert aliases(load(SPECS / "projected_layer.toml")) == {}
