"""Verbs below a verb, such as ``spurbench data check``: one file each, like the verbs themselves."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping


def add_verbs(
    parser: argparse.ArgumentParser, package: str, verbs: Mapping[str, str], *, required: bool = True
) -> None:
    """Add the parsers of the verbs whose modules lie in a package.

    Args:
        parser: of the verb above.
        package: importable name.
        verbs: a line about each, by name of its module.
        required: whether the verb above does nothing by itself.
    """
    below = parser.add_subparsers(dest="below", metavar="VERB", required=required)
    for name, summary in verbs.items():
        sub = below.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        importlib.import_module(f"{package}.{name}").add_arguments(sub)


def carry_out(options: argparse.Namespace, package: str) -> int:
    """Call the module of the verb that was given; returns its exit code."""
    code: int = importlib.import_module(f"{package}.{options.below}").main(options)
    return code
