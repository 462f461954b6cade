"""``spurbench new method``: a method that runs, to be made into one's own."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from robustbench_spur.cli.options import path_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", help="of the method, such as my_idea; also of the folder, the file and the class")
    parser.add_argument(
        "--out", default=".", metavar="FOLDER", help="where the new folder goes, made if need be (default: here)"
    )
    parser.add_argument("--package", action="store_true", help="write a package that can be installed and shared")


def main(options: argparse.Namespace) -> int:
    """Write the files, and say what to do with them."""
    from robustbench_spur.newplugin import write_method

    out = path_of(options.out)
    for path in write_method(options.name, out, package=options.package):
        print(f"wrote {path}")
    folder = out / options.name
    print(f"\nIt runs as it is: {folder / 'README.md'} says how, and what to do next. First:")
    for command in following(options.name, folder, package=options.package):
        print(f"  {command}")
    return 0


def following(name: str, folder: Path, *, package: bool) -> list[str]:
    """The first commands after the files are there.

    Args:
        name: of the method.
        folder: that was written.
        package: whether it is a distribution.
    """
    if package:
        install = f"python -m pip install --editable {shlex.quote(str(folder))}"
        return [install, f"spurbench check {name}"]
    return [f"spurbench check {shlex.quote(str(folder / f'{name}.py'))}"]
