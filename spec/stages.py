"""Paths and stages of an API file: clauses are looked up, parameters bound, every name accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from attnspec.spec.declarations import CLAUSE_KINDS, DEFINES, Clause, Declarations, defined_by
from attnspec.spec.errors import Errors, Key, alternatives, described
from attnspec.spec.expression import (
    Concat,
    Expression,
    ExpressionError,
    names,
    substitute,
    walk,
)
from attnspec.spec.model import Path, Policy, Stage
from attnspec.spec.reading import Reading, constant
from attnspec.spec.schema import PathTable, PolicyTable, StageTable
from attnspec.spec.scope import Scope
from attnspec.spec.stage_checks import StageChecks
from attnspec.spec.suggestions import did_you_mean

MAX_NODES = 1_000
"""Nodes of one stage's expression once parameters are bound."""


@dataclass
class StageReader:
    """Makes paths of tables."""

    scope: Scope
    reading: Reading
    checks: StageChecks

    @property
    def errors(self) -> Errors:
        return self.reading.errors

    @property
    def declared(self) -> Declarations:
        return self.scope.declared

    def paths(self, tables: list[PathTable]) -> tuple[Path, ...]:
        """All paths; the last is the one without a guard."""
        self._collect_aliases(tables)
        found = []
        for table in tables:
            key: Key = ("path", table.name)
            when = self.reading.optional(table.when, (*key, "when"))
            self.scope.check_guard(when, (*key, "when"), table.when)
            if (table.when is None) != (table is tables[-1]):
                wanted = "no guard on the last path" if table is tables[-1] else "a guard on every path but the last"
                self.errors.add((*key, "when"), f"expected {wanted}, got {described(table.when)}")
            found.append(Path(table.name, when, self._policies(table, key), self._stages(table, when, key)))
        for name in {path.name for path in found if [p.name for p in found].count(path.name) > 1}:
            self.errors.add(("path", name), "there are two paths of this name")
        return tuple(found)

    def _collect_aliases(self, tables: list[PathTable]) -> None:
        """`bind = { bias = "attn_mask" }`: an argument with a name of its own takes the dims of the operator's tensor."""
        for stage in (stage for table in tables for stage in table.stage):
            for name, text in stage.bind.items():
                if name in self.declared.tensors and isinstance(text, str):
                    self.scope.aliases.setdefault(text, name)

    def _policies(self, table: PathTable, key: Key) -> dict[str, Policy]:
        rules = self.declared.policies
        for name in table.policies:
            if name not in rules:
                self.errors.add((*key, "policies", name), f"unknown policy.{did_you_mean(name, rules)}")
        default = {name: Policy(rule.default, "ruled", "", rule.default_with) for name, rule in rules.items()}
        return default | {n: self._policy(n, p, (*key, "policies", n)) for n, p in table.policies.items() if n in rules}

    def _policy(self, name: str, table: PolicyTable, key: Key) -> Policy:
        rule = self.declared.policies[name]
        for k, value, values in (("value", table.value, rule.values), ("with", table.with_, [*rule.with_, ""])):
            if value not in values:
                known = [v for v in values if v]
                wanted = alternatives(known) if known else "no such key"
                self.errors.add((*key, k), f"expected {wanted}, got {described(value)}.{did_you_mean(value, known)}")
        return Policy(table.value, table.source, table.version, table.with_ or rule.default_with, table.why)

    def _stages(self, table: PathTable, guard: Expression | None, key: Key) -> tuple[Stage, ...]:
        found: list[Stage] = []
        defined = set(self.scope.available)
        for number, item in enumerate(table.stage, 1):
            at = (*key, "stage", item.clause or item.use or number)
            stage = self._stage(item, at)
            if stage is None:
                self.scope.broken = True
                continue
            self.checks.names(stage, defined, at)
            self.checks.absent(stage, guard, at)
            defined.add(stage.defines)
            if found and self._rank(stage) < self._rank(found[-1]):
                order = ", ".join(self.declared.order)
                self.errors.add(at, f"a {stage.kind} cannot come after a {found[-1].kind}; the order is {order}")
            if any(stage.clause == other.clause and None in (stage.when, other.when) for other in found):
                self.errors.add(at, "is given twice; each but for a different `when`")
            found.append(stage)
        self._check_complete(found, key)
        return tuple(found)

    def _rank(self, stage: Stage) -> int:
        return self.declared.order.index(stage.kind)

    def _check_complete(self, stages: list[Stage], key: Key) -> None:
        kinds = [stage.kind for stage in stages]
        if self.scope.broken or self.reading.failed:
            return
        for kind in ("score", "softmax", "combine"):
            if kind not in kinds:
                self.errors.add((*key, "stage"), f"expected a {kind} stage, got none")

    def _stage(self, table: StageTable, key: Key) -> Stage | None:
        when = self.reading.optional(table.when, (*key, "when"))
        self.scope.check_guard(when, (*key, "when"), table.when)
        clause = self._clause(table, key)
        if clause is None:
            return None
        expression = self._bound(clause, table, key)
        if expression is None:
            return None
        if isinstance(expression, Concat) != (clause.kind == "assemble"):
            self.errors.add(key, "an assemble stage is a `concat(...)`, and nothing else is")
        return Stage(clause.name, clause.kind, clause.defines, expression, when)  # type: ignore[arg-type]

    def _clause(self, table: StageTable, key: Key) -> Clause | None:
        """The clause that a stage uses, or the one it writes."""
        inline = (table.clause, table.defines, table.rule)
        if table.use is not None and inline == (None, None, None):
            return self._used(table.use, key)
        if table.use is None and table.clause is not None and table.defines is not None and table.rule is not None:
            return self._inline(table.clause, table.defines, table.rule, key)
        self.errors.add(key, "expected either `use`, or `clause`, `defines` and `rule`")
        return None

    def _used(self, use: str, key: Key) -> Clause | None:
        if use not in self.declared.clauses:
            self.errors.add((*key, "use"), f"unknown clause {described(use)}.{did_you_mean(use, self.declared.clauses)}")
        return self.declared.clauses.get(use)

    def _inline(self, name: str, defines: str, text: str, key: Key) -> Clause | None:
        kind = name.partition(".")[0]
        if kind not in CLAUSE_KINDS:
            self.errors.add((*key, "clause"), f"unknown kind {described(kind)}.{did_you_mean(kind, CLAUSE_KINDS)}")
            return None
        if not defined_by(kind, defines):
            self.errors.add((*key, "defines"), f"expected {DEFINES[kind]}, which a {kind} defines, got {described(defines)}")
        elif defines != "attends" and defines not in self.scope.tensors:
            close = did_you_mean(defines, self.scope.tensors)
            self.errors.add((*key, "defines"), f"unknown tensor {described(defines)}.{close}")
            return None
        rule = self.reading.expression(text, (*key, "rule"))
        return None if rule is None else Clause(name, defines, rule)

    def _bound(self, clause: Clause, table: StageTable, key: Key) -> Expression | None:
        """The clause's rule with `bind`, and then with the operator's values for what nobody else sets."""
        mapping = self._mapping(clause, table, key)
        given = self.scope.scalars.keys() | self.scope.available
        for name in sorted(names(clause.rule) & self.declared.parameters.keys() - mapping.keys() - given):
            value = self.declared.parameters[name].value
            if value is None:
                self.errors.add(key, f"parameter `{name}` is neither an argument nor bound; add bind = {{ {name} = ... }}")
                return None
            mapping[name] = value
        try:
            expression = substitute(clause.rule, mapping)
        except ExpressionError as error:
            self.errors.add((*key, "bind"), error.message)
            return None
        if sum(1 for _ in islice(walk(expression), MAX_NODES + 1)) > MAX_NODES:
            self.errors.add((*key, "bind"), f"the bound expression has more than {MAX_NODES} parts")
            return None
        return expression

    def _mapping(self, clause: Clause, table: StageTable, key: Key) -> dict[str, Expression]:
        free = names(clause.rule) & (self.declared.parameters.keys() | self.scope.tensors.keys())
        found: dict[str, Expression] = {}
        for name, value in table.bind.items():
            if name not in free:
                self.errors.add((*key, "bind", name), f"{clause.name} has no such parameter.{did_you_mean(name, free)}")
                continue
            bound = self.reading.expression(value, (*key, "bind", name)) if isinstance(value, str) else constant(value)
            if bound is not None:
                found[name] = bound
                self._check_bound(bound, value, (*key, "bind", name))
        return found

    def _check_bound(self, bound: Expression, value: str | int | float, key: Key) -> None:
        """A name that nothing has is noted where it is written, and not again in the clause it was bound into."""
        scope = self.scope
        known = self.declared.indices | {*self.declared.size_names} | scope.scalars.keys() | scope.tensors.keys()
        for name in sorted(names(bound) - known):
            scope.unknown(key, str(value), name, known)
            self.checks.noted.add(name)
