"""``spurbench export``: the trained weights of a cell, as safetensors with what they are in the file's metadata."""

from __future__ import annotations

import argparse
from pathlib import Path

from robustbench_spur.cli.options import add_cells, request_of
from robustbench_spur.types import SpurbenchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_cells(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")


def main(options: argparse.Namespace) -> int:
    """Write the weights of one finished cell."""
    from robustbench_spur.export import export_weights
    from robustbench_spur.plan import make_plan

    plan = make_plan(request_of(options))
    if len(plan.cells) != 1:
        raise SpurbenchError(f"Expected one cell to export, found {len(plan.cells)}. Name one method, split and seed.")
    export_weights(plan.cells[0], plan.runtime, options.out)
    print(options.out)
    return 0
