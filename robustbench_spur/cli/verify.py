"""``spurbench verify``: is an entry, or a whole board, what it says it is? The same that is asked of a pull request."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_board, add_json, home_of, pairs, path_of, print_json
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.submission.remarks import Remark
    from robustbench_spur.submission.verifier import Verdict

WORDS = {"fault": "FAULT", "flag": "LOOK", "warning": "warning"}
COLOURS = {"fault": "red", "flag": "yellow", "warning": "dim"}
MOST = 20
"""Remarks of a level that are printed of an entry; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of an entry, or of a whole board")
    parser.add_argument(
        "--against", default="", metavar="COMMIT", help="of a board: entries that were there then must be unchanged"
    )
    parser.add_argument(
        "--reproduce",
        nargs="+",
        default=[],
        metavar="SPLIT:SEED",
        help="of an entry: train these cells again and compare, or all; takes as long as they took",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="of an entry: weights that are too large for it, as submit --weights-out writes them",
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 also where a person has to look")
    parser.add_argument("--no-weights", action="store_true", help="do not look at an entry's weights (they need torch)")
    parser.add_argument("--trust-code", action="store_true", help="let an entry's own method file run with --reproduce")
    parser.add_argument(
        "--attest",
        action="store_true",
        help="of an entry on a board, for maintainers: note there what was computed again and agrees",
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="DATASET=PATH", help="where a dataset's files lie"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    add_json(parser)
    add_board(parser)


def main(options: argparse.Namespace) -> int:
    """Print what was found; exit code 1 where there is a fault."""
    if not options.folder.is_dir():
        raise SpurbenchError(f"Expected a folder of an entry or a board, found none at {options.folder}.")
    if (options.folder / "board.json").is_file():
        return _board(options)
    if options.against:
        raise SpurbenchError("Expected a board with --against, found an entry. Give leaderboards/v1.")
    return _entry(options)


def _board(options: argparse.Namespace) -> int:
    from robustbench_spur.accepting import verify_board

    if options.reproduce or options.attest:
        raise SpurbenchError("Expected an entry with --reproduce and --attest, found a board. Give the entry's folder.")
    found = verify_board(options.folder, options.against, None if options.json else _told)
    if options.json:
        print_json(found.as_dicts())
        return _code(found.sound, (*found.remarks, *(one for v in found.entries for one in v.remarks)), options)
    for verdict in found.entries:
        if verdict.remarks:
            tell(verdict)
    _print_remarks(found.remarks)
    count = Counter(one.as_dict()["verdict"] for one in found.entries)
    told = ", ".join(f"{n} {what}" for what, n in sorted(count.items())) or "none"
    print(f"{options.folder}: {'in order' if found.sound else 'NOT in order'}. Entries: {told}.")
    return _code(found.sound, (*found.remarks, *(one for v in found.entries for one in v.remarks)), options)


def _code(sound: bool, remarks: Sequence[Remark], options: argparse.Namespace) -> int:
    """Exit code: 1 where there is a fault, and where a person has to look if that is asked for."""
    flagged = any(one.level == "flag" for one in remarks)
    return 1 if not sound or (options.strict and flagged) else 0


def _told(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} entries", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _entry(options: argparse.Namespace) -> int:
    from robustbench_spur.accepting import known_on
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.submission.verifier import Verifier

    manifest, board = load_manifest(options.board), _board_of(options.folder)
    known = known_on(board, manifest, options.folder) if board else None
    verdict = Verifier(manifest, known).verify(options.folder)
    if options.attest:
        _require_place(options.folder, board, verdict)
    attested: list[Any] = []
    if verdict.sound and verdict.entry is not None:
        attested = _computed_again(options, verdict, manifest)
    if options.json:
        print_json([{**verdict.as_dict(), "again": [one.model_dump(mode="json") for one in attested]}])
    else:
        tell(verdict)
        for one in attested:
            differences = ", ".join(f"{name} {value:.4f}" for name, value in one.differences.items())
            print(f"{one.split}, seed {one.seed}: {one.kind}; differences {differences or 'none'}.")
    return _code(verdict.sound, verdict.remarks, options)


def _computed_again(options: argparse.Namespace, verdict: Verdict, manifest: Any) -> list[Any]:
    """Cells from their weights, and those that are to be trained again; faults go to the verdict."""
    entry = verdict.entry
    given = (
        options.weights is not None or any(cell.weights for cell in (entry.cells if entry else ()))
    ) and not options.no_weights
    if entry is None or not (options.reproduce or given):
        return []
    from robustbench_spur.api import Quiet
    from robustbench_spur.cli.progress import Terminal
    from robustbench_spur.published import Submitted, read_attested
    from robustbench_spur.submission.again import Again

    data = {name: path_of(value) for name, value in pairs(options.data, "--data").items()}
    place = options.folder.resolve()
    noted = read_attested(place.parents[2], place.name) if options.attest else ()
    again = Again(manifest, Quiet() if options.json else Terminal(), home_of(), data, options.device)
    one, found = Submitted(options.folder, entry), []
    wanted = _cells(options.reproduce, entry)
    for cell in entry.cells:
        attestation: Any = None
        remarks: list[Remark] = []
        if cell in wanted:
            attestation, remarks = again.by_training(one, cell, trust_code=options.trust_code)
        elif given:
            attestation, remarks = again.from_weights(one, cell, options.weights)
        verdict.remarks += remarks
        if attestation is not None:
            found.append(attestation)
            if options.attest and verdict.sound:  # at once: what took hours outlives an error of the next cell
                _attest(place, (*noted, *found))
    if options.attest and found:
        where = sys.stderr if options.json else sys.stdout
        # a cell that differs takes back what was noted of those before it: the entry is rejected
        print(_attest(place, (*noted, *(found if verdict.sound else ()))), file=where)
    return found


def _cells(names: Sequence[str], entry: Any) -> list[Any]:
    """The cells that are named as SPLIT:SEED, or all that have predictions to compare with.

    Raises:
        SpurbenchError: one that the entry does not have.
    """
    if "all" in names:
        return [cell for cell in entry.cells if cell.predictions is not None]
    known = {f"{cell.split}:{cell.seed}": cell for cell in entry.cells}
    for name in names:
        if name not in known:
            raise SpurbenchError(
                f"Expected a cell of the entry as SPLIT:SEED, found {name!r}. It has: {', '.join(known)}"
            )
    return [known[name] for name in names]


def _require_place(folder: Path, board: Path | None, verdict: Verdict) -> None:
    """Refuse to attest an entry that lies on no board, before anything is trained.

    Raises:
        SpurbenchError: it does.
    """
    if board is None or (verdict.entry is not None and folder.resolve().name != verdict.entry.id):
        raise SpurbenchError(
            f"Expected an entry on a board to attest, found {folder}. Give leaderboards/v1/entries/..."
        )


def _attest(folder: Path, attested: Sequence[Any]) -> Path:
    """Write down what was computed again of an entry, of several notes on a cell the last; nothing where there is none."""
    from robustbench_spur.published import ATTESTED
    from robustbench_spur.submission.packing import write_json

    path = folder.parents[2] / ATTESTED / f"{folder.name}.json"
    notes = {(one.split, one.seed, one.kind): one for one in attested}
    if notes:
        write_json(path, [notes[key].model_dump(mode="json") for key in sorted(notes)])
    else:
        path.unlink(missing_ok=True)
    return path


def _board_of(folder: Path) -> Path | None:
    """The board's folder that an entry lies in; None for an entry on no board."""
    from robustbench_spur.published import ENTRIES, MANIFEST

    above = folder.resolve().parents[1:3]
    return above[1] if len(above) == 2 and above[0].name == ENTRIES and (above[1] / MANIFEST).is_file() else None


def tell(verdict: Verdict) -> None:
    """Print what was found of an entry."""
    from rich.console import Console
    from rich.markup import escape

    from robustbench_spur.submission.remarks import shown

    entry = verdict.entry
    what = f"{entry.method.name} by {entry.team}, {len(entry.cells)} cells" if entry else "no entry"
    out = Console(highlight=False, emoji=False)
    out.print(f"[bold]{escape(shown(str(verdict.folder)))}[/bold]: {escape(what)}", soft_wrap=True)
    _print_remarks(verdict.remarks)
    if not verdict.sound:
        out.print("[red]Rejected.[/red]")
    elif verdict.of("flag"):
        out.print("[yellow]In order, but a person has to look at it.[/yellow]")
    else:
        out.print(f"Verified: all metrics of {verdict.cells} cells were recomputed from their predictions.")


def _print_remarks(remarks: Sequence[Remark]) -> None:
    from rich.console import Console
    from rich.markup import escape

    out = Console(highlight=False, emoji=False)
    for level, word in WORDS.items():
        own = list(dict.fromkeys(str(one) for one in remarks if one.level == level))
        for text in own[:MOST]:
            out.print(f"  [{COLOURS[level]}]{word}[/{COLOURS[level]}] {escape(text)}", soft_wrap=True)
        if len(own) > MOST:
            out.print(f"  and {len(own) - MOST} more of that kind; --json has all.")
