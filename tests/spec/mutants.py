"""Ways to break a valid spec file: in its expressions, its keys and values, its characters; some deep, huge or slow."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.spec.toml_writer import dumps

EXPRESSION_KEYS = {"when", "requires", "rule", "unset", "attends", "logit"}
EXPRESSION_TABLES = {"bind", "sizes"}
VARIANT_EXPRESSIONS = ("cap", "left", "right", "offset", "stride")

TOKENS = (
    *("+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or", "not", "is", "None", "(", ")"),
    *("[", "]", ",", ".", ":", "t", "s", "b", "n", "h", "G", "N", "S", "T", "x", "0", "1", "1.5", "-1", "query", "key"),
    *("logit", "bias", "mask", "scale", "offset", "sum", "where", "min", "tanh", "rank", "given", "True", "if", "else"),
    *("lambda", "in", ":=", "@", "~", "&", "#", "'", '"', "\\", "\n", "é", "\x00", "9999999999", "1e308", "0x1f", "1_0"),
)

HOSTILE: tuple[Callable[[random.Random, str], str], ...] = (
    lambda chance, text: "-" * chance.randint(30, 3_000) + text,
    lambda chance, text: "not " * chance.randint(30, 480) + text,
    lambda chance, text: "(" * chance.randint(30, 900) + text,
    lambda chance, text: "(" * (n := chance.randint(30, 900)) + text + ")" * n,
    lambda chance, text: "x[" * chance.randint(20, 900) + text,
    lambda chance, text: "**".join(["9"] * chance.randint(2, 200)),
    lambda chance, text: f"(({text}) ** 16) ** 16",
    lambda chance, text: "9" * chance.randint(10, 3_000),
    lambda chance, text: f"{text} + 1e{chance.randint(1, 99_999)}",
    lambda chance, text: " + ".join([text] * chance.randint(2, 60)),
    lambda chance, text: " and ".join(["a < b"] * chance.randint(2, 200)),
    lambda chance, text: " < ".join(["a"] * chance.randint(2, 400)),
    lambda chance, text: _nested(chance, "where(t < s, {}, 1)", text),
    lambda chance, text: _nested(chance, "(a <= ({}) <= b)", text),
    lambda chance, text: _nested(chance, "tanh({})", text),
    lambda chance, text: _nested(chance, "sum(h, {})", text),
    lambda chance, text: "lambda: " * chance.randint(1, 200) + text,
    lambda chance, text: f"{text} if " * chance.randint(1, 20) + text,
    lambda chance, text: "a" * chance.randint(100, 3_000),
    lambda chance, text: "é" * chance.randint(1, 900),
    lambda chance, text: " " * chance.randint(1, 3_500),
)


def mutant(chance: random.Random, text: str, data: dict[str, Any]) -> tuple[str, str | bytes]:
    """A kind of mutation and its result; about two of three change an expression."""
    kind = chance.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    return kind, KINDS[kind][0](chance, text, data)


def _in_expression(change: Callable[[random.Random, str], str]) -> Callable[[random.Random, str, dict[str, Any]], str]:
    """A mutation of one expression of the file, or of a few."""

    def mutation(chance: random.Random, text: str, data: dict[str, Any]) -> str:
        mutated = _with_expressions(chance, copy.deepcopy(data))
        places = list(expression_places(mutated))
        for table, key in chance.sample(places, min(len(places), chance.choice((1, 1, 1, 3)))):
            for _ in range(chance.choice((1, 1, 2, 5))):
                table[key] = change(chance, str(table[key]))
        return dumps(mutated)

    return mutation


def _with_expressions(chance: random.Random, data: dict[str, Any]) -> dict[str, Any]:
    """A variant may have no expression of its own: it gets a clause, as users write them."""
    if "variant" in data:
        data.setdefault("mask", {})["own"] = {"attends": chance.choice(("s <= t + offset", "s % 2 == 0 or s < left", "mask"))}
        data.setdefault("masks", []).append("own")
        data.setdefault("parameters", {})["offset"] = chance.choice(("S - T", "0", "T // 2"))
    return data


def expression_places(data: Any, inside: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """Every (table, key) that holds an expression."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        parameter = inside == "parameters" and key in VARIANT_EXPRESSIONS
        if isinstance(value, str) and (key in EXPRESSION_KEYS or inside in EXPRESSION_TABLES or parameter):
            yield data, key
        yield from expression_places(value, str(key) if isinstance(data, dict) else inside)


def _token(chance: random.Random, text: str) -> str:
    """A token is dropped, doubled, replaced, put in, or swapped with the next one."""
    tokens = re.findall(r"\w+|[^\w\s]+|\s+", text)
    if not tokens:
        return chance.choice(TOKENS)
    at, new = chance.randrange(len(tokens)), chance.choice(TOKENS)
    edits = (
        lambda: tokens[:at] + tokens[at + 1 :],
        lambda: [*tokens[:at], tokens[at], *tokens[at:]],
        lambda: [*tokens[:at], new, *tokens[at + 1 :]],
        lambda: [*tokens[:at], " ", new, " ", *tokens[at:]],
        lambda: tokens[:at] + tokens[at : at + 2][::-1] + tokens[at + 2 :],
        lambda: [*tokens[:at], chance.choice(tokens), *tokens[at + 1 :]],
    )
    return "".join(chance.choice(edits)())


def _character(chance: random.Random, text: str) -> str:
    """A few characters are dropped, replaced or put in."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        new = chance.choice(("", chr(chance.randrange(32, 127)), chr(chance.randrange(0x3000)), text[at : at + 9] * 2))
        text = text[:at] + new + text[at + chance.randrange(3) :]
    return text


def _hostile(chance: random.Random, text: str) -> str:
    return chance.choice(HOSTILE)(chance, text)


def _nested(chance: random.Random, pattern: str, text: str) -> str:
    for _ in range(chance.randint(1, 80)):
        text = pattern.replace("{}", text)
    return text


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a file."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from _places(value)


def _structure(chance: random.Random, text: str, data: dict[str, Any]) -> str:
    """Keys are dropped, renamed or moved, values take another type."""
    mutated = copy.deepcopy(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(mutated)) or [({"": ""}, "")]
        container, key = chance.choice(places)
        chance.choice((_drop, _rename, _retype, _retype, _move, _repeat))(chance, container, key, places)
    return dumps(mutated)


def _drop(chance: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    del container[key]


def _rename(chance: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(container, dict):
        container[_character(chance, key)] = container.pop(key)


def _retype(chance: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    odd: tuple[Any, ...] = (
        0, -1, 1.5, 1e300, float("inf"), 10**30, True, False, "", "None", "x", "B T N H", "a" * 5_000, "\x01", [], [1], [[]],
        ["None"], {}, {"a": 1}, {"value": "x"}, [{}], [{"name": "x"}], {"a": {"b": {"c": {}}}},
    )  # fmt: skip
    container[key] = chance.choice(odd)


def _move(chance: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    """A copy of one value takes the place of another."""
    other, name = chance.choice(places)
    value = other[name] if not isinstance(other, list) or name < len(other) else None
    container[key] = copy.deepcopy(value) if value is not None else ""


def _repeat(chance: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(container, list):
        container[key:key] = [copy.deepcopy(container[key])] * chance.choice((1, 2, 90))


def _characters(chance: random.Random, text: str, data: dict[str, Any]) -> str | bytes:
    mutated = _character(chance, text)
    if chance.random() < 0.1:
        raw = bytearray(mutated.encode("utf-8", "replace"))
        raw[chance.randrange(len(raw))] = chance.randrange(256)
        return bytes(raw)
    return mutated


def _lines(chance: random.Random, text: str, data: dict[str, Any]) -> str:
    """Lines are dropped, doubled or swapped: keys given twice, tables under another header."""
    lines = text.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 3))):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        new = chance.choice(([], [lines[at]] * 2, [lines[other]], [lines[at], lines[other]]))
        lines[at : at + 1] = new or ["\n"]
    return "".join(lines)


def _huge(chance: random.Random, text: str, data: dict[str, Any]) -> str:
    """Texts that are large, deep or slow for the TOML parser or for what comes after it."""
    many = chance.choice((10, 1_000, 30_000))
    extra = chance.choice(
        (
            "\n".join(f"k{i} = 1" for i in range(many // 3)),
            "a = " + "[" * many,
            "a = " + "{b = " * (many // 10),
            ".".join(["a"] * chance.choice((30, 300, 3_000))) + " = 1",
            "\n".join(".".join(["a"] * 39) + f".b{i} = 1" for i in range(many // 30)),
            "a = " + "9" * chance.choice((100, 3_900, 100_000)),
            "a = '''" + "\n" * many + "'''",
            "# " + "x" * chance.choice((100, 5_000, 200_000)),
            "#\n" * many,
            "a = [" + "[],\n" * many + "]",
            "argument = [" + '{name = "x", layout = "B"},\n' * (many // 10) + "]",
            "masks = [" + '"causal",\n' * (many // 5) + "]",
            "[mask]\n" + "\n".join(f'm{i} = {{attends = "s < t"}}' for i in range(many // 20)),
        )
    )
    return chance.choice((f"{extra}\n{text}", f"{text}\n{extra}\n"))


KINDS: dict[str, tuple[Callable[[random.Random, str, dict[str, Any]], str | bytes], int]] = {
    "expression tokens": (_in_expression(_token), 42),
    "expression characters": (_in_expression(_character), 18),
    "hostile expression": (_in_expression(_hostile), 10),
    "keys and values": (_structure, 14),
    "characters": (_characters, 7),
    "lines": (_lines, 7),
    "huge, deep or slow": (_huge, 2),
}
