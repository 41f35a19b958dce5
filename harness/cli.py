"""The command line: `attnspec generate | explain | check | report | replay | reproduce | compare | differences | ...`.

Exit codes: 0 all is well, 1 findings, errors of the run or drift, 2 wrong usage or a broken spec.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from attnspec.harness import (
    bench_command,
    check_command,
    compare_command,
    differences_command,
    doctor_command,
    replay_command,
    report_command,
    reproduce_command,
)

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given[0] if given else "").parse_args(given)
    options.given = given
    run: Run = options.run
    try:
        return run(options)
    except BrokenPipeError:  # `attnspec check | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(command: str) -> argparse.ArgumentParser:
    """The parser; the compiler is imported only when its command is asked for."""
    parser = argparse.ArgumentParser(prog="attnspec", description="Attention, declared once: compiled, and checked.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(commands, "check", "check implementations against the oracle", check_command.add_arguments, check_command.run)
    _add(commands, "replay", "show a finding again", replay_command.add_arguments, replay_command.run)
    about = "one offline HTML page of a run: matrix, findings, masks, histograms"
    _add(commands, "report", about, report_command.add_arguments, report_command.run)
    about = "write a script for each known deviation of the frameworks"
    _add(commands, "reproduce", about, reproduce_command.add_arguments, reproduce_command.run)
    _add(commands, "bench", "measure cases per second of every lane", bench_command.add_arguments, bench_command.run)
    _add(commands, "compare", "one call, every API's answer", compare_command.add_arguments, compare_command.run)
    about = "the questions that APIs answer differently"
    _add(commands, "differences", about, differences_command.add_arguments, differences_command.run)
    about = "what is installed, at which versions, and how to install what is missing"
    _add(commands, "doctor", about, doctor_command.add_arguments, doctor_command.run)
    _add_compilers(commands, command)
    return parser


def _add(commands: Commands, name: str, about: str, add: Callable[[argparse.ArgumentParser], None], run: Run) -> None:
    parser = commands.add_parser(name, help=about, description=about)
    add(parser)
    parser.set_defaults(run=run)


def _add_compilers(commands: Commands, command: str) -> None:
    """The compiler's commands: it is imported only when one is asked for."""
    about = {"generate": "compile specs", "explain": "which blocks the masks of a spec skip, and why"}
    about["mutate"] = "plant faults in what a spec compiles to, and print those that no check finds"
    for name in about.keys() - {command}:
        commands.add_parser(name, help=about[name])
    if command == "mutate":
        from attnspec.codegen.write import source
        from attnspec.harness import mutate_command

        _add(commands, command, about[command], mutate_command.add_arguments, partial(mutate_command.run, compiled=source))
    elif command == "generate":
        from attnspec.codegen import command as compiler

        _add(commands, command, about[command], compiler.add_arguments, compiler.run)
    elif command == "explain":
        from attnspec.codegen import explain

        _add(commands, command, about[command], explain.add_arguments, explain.run)


if __name__ == "__main__":
    sys.exit(main())
