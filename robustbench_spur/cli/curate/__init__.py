"""``spurbench curate``: find shortcuts in a collection, and make splits from it."""

from __future__ import annotations

import argparse

from robustbench_spur.cli import nested

VERBS = {
    "render": "DICOM volumes to labelled slices, as SpurBreast has them",
    "scan": "rank the columns of a table by how dangerous a shortcut each could be",
    "split": "draw a split that ties an attribute to the label",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs below this one."""
    nested.add_verbs(parser, __name__, VERBS)


def main(options: argparse.Namespace) -> int:
    """Carry out the verb that was given."""
    return nested.carry_out(options, __name__)
