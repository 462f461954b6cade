"""``spurbench data describe``: the rows of a split."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.data.check import add_splits, open_splits, print_line, print_table
from robustbench_spur.cli.options import add_json, add_plugins, print_json

if TYPE_CHECKING:
    from robustbench_spur.splitref import OpenSplit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_splits(parser)
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print what the rows of each split are."""
    described = [describe(split) for split in open_splits(options)]
    if options.json:
        print_json(described)
    else:
        for one in described:
            _print(one)
    return 0


def describe(split: OpenSplit) -> dict[str, Any]:
    """Groups, sizes, identity and notes of a split, as JSON values.

    Raises:
        SpurbenchError: its rows cannot be read.
    """
    table, ref = split.table, split.ref
    counts = table.counts()
    return {
        "split": ref.full,
        "dataset": ref.dataset,
        "version": ref.plugin.version,
        "summary": ref.plugin.literal("splits", {}).get(ref.split, ""),
        "files": None if split.path is None else str(split.path),
        "classes": table.groups.classes,
        "attribute": table.groups.attribute,
        "values": table.groups.values,
        "groups": table.groups.names,
        "partitions": {
            name: {"examples": len(rows), "patients": len(set(rows.clusters.tolist())), "groups": counts[name]}
            for name, rows in table.partitions.items()
        },
        "notes": table.notes,
        "sha256": split.sha256,
        "fingerprint": split.dataset.fingerprint(),
    }


def _print(one: dict[str, Any]) -> None:
    print_line(f"{one['split']}, version {one['version']}: {one['summary']}")
    print_line(f"files: {one['files'] or 'none needed'}")
    print_line(f"classes: {', '.join(one['classes'])}; {one['attribute']}: {', '.join(one['values'])}")
    parts = one["partitions"]
    counts = [(group, [part["groups"][group] for part in parts.values()]) for group in one["groups"]]
    designed = [(group, cells) for group, cells in counts if any(cell.get("designed", 1) for cell in cells)]
    rows = [[group, *map(_sizes, cells)] for group, cells in (*designed, ("all", list(parts.values())))]
    print_table("Examples (patients)", ["group", *parts], rows)
    for note in one["notes"]:
        print_line(f"Note: {note}")
    print_line(f"table sha256: {one['sha256']}")
    if one["fingerprint"]:
        print_line(f"fingerprint of the files: {one['fingerprint']}")


def _sizes(cell: dict[str, Any]) -> str:
    if not cell.get("designed", 1):
        return "-"
    return f"{cell['examples']} ({cell['patients']})"
