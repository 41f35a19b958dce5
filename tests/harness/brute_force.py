"""Attention by plain Python loops over the text of a spec's expressions: slow, obvious, and independent of the oracle.

Every expression is printed with `to_text` and run by Python itself, one element at a time. Only tests may do that.
"""

import itertools
import math
from typing import Any

import numpy as np

from attnspec.harness.configuration import Case
from attnspec.harness.facts import facts
from attnspec.spec.binding import tensors_of
from attnspec.spec.expression import Binary, Concat, Expression, Name, Sum, to_text
from attnspec.spec.layouts import paired_dims
from attnspec.spec.model import Spec
from attnspec.spec.resolve import resolve


class Tensor:
    """A NumPy array that is indexed by canonical position; an axis of size 1 broadcasts, a bare name is looked up."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        return self.array[tuple(0 if n == 1 else i for i, n in zip(index, self.array.shape, strict=True))]


class World:
    """The names that one case's expressions may use."""

    def __init__(self, spec: Spec, case: Case, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        self.spec, self.case = spec, case
        self.facts = facts(spec, case.configuration)
        self.attention = resolve(spec, self.facts)
        self.scope = dict(self.attention.scope)
        self.tensors = {name: Tensor(array) for name, array in canonical(spec, case, arrays, self.facts).items()}

    def sizes(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.scope[dim] for dim in dims)

    def text(self, expression: Expression, dims: dict[str, int]) -> Any:
        """The value of an expression at one element."""

        def total(letter: str, body: str) -> float:
            return math.fsum(eval_(body, {**dims, letter: i}) for i in range(self.scope[letter.upper()]))

        def eval_(body: str, at: dict[str, int]) -> Any:
            names = {**self.scope, **self.bare(at), **at, **FUNCTIONS}
            names.update((name, value) for name, value in self.tensors.items() if name not in names or f"{name}[" in body)
            return eval(body, {"__builtins__": {}, "total": total}, names)

        if isinstance(expression, Binary) and isinstance(expression.left, Sum) and expression.operator == "/":
            return self.text(expression.left, dims) / self.text(expression.right, dims)
        if isinstance(expression, Binary) and isinstance(expression.right, Sum) and expression.operator == "*":
            return self.text(expression.left, dims) * self.text(expression.right, dims)
        body = to_text(expression)
        while body.startswith("sum("):
            letter, rest = body[4:-1].split(", ", 1)
            nested = dict(dims)
            return self.sums([letter], rest, nested, eval_)
        return eval_(body, dims)

    def sums(self, letters: list[str], body: str, dims: dict[str, int], eval_: Any) -> float:
        while body.startswith("sum("):
            letter, body = body[4:-1].split(", ", 1)
            letters.append(letter)
        ranges = [range(self.scope[letter.upper()]) for letter in letters]
        return math.fsum(eval_(body, {**dims, **dict(zip(letters, at, strict=True))}) for at in itertools.product(*ranges))

    def bare(self, at: dict[str, int]) -> dict[str, Any]:
        """A bare tensor name at its canonical indices, where the element has all of them: keys may have become longer."""
        found = {}
        for name, tensor in self.tensors.items():
            letters = [dim.lower() for dim in self.spec.tensors[name]]
            axes = zip(letters, tensor.array.shape, strict=True)
            if all(letter in at and (at[letter] < length or length == 1) for letter, length in axes):
                found[name] = tensor[tuple(at[letter] for letter in letters)]
        return found

    def fill(self, expression: Expression, dims: tuple[str, ...]) -> np.ndarray[Any, Any]:
        """An expression at every element of a grid."""
        result = np.empty(self.sizes(dims), object)
        for index in np.ndindex(*result.shape):
            result[index] = self.text(expression, dict(zip((d.lower() for d in dims), index, strict=True)))
        return result


FUNCTIONS = {
    "min": min, "max": max, "exp": math.exp, "log": math.log, "tanh": math.tanh, "abs": abs, "floor": math.floor,
    "interval": lambda bounds, position: sum(bound <= position for bound in bounds.array) - 1,
    "where": lambda c, x, y: x if c else y, "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}  # fmt: skip


def canonical(spec: Spec, case: Case, arrays: dict[str, Any], known: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Every given tensor with its canonical axes in their canonical order."""
    feeds = {a.name: a.feeds or a.name for a in spec.tensor_arguments}
    found = {}
    for tensor in (each.under(known.values) for each in tensors_of(spec)):
        name = feeds.get(tensor.name, tensor.name)
        if tensor.name not in arrays:
            continue
        array = arrays[tensor.name].astype(object if arrays[tensor.name].dtype == bool else float)
        dims = spec.tensors[name]
        exact = [x for x in tensor.layouts if not x.batched and len(x.axes) == array.ndim]
        layout = (exact or [x for x in tensor.layouts if x.batched])[0]
        if any(len(axis.dims) != 1 for axis in layout.axes):
            array = array.reshape([known.sizes[dim] for dim in layout.dims])
        own = list(paired_dims(layout.dims[layout.batched :], tuple(d for d in dims if not (layout.batched and d == "B"))))
        if layout.batched:
            own = ["B", *own]
            front = array.ndim - len(own) + 1
            used = known.batch if array.shape[:front] not in ((), (1,) * front) else (1,) * len(known.batch)
            array = np.broadcast_to(array, (*used, *array.shape[front:])).reshape(-1, *array.shape[front:])
        order = [own.index(d) for d in dims if d in own]
        array = array.transpose(order)
        found[name] = array.reshape([array.shape[[d for d in dims if d in own].index(d)] if d in own else 1 for d in dims])
    for argument in spec.tensor_arguments:
        other = argument.unset.name if isinstance(argument.unset, Name) else known.values.get(argument.name)
        if argument.name not in arrays and other is not None:
            found[feeds[argument.name]] = found[feeds[other]]
    return found


def attend(spec: Spec, case: Case, arrays: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The operator's tensors after the last stage, and after each (`name@clause`), float64, on canonical axes."""
    world = World(spec, case, arrays)
    policies = world.attention.path.policies
    fill = {"-inf": -np.inf, "-1e9, in float16 -65504": -1e9}.get(
        policies["mask.fill"].detail, -0.7 * float.fromhex("0x1.fffffep127")
    )
    taps: dict[str, np.ndarray[Any, Any]] = {}
    for stage in world.attention.stages:
        dims = spec.tensors.get(stage.defines, spec.tensors["logit"])
        match stage.kind:
            case "assemble":
                assert isinstance(stage.expression, Concat)
                world.tensors[stage.defines] = Tensor(joined(world, stage.expression, dims))
                axis = dims.index(stage.expression.index.upper())
                world.scope[dims[axis]] = world.tensors[stage.defines].array.shape[axis]
            case "mask":
                seen = world.fill(stage.expression, spec.tensors["logit"]).astype(bool)
                logit = world.tensors["logit"].array
                added = logit if policies["empty_row"].value == "rounded" else 0.0
                world.tensors["logit"] = Tensor(np.where(seen, logit, added + fill))
            case "softmax":
                world.tensors |= {name: Tensor(x) for name, x in softmax(world, stage, policies["empty_row"].value).items()}
            case "rows":
                keeps = world.fill(stage.expression, dims).astype(bool)
                world.tensors["output"] = Tensor(np.where(keeps, world.tensors["output"].array, 0.0))
            case "dropout":
                assert world.text(stage.expression, {}) == 0
            case _:
                world.tensors[stage.defines] = Tensor(world.fill(stage.expression, dims).astype(float))
        if stage.defines in world.tensors:
            taps[f"{stage.defines}@{stage.clause}"] = world.tensors[stage.defines].array
    return {name: tensor.array for name, tensor in world.tensors.items()} | taps


def joined(world: World, concat: Concat, dims: tuple[str, ...]) -> np.ndarray[Any, Any]:
    pieces = []
    for part in concat.parts:
        if to_text(part) == "0":
            pieces.append(np.zeros([1 if dim == concat.index.upper() else world.scope[dim] for dim in dims], pieces[0].dtype))
            continue
        own = world.spec.tensors[to_text(part)]
        array = world.tensors[to_text(part)].array
        for axis, dim in enumerate(dims):
            if dim not in own and not (dim == concat.index.upper() and len(own) == len(dims)):
                array = np.expand_dims(array, axis)
        shape = [n if dim == concat.index.upper() else world.scope[dim] for n, dim in zip(array.shape, dims, strict=True)]
        pieces.append(np.broadcast_to(array, shape))
    return np.concatenate(pieces, axis=dims.index(concat.index.upper()))


def softmax(world: World, stage: Any, empty: str) -> dict[str, np.ndarray[Any, Any]]:
    logit = world.tensors["logit"].array
    weight, log_sum = np.zeros(logit.shape), np.zeros(logit.shape[:-1])
    for b, n, t in np.ndindex(*logit.shape[:-1]):
        row = [float(x) for x in logit[b, n, t]]
        extra = [] if stage.expression == Name("logit") else [float(world.text(stage.expression, {"b": b, "n": n, "t": t}))]
        largest = max([*row, *extra])
        if largest == -math.inf:
            weight[b, n, t] = {"zero": 0.0, "nan": math.nan, "uniform": 1 / len(row)}[empty]
            log_sum[b, n, t] = -math.inf
            continue
        powers = [math.exp(x - largest) for x in row]
        whole = math.fsum([*powers, *(math.exp(x - largest) for x in extra)])
        weight[b, n, t] = [power / whole for power in powers]
        log_sum[b, n, t] = largest + math.log(whole)
    return {"weight": weight, "logsumexp": log_sum}
