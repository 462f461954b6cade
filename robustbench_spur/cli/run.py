"""``spurbench run``: carry out cells, show progress, and end with the table."""

from __future__ import annotations

import argparse

from robustbench_spur.cli.options import add_cells, request_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_cells(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and compute nothing")
    parser.add_argument("--again", action="store_true", help="run also the cells that are done")


def main(options: argparse.Namespace) -> int:
    """Run, or print the plan."""
    from robustbench_spur.cli.progress import Terminal
    from robustbench_spur.plan import make_plan

    request = request_of(options, again=options.again)
    terminal = Terminal()
    plan = make_plan(request)
    if options.dry_run:
        terminal.show_plan(plan)
        return 0
    return terminal.run(plan)
