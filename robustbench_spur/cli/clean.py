"""``spurbench clean``: free what can be made again. Records and predictions stay."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from robustbench_spur.home import KINDS

    parser.add_argument(
        "kind", nargs="*", choices=[*KINDS, []], metavar="KIND", help=f"any of {', '.join(KINDS)} (default: all)"
    )


def main(options: argparse.Namespace) -> int:
    """Remove the folders and say what was freed."""
    from robustbench_spur.home import KINDS, Home

    home = Home.default()
    freed = home.clean(tuple(options.kind) or KINDS)
    print(f"Freed {freed / 1e6:.1f} MB in {home.root}. Records and predictions are kept.")
    return 0
