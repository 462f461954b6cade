"""``spurbench leaderboard build``: the generated files of a published board, from its entries."""

from __future__ import annotations

import argparse
from pathlib import Path

from robustbench_spur.types import SpurbenchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="of a board, such as leaderboards/v1 (default: the board's own)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a file is not what the entries give"
    )


def main(options: argparse.Namespace) -> int:
    """Write the table and the site, or say which of them are out of date."""
    from robustbench_spur.building import build, differing
    from robustbench_spur.manifest import boards_folder
    from robustbench_spur.published import open_published

    folder = options.folder or boards_folder() / options.board
    if not folder.is_dir():
        raise SpurbenchError(f"Expected the folder of a board at {folder}, found none.")
    published = open_published(folder)
    if options.check:
        names = differing(published)
        for name in names:
            print(f"{name} is not what the entries give. Run: spurbench leaderboard build {folder}")
        return 1 if names else 0
    written = build(published)
    print(f"{len(written)} files of {len(published.entries)} entries. Page: {folder / 'index.html'}")
    return 0
