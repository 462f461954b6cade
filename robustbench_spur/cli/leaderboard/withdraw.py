"""``spurbench leaderboard withdraw``: an entry that no longer counts, with the reason and the day. Its files stay."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from robustbench_spur.types import SpurbenchError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("entry", metavar="ID", help="of the entry, the name of its folder")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it is published")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="of the board, such as leaderboards/v1 (default: the board's own)"
    )


def main(options: argparse.Namespace) -> int:
    """Note the withdrawal beside the entries."""
    from robustbench_spur.manifest import boards_folder
    from robustbench_spur.published import WITHDRAWN, Withdrawal, entry_folders, read_withdrawn
    from robustbench_spur.submission.packing import write_json

    folder = options.folder or boards_folder() / options.board
    known = [place.name for place in entry_folders(folder)]
    if options.entry not in known:
        raise SpurbenchError(f"Expected an entry of {folder}, found {options.entry!r}. {nearest(options.entry, known)}")
    withdrawn = read_withdrawn(folder)
    if options.entry in withdrawn:
        day = withdrawn[options.entry].day
        raise SpurbenchError(f"Expected an entry that counts, found {options.entry}, withdrawn on {day}.")
    if not options.reason.strip():
        raise SpurbenchError("Expected a reason, found none. Say it with --reason.")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    added = Withdrawal(entry=options.entry, day=today, reason=options.reason.strip())
    notes = [one.model_dump(mode="json") for one in (*withdrawn.values(), added)]
    write_json(folder / WITHDRAWN, notes)
    print(f"{folder / WITHDRAWN}\nNow run: spurbench leaderboard build {folder}")
    return 0
