"""``spurbench submit``: finished cells of a method as an entry of the board, verified, and the steps of a pull request."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.cli.options import add_board, add_plugins, home_of, named
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.manifest import Manifest
    from robustbench_spur.record import Record
    from robustbench_spur.registry import Registry
    from robustbench_spur.submission.choosing import Arrays
    from robustbench_spur.submission.entry import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--method", metavar="NAME", help="whose cells are packed")
    parser.add_argument(
        "--records",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="in place of --method: records wherever they are, their predictions in ../predictions",
    )
    parser.add_argument(
        "--split", nargs="+", default=["all"], metavar="SPLIT", help="[dataset/]split[@rho] (default: all that ran)"
    )
    parser.add_argument("--seed", nargs="+", type=int, default=[], metavar="N", help="(default: the board's)")
    parser.add_argument("--team", required=True, metavar="NAME", help="who submits; it is published")
    parser.add_argument(
        "--method-source",
        default="",
        metavar="URL",
        help="where the method's source can be read; needed of a method that is not one of the project's own",
    )
    parser.add_argument(
        "--training-data",
        default="",
        metavar="TEXT",
        help="everything that was trained on, pretraining too (default: the split's partitions that the records name)",
    )
    parser.add_argument(
        "--deviations", default="none known", metavar="TEXT", help="from the method's paper (default: %(default)s)"
    )
    parser.add_argument("--contact", default="", metavar="TEXT", help="an address for questions; it is published")
    parser.add_argument(
        "--weights", action="store_true", help="add the trained weights: attacks can then be checked, and are shown"
    )
    parser.add_argument(
        "--weights-out", type=Path, metavar="DIR", help="write the weights beside the entry, for the maintainers"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder, or one to be made")
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Pack the entry, verify it, and say what to do with it; exit code 1 where it has a fault."""
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.registry import Registry
    from robustbench_spur.submission.entry import weights_path
    from robustbench_spur.submission.packing import About, pack_records
    from robustbench_spur.submission.verifier import Verifier

    manifest, registry = load_manifest(options.board), Registry(tuple(options.plugin))
    records, arrays = _records(options, manifest, registry)
    plugin = registry.find("method", records[0].method.name)
    about = About(
        team=options.team,
        method_source=options.method_source,
        training_data=options.training_data,
        deviations=options.deviations,
        contact=options.contact,
    )
    weights = _weights if options.weights else None
    entry = pack_records(records, arrays, manifest, plugin, about, options.out, weights)
    if options.weights_out is not None:
        for record in records:
            if record.status == "done":
                split = str(record.identity.split["name"])
                _weights(record, weights_path(options.weights_out, split, record.seed))
    verdict = Verifier(manifest).verify(options.out)
    from robustbench_spur.cli.verify import tell

    tell(verdict)
    if not verdict.sound:
        return 1
    _steps(entry, options)
    return 0


def _records(options: argparse.Namespace, manifest: Manifest, registry: Registry) -> tuple[list[Record], Arrays]:
    """The records that are packed, and what gives their predictions."""
    from robustbench_spur.record import RecordStore
    from robustbench_spur.splitref import parse_splits
    from robustbench_spur.submission.choosing import chosen, ran_on, read_files

    if bool(options.method) == bool(options.records):
        both = "both" if options.method else "neither"
        raise SpurbenchError(f"Expected either --method or --records, found {both}. Give one of them.")
    if options.records:
        if named(options.split) or options.seed:
            raise SpurbenchError("Expected files alone with --records, found --split or --seed. Leave them out.")
        return read_files(options.records)
    home, name = home_of(), registry.find("method", options.method).name
    splits = [ref.full for text in named(options.split) for ref in parse_splits(text, registry)]
    splits = list(dict.fromkeys(splits)) or ran_on(home, manifest, name)
    seeds = list(dict.fromkeys(options.seed or manifest.seeds))
    return chosen(home, manifest, name, splits, seeds), RecordStore(home.records, home.predictions).arrays


def _weights(record: Record, path: Path) -> None:
    """Write the weights of a record's model."""
    from robustbench_spur.export import export_record
    from robustbench_spur.runtime import Runtime

    path.parent.mkdir(parents=True, exist_ok=True)
    export_record(record, Runtime(home_of()), path)


def _steps(entry: Entry, options: argparse.Namespace) -> None:
    """The way from the folder to the board."""
    place = f"leaderboards/{entry.board}/entries/{entry.method.name}/{entry.id}"
    size = sum(one.bytes for one in entry.files)
    if size > 50_000_000:
        print(f"It takes {size / 1e6:.0f} MB. Ask the maintainers where weights of this size should go.")
    print(
        f"\nTo submit it, in a clone of the repository:\n"
        f"  git switch --create {entry.id}\n"
        f"  mkdir -p {Path(place).parent.as_posix()}\n"
        f"  cp -r {options.out} {place}\n"
        f"  spurbench leaderboard build leaderboards/{entry.board}\n"
        f"  spurbench verify leaderboards/{entry.board} --against origin/main\n"
        f"  git add leaderboards && git commit --message 'Entry {entry.id}'\n"
        f"  git push --set-upstream origin {entry.id}\n"
        f"Then open a pull request. leaderboards/README.md says what is looked at."
    )
