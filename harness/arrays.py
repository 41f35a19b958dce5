"""The arrays of a case, the same bits in any process: raw Philox words, and integer arithmetic that is stated here.

A normal-like number is the sum of the three 21-bit parts of one word, centred: (2 (a + b + c) - 3 (2**21 - 1)) / 2**21, of
variance 1 and at most 3. Floats are then scaled in float64 and rounded once to their storage dtype; bfloat16 travels as
float32 that bfloat16 can hold. Integers and booleans are bit fields of one word each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor, log2, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.error_bounds import UNIT
from attnspec.harness.facts import facts
from attnspec.harness.oracle.plan import Plan, plan_of
from attnspec.harness.profiles import Masks, Values, masks_of, values_of
from attnspec.harness.storage import stored
from attnspec.spec.binding import tensors_of
from attnspec.spec.expression import Access, Binary, Call, Name, Number, Sum, names, walk
from attnspec.spec.model import Spec
from attnspec.spec.resolve import resolve

Array = NDArray[Any]
_PART = np.uint64(2**21 - 1)
MOST_LOGIT = 40_000.0  # scaled logits beyond it are uncertain by more than a bound in float32 can say
MOST_UNCERTAIN = 2.0**-8  # typical |logit| u of logits held in half precision: at several times that bounds say nothing
_CENTRE = np.int64(3 * (2**21 - 1))
_TRUE = np.array([1, 2, -1, 7])  # numbers that are True in a mask


@dataclass(frozen=True, slots=True)
class Sheet:
    """One tensor to fill: its role, and the words that are its own (`start` to `stop` of its kind's)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    start: int
    stop: int
    scale: float = 1.0
    offset: Array | None = None
    most: int = 0
    masks: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the arrays of one configuration have in common."""

    floats: tuple[Sheet, ...]
    others: tuple[Sheet, ...]
    words: int
    layer: bool
    head: int
    scale: float
    plan: Plan
    adds: bool
    stands_in: bool


def arrays(case: Case, spec: Spec) -> dict[str, Array]:
    """Every tensor that the call is given, and a cotangent `d_<output>` for every output that has a gradient."""
    recipe = _recipe(spec, case.configuration)
    values, masks = values_of(case.seed, recipe.layer), masks_of(case.seed)
    words = np.random.Philox(key=case.seed).random_raw(recipe.words)
    made: dict[str, Array] = {}
    for sheet in recipe.others:
        made[sheet.name] = _integers(sheet, words[sheet.start : sheet.stop], masks)
    normal = normals(words[: recipe.floats[-1].stop])
    drawn = np.empty(normal.shape)
    for sheet in recipe.floats:
        drawn[sheet.start : sheet.stop] = _floats(sheet, normal[sheet.start : sheet.stop], values, recipe)
    rounded = stored(drawn, case.configuration.dtype)
    for sheet in recipe.floats:
        made[sheet.name] = rounded[sheet.start : sheet.stop].reshape(sheet.shape)
    if values.bias_inf:
        _hide_by_bias(recipe, made, words)
    if values.poison:
        _poison(recipe, made, values.poison)
    return made


def normals(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One number of mean 0 and variance 1 for each word."""
    parts = (words & _PART) + (words >> np.uint64(21) & _PART) + (words >> np.uint64(42) & _PART)
    centred: NDArray[np.float64] = (2 * parts.astype(np.int64) - _CENTRE) * 2.0**-21
    return centred


def _floats(sheet: Sheet, normal: Array, values: Values, recipe: Recipe) -> Array:
    """The numbers of one floating tensor, before they are rounded to storage."""
    if sheet.role == "value":
        assert sheet.offset is not None
        shifted = ((0.5 * normal).reshape(sheet.shape) + sheet.offset).ravel()
        drawn: Array = np.rint(shifted) if values.grid and not values.logit else shifted
        return drawn * _shrunk(values, recipe) if recipe.stands_in else drawn
    if sheet.role == "factor":
        return (1.0 + normal) * (0.25 if recipe.plan.units.logit > UNIT["float16"] * 2 else 1.0)
    if sheet.role == "mean":
        return (1.0 + normal) * sheet.scale
    if sheet.role == "packed":  # in averaging entries 1 / fan-in, which is 4 of the others' squared
        assert sheet.offset is not None
        means = np.repeat(sheet.offset, normal.size // sheet.offset.size)
        return np.where(means == 1.0, (1.0 + normal) * 4 * sheet.scale**2, normal * sheet.scale)
    if sheet.role not in ("query", "key"):
        return normal * sheet.scale
    return _operand(sheet, normal, values, recipe) * _shrunk(values, recipe)


def _shrunk(values: Values, recipe: Recipe) -> float:
    """The factor of query and key, a power of two, that keeps logits of half precision certain; projections have their own."""
    if recipe.layer or recipe.plan.units.logit < UNIT["float16"]:
        return 1.0
    most = MOST_UNCERTAIN / recipe.plan.units.logit
    if recipe.adds:
        typical = (values.query + values.key) * sqrt(recipe.head)
        return 2.0 ** floor(log2(most / typical)) if typical > most else 1.0
    typical = values.logit or values.query * values.key * sqrt(recipe.head)
    return 2.0 ** floor(0.5 * log2(most / typical)) if typical > most else 1.0


def _operand(sheet: Sheet, normal: Array, values: Values, recipe: Recipe) -> Array:
    """The numbers of a query or a key."""
    if values.grid == "positive":
        normal = np.abs(normal)
    elif values.grid:
        grid = np.rint(normal) if values.grid == "integers" else np.copysign(1.0, normal)
        return grid * (np.abs(normal) > 1.0) if values.grid == "sparse" else grid
    factor = values.query if sheet.role == "query" else values.key
    if values.logit:
        factor = sqrt(min(values.logit, MOST_LOGIT / recipe.scale) / max(recipe.head, 1))
    return normal * (factor * sheet.scale)


def _integers(sheet: Sheet, words: NDArray[np.uint64], masks: Masks) -> Array:
    """A boolean mask, one of numbers, lengths or segment ids."""
    if sheet.dtype == "bool" or sheet.role == "numbers":
        eighths = max(masks.eighths, 2) if sheet.role == "rows" else masks.eighths  # no row left would show nothing
        drawn = _attending(words, eighths, sheet.masks).reshape(sheet.shape)
        if masks.empty:
            rows = (words >> np.uint64(8) & np.uint64(3)).reshape(sheet.shape)[..., :1]
            drawn = drawn & (rows != 0)
        numbers = _TRUE[words >> np.uint64(20) & np.uint64(3)].reshape(sheet.shape)
        return drawn if sheet.dtype == "bool" else (numbers * drawn).astype(sheet.dtype)
    if sheet.role == "bounds":
        return _bounds(sheet, words, masks.lengths).reshape(sheet.shape).astype(sheet.dtype)
    if sheet.role == "length":
        return _lengths(sheet, words, masks.lengths).reshape(sheet.shape).astype(sheet.dtype)
    most = 1 if masks.sorted_segments else sheet.most  # two documents in order; with more, short rows would see nothing
    ids = (words >> np.uint64(3) & np.uint64(most)).reshape(sheet.shape).astype(sheet.dtype)
    return np.sort(ids, axis=-1) if masks.sorted_segments else ids


def _attending(words: NDArray[np.uint64], eighths: int, masks: int) -> NDArray[np.bool_]:
    """True in that many eighths, or in more where several masks have to agree on what stays visible."""
    if masks == 1:
        return (words & np.uint64(7)) < np.uint64(eighths)
    return (words & np.uint64(255)) < np.uint64(round(256 * (eighths / 8) ** (1 / masks)))


def _lengths(sheet: Sheet, words: NDArray[np.uint64], kind: str) -> Array:
    most = np.uint64(sheet.most)
    if kind == "full":
        return np.full(words.shape, most)
    if kind == "edges":
        return (words >> np.uint64(5) & np.uint64(1)) * most
    return (words >> np.uint64(3)) % (most + np.uint64(1))


def _bounds(sheet: Sheet, words: NDArray[np.uint64], kind: str) -> Array:
    """Where documents begin and the last one ends: in order, from 0, to the end or, at random, not quite.

    Documents of equal lengths, of any, or all but one empty.
    """
    last = words.size - 1
    if kind == "full":
        return np.arange(words.size, dtype=np.int64) * sheet.most // max(last, 1)
    if kind == "edges":
        return np.where(np.arange(words.size) > words[0] % np.uint64(max(last, 1)), sheet.most, 0)
    drawn = np.sort((words >> np.uint64(3)) % np.uint64(sheet.most + 1)).astype(np.int64)
    drawn[-1] = max(int(drawn[-1]), sheet.most - int(words[0] % np.uint64(3)))
    drawn[0] = 0
    return drawn


# -- what an attention must not see -------------------------------------------------------------------------------


def _hide_by_bias(recipe: Recipe, made: dict[str, Array], words: NDArray[np.uint64]) -> None:
    """A quarter of a bias becomes -inf, and with it some whole rows."""
    for sheet in recipe.floats:
        if sheet.role == "bias":
            picks = words[sheet.start : sheet.stop].reshape(sheet.shape)
            row = picks[..., :1] >> np.uint64(60) == 0
            made[sheet.name] = _where((picks & np.uint64(3) == 0) | row, -np.inf, made[sheet.name])


def _poison(recipe: Recipe, made: dict[str, Array], which: str) -> None:
    """NaN into the keys that no query may attend to, or into the first feature of the values: it may leak, and to all rows."""
    seen = recipe.plan.seen(made)
    found = recipe.plan.poisonable.get(which)
    if seen is None or found is None:
        return
    slot, port = recipe.plan.inputs[found]
    if port.full != port.documented:
        return
    heads = slot.shape[1] if len(slot.shape) == 4 else 1
    by_head: Array = np.asarray(seen.reshape(seen.shape[0], heads, -1, seen.shape[-1]).any(axis=2))
    hidden = np.broadcast_to(np.expand_dims(~by_head, -1).reshape(*slot.shape[:-1], 1), slot.shape)
    if which == "value":
        hidden = hidden & (np.arange(slot.shape[-1]) == 0)
    made[found] = _where(port.out(hidden), np.nan, made[found])


def _where(condition: Array, value: float, array: Array) -> Array:
    return np.where(condition, array.dtype.type(value), array)


# -- recipes ------------------------------------------------------------------------------------------------------

_recipes: dict[tuple[int, Configuration], tuple[Spec, Recipe]] = {}


def _recipe(spec: Spec, configuration: Configuration) -> Recipe:
    key = (id(spec), configuration)
    found = _recipes.get(key)
    if found is None:
        if len(_recipes) >= 8192:
            _recipes.clear()
        found = _recipes[key] = (spec, _made_recipe(spec, configuration))
    return found[1]


def _made_recipe(spec: Spec, configuration: Configuration) -> Recipe:
    plan = plan_of(spec, configuration)
    sizes = dict(configuration.sizes)
    values = facts(spec, configuration).values
    dims = {tensor.name: tensor.under(values).layouts[0].dims for tensor in tensors_of(spec)}
    feeds = {a.name: a.feeds or a.name for a in spec.tensor_arguments}
    weights = _weights(spec)
    wanted = [(name, p.shape, p.dtype) for name, p in configuration.tensors]
    wanted += [
        ("d_" + r.output.name, r.port.documented, configuration.dtype) for r in plan.results if not r.output.stop_gradient
    ]
    floats: list[Sheet] = []
    others: list[Sheet] = []
    stages = [stage for path in spec.paths for stage in path.stages]
    rows = frozenset[str]().union(*(names(stage.expression) for stage in stages if stage.kind == "rows"))
    predicates = {a.name for a in spec.tensor_arguments if a.dtype == "bool or number"}
    masks = sum((dtype == "bool" or name in predicates) and feeds.get(name, name) not in rows for name, _, dtype in wanted)
    place = {"float": 0, "other": 0}
    for name, shape, dtype in sorted(wanted, key=lambda each: "float" not in each[2]):
        kind = "float" if "float" in dtype else "other"
        start = place["float"] + place["other"]
        place[kind] += prod(shape)
        operator = feeds.get(name, name)
        role = "weight" if name in weights else _role(operator)
        if kind == "float":
            scale, offset = 1.0, _position_code(dims[name], shape) if role == "value" else None
            if role == "weight":
                role, scale, offset = _weight(spec, name, dims[name], sizes)
            floats.append(Sheet(name, shape, dtype, role, start, start + prod(shape), scale, offset))
        else:
            most, limit = _length_limit(spec, operator, sizes), _bounds_limit(spec, operator, sizes)
            role = "length" if most >= 0 else "rows" if operator in rows else "numbers" if name in predicates else "segments"
            role, most = ("bounds", limit) if limit >= 0 else (role, most)
            others.append(
                Sheet(name, shape, dtype, role, start, start + prod(shape), most=most if most >= 0 else 3, masks=max(masks, 1))
            )
    given = facts(spec, configuration).scope.get("scale")
    scale = abs(float(given)) if isinstance(given, (int, float)) and given else 1.0
    words = place["float"] + place["other"]
    given_tensors = dict(configuration.tensors)
    stands_in = any(isinstance(a.unset, Name) and a.name not in given_tensors for a in spec.tensor_arguments)
    head, adds = sizes.get("H", 1), _adds(spec, configuration)
    return Recipe(tuple(floats), tuple(others), words, spec.projects, head, scale, plan, adds, stands_in)


def _adds(spec: Spec, configuration: Configuration) -> bool:
    """Whether scores are made of sums of query and key, not of products."""
    scores = (stage for stage in resolve(spec, facts(spec, configuration)).stages if stage.kind == "score")
    return any(isinstance(node, Call) and node.function == "tanh" for stage in scores for node in walk(stage.expression))


def _role(operator: str) -> str:
    """Which side of the attention a tensor is on, by the operator's name for it."""
    if operator.startswith("d_"):
        return "cotangent"
    for role in ("query", "key", "value"):
        if role in operator:
            return role
    return "bias" if operator in ("bias", "attn_mask") else "other"


def _weights(spec: Spec) -> frozenset[str]:
    """The weights of a layer, and what is one in a function with projections: a tensor that knows no batch and no position."""
    passed = {a.name for a in spec.tensor_arguments if spec.projects and not {"B", "T", "S"} & {*a.layouts[0].dims}}
    return frozenset({weight.name for weight in spec.weights} | passed)


def _weight(spec: Spec, name: str, dims: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[str, float, Array | None]:
    """Role, scale and, for a packed weight, what its entries have in front: 1 where they average.

    Kernels of query and key keep bfloat16's logits well-conditioned: half of 1 / sqrt(fan-in). The others average, so that
    the sign-coded positions of the values stay visible behind two projections. A single number is a factor, about 1; what else
    no index is summed over is a bias.
    """
    readings = tuple(_readings(spec, name))
    summed = {place for reading in readings for place in reading.summed}
    if not dims:
        return "factor", 1.0, None
    if not summed:
        return "bias of a projection", 0.25, None
    fan_in = max(1, prod(sizes.get(dims[place], 1) for place in summed))
    packed = {reading.entry: _role(reading.defines) for reading in readings if reading.entry >= 0}
    if packed:
        means = [0.0 if packed.get(entry) in ("query", "key") else 1.0 for entry in range(max(packed) + 1)]
        return "packed", 0.5 / sqrt(fan_in), np.asarray(means)
    logits = any(_role(reading.defines) in ("query", "key") for reading in readings)
    return ("logits' kernel", 0.5 / sqrt(fan_in), None) if logits else ("mean", 1.0 / fan_in, None)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One place where a stage reads a weight: what it defines, at which entry of the first axis, and the axes it sums over."""

    defines: str
    entry: int
    summed: tuple[int, ...]


def _readings(spec: Spec, name: str) -> Iterator[_Reading]:
    for stage in (stage for path in spec.paths for stage in path.stages):
        letters = {node.index for node in walk(stage.expression) if isinstance(node, Sum)}
        for node in walk(stage.expression):
            if isinstance(node, Access) and node.tensor == name:
                entry = int(node.indices[0].value) if isinstance(node.indices[0], Number) else -1
                places = (
                    place for place, index in enumerate(node.indices) if isinstance(index, Name) and index.name in letters
                )
                yield _Reading(stage.defines, entry, tuple(places))


def _position_code(dims: tuple[str, ...], shape: tuple[int, ...]) -> Array:
    """A sign and size per key position, so that a permuted or dropped key shows: Thue-Morse signs, sizes 1 to 1.75."""
    along = [place for place, dim in enumerate(dims) if dim in ("S", "P", "C")]
    axis = along[0] - len(dims) if along else -1
    if -axis > len(shape):
        return np.ones((1,) * len(shape))
    code = [(-1.0) ** (s.bit_count() % 2) * (1.0 + (s % 4) / 4) for s in range(shape[axis])]
    return np.asarray(code).reshape(shape[axis], *(1,) * (-axis - 1))


def _length_limit(spec: Spec, operator: str, sizes: Mapping[str, int]) -> int:
    """The largest useful length where some clause compares an index with the tensor (`s < lengths[b]`), otherwise -1."""
    for path in spec.paths:
        for stage in path.stages:
            for node in walk(stage.expression):
                match node:
                    case Binary("<" | "<=", Name(letter), Access(tensor, _)) if tensor == operator:
                        return sizes.get(letter.upper(), 0)
                    case Binary("<" | "<=", Name(letter), Name(tensor)) if tensor == operator:
                        return sizes.get(letter.upper(), 0)
    return -1


def _bounds_limit(spec: Spec, operator: str, sizes: Mapping[str, int]) -> int:
    """The length of what a tensor divides into intervals (`interval(bounds, t)`), otherwise -1."""
    for path in spec.paths:
        for stage in path.stages:
            for node in walk(stage.expression):
                match node:
                    case Call("interval", (Name(tensor), Name(letter))) if tensor == operator:
                        return sizes.get(letter.upper(), 0)
    return -1
