"""The command ``spurbench``: one file per verb."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from robustbench_spur.types import SpurbenchError, nearest

VERBS = {
    "list": "methods, splits and evaluators, and whether they are in order",
    "describe": "what a method, split or evaluator is, needs and can be set to",
    "check": "whether a method or an evaluator keeps to what is asked of all",
    "run": "methods against splits; what is done already is not done again",
    "tune": "search settings on validation, by rules that are told; the test set is read once",
    "status": "what is done, failed, stale or missing on the board",
    "leaderboard": "the ranked table, the page, and what moved between boards",
    "compare": "two or more methods on the same patients, in pairs",
    "evaluate": "all measures of anybody's predictions or weights; nothing is trained",
    "audit": "does a model cheat, on what, for which patients: one page",
    "submit": "finished cells as an entry of the board, for a pull request",
    "verify": "whether an entry, or a whole board, is what it says it is",
    "export": "the trained weights of a cell as safetensors",
    "data": "get, check and prepare data sets",
    "new": "a method of your own to start from, as one file or as a package",
    "curate": "find shortcuts in a collection, and make splits from it",
    "cache": "what the results and caches take",
    "clean": "free what can be made again",
}
BAD_INPUT, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """End with exit code 2."""
        raise SpurbenchError(f"{message[0].upper()}{message[1:]}. Run: {self.prog} --help")


def make_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser; only the options of the verb asked for are added, so that help is there at once."""
    parser = Parser(
        prog="spurbench",
        description="Benchmark of shortcut learning in medical imaging: does the model cheat, and what stops it?",
        epilog="Results live in $SPURBENCH_HOME (default: the platform's folder for user data).",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, summary in VERBS.items():
        sub = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == verb:
            importlib.import_module(f"{__name__}.{name}").add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command.

    Returns:
        0 where all went well, 1 where a cell failed or a check found a fault, 2 for bad input, 130 after Ctrl-C.
    """
    try:
        return _carry_out(tuple(sys.argv[1:] if arguments is None else arguments))
    except SpurbenchError as error:
        print(f"spurbench: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("spurbench: stopped. What was finished is kept; run the same command again to go on.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = error.filename2 or error.filename  # the second is the goal of a renaming
        print(f"spurbench: {error.strerror or error}{f': {place}' if place else ''}", file=sys.stderr)
    return BAD_INPUT


def _carry_out(given: tuple[str, ...]) -> int:
    # the builtin list is not to be had in this file: importing the verb puts the module in its place
    verb = next((argument for argument in given if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise SpurbenchError(f"Unknown verb {verb!r}. {nearest(verb, tuple(VERBS))}")
    parser = make_parser(verb)
    options = parser.parse_args(given)
    if options.version:
        from importlib.metadata import version

        print(f"spurbench {version('robustbench-spur')}")
    elif options.verb is None:
        parser.print_help()
    else:
        code: int = importlib.import_module(f"{__name__}.{options.verb}").main(options)
        return code
    return 0
