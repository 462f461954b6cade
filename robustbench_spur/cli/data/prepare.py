"""``spurbench data prepare``: from archives to images that are ready to train on."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from robustbench_spur.cli.bar import Bar
from robustbench_spur.cli.options import (
    add_board,
    add_plugins,
    add_split_settings,
    home_of,
    pairs,
    path_of,
    split_settings,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("split", nargs="+", help="[dataset/]split[@rho]")
    parser.add_argument(
        "--from",
        dest="files",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="archives and other files that lie elsewhere on this machine: checked, and unpacked or copied",
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="DATASET=PATH", help="where a dataset's files lie"
    )
    add_split_settings(parser)
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="(default: the board's)")
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Unpack what is there, then make the images of every partition; exit code 1 where some could not be made."""
    from rich.console import Console

    from robustbench_spur.preparation import place_files, plan_images
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    console, home, registry = Console(highlight=False, soft_wrap=True), home_of(), Registry(tuple(options.plugin))
    given = {name: path_of(value) for name, value in pairs(options.data, "--data").items()}
    settings = split_settings(options)
    refs = [ref for text in options.split for ref in parse_splits(text, registry, settings)]
    for ref in {ref.dataset: ref for ref in refs}.values():
        if ref.dataset not in given:
            for line in place_files(ref, options.files, home, Bar(console)):
                console.print(line)
    plans = [plan_images(ref, home, given, options.board, options.image_size, tuple(options.plugin)) for ref in refs]
    failed = [plan for plan in plans if not _make(plan, console)]
    if not failed:
        again = shlex.join([refs[0].full, *(["--data", *options.data] if options.data else [])])
        console.print(f"Next: spurbench data check {again}, then spurbench run --split {again}", markup=False)
    return 1 if failed else 0


def _make(plan: Any, console: Any) -> bool:
    """Make the images of a split; says how fast, or what failed."""
    begun, failed = time.perf_counter(), []
    with Bar(console) as bar:
        for outcome in plan.make(lambda stage, done, total: bar(stage.title, done, total)):
            if outcome.error is not None:
                failed.append(outcome.error.message)
            elif outcome.cached:
                console.print(f"{outcome.stage.title}: there already", markup=False)
    seconds = time.perf_counter() - begun
    for message in failed:
        console.print(f"FAILED {message}", markup=False)
    if not failed:
        made = plan.images
        speed = f", {made / seconds:.0f} images per second" if made else ""
        made_now = f"{made} of them made now in {seconds:.1f} s{speed}"
        console.print(f"{plan.title}: {plan.total} images ready, {made_now}.", markup=False)
    return not failed
