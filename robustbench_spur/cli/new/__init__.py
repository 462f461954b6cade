"""``spurbench new``: the files that a plugin of one's own starts from."""

from __future__ import annotations

import argparse

from robustbench_spur.cli import nested

VERBS = {
    "method": "a file that runs, its test and what to do next; or a whole package",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs below this one."""
    nested.add_verbs(parser, __name__, VERBS)


def main(options: argparse.Namespace) -> int:
    """Carry out the verb that was given."""
    return nested.carry_out(options, __name__)
