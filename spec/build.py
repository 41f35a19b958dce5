"""An API file, already of the right form, to a `Spec`: expressions parsed, names resolved, cross-checks made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from attnspec.spec.arguments import ArgumentReader, check_swap
from attnspec.spec.declarations import Declarations, extended
from attnspec.spec.errors import Errors, Key, described
from attnspec.spec.expression import Expression, Name, names, to_text
from attnspec.spec.layouts import paired_dims
from attnspec.spec.model import Argument, Documented, Output, Path, Precondition, Shortcut, Spec, Weight
from attnspec.spec.reading import Reading, literal
from attnspec.spec.returns import may_return
from attnspec.spec.schema import ApiFile, ArgumentTable, DocumentedTable, ElementTable, OutputTable, PreconditionTable
from attnspec.spec.scope import Scope
from attnspec.spec.stage_checks import StageChecks
from attnspec.spec.stages import StageReader
from attnspec.spec.suggestions import did_you_mean

UNUSED = "is used by no stage, guard, output or precondition; if it never acts, say so with `inert`"


def build(file: ApiFile, operator: Declarations, errors: Errors) -> Spec:
    """The spec of an API file. Errors are noted in `errors`; the result only counts when there are none."""
    reading = Reading(errors)
    reader = ArgumentReader(reading)
    constructor, arguments = reader.all(file.constructor, "constructor"), reader.all(file.argument, "argument")
    declared = extended(operator, file, errors)
    scope = Scope(declared, constructor, arguments, reader.weights(file.weight), errors)
    return _Builder(file, scope, reading).spec()


def _documented(table: DocumentedTable) -> Documented:
    return Documented(table.url, table.text, table.version, tuple(table.drift))


@dataclass
class _Builder:
    file: ApiFile
    scope: Scope
    reading: Reading

    @property
    def errors(self) -> Errors:
        return self.reading.errors

    def spec(self) -> Spec:
        file, scope = self.file, self.scope
        paths = StageReader(scope, self.reading, StageChecks(scope)).paths(file.path)
        self._check_signature()
        outputs = tuple(self._output(table, paths) for table in file.output)
        preconditions = tuple(self._precondition(table) for table in file.precondition)
        self._check_unset()
        self._check_used(paths)
        return Spec(
            name=file.api,
            form=file.form,
            family="api",
            owner=file.owner,
            summary=file.summary,
            documented=_documented(file.documented),
            constructor=scope.constructor,
            arguments=scope.arguments,
            weights=scope.weights,
            paths=paths,
            outputs=outputs,
            preconditions=preconditions,
            tensors=scope.tensors,
            sizes=scope.sizes,
            defined_as=file.defined_as or "",
            shortcuts=tuple(self._shortcuts()),
            shapes_raise=file.shapes_raise or "",
            methods=tuple(file.methods),
            attributes=dict(self._attributes()),
            properties=tuple(file.properties),
            hook=tuple(self._hook()),
        )

    def _shortcuts(self) -> Iterator[Shortcut]:
        """The owner's own ways through its paths."""
        for table in self.file.shortcut:
            key: Key = ("shortcut", table.name, "when")
            when = self.reading.expression(table.when, key)
            self.scope.check_guard(when, key, table.when)
            if when is not None:
                yield Shortcut(table.name, when, table.doc)

    def _attributes(self) -> Iterator[tuple[str, Expression]]:
        """What other code reads off the owner's layer, over the constructor's arguments."""
        known = {argument.name for argument in self.scope.constructor}
        for name, text in self.file.attributes.items():
            rule = self.reading.expression(text, ("attributes", name))
            for unknown in sorted(names(rule) - known) if rule is not None else ():
                self.scope.unknown(("attributes", name), text, unknown, known, "argument")
            if rule is not None:
                yield name, rule

    def _hook(self) -> Iterator[str]:
        """Arguments of the call, which the owner's hook takes too."""
        known = {argument.name for argument in self.scope.arguments}
        for name in self.file.hook:
            if name not in known:
                self.errors.add(("hook",), f"unknown argument `{name}`.{did_you_mean(name, known)}")
            yield name

    def _check_signature(self) -> None:
        """Names are unique, layouts name declared dims and fit the tensors they become."""
        self._check_unique()
        if self.file.form == "function" and (self.file.constructor or self.file.weight):
            self.errors.add(("form",), 'only a "layer" has a constructor and weights, got "function"')
        for argument in self.scope.constructor:
            if argument.role in ("tensor", "tensors"):
                self.errors.add(("constructor", argument.name, "role"), f'a constructor takes no "{argument.role}"')
            self._check_dims(argument.tells, ("constructor", argument.name, "tells"))
        for argument, table in zip(self.scope.arguments, self.file.argument, strict=True):
            self.scope.check_guard(argument.when, ("argument", argument.name, "when"), table.when)
            if argument.role in ("seed", "object", "placement"):
                self.errors.add(("argument", argument.name, "role"), f'only a constructor has one of role "{argument.role}"')
            self._check_tensor(argument, ("argument", argument.name))
            self._check_dims(argument.tells, ("argument", argument.name, "tells"))
            if argument.tells and self.file.form == "layer":
                self.errors.add(("argument", argument.name, "tells"), "of a layer, only a constructor's argument has it")
            for element in argument.elements:
                self._check_tensor(element, ("argument", argument.name, "element", element.name))
        for weight, text in zip(self.scope.weights, (table.when for table in self.file.weight), strict=False):
            self._check_weight(weight, text, ("weight", weight.name))

    def _check_weight(self, weight: Weight, when: str | None, key: Key) -> None:
        self._check_dims(weight.layout.dims, key)
        self.scope.check_guard(weight.when, (*key, "when"), when)
        if self.scope.declared.tensors.get(weight.name, weight.layout.dims) != weight.layout.dims:
            self.errors.add((*key, "name"), "is a tensor of the operator with other dims; choose another name")
        for fan in weight.fans:
            self.scope.check_scalar(fan, (*key, "fans"), to_text(fan))
        if weight.chosen_by:
            self._check_chosen(weight, key)

    def _check_chosen(self, weight: Weight, key: Key) -> None:
        """The argument that chooses a weight's initialiser has the weight's own as its default."""
        objects = {argument.name: argument.default for argument in self.scope.constructor if argument.role == "object"}
        if weight.chosen_by not in objects:
            close = did_you_mean(weight.chosen_by, objects)
            got = described(weight.chosen_by)
            self.errors.add((*key, "chosen_by"), f"expected an object of the constructor, got {got}.{close}")
        elif objects[weight.chosen_by] != weight.initializer:
            default = described(objects[weight.chosen_by])
            got = described(weight.initializer)
            self.errors.add((*key, "initializer"), f"expected {default}, the default of `{weight.chosen_by}`, got {got}")

    def _check_flag(self, flag: str, key: Key) -> None:
        """What swaps axes is a flag of the signature."""
        flags = {argument.name for argument in self.scope.flat if argument.role == "flag"}
        self.scope.used |= {flag}
        if flag and flag not in flags:
            self.errors.add((*key, "swapped_unless"), f"expected a flag, got {described(flag)}.{did_you_mean(flag, flags)}")

    def _check_places(self, argument: Argument, key: Key) -> None:
        """The examples of a tensor are tensors that are always given, before it."""
        passed = [each.name for each in self.scope.passed if each.required]
        before = passed[: passed.index(argument.name)] if argument.name in passed else []
        for example in argument.examples:
            if example not in before:
                close = did_you_mean(str(example), before)
                self.errors.add((*key, "examples"), f"expected a required tensor before it, got {described(example)}.{close}")

    def _check_unique(self) -> None:
        lists = [(a.name, *(e.name for e in a.elements), *a.names) for a in (*self.scope.constructor, *self.scope.arguments)]
        flat = [name for group in lists for name in group] + [w.name for w in self.scope.weights]
        for name in sorted({name for name in flat if flat.count(name) > 1}):
            self.errors.add(("argument", name), "there are two arguments or weights of this name")

    def _check_tensor(self, argument: Argument, key: Key) -> None:
        if argument.role != "tensor":
            if argument.feeds:
                self.errors.add((*key, "feeds"), "only a tensor feeds a tensor")
            return
        self._check_flag(argument.swapped_unless, key)
        self._check_places(argument, key)
        tensors = self.scope.tensors
        if argument.feeds and argument.feeds not in self.scope.declared.tensors:
            close = did_you_mean(argument.feeds, self.scope.declared.tensors)
            self.errors.add((*key, "feeds"), f"unknown tensor `{argument.feeds}`.{close}")
        for number, layout in enumerate(argument.layouts):
            self._check_dims(layout.dims, (*key, "layout"))
            canonical = self.scope.several(tensors.get(argument.feeds or argument.name, layout.dims))
            if len(layout.dims) > len(canonical) or (number == 0 and len(layout.dims) < len(canonical)):
                wanted = f'{len(canonical)} dims in the first layout, as "{" ".join(canonical)}"'
                self.errors.add((*key, "layout"), f"expected {wanted}, got {len(layout.dims)}")

    def _check_dims(self, dims: tuple[str, ...], key: Key) -> None:
        known = self.scope.declared.dims
        for dim in dims:
            if dim not in known:
                self.errors.add(key, f'unknown dim "{dim}"; declare it under [dims]')

    def _output(self, table: OutputTable, paths: tuple[Path, ...]) -> Output:
        key: Key = ("output", table.name)
        layouts = self.reading.layouts(table.layout, (*key, "layout"))
        when = self.reading.optional(table.when, (*key, "when"))
        self.scope.check_guard(when, (*key, "when"), table.when)
        output = Output(
            name=table.name,
            tensor=table.tensor,
            layouts=layouts,
            when=when,
            stop_gradient=table.stop_gradient,
            otherwise=table.otherwise or "",
            swapped_unless=table.swapped_unless,
            doc=table.doc,
        )
        self._check_tap(output, [path for path in paths if may_return(output, path, paths)], key)
        canonical = self.scope.several(self.scope.tensors.get(table.tensor.partition("@")[0], ()))
        for layout in layouts[:1]:
            self._check_dims(layout.dims, (*key, "layout"))
            if canonical and len(paired_dims(layout.dims, canonical)) != len(canonical):
                self.errors.add((*key, "layout"), f'expected the dims "{" ".join(canonical)}", got {len(layout.dims)}')
        if not layouts and not isinstance(table.layout, str):
            self.errors.add((*key, "layout"), "expected at least one layout")
        self.scope.used |= {table.tensor}
        self._check_flag(table.swapped_unless, key)
        check_swap(layouts, table.swapped_unless, key, self.reading)
        if when is None and (table.otherwise or [each.name for each in self.file.output].count(table.name) > 1):
            self.errors.add((*key, "when"), "what may be None, and what has several outputs of its name, needs it")
        return output

    def _check_tap(self, output: Output, paths: list[Path], key: Key) -> None:
        """An output is a tensor that every path defines that may return it, or `logit@CLAUSE`, its state after a clause."""
        name, at, clause = output.tensor.partition("@")
        for path in () if self.scope.broken or self.reading.failed else paths:
            defined = self.scope.available | {stage.defines for stage in path.stages} - {"attends"} | {"logsumexp"}
            clauses = {stage.clause for stage in path.stages if stage.defines == name}
            if name not in defined:
                self.errors.add((*key, "tensor"), f"unknown tensor `{name}`.{did_you_mean(name, defined)}")
            elif at and clause not in clauses:
                wrong = f"no clause {described(clause)} of path {path.name} defines `{name}`"
                self.errors.add((*key, "tensor"), f"{wrong}.{did_you_mean(clause, clauses)}")

    def _precondition(self, table: PreconditionTable) -> Precondition:
        key: Key = ("precondition", table.clause)
        requires = self.reading.expression(table.requires, (*key, "requires"))
        when = self.reading.optional(table.when, (*key, "when"))
        self.scope.check_guard(requires, (*key, "requires"), table.requires, sizes=True)
        self.scope.check_guard(when, (*key, "when"), table.when, sizes=True)
        self._check_message(table.message, (*key, "message"))
        signature = (*self.scope.constructor, *self.scope.arguments, *self.scope.flat)
        known = {*self.scope.bound, *(argument.name for argument in signature)}
        for name in {name for violation in table.violate for name in violation}:
            if name not in known:
                self.errors.add((*key, "violate", name), f"unknown argument or size.{did_you_mean(name, known)}")
        return Precondition(
            clause=table.clause,
            requires=requires or Name(""),
            raises=table.raises,
            message=table.message,
            source=table.source,
            when=when,
            violate=tuple({name: literal(value) for name, value in violation.items()} for violation in table.violate),
        )

    def _check_message(self, message: str, key: Key) -> None:
        """Braces hold the name of a scalar or a size: the text becomes an f-string in generated code."""
        rest = re.sub(r"\{\{[^{}]*\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}", "", message)
        if "{" in rest or "}" in rest:
            self.errors.add(key, "braces hold the name of an argument or a size, such as {N}")
        known = self.scope.bound
        for name in re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", message):
            if name not in known:
                self.scope.unknown(key, message, name, known, "argument or size")

    def _check_unset(self) -> None:
        """What stands in for a scalar is made of sizes and scalars; for a list element, another element."""
        for section, tables in (("constructor", self.file.constructor), ("argument", self.file.argument)):
            for table in tables:
                self._check_one_unset(table, (section, table.name, "unset"), table.name)
                for element in table.element:
                    self._check_one_unset(element, (section, table.name, "element", element.name, "unset"), element.name)

    def _check_one_unset(self, table: ArgumentTable | ElementTable, key: Key, name: str) -> None:
        unset = next((a.unset for a in self.scope.flat if a.name == name), None)
        if unset is None:
            return
        if isinstance(table, ArgumentTable) and table.role is not None:
            self.scope.check_scalar(unset, key, table.unset)
            return
        others = {a.name for a in self.scope.passed if a.required}
        if not isinstance(unset, Name) or unset.name not in others:
            close = did_you_mean(table.unset or "", others)
            self.errors.add(key, f"expected another tensor that is always given, got {described(table.unset)}.{close}")

    def _check_used(self, paths: tuple[Path, ...]) -> None:
        """Every argument acts, or says why it never does."""
        if self.scope.broken or self.reading.failed:
            return
        used = self.scope.used | {n for rule in self.scope.sizes.values() for n in names(rule)}
        if any(stage.kind == "dropout" for path in paths for stage in path.stages):
            used |= {argument.name for argument in self.scope.constructor if argument.role == "seed"}
        for argument in (*self.scope.constructor, *self.scope.arguments):
            section = "constructor" if argument in self.scope.constructor else "argument"
            if argument.role in ("object", "placement") or argument.tells:
                continue
            if not argument.elements:
                self._check_acts(argument, (section, argument.name), used)
            for element in argument.elements:
                self._check_acts(element, (section, argument.name, "element", element.name), used)
        for weight in self.scope.weights:
            if weight.name not in used:
                self.errors.add(("weight", weight.name), "is used by no stage")

    def _check_acts(self, argument: Argument, key: Key, used: set[str]) -> None:
        acts = bool(used & {argument.name, argument.feeds, *argument.names} - {""})
        if argument.inert and acts:
            self.errors.add((*key, "inert"), "is named by a stage, a guard, an output or a precondition")
        if not argument.inert and not acts:
            self.errors.add(key, UNUSED)
