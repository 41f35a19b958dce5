"""Arguments, list inputs and weights of an API file: their defaults fit their roles, their layouts parse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from attnspec.spec.errors import Key, alternatives, described
from attnspec.spec.expression import Expression, Number
from attnspec.spec.model import Argument, Default, Layout, Role, Weight
from attnspec.spec.reading import Reading, constant, literal
from attnspec.spec.schema import ArgumentTable, ElementTable, WeightTable


def _is_integer(value: Default) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pair(value: Default) -> bool:
    return isinstance(value, tuple) and len(value) == 2


FITS: dict[Role, tuple[Callable[[Default], bool], str]] = {
    "tensor": (lambda value: value is None, '"None"'),
    "tensors": (lambda value: value is None, '"None"'),
    "number": (lambda value: value is None or _is_integer(value) or isinstance(value, float), 'a number or "None"'),
    "integer": (lambda value: value is None or _is_integer(value), 'an integer or "None"'),
    "flag": (lambda value: value is None or isinstance(value, bool), 'true, false or "None"'),
    "choice": (lambda value: value is None or isinstance(value, str), 'a choice or "None"'),
    "sizes": (lambda value: value is None or _is_integer(value) or _is_pair(value), 'an integer, a pair or "None"'),
    "axes": (lambda value: value is None or _is_integer(value) or isinstance(value, tuple), 'integers or "None"'),
    "training": (lambda value: value is None or isinstance(value, bool), 'true, false or "None"'),
    "seed": (lambda value: value is None or _is_integer(value), 'an integer or "None"'),
    "placement": (lambda value: value is None, '"None"'),
    "object": (lambda value: value is None or isinstance(value, str), 'a name or "None"'),
}


@dataclass
class ArgumentReader:
    """Makes arguments of tables; errors are noted in `reading`."""

    reading: Reading

    def all(self, tables: list[ArgumentTable], key: str) -> tuple[Argument, ...]:
        """The arguments of a signature, and whether Python could have it."""
        arguments = tuple(self.argument(table, (key, table.name)) for table in tables)
        self._check_order(arguments, key)
        return arguments

    def argument(self, table: ArgumentTable, key: Key) -> Argument:
        """One argument."""
        role = self._role(table, key)
        required = "default" not in table.model_fields_set
        found = Argument(
            name=table.name,
            role=role,
            kind=table.kind,
            required=required,
            default=literal(table.default),
            layouts=self.reading.layouts(table.layout, (*key, "layout")),
            dtype=table.dtype,
            elements=tuple(self._element(element, (*key, "element", element.name)) for element in table.element),
            least=max(table.least, sum("default" not in element.model_fields_set for element in table.element)),
            names=tuple(table.names),
            choices=tuple(table.choices),
            unset=self.reading.optional(table.unset, (*key, "unset")),
            feeds=table.feeds,
            inert=table.inert,
            tells=tuple(table.tells),
            several=table.several,
            mode=table.mode,
            swapped_unless=table.swapped_unless,
            examples=tuple(literal(example) for example in table.examples),
            nullable=table.nullable,
            when=self.reading.optional(table.when, (*key, "when")),
            doc=table.doc,
        )
        self._check_values(found, key)
        self._check_members(found, key)
        self._check_role(found, table, key)
        return found

    def _role(self, table: ArgumentTable, key: Key) -> Role:
        if table.role is None and not table.layout:
            self.reading.errors.add((*key, "role"), "expected a role, or a layout for a tensor, got nothing")
            return "flag" if isinstance(table.default, bool) else "number"
        return table.role or "tensor"

    def _element(self, table: ElementTable, key: Key) -> Argument:
        required = "default" not in table.model_fields_set
        layouts = self.reading.layouts(table.layout, (*key, "layout"))
        unset = self.reading.optional(table.unset, (*key, "unset"))
        if required and unset is not None:
            self.reading.errors.add((*key, "unset"), 'only an element with default = "None" can be unset')
        shared = {"dtype": table.dtype, "feeds": table.feeds, "inert": table.inert, "doc": table.doc}
        return Argument(table.name, "tensor", required=required, layouts=layouts, unset=unset, **shared)  # type: ignore[arg-type]

    def _check_members(self, argument: Argument, key: Key) -> None:
        """Where a list may be left out, so may its members; it has no less of them than it has."""
        if argument.least > len(argument.elements):
            most = f"at most {len(argument.elements)}" if argument.elements else 'an argument of role "tensors"'
            self.reading.errors.add((*key, "least"), f"expected {most}, got {argument.least}")
        for element in argument.elements:
            if not argument.required and element.required:
                self.reading.errors.add((*key, "element", element.name), 'expected default = "None", as the list may be None')

    def _check_values(self, argument: Argument, key: Key) -> None:
        fits, expected = FITS[argument.role]
        values = [("examples", example) for example in argument.examples if argument.role != "tensor"]
        values += [] if argument.required else [("default", argument.default)]
        for name, value in values:
            if not fits(value) or (argument.choices and value is not None and value not in argument.choices):
                wanted = alternatives(argument.choices) if argument.choices else expected
                self.reading.errors.add((*key, name), f"expected {wanted}, got {described(value)}")
        if argument.unset is not None and (argument.required or argument.default is not None):
            self.reading.errors.add((*key, "unset"), 'only an argument with default = "None" can be unset')

    def _check_role(self, argument: Argument, table: ArgumentTable, key: Key) -> None:
        """Every key belongs to one role: a layout to a tensor, choices to a choice."""
        keys: dict[str, tuple[bool, str]] = {
            "layout": (bool(table.layout), "tensor"),
            "element": (bool(argument.elements), "tensors"),
            "names": (bool(argument.names), "sizes"),
            "choices": (bool(argument.choices), "choice"),
        }
        for name, given in (("tells", argument.tells), ("several", argument.several)):
            if given and argument.role != "integer":
                self.reading.errors.add((*key, name), f'only an argument of role "integer" has it, got role "{argument.role}"')
        for name, (given, role) in keys.items():
            if given and argument.role != role:
                self.reading.errors.add((*key, name), f'only an argument of role "{role}" has it, got role "{argument.role}"')
            elif not given and argument.role == role:
                self.reading.errors.add((*key, name), f'an argument of role "{role}" needs it')
        if argument.role == "sizes" and len(argument.names) != 2:
            self.reading.errors.add((*key, "names"), f"expected two names, got {len(argument.names)}")
        if argument.mode and (argument.role != "training" or argument.kind != "keyword-only"):
            self.reading.errors.add((*key, "mode"), 'only a keyword-only argument of role "training" has it')
        if argument.nullable and not (argument.role == "tensor" and argument.required):
            self.reading.errors.add((*key, "nullable"), "only a tensor without a default has it")
        if argument.when is not None and not (argument.role == "tensor" and argument.optional):
            self.reading.errors.add((*key, "when"), "only a tensor that may be None has it")
        check_swap(argument.layouts, argument.swapped_unless, key, self.reading)

    def _check_order(self, arguments: Iterable[Argument], section: str) -> None:
        keyword_only = has_default = False
        for argument in arguments:
            key = (section, argument.name)
            if argument.kind == "keyword-only":
                keyword_only = True
                continue
            if keyword_only:
                self.reading.errors.add((*key, "kind"), "a positional argument cannot follow a keyword-only one")
            if argument.required and has_default:
                self.reading.errors.add((*key, "default"), "a required argument cannot follow one with a default")
            has_default = has_default or not argument.required

    def weights(self, tables: list[WeightTable]) -> tuple[Weight, ...]:
        """The weights of a layer."""
        found = []
        for table in tables:
            key = ("weight", table.name)
            layout = Layout(()) if table.layout == "" else self.reading.layout(table.layout, (*key, "layout"))
            when = self.reading.optional(table.when, (*key, "when"))
            if layout is not None and (layout.batched or any(axis.or_one for axis in layout.axes)):
                self.reading.errors.add((*key, "layout"), f'expected plain axes, got "{table.layout}"')
            if len(table.fans) == 1:
                self.reading.errors.add((*key, "fans"), "expected fan in and fan out, got 1")
            if layout is not None:
                fans = tuple(self._fan(fan, (*key, "fans")) for fan in table.fans)
                found.append(Weight(table.name, layout, table.initializer, when, table.chosen_by, table.path, fans, table.doc))
        return tuple(found)

    def _fan(self, text: str | int | float, key: Key) -> Expression:
        found = self.reading.expression(text, key) if isinstance(text, str) else constant(text)
        return found or Number(1)


def check_swap(layouts: tuple[Layout, ...], flag: str, key: Key, reading: Reading) -> None:
    """Axes change places in the first layout, which is the longest: two plain ones."""
    axes = layouts[0].axes[:2] if layouts and not layouts[0].batched else ()
    if flag and (len(axes) < 2 or any(len(axis.dims) != 1 or axis.or_one for axis in axes)):
        reading.errors.add((*key, "swapped_unless"), "only a tensor whose first layout begins with two plain axes has it")
