"""``spurbench compare``: methods in pairs on the same patients, with p values corrected over the table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_board, add_json, add_plugins, home_of, named, print_json

if TYPE_CHECKING:
    from robustbench_spur.comparison import Difference
    from robustbench_spur.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "methods", nargs="+", metavar="METHOD", help="names of two methods or more; every pair is compared"
    )
    parser.add_argument(
        "--split",
        nargs="+",
        default=[],
        metavar="SPLIT",
        help="[dataset/]split[@rho] (default: all on which every one of them has results)",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="a column of the board, or evaluator/metric (default: what the board ranks by)",
    )
    add_json(parser)
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Compare what the records say and show it."""
    from robustbench_spur.comparison import Comparison
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    home, manifest, plugins = home_of(), load_manifest(options.board), tuple(options.plugin)
    registry = Registry(plugins)
    methods = [registry.find("method", name).name for name in options.methods]
    splits = [parse_splits(text, registry)[0].family for text in named(options.split)]
    found = Comparison(home, manifest, plugins).table(methods, list(dict.fromkeys(splits)), options.metric)
    if options.json:
        print_json([one.as_dict() for one in found])
    else:
        from rich.console import Console

        _print(found, manifest, Console(highlight=False))
    return 0


def _print(found: list[Difference], manifest: Manifest, console: Any) -> None:
    """A table for every split and metric, and below them what the numbers are."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    for split, metric in dict.fromkeys((one.split, one.metric) for one in found):
        own = [one for one in found if (one.split, one.metric) == (split, metric)]
        title = f"{split}, {metric}"
        table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
        for heading in ("pair", "values", "difference", "p", "Holm", "seeds", "patients"):
            table.add_column(heading, overflow="fold")
        for one in own:
            table.add_row(*map(escape, _cells(one)))
        console.print(table)
        for text in dict.fromkeys(one.remark or one.difference.reason for one in own):
            if text:
                console.print(escape(text))
        console.print()
    confidence = 100 * manifest.bootstrap.confidence
    console.print(
        f"Per cent; the difference is first minus second, a mean over the seeds, with its {confidence:.0f} % interval over"
        f" patients; in brackets below, where there are several seeds, that over patients and seeds. Holm: the p value"
        f" corrected for {len(found)} comparison{'s' if len(found) > 1 else ''}; * is resolved at {manifest.alpha}."
    )


def _cells(one: Difference) -> tuple[str, ...]:
    """Texts of a row."""
    values = "\n".join("-" if value is None else f"{100 * value:.1f}" for value in one.values)
    change, joint = one.difference, one.joint
    lines = ["-" if change.value is None else f"{100 * change.value:+.1f}"]
    if change.low is not None and change.high is not None:
        lines[0] += f" [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    if joint.low is not None and joint.high is not None:
        lines.append(f"({100 * joint.low:+.1f}, {100 * joint.high:+.1f})")
    resolved = one.p_holm is not None and one.better is not None
    return (
        f"{one.first}\n- {one.second}",
        values,
        "\n".join(lines),
        _p_text(one.p),
        _p_text(one.p_holm) + ("*" if resolved else ""),
        ",".join(map(str, one.seeds)),
        str(one.patients),
    )


def _p_text(p: float | None) -> str:
    """A p value with three digits; a dash where there is none."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
