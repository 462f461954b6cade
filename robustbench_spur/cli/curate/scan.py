"""``spurbench curate scan``: rank the columns of a table by how dangerous a shortcut each could be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_json, add_plugins, home_of, print_json
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.curation.damage import Damage
    from robustbench_spur.curation.frozen import Extractor
    from robustbench_spur.curation.scanned import Scan
    from robustbench_spur.curation.study import Asked, Study
    from robustbench_spur.types import Estimate

LONGEST = 46
"""Letters of a column's name that the terminal shows; the page and the files have it in full."""

WIDE = 110
"""Columns of a terminal that has room for what each column goes with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add = parser.add_argument
    add("table", type=Path, metavar="TABLE", help="features as CSV, TSV, Parquet or xlsx, a row per patient")
    add("--label", required=True, metavar="NAME", help="column of the label")
    add("--patient", default="patient", metavar="NAME", help="column of patients (default: %(default)s)")
    add("--sheet", metavar="NAME", help="of an Excel file (default: its first)")
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns, or sections of the table, to scan (default: all)",
    )
    add(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns or sections to leave out, such as consequences of the label",
    )
    add("--out", type=Path, metavar="FOLDER", help="where the page, the table and the numbers are written")
    add("--top", type=int, default=15, metavar="N", help="columns that the terminal shows (default: %(default)s)")
    images = parser.add_argument_group("images, without which risk is utility alone")
    add = images.add_argument
    add("--images", type=Path, metavar="PLACE", help="folder of images, or CSV with the columns patient and path")
    add("--backbone", metavar="NAME", help="a timm model for the frozen features (default: plain descriptors)")
    add("--pretrained", action="store_true", help="take timm's published weights")
    add("--weights", type=Path, metavar="FILE", help="safetensors file of the backbone's weights")
    add("--image-size", type=int, default=128, metavar="PIXELS", help="(default: %(default)s)")
    add("--channels", type=int, choices=(1, 3), default=1, help="1 for greyscale, 3 for RGB (default: %(default)s)")
    numbers = parser.add_argument_group("statistics")
    add = numbers.add_argument
    add("--permutations", type=int, default=999, metavar="N", help="of patients, for chance (default: %(default)s)")
    add("--replicates", type=int, default=1000, metavar="N", help="resamplings of patients (default: %(default)s)")
    add("--bins", type=int, default=5, metavar="N", help="of numeric columns, by quantiles (default: %(default)s)")
    add("--seed", type=int, default=2025, metavar="N", help="of all draws (default: %(default)s)")
    add(
        "--min-patients", type=int, default=30, metavar="N", help="of a level in every class, for a split (default: 30)"
    )
    damage = parser.add_argument_group("damage: train where a column is tied to the label, test where it is not")
    add = damage.add_argument
    add("--damage", type=int, default=0, metavar="K", help="of the first K columns (default: none); needs --out")
    add(
        "--rho",
        type=float,
        default=1.0,
        metavar="RHO",
        help="share of aligned patients per class (default: %(default)s)",
    )
    add("--epochs", type=int, metavar="N", help="of training (default: the board's)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Scan, measure, write, and tell what was found; exit code 1 where a training failed."""
    from rich.console import Console

    from robustbench_spur.cli.bar import Bar
    from robustbench_spur.curation.findings import write_findings
    from robustbench_spur.curation.study import conduct
    from robustbench_spur.runtime import Runtime, require_writable

    _check(options)
    home = home_of()
    if options.images is not None:
        require_writable(home)
    errors = Console(highlight=False, soft_wrap=True, stderr=True)
    with Bar(errors) as bar:
        study = conduct(_asked(options), Runtime(home).artifacts, bar)
    damages = list(_damages(options, study)) if options.damage else []
    if options.out is not None:
        from robustbench_spur.curation.page import write_page

        write_findings(study, damages, options.out)
        write_page(study, damages, options.out)
    if options.json:
        measured = {damage.column: damage.as_dict() for damage in damages}
        print_json([{**row.as_dict(), "damage": measured.get(row.name)} for row in study.scan.rows])
    else:
        _print(study, damages, options)
    return (
        1 if any(damage.reason and damage.split for damage in damages) else 0
    )  # a split was drawn, and no number came


def _check(options: argparse.Namespace) -> None:
    """Refuse options that need others, before anything is read."""
    if options.images is None:
        for name in ("backbone", "pretrained", "weights", "damage"):
            if getattr(options, name):
                raise SpurbenchError(f"Expected --images with --{name}, found none. Give a folder or a list of images.")
    if options.damage and options.out is None:
        raise SpurbenchError("Expected --out FOLDER with --damage, where the splits are written, found none.")
    for name in ("damage", "top"):
        if getattr(options, name) < 0:
            raise SpurbenchError(f"Expected --{name} of at least 0, found {getattr(options, name)}.")


def _asked(options: argparse.Namespace) -> Asked:
    from robustbench_spur.curation.study import Asked

    same = ("table", "label", "patient", "sheet", "only", "without", "images", "permutations", "replicates", "bins")
    extractor, identity = _extractor(options)
    return Asked(
        **{name: getattr(options, name) for name in same},
        extractor=extractor,
        identity=identity,
        seed=options.seed,
        min_patients=options.min_patients,
    )


def _extractor(options: argparse.Namespace) -> tuple[Extractor | None, dict[str, Any]]:
    """What turns images into features, and what its numbers depend on beside its name."""
    from importlib.metadata import version

    from robustbench_spur.curation.frozen import frozen, plain
    from robustbench_spur.store import file_sha256

    if options.images is None:
        return None, {}
    if options.backbone is None:
        if options.weights is not None or options.pretrained:
            raise SpurbenchError("Expected --backbone NAME with --weights or --pretrained, found none.")
        return plain(options.image_size), {}
    extractor = frozen(
        options.backbone,
        size=options.image_size,
        channels=options.channels,
        weights=options.weights,
        pretrained=options.pretrained,
    )
    weights = None if options.weights is None else file_sha256(options.weights)
    return extractor, {"weights_sha256": weights, "timm": version("timm"), "torch": version("torch")}


def _damages(options: argparse.Namespace, study: Study) -> Iterator[Damage]:
    """What the first columns cost; records and splits lie in the folder, so that a killed run goes on."""
    from robustbench_spur.cli.progress import Terminal
    from robustbench_spur.curation.damage import measure, pool_of, worth_measuring
    from robustbench_spur.curation.findings import SPLITS
    from robustbench_spur.home import Home
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.plan import Request

    if study.images is None:
        return
    sources = (options.table, *([options.images] if options.images.is_file() else []))
    pool = pool_of(
        study.table, study.scan, study.images, sources, rho=options.rho, seed=options.seed, channels=options.channels
    )
    request = Request(
        methods=(),
        splits=(),
        settings={} if options.epochs is None else {"epochs": options.epochs},
        backbone=options.backbone,
        image_size=options.image_size,
        pretrained=options.pretrained or None,
        weights=options.weights,
        device=options.device,
        plugin_files=tuple(options.plugin),
        home=Home((options.out / "home").absolute()),
    )
    for row in worth_measuring(study.scan.rows, options.damage):
        yield measure(pool, row.name, options.out / SPLITS, request, load_manifest(request.board), Terminal())


# What the terminal shows


def _print(study: Study, damages: Sequence[Damage], options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.markup import escape

    scan, console = study.scan, Console(highlight=False, soft_wrap=True)
    classes = ", ".join(f"{name} {count}" for name, count in scan.classes.items())
    console.print(escape(f"{scan.patients} patients, {len(scan.names)} columns. {scan.label}: {classes}."))
    console.print(escape(study.looked))
    console.print(_ranking(scan, options.top, wide=console.width >= WIDE), soft_wrap=False)
    if len(scan.rows) > options.top:
        console.print(f"{len(scan.rows) - options.top} more columns: --top {len(scan.rows)}, or --out FOLDER.")
    for row in scan.rows[: options.top]:
        if row.note:
            console.print(escape(f"{row.name}: {row.note}."))
    for note in scan.notes:
        console.print(escape(note))
    if damages:
        console.print(_costs(damages), soft_wrap=False)
        for damage in damages:
            if damage.reason:
                console.print(escape(f"{damage.column}: {damage.reason}."))
    if options.out is not None:
        from robustbench_spur.curation.findings import EVERYTHING, PAGE, TABLE

        console.print(escape(f"Written to {options.out}: {PAGE} (the page), {TABLE}, {EVERYTHING}."))


def _ranking(scan: Scan, most: int, *, wide: bool) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from robustbench_spur.curation.findings import in_percent
    from robustbench_spur.page.texts import shortened

    images = bool(scan.settings["images"])
    title = "How dangerous a shortcut each column could be, in per cent, with 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("", justify="right")
    table.add_column("column", overflow="fold", min_width=16)
    table.add_column("risk" if images else "utility", no_wrap=True)
    for heading in ("utility", "seen") if images else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("q", "split"):
        table.add_column(heading, no_wrap=True)
    if wide:
        table.add_column("goes with", overflow="fold")
    for rank, row in enumerate(scan.rows[:most], start=1):
        mates = scan.associated(row.name, 2) if wide and row.name in scan.names else []
        table.add_row(
            str(rank),
            escape(shortened(row.name, LONGEST)) + (" (collinear)" if row.collinear else ""),
            in_percent(row.risk if images else row.utility),
            *([_value(row.utility), _value(row.detectability)] if images else []),
            "-" if row.q is None else "<.001" if row.q < 0.001 else f"{row.q:.3f}",
            "yes" if row.enough else "no",
            *([escape(", ".join(f"{shortened(name, LONGEST // 2)} {v:.2f}" for name, v in mates))] if wide else []),
        )
    return table


def _value(estimate: Estimate) -> str:
    return "-" if estimate.value is None else f"{100 * estimate.value:.1f}"


def _costs(damages: Sequence[Damage]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from robustbench_spur.curation.findings import in_percent

    table = Table(title="What a model loses that is trained where it is tied, in per cent", title_justify="left")
    for heading in ("column", "tied", "validation", "test", "fall", "worst group"):
        table.add_column(heading, overflow="fold")
    for damage in damages:
        worst = in_percent(damage.worst) + (f" {damage.worst_group}" if damage.worst_group else "")
        table.add_row(
            escape(damage.column),
            escape(" | ".join(damage.values)),
            *(in_percent(value) for value in (damage.validation, damage.test, damage.fall)),
            escape(worst),
        )
    return table
