"""What a spec means: the frozen dataclasses that every other part of attnspec reads.

A `Spec` is one documented API or one variant. It is pure data: the loader (`loader.py`) makes it from TOML, `to_json` /
`from_json` (`interchange.py`) carry it to processes that have nothing but NumPy. Expressions are trees of
`expression.py`; nothing here evaluates them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from attnspec.spec.expression import Expression, Name, names, substitute

Default = None | bool | int | float | str | tuple[int, ...]
Kind = Literal["positional", "keyword-only"]
Role = Literal[
    "tensor", "tensors", "number", "integer", "flag", "choice", "sizes", "axes", "training", "seed", "object", "placement"
]
DType = Literal["floating", "bool", "integer", "bool or floating", "bool or number"]
Source = Literal["documented", "observed", "ruled"]
Initializer = Literal["glorot_uniform", "glorot_normal", "linear_uniform", "zeros", "ones"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a layout: `N`, the grouped `(N H)`, `N|1` where a size of 1 broadcasts, or `1`, which has no dim."""

    dims: tuple[str, ...]
    or_one: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of a tensor in order. `batched` stands for a leading `...`: any number of broadcast batch axes (dim B)."""

    axes: tuple[Axis, ...]
    batched: bool = False

    @property
    def dims(self) -> tuple[str, ...]:
        """Every dim in order, groups flattened; `B` first where the layout is batched."""
        named = tuple(dim for axis in self.axes for dim in axis.dims)
        return ("B", *named) if self.batched else named


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call or of a constructor.

    `tensor` has layouts and a dtype rule. `tensors` is a list input, its members in `elements`, of
    which at least `least` are in the list, as None where they are absent. `sizes` is an int or a
    pair of ints; its members are known to expressions by `names` (one int means both). `unset` is the expression that
    stands in when the argument is None (a list element may stand in for another: `unset = "value"`). `feeds` is the
    tensor of the operator that it becomes, where that is not its own name. `inert` says why an argument never changes the
    result; every other argument must act. `examples` are the values the harness tries. `optional` marks what may be None.

    `tells` are the dims whose size an integer is (`num_query_heads` tells N), of a layer's constructor or a function's call.
    A sequence of integers stands for one where `several` says so: the dim is then the last axes of what has it.
    `axes` are the axes of inputs that are together T of a query and S of a key; all others but the last are then B. To
    expressions it is their number.
    `training` is a flag whose None means the mode of the model around the layer, false where there is none. `seed` decides
    what dropout draws. An `object` is the owner's own (an initialiser, a regulariser): it acts on the weights, never in the
    call, and other targets take its default alone. A `placement` (device, dtype) says where the owner makes the weights;
    other targets have words of their own for it. `mode` marks what the owner's call lacks, for its layers know it themselves:
    whether the model around them is training.

    A tensor's first two axes come in the other order unless the flag `swapped_unless` is set, in the longest layout only. Its
    `examples` are tensors whose place it may take as the same object. A required tensor may be None all the same where it is
    `nullable`. One with a `when` is given where that holds, over the other arguments, and nowhere else.
    """

    name: str
    role: Role
    kind: Kind = "positional"
    required: bool = True
    default: Default = None
    layouts: tuple[Layout, ...] = ()
    dtype: DType = "floating"
    elements: tuple[Argument, ...] = ()
    least: int = 0
    names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    unset: Expression | None = None
    feeds: str = ""
    inert: str = ""
    tells: tuple[str, ...] = ()
    several: bool = False
    mode: bool = False
    swapped_unless: str = ""
    examples: tuple[Default, ...] = ()
    nullable: bool = False
    when: Expression | None = None
    doc: str = ""

    @property
    def axes_name(self) -> str:
        """The variable that holds the sizes of the axes of a dim which this argument tells, and may tell several of."""
        return self.name.removesuffix("_shape") + "_axes"

    @property
    def optional(self) -> bool:
        return self.nullable or (not self.required and self.default is None)


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter of a layer. It exists where `when` holds (over constructor arguments).

    `initializer` is its distribution, `fans` what that takes for fan in and fan out where they are not the sizes of what is
    contracted and what is made, `chosen_by` the constructor argument whose default it is, `path` where the owner keeps the
    weight in a checkpoint.
    """

    name: str
    layout: Layout
    initializer: Initializer = "glorot_uniform"
    when: Expression | None = None
    chosen_by: str = ""
    path: str = ""
    fans: tuple[Expression, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """One decided question, and where the decision comes from. `detail` is the fill of `mask.fill`."""

    value: str
    source: Source
    version: str = ""
    detail: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        """What was decided: `replace with -inf`."""
        return self.value + (f" with {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the operator: `defines` becomes `expression` where `when` holds.

    kind        defines                      expression
    project     query, key, value, ...       index notation over inputs and weights
    assemble    key, value                   `concat(s, a, b, ...)`, pieces in order along dim S
    score       logit                        index notation over query and key
    modifier    logit                        a function of logit, indices and operands
    mask        attends                      predicate: may query t attend to key s?
    softmax     weight                       the extra logit of a sink, or `logit` alone when there is none
    dropout     weight                       the rate
    combine     output                       index notation over weight and value
    rows        output                       predicate over t: rows where it fails become zero
    output      output                       index notation over output, gate and weights
    """

    clause: str
    kind: Literal["project", "assemble", "score", "modifier", "mask", "softmax", "dropout", "combine", "rows", "output"]
    defines: str
    expression: Expression
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """One (guard, point) of an API. Guards are tried in order; the last path has none."""

    name: str
    when: Expression | None
    policies: Mapping[str, Policy]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One returned value: a tensor of the operator (`output`, `weight`, `key`, `logsumexp`, or `logit@CLAUSE`).

    Where `when` does not hold it is left out, or None where `otherwise` is "None". Outputs of one name are one value, which
    comes from the first of them whose `when` holds. `swapped_unless` is as for an argument.
    """

    name: str
    tensor: str
    layouts: tuple[Layout, ...]
    when: Expression | None = None
    stop_gradient: bool = False
    otherwise: str = ""
    swapped_unless: str = ""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Precondition:
    """What a call must satisfy. Each of `violate` names arguments and sizes that break it, for the must-raise check.

    It is about ranks, dtypes, known sizes and Python values. `when` limits it to calls where it matters.
    """

    clause: str
    requires: Expression
    raises: str
    message: str
    source: Source
    when: Expression | None = None
    violate: tuple[Mapping[str, Default], ...] = ()


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A way of the owner's implementation to what a path gives, taken where `when` holds. It has no meaning of its own.

    The harness sees to it that such calls are made.
    """

    name: str
    when: Expression
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Documented:
    """Where the owner documents the API. `drift`: what the founding text says otherwise than the documents of `version`."""

    url: str = ""
    text: str = ""
    version: str = ""
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """One API or variant, resolved against the operator: everything there is to know about it.

    `tensors` gives every tensor that expressions name its canonical dims; `sizes` gives derived sizes (`G` = `N // K`).
    `shapes_raise` is the exception for shapes and dtypes that do not fit, where it is not what the owner usually raises,
    `methods` are those of the owner's layer that its other code calls, `attributes` what that reads, over the constructor's
    arguments, `properties` what it lets others read of what it keeps to itself, `hook` what the owner's attention between the
    projections takes beside query, key and value.
    `file` is the TOML it came from (relative), `digest` the SHA-256 of all files that went into it. `defined_as` is what the
    owner calls a layer's class where it exports it under another name: checkpoints go by it.
    """

    name: str
    form: Literal["function", "layer"]
    family: Literal["api", "variant"]
    owner: str
    summary: str
    documented: Documented
    constructor: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    weights: tuple[Weight, ...]
    paths: tuple[Path, ...]
    outputs: tuple[Output, ...]
    preconditions: tuple[Precondition, ...]
    tensors: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, Expression]
    shortcuts: tuple[Shortcut, ...] = ()
    shapes_raise: str = ""
    methods: tuple[str, ...] = ()
    attributes: Mapping[str, Expression] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    hook: tuple[str, ...] = ()
    file: str = ""
    digest: str = ""
    defined_as: str = ""

    @property
    def class_name(self) -> str:
        """The last part of the name as documented, `GroupQueryAttention`: what a layer's class is called."""
        return self.name.rpartition(".")[2]

    @property
    def function_name(self) -> str:
        """The same as a function is called: `group_query_attention`; `dot_product_attention` stays as it is."""
        return _snake_case(self.class_name)

    @property
    def module_name(self) -> str:
        """`keras_layers_group_query_attention`: the name of its generated files."""
        owner = self.name.rpartition(".")[0].replace(".", "_")
        return "_".join(filter(None, (owner, self.function_name))).replace("-", "_")

    def state_key(self, weight: Weight) -> str:
        """What a torch module calls a weight: its path for torch's own layers, its name for others."""
        return weight.path if self.owner == "torch" and weight.path else weight.name

    @property
    def told(self) -> Mapping[str, Expression]:
        """The dims whose sizes arguments decide: told, or following from told ones."""
        found: dict[str, Expression] = {dim: Name(argument.name) for argument in self.tellers for dim in argument.tells}
        tells = bool(found)
        for name, rule in self.sizes.items() if tells else ():
            if name not in found and names(rule) <= found.keys():
                found[name] = substitute(rule, found)
        return found

    @property
    def tellers(self) -> tuple[Argument, ...]:
        """The arguments that tell sizes: of a layer's constructor, or of a function."""
        return tuple(argument for argument in (*self.constructor, *self.arguments) if argument.tells)

    def teller(self, dim: str) -> Argument | None:
        """The argument that is the size of a dim."""
        return next((argument for argument in self.tellers if dim in argument.tells), None)

    @property
    def projects(self) -> bool:
        """Whether some path projects its inputs: with the weights of a layer, or with weights that are arguments."""
        return any(stage.kind == "project" for path in self.paths for stage in path.stages)

    @property
    def layout_error(self) -> str:
        """The exception that the owner raises for shapes and dtypes that do not fit."""
        return self.shapes_raise or ("RuntimeError" if self.owner == "torch" else "ValueError")

    def argument(self, name: str) -> Argument:
        """The argument (or list element) of that name; KeyError when there is none."""
        for argument in (*self.constructor, *self.arguments):
            for candidate in (argument, *argument.elements):
                if candidate.name == name:
                    return candidate
        raise KeyError(name)

    @property
    def tensor_arguments(self) -> tuple[Argument, ...]:
        """All tensors a caller passes, list inputs flattened."""
        flat = (element for a in self.arguments for element in (a.elements or (a,)))
        return tuple(a for a in flat if a.role == "tensor")


def _snake_case(name: str) -> str:
    """`group_query_attention` of `GroupQueryAttention`; a name without capitals stays as it is."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
