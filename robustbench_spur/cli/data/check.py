"""``spurbench data check``: the doctor."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.cli.options import (
    add_json,
    add_plugins,
    add_split_settings,
    home_of,
    pairs,
    path_of,
    print_json,
    split_settings,
)
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.doctor.report import Report
    from robustbench_spur.splitref import OpenSplit, SplitRef


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_splits(parser)
    parser.add_argument(
        "--pixels", action="store_true", help="of a data set that makes its images, make and compare all of them too"
    )
    add_json(parser)
    add_plugins(parser)


def add_splits(parser: argparse.ArgumentParser) -> None:
    """What names splits and says where their files lie."""
    parser.add_argument("split", nargs="+", help="[dataset/]split[@rho]")
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="DATASET=PATH", help="where a dataset's files lie"
    )
    add_split_settings(parser)


def main(options: argparse.Namespace) -> int:
    """Examine each split; exit code 1 where a fault was found."""
    from rich.console import Console

    from robustbench_spur.cli.bar import Bar
    from robustbench_spur.doctor import examine

    splits, reports = open_splits(options), []
    for split in splits:
        if split.ref.protocol is not None:
            raise SpurbenchError(
                f"Expected a split as it is, found {split.ref.full}: a protocol only deals its patients anew."
                f" Write: {split.ref.base.full}"
            )
    for split in splits:
        ref = split.ref
        with Bar(Console(highlight=False, soft_wrap=True, stderr=True)) as bar:
            title = f"images of {ref.full}"
            report = examine(
                split.dataset,
                ref.split,
                ref.rho,
                pixels=options.pixels,
                progress=lambda done, total: bar(title, done, total),  # noqa: B023
            )
        reports.append(report)
        if not options.json:
            _print(ref.full, report)
    if options.json:
        named = zip(splits, reports, strict=True)
        print_json([{"split": split.ref.full, **report.model_dump(mode="json")} for split, report in named])
    return 1 if any(report.faults for report in reports) else 0


def open_splits(options: argparse.Namespace) -> list[OpenSplit]:
    """The splits that the options name, all folds of a protocol included.

    Raises:
        SpurbenchError: an unknown split or dataset, or no place of its files.
    """
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    registry = Registry(tuple(options.plugin))
    given = {name: path_of(value) for name, value in pairs(options.data, "--data").items()}
    for name, path in given.items():
        registry.find("dataset", name)
        if not path.exists():
            raise SpurbenchError(f"Expected the {name!r} data at {path}, found nothing there. Check --data.")
    settings = split_settings(options)
    refs = {ref.full: ref for text in options.split for ref in parse_splits(text, registry, settings)}
    places = home_of().places(given)
    return [ref.open(_place(ref, places)) for ref in refs.values()]


def _place(ref: SplitRef, places: Mapping[str, Path]) -> Path | None:
    if not ref.embedded and ref.dataset not in places:
        download = f", or run: spurbench data download {ref.dataset}/{ref.split}"
        raise SpurbenchError(
            f"Expected the files of {ref.dataset}, found none at {home_of().data / ref.dataset}."
            f" Give --data {ref.dataset}=PATH{download if ref.plugin.literal('archives', ()) else ''}"
        )
    return places.get(ref.dataset)


def _print(full: str, report: Report) -> None:
    kinds = f"{_many(report.faults, 'kind', 'kinds')} of fault, {_many(report.warnings, 'kind', 'kinds')} of warning"
    print_line(f"{full}: {'FAULTS FOUND' if report.faults else 'no fault found'} ({kinds}). {_looked(report)}")
    for one in report.findings:
        print_line(f"{one.severity.upper()} {one.code}, {one.count}: {one.message}")
        for example in one.examples:
            print_line(f"  {example}")
        if one.count > len(one.examples):
            print_line(f"  and {one.count - len(one.examples)} more")
    for text in (*report.not_examined, *report.notes):
        print_line(f"Note: {text}")
    _print_groups(report)
    _print_shift(report)
    _print_rules(report)


def _many(count: int, one: str, more: str) -> str:
    return f"{count or 'no'} {one if count == 1 else more}"


def _looked(report: Report) -> str:
    images = report.images
    if images.files:
        return f"{images.files} files below {images.root}, most {images.kind or 'unreadable'}."
    return f"{images.arrays} images made and compared." if images.arrays else "No image was looked at."


def _print_groups(report: Report) -> None:
    shown = [cell for cell in report.groups if cell.designed or cell.slices]
    cells = {(cell.group, cell.partition): f"{cell.slices} ({cell.patients})" for cell in shown}
    names, groups = [one.partition for one in report.partitions], {group for group, _ in cells}
    order = [group for group in dict.fromkeys(cell.group for cell in report.groups) if group in groups]
    rows = [[group, *(cells.get((group, name), "-") for name in names)] for group in order]
    rows.append(["all", *(f"{one.slices} ({one.patients})" for one in report.partitions)])
    rows.append(["with one label only", *(f"({one.one_label} of {one.several})" for one in report.partitions)])
    print_table("Slices (patients)", ["group", *names], rows if names else [])


def _print_shift(report: Report) -> None:
    rows = [
        [one.partition, str(one.slices), f"{one.mutual_information:.4f}", _number(one.cramers_v), _number(one.aligned)]
        for one in report.shift
    ]
    headings = ["partition", "slices", "mutual information (bits)", "Cramer's V", "share aligned"]
    print_table("Attribute and label", headings, rows)


def _print_rules(report: Report) -> None:
    rows = []
    for rule in report.rules:
        for one in rule.scores:
            numbers = [_number(one.accuracy), _number(one.group_balanced_accuracy), _number(one.auroc)]
            counts = ["-" if count is None else str(count) for count in (one.tp, one.fp, one.tn, one.fn)]
            rows.append([rule.name, one.partition, *numbers, *counts])
    headings = ["rule", "partition", "accuracy", "by group", "AUROC", "TP", "FP", "TN", "FN"]
    print_table("Rules that see no image", headings, rows)
    for rule in report.rules:
        print_line(f"{rule.name}: {rule.definition}.")


def print_line(text: str) -> None:
    """Print a text as it is."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def print_table(title: str, headings: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table; nothing where there are no rows."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(escape(heading), overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    if table.row_count:
        Console(highlight=False).print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
