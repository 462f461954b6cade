"""``spurbench cache``: what the home folder takes."""

from __future__ import annotations

import argparse

from robustbench_spur.cli.options import add_json, home_of, print_json

MEANING = {
    "pixels": "images, ready to be read",
    "artifacts": "weights, features, predictions of stages",
    "trajectories": "checkpoints to go on from",
    "scores": "resampled metrics",
    "records": "what cells left",
    "predictions": "per-example predictions of the records",
    "tuning": "trials of searches",
    "presets": "settings that searches chose",
    "leaderboards": "generated pages",
    "data": "data sets that were downloaded or unpacked",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Print files and bytes of every folder."""
    from robustbench_spur.home import KINDS

    home = home_of()
    rows = [
        {"name": name, "files": files, "bytes": size, "cleanable": name in KINDS, "what": MEANING[name]}
        for name, (files, size) in home.sizes().items()
    ]
    if options.json:
        print_json(rows)
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(home.root), title_justify="left")
    for heading in ("folder", "files", "MB", "freed by clean", "what"):
        table.add_column(heading)
    for row in rows:
        freed = "yes" if row["cleanable"] else "no"
        table.add_row(
            str(row["name"]), str(row["files"]), f"{int(str(row['bytes'])) / 1e6:.1f}", freed, str(row["what"])
        )
    Console(highlight=False, soft_wrap=True).print(table)
    return 0
