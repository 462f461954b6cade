"""``spurbench clean``: free what can be made again. Records and predictions stay."""

from __future__ import annotations

import argparse

from robustbench_spur.cli.options import home_of
from robustbench_spur.types import SpurbenchError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from robustbench_spur.home import KINDS

    parser.add_argument("kind", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)} (default: all)")


def main(options: argparse.Namespace) -> int:
    """Remove the folders and say what was freed."""
    from robustbench_spur.home import KINDS

    for kind in options.kind:
        if kind not in KINDS:
            raise SpurbenchError(f"Expected a folder that can be made again, found {kind!r}. {nearest(kind, KINDS)}")
    home = home_of()
    freed = home.clean(tuple(options.kind) or KINDS)
    print(f"Freed {freed / 1e6:.1f} MB in {home.root}. Records and predictions are kept.")
    return 0
