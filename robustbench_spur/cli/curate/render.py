"""``spurbench curate render``: DICOM volumes to slices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.curation.render import Job, Outcome
    from robustbench_spur.curation.series import Choice

PATTERN, PHASE = "^post_1$", "post_1"
"""The first series after contrast, as Duke's owners call it; which phase SpurBreast has is not published."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of DICOM series, one folder each, at any depth")
    parser.add_argument("--boxes", type=Path, required=True, metavar="FILE", help="Annotation_Boxes as CSV or xlsx")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the slices are written")
    _add_series(parser)
    _add_pictures(parser)
    add = parser.add_argument_group("labels").add_argument
    add("--buffer", type=int, default=5, metavar="N", help="slices beside the box to leave out (default: %(default)s)")
    add("--closed", action="store_true", help="count the box's last slice as positive (Duke's owners do not)")
    add = parser.add_argument_group("patients").add_argument
    add("--patients", nargs="+", default=[], metavar="ID", help="only these (default: all that have a box)")
    add("--exclude", type=Path, metavar="FILE", help="patients to leave out, one id per line, such as bilateral ones")
    add("--counts", type=Path, metavar="FILE", help="CSV with the columns patient and count: slices there must be")


def _add_series(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which series of each patient, one of")
    add = group.add_mutually_exclusive_group().add_argument
    add(
        "--series",
        metavar="REGEX",
        help=f"the one whose description or folder matches, in any case of letters (default: {PATTERN})",
    )
    add("--series-number", type=int, metavar="N", help="the one with this SeriesNumber")
    add("--series-file", type=Path, metavar="FILE", help="CSV with the columns patient and series, a path or uid")
    add(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="Duke's filepath_filename-mapping as CSV, or as xlsx, which takes a minute; tells the number of slices too",
    )
    group.add_argument("--phase", metavar="NAME", help=f"with --mapping: pre, post_1, ... (default: {PHASE})")


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("pictures").add_argument
    add(
        "--window",
        choices=("slice", "volume", "percentile"),
        default="slice",
        help="what becomes white: each slice's maximum, the volume's, or its percentile 99.5 (and 0.5 black)"
        " (default: %(default)s)",
    )
    add(
        "--order",
        choices=("file", "position"),
        default="file",
        help="slices by the number in the file name, or from feet to head (default: %(default)s)",
    )
    add("--size", type=int, default=320, metavar="PIXELS", help="height and width (default: %(default)s)")
    add("--pad", action="store_true", help="give slices that are not square black margins, not an error")


def main(options: argparse.Namespace) -> int:
    """Render, and tell what came out; exit code 1 where a patient failed."""
    from rich.console import Console

    from robustbench_spur.cli.bar import Bar
    from robustbench_spur.curation.render import render

    job = _job(options)
    console = Console(highlight=False, soft_wrap=True)
    with Bar(Console(highlight=False, soft_wrap=True, stderr=True)) as bar:
        outcome = render(job, bar)
    _print(console, job, outcome)
    return 1 if outcome.failures else 0


def _job(options: argparse.Namespace) -> Job:
    from robustbench_spur.curation.boxes import read_boxes
    from robustbench_spur.curation.labelled import Settings
    from robustbench_spur.curation.lists import read_counts, read_ids
    from robustbench_spur.curation.render import Job

    names = ("window", "order", "size", "pad", "buffer", "closed")
    settings = Settings(**{name: getattr(options, name) for name in names})
    boxes = read_boxes(options.boxes)
    choice, counts = _choice(options)
    return Job(
        root=options.root,
        out=options.out,
        boxes=boxes,
        choice=choice,
        settings=settings,
        excluded=read_ids(options.exclude) if options.exclude else frozenset(),
        patients=frozenset(options.patients),
        counts=counts | (read_counts(options.counts) if options.counts else {}),
    )


def _choice(options: argparse.Namespace) -> tuple[Choice, dict[str, int]]:
    """Which series is meant, and how many slices it has, where a mapping tells."""
    from robustbench_spur.curation.lists import read_mapping, read_pairs
    from robustbench_spur.curation.series import Choice

    if options.phase is not None and options.mapping is None:
        raise SpurbenchError("Expected --mapping with --phase, found none. Give Duke's mapping, or choose by --series.")
    if options.mapping is not None:
        name = options.phase or PHASE
        phase = read_mapping(options.mapping, name)
        where = f"is {name} in the mapping"
        return Choice(listed=phase.series, where=where, faults=phase.faults), phase.counts
    if options.series_file is not None:
        return Choice(listed=read_pairs(options.series_file, "series")), {}
    if options.series_number is not None:
        return Choice(number=options.series_number), {}
    return Choice(PATTERN if options.series is None else options.series), {}


def _print(console: Any, job: Job, outcome: Outcome) -> None:
    from robustbench_spur.curation.boxes import NEGATIVE, POSITIVE

    def say(text: str) -> None:
        console.print(text, markup=False)

    positive, negative = (outcome.slices[label] for label in (POSITIVE, NEGATIVE))
    say(f"Series: the one of each patient that {job.choice}.")
    say(
        f"{outcome.made} patients rendered, {outcome.present} there already: {positive} slices with the lesion,"
        f" {negative} without."
    )
    for reason, count in outcome.left_out.items():
        say(f"Left out: {count} patients {reason}.")
    for failure in outcome.failures:
        say(f"FAILED {failure.patient}: {failure.reason}")
    if outcome.failures:
        say(f"{len(outcome.failures)} patients failed (failures.csv). Run the same command again to retry.")
    if positive + negative:
        say(f"Written to {job.out}. Next:")
        table, slices = job.out / "volumes.csv", job.out / "slices.csv"
        say(f"  spurbench curate split {table} --slices {slices} --attribute NAME --out FOLDER")
