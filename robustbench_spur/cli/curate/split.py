"""``spurbench curate split``: draw a split that ties an attribute of the patients to the label."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_json, add_plugins, as_json, print_json
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.curation.split import Drawn, Recipe, Tied


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options; the sizes that are not given are the recipe's own."""
    add = parser.add_argument
    add(
        "table",
        type=Path,
        metavar="TABLE",
        help="attributes, a row per patient, or per image where it lists images too",
    )
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the split is written")
    add("--attribute", required=True, metavar="NAME", help="column that is tied to the label")
    add(
        "--values",
        nargs=2,
        metavar=("A", "B"),
        help="A goes with the first class, B with the second (default: most frequent)",
    )
    add("--threshold", type=float, metavar="T", help="of a column of numbers: below T goes with the first class")
    add("--classes", nargs=2, default=["negative", "positive"], metavar=("A", "B"), help="(default: %(default)s)")
    add("--slices", type=Path, metavar="FILE", help="list of images as CSV, such as curate render writes")
    add("--images", type=Path, metavar="FOLDER", help="that the files are named from (default: the list's)")
    add("--patient", default="patient", metavar="NAME", help="column of patients (default: %(default)s)")
    add("--path", default="file", metavar="NAME", help="column of image files in the list (default: %(default)s)")
    add(
        "--label",
        default="label",
        metavar="NAME",
        help="column of labels, 0 or 1 or class names (default: %(default)s)",
    )
    add("--position", default="position", metavar="NAME", help="column of places in the volume, 0 to 1; may be absent")
    add(
        "--rho",
        nargs="+",
        type=float,
        metavar="RHO",
        help="shares of aligned patients per class (default: all that are known)",
    )
    add("--seed", type=int, metavar="N", help="of what is drawn")
    for name, what in (("train", "per class"), ("validation", "per class"), ("test", "in all"), ("adapt", "in all")):
        add(f"--{name}-patients", type=int, metavar="N", help=what)
    add("--slices-per-patient", type=int, metavar="K", help="exactly; patients with fewer of a label do not give it")
    add("--match-position", action="store_true", default=None, help="draw negatives at the positions of the positives")
    add("--channels", type=int, choices=(1, 3), default=1, help="1 for greyscale, 3 for RGB (default: %(default)s)")
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Draw, write, read back, and tell what came out."""
    from dataclasses import replace

    from robustbench_spur.curation import split
    from robustbench_spur.curation.features import read_table
    from robustbench_spur.registry import Registry
    from robustbench_spur.types import Groups

    recipe = _recipe(options)
    listed = options.slices or options.table
    root = options.images or listed.parent
    table = read_table(options.table, patient=options.patient)
    tied = split.tie(table, options.attribute, options.values, options.threshold)
    slices = split.read_slices(listed, root, tuple(options.classes), _columns(options))
    strangers = len(set(slices.patients.tolist()) - set(map(str, table.patients)))
    if strangers:
        tied = replace(tied, left_out={**tied.left_out, "in the list, but not in the table": strangers})
    groups = Groups(tuple(options.classes), tied.attribute, tied.values)
    drawn = split.draw(slices, tied.codes, groups, recipe)
    _check_images(drawn, root)
    asked = {"threshold": options.threshold, "left_out_by_value": dict(tied.left_out)}
    sources = list(dict.fromkeys([options.table, listed]))
    files = split.contents(options.out, drawn, root, sources, asked, channels=options.channels)
    new = split.write(options.out, files)
    names = _read_back(drawn, options.out, Registry(tuple(options.plugin)))
    if options.json:
        print_json(_rows(drawn, names, tied))
    else:
        _print(drawn, names, tied, options.out, new=new)
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    from dataclasses import fields

    from robustbench_spur.curation.split import Recipe
    from robustbench_spur.splits.base import RHOS

    given = {field.name: getattr(options, field.name, None) for field in fields(Recipe)}
    if options.rho:
        unknown = [rho for rho in options.rho if rho not in RHOS]
        if unknown:
            raise SpurbenchError(f"Expected values of --rho among {', '.join(map(str, RHOS))}, found {unknown[0]}.")
        given["rhos"] = tuple(options.rho)
    return Recipe(**{name: value for name, value in given.items() if value is not None})


def _columns(options: argparse.Namespace) -> dict[str, str]:
    names = ("patient", "path", "label", "position")
    return {name: getattr(options, name) for name in names}


def _check_images(drawn: Drawn, root: Path) -> None:
    """Refuse a split whose images are not there."""
    for table in drawn.tables.values():
        for partition in table.partitions.values():
            for file in partition.extra["file"].tolist():
                if not (root / file).is_file():
                    raise SpurbenchError(
                        f"Expected the image {file} below {root}, found none. Give the folder of images: --images FOLDER"
                    )


def _read_back(drawn: Drawn, folder: Path, registry: Any) -> dict[float, str]:
    """Names of the splits, by rho, once the reader has found in the folder what was drawn."""
    from robustbench_spur.curation.split import full_name, reader
    from robustbench_spur.splitref import parse_split

    names = {rho: full_name(reader(registry), rho) for rho in drawn.tables}
    for rho, name in names.items():
        if parse_split(name, registry).open(folder).sha256 != drawn.tables[rho].sha256():
            raise SpurbenchError(
                f"Expected {name} in {folder} as it was drawn, found other rows. Report this as a fault."
            )
    return names


def _rows(drawn: Drawn, names: Mapping[float, str], tied: Tied) -> list[dict[str, Any]]:
    """One row per rho, for ``--json``."""
    return [
        {
            "split": names[rho],
            "rho": rho,
            "split_sha256": table.sha256(),
            "attribute": tied.attribute,
            "values": list(tied.values),
            "counts": table.counts(),
            "position_alone": as_json(drawn.position[rho]),
            "left_out": {**tied.left_out, **drawn.left_out},
            "notes": list(drawn.notes),
        }
        for rho, table in drawn.tables.items()
    ]


def _print(drawn: Drawn, names: Mapping[float, str], tied: Tied, folder: Path, *, new: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    table = Table(title="Patients (slices) of every group", title_justify="left")
    groups = next(iter(drawn.tables.values())).groups
    for heading in ("rho", "partition"):
        table.add_column(heading, no_wrap=True)
    for heading in (*groups.names, "position alone"):
        table.add_column(escape(heading), overflow="fold")
    for cells in _matrix(drawn):
        table.add_row(*cells)
    console.print(table)
    ties = ", ".join(f"{value} to {name}" for value, name in zip(groups.values, groups.classes, strict=True))
    console.print(escape(f"{tied.attribute}: {ties.replace(' to ', ' is tied to ', 1)}. {tied.how}"))
    for why, count in {**tied.left_out, **drawn.left_out}.items():
        console.print(escape(f"Left out: {count} patients, {why}."))
    if any(drawn.position.values()) and not drawn.recipe.match_position:
        console.print("What the position alone tells (AUROC) is taken away by --match-position.")
    where = escape(str(folder))
    console.print(f"{'Written to' if new else 'The same split was there already:'} {where}. Next:")
    name = next(iter(names.values()))
    dataset = name.partition("/")[0]
    console.print(f"  spurbench data check {name} --data {dataset}={where}")
    console.print(f"  spurbench run --split {' '.join(names.values())} --data {dataset}={where}")


def _matrix(drawn: Drawn) -> list[list[str]]:
    """Rows of the printed table; what is the same at every rho stands once."""
    found: list[list[str]] = []
    for number, (rho, table) in enumerate(drawn.tables.items()):
        for name, counts in table.counts().items():
            fixed = name in ("test", "adapt")
            if fixed and number:
                continue
            cells = [f"{group['patients']} ({group['examples']})" for group in counts.values()]
            alone = drawn.position[rho][name]
            curve = " -> ".join(dict.fromkeys(f"{alone[when]['middle']:.2f}" for when in alone))
            found.append(["all" if fixed else str(rho), name, *cells, curve or "unknown"])
    return sorted(found, key=lambda cells: cells[0] != "all")
