"""``spurbench audit``: does this model cheat, on what, for which patients, and how sure are we? One page for people."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.cli import evaluate
from robustbench_spur.cli.options import print_json
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.audit import Audit

PAGE = Path("audit.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options: those of ``evaluate``, and where the page goes."""
    evaluate.add_arguments(parser)
    parser.set_defaults(thorough=False)
    parser.add_argument("--thorough", action="store_true", help="measure what takes minutes too")
    parser.add_argument(
        "--html", type=Path, default=PAGE, metavar="FILE", help="where the page is written (default: %(default)s)"
    )


def main(options: argparse.Namespace) -> int:
    """Write the page and tell the findings; exit code 1 where an evaluator failed."""
    from robustbench_spur.audit import audit
    from robustbench_spur.audit.beside import rows_beside
    from robustbench_spur.audit.page import write_page
    from robustbench_spur.cli.options import home_of
    from robustbench_spur.manifest import load_manifest

    manifest = load_manifest(options.board)
    found = evaluate.subjects(options, manifest)
    if len(found) != 1:
        raise SpurbenchError(f"Expected one split to audit on, found {len(found)}. Name one.")
    (one,) = found
    files = [options.weights] if options.weights else options.predictions
    title = one.title
    for path in files:
        title = title.replace(str(path), path.name)
    told = audit(one.measured, title, one.notes, one.images)
    beside = rows_beside(told.predictions, home_of(), manifest, tuple(options.plugin))
    write_page(told, manifest, options.html, beside)
    if options.json:
        print_json([{**one.about, **told.as_dict(), "page": str(options.html)}])
    else:
        _tell(told)
        print(options.html)
    return 1 if one.measured.failed else 0


def _tell(told: Audit) -> None:
    """The findings in the terminal, the worst first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from robustbench_spur.audit.page import SAID, headline

    colours = {"problem": "red", "doubt": "yellow", "no sign": "green", "unknown": "dim"}
    out = Console(highlight=False)
    out.print(f"[bold]{escape(told.title)}[/bold]", soft_wrap=True)
    out.print(escape(headline(told)))
    for finding, _ in told.findings:
        colour = colours[finding.verdict]
        out.print(f"\n[{colour}]{SAID[finding.verdict]}[/{colour}]  [bold]{escape(finding.question)}[/bold]")
        out.print(Padding(escape(finding.sentence), (0, 0, 0, 2)))
        out.print(Padding(escape(f"Does not establish: {finding.limits}"), (0, 0, 0, 2)), style="dim")
    reasons: dict[str, list[str]] = {}
    for name, why in told.left_out.items():
        reasons.setdefault(why.rstrip("."), []).append(name)
    if reasons:
        out.print()
    for why, names in reasons.items():
        out.print(escape(f"Not measured: {', '.join(names)} ({why})."), style="dim", soft_wrap=True)
    out.print()
