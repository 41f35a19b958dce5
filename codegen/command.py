"""`attnspec generate`: compile specs, the project's own or a user's, into a folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.targets import NAMES
from attnspec.codegen.verify import VerificationError
from attnspec.codegen.write import FORMS, Changes, changes
from attnspec.spec.loader import SpecError, builtin, find

OK, DRIFT, USAGE = 0, 1, 2
_OWN_FOLDER = Path(__file__).resolve().parents[1] / "generated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec generate`."""
    parser.add_argument(
        "specs", nargs="*", metavar="SPEC", help="names of built-in specs, or TOML files; all built-in ones by default"
    )
    parser.add_argument("--api", action="append", default=[], metavar="NAME", help="the same as SPEC; may be repeated")
    parser.add_argument("--target", action="append", choices=sorted(NAMES), help="only this target; may be repeated")
    parser.add_argument(
        "--form",
        choices=FORMS,
        default="both",
        help="both forms, each in a file of its own, or one; auto: one file that chooses by size",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where files go; a TOML file outside the project needs it")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff when a file is stale")
    mode.add_argument("--diff", action="store_true", help="write nothing; print what would change")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec generate` with parsed options; returns the exit code."""
    names = [*options.specs, *options.api]
    own = options.out is None
    if own and any(name.endswith(".toml") for name in names):
        print("attnspec generate: a TOML file needs --out FOLDER", file=sys.stderr)
        return USAGE
    try:
        specs = [find(name) for name in names] if names else list(builtin().values())
        found = changes(
            specs,
            options.target,
            _OWN_FOLDER if own else options.out,
            own and not names and not options.target and options.form == "both",
            options.form,
        )
        return _report(found, options) if options.diff or options.check else _apply(found)
    except (SpecError, LoweringError, VerificationError, KeyError, OSError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return USAGE


def _report(found: Changes, options: argparse.Namespace) -> int:
    """Print what would change; with `--check`, also which files are stale and the command that mends them."""
    print(found.diff(), end="")
    own = options.out is None
    names = [*options.specs, *options.api]
    mends = shlex.join(["attnspec", "generate", *([] if own else [*names, "--out", str(options.out)])])
    for path in found.wanted if options.check else ():
        print(f"{found.folder.name}/{path} is stale; run `{mends}`", file=sys.stderr)
    return DRIFT if options.check and found else OK


def _apply(found: Changes) -> int:
    found.apply()
    print(f"{len(found.wanted)} files changed" if found else "nothing to change")
    return OK


def main(arguments: list[str] | None = None) -> int:
    """`python -m attnspec.codegen.command`: generate without the harness installed."""
    parser = argparse.ArgumentParser(prog="attnspec generate", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
