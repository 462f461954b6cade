"""``spurbench check``: does a method or an evaluator keep to what is asked of all?"""

from __future__ import annotations

import argparse
from typing import Any

from robustbench_spur.cli.options import add_json, print_json

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "yellow"}
SHORTEST = 0.05
"""Seconds that are worth telling."""
INDENT = 10
"""Columns before a message, so that it stands below the name of its check."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "method", nargs="+", metavar="NAME|FILE", help="of a method or an evaluator, or a file with some"
    )
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
    from rich.padding import Padding

    out = Console(highlight=False)
    out.print(f"[bold]{escape(report.method)}[/bold] ({escape(report.where)})", soft_wrap=True)
    for check in report.checks:
        colour = COLOURS[check.status]
        status = check.status.upper() if check.status == "failed" else check.status
        took = f"{check.seconds:.1f} s" if check.seconds >= SHORTEST else ""
        out.print(f"  [{colour}]{status:<8}[/{colour}]{escape(check.name):<46}{took:>8}".rstrip())
        if check.message:
            out.print(Padding(escape(check.message), (0, 0, 0, INDENT)))
    failed = sum(check.status == "failed" for check in report.checks)
    verdict = f"{failed} of {len(report.checks)} checks failed." if failed else "All checks passed."
    out.print(f"{verdict} {report.seconds:.1f} s of processor time.\n")
