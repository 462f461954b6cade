"""``spurbench check``: does a method keep to what is asked of every method?"""

from __future__ import annotations

import argparse
from typing import Any

from robustbench_spur.cli.options import add_json, print_json

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("method", nargs="+", metavar="METHOD|FILE", help="name of a method, or a file with one")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Print what was found; exit code 1 where a check failed."""
    from robustbench_spur.conformance import check_all

    reports = check_all(options.method)
    if options.json:
        print_json([report.as_dict() for report in reports])
    else:
        for report in reports:
            _print(report)
    return 0 if all(report.passed for report in reports) else 1


def _print(report: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    table = Table(title=escape(f"{report.method} ({report.where})"), title_justify="left", show_header=False, box=None)
    table.add_column("check", overflow="fold")
    table.add_column("status")
    table.add_column("message", overflow="fold")
    for check in report.checks:
        colour = COLOURS[check.status]
        table.add_row(escape(check.name), f"[{colour}]{check.status}[/{colour}]", escape(check.message))
    out.print(table)
    failed = sum(check.status == "failed" for check in report.checks)
    verdict = f"{failed} of {len(report.checks)} checks failed." if failed else "All checks passed."
    out.print(f"{verdict} {report.seconds:.1f} s of processor time.\n")
