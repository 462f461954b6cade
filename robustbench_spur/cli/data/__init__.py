"""``spurbench data``: get, check and prepare data sets."""

from __future__ import annotations

import argparse

from robustbench_spur.cli import nested

VERBS = {
    "list": "data sets, where they lie, and what can be downloaded",
    "download": "fetch archives, checked by their hash",
    "prepare": "from archives to images that are ready to train on",
    "check": "the doctor: damaged files, duplicates, patients in two partitions, and how strong the shortcut is",
    "describe": "the rows of a split: groups, patients, notes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs below this one."""
    nested.add_verbs(parser, __name__, VERBS)


def main(options: argparse.Namespace) -> int:
    """Carry out the verb that was given."""
    return nested.carry_out(options, __name__)
