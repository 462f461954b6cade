"""CelebA: ``list_attr_celeba`` and ``list_eval_partition`` (.txt of the owners, .csv of Kaggle), and ``img_align_celeba``.

Persons come from ``identity_CelebA.txt`` where it is there. Every attribute is -1 or 1.

Source: Liu et al. 2015, Deep learning face attributes in the wild, ICCV; the groups of Sagawa et al. 2020, hair by sex.
Tested on stand-ins with the owners' names of files and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_spur.reading import reading
from robustbench_spur.splits.tabular.cells import header_of, place_of, read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import CODES, Preset, find, optional, partition_of
from robustbench_spur.types import SpurbenchError

Cells = dict[str, tuple[str, ...]]
"""The wanted cells, by image."""


def read(root: Path, asked: Asked) -> Listing:
    """Blond_Hair and Male, unless other attributes are asked for."""
    place = find(root, "list_attr_celeba.txt", "list_attr_celeba.csv")
    label, attribute = asked.label or "Blond_Hair", asked.attribute or "Male"
    marks = _of_text(place, (label, attribute)) if place.suffix == ".txt" else _of_csv(place, (label, attribute))
    listed = find(root, "list_eval_partition.txt", "list_eval_partition.csv")
    partitions = _of_csv(listed, ("partition",)) if listed.suffix == ".csv" else _of_pairs(listed)
    identity = optional(root, "identity_CelebA.txt") if asked.patients else None
    persons = _of_pairs(identity) if identity else dict.fromkeys(marks, ("",))
    rows = []
    for line, (image, (y, a)) in enumerate(marks.items(), 3 if place.suffix == ".txt" else 2):
        if image not in partitions or image not in persons:
            raise SpurbenchError(f"Expected {image} in the partitions and persons too, found it in {place} only.")
        part = partition_of(partitions[image][0], CODES, f"{image} in {listed}")
        rows.append(Row(image, image, y, a, part, persons[image][0], line))
    folder = root / "img_align_celeba"
    inner = folder / folder.name  # Kaggle's archive has it twice
    return Listing(
        rows,
        place,
        inner if inner.is_dir() else folder,
        attribute,
        class_names={"-1": f"not {label}", "1": label},
        value_names={"-1": f"not {attribute}", "1": attribute},
    )


def _of_csv(place: Path, wanted: Sequence[str]) -> Cells:
    first = header_of(place)[0]
    columns = read_columns(place, [first, *wanted])
    return dict(zip(columns[first], zip(*(columns[name] for name in wanted), strict=True), strict=True))


def _of_text(place: Path, wanted: Sequence[str]) -> Cells:
    """The owners' table: a count, a header without a name for the images, then a line per image."""
    lines = _lines(place)
    names = ["", *(lines[1] if len(lines) > 1 else [])]
    places = [place_of(name, names, place) for name in wanted]
    cells = _checked(lines[2:], len(names), place)
    if lines[0] != [str(len(cells))]:
        announced = " ".join(lines[0])
        raise SpurbenchError(
            f"Expected the {announced} images that {place} announces, found {len(cells)}. Get the file again."
        )
    return {row[0]: tuple(row[at] for at in places) for row in cells}


def _of_pairs(place: Path) -> Cells:
    """A line per image, with one word after it."""
    return {row[0]: (row[1],) for row in _checked(_lines(place), 2, place)}


def _lines(place: Path) -> list[list[str]]:
    with reading(place, "a table in UTF-8"):
        return [line.split() for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]


def _checked(lines: list[list[str]], width: int, place: Path) -> list[list[str]]:
    broken = next((number for number, cells in enumerate(lines, 1) if len(cells) != width), None)
    if broken is not None:
        raise SpurbenchError(
            f"Expected {width} words per line in {place}, found {len(lines[broken - 1])} at image {broken}."
            " Get the file again."
        )
    return lines


PRESET = Preset(
    read,
    channels=3,
    mark="list_attr_celeba.*",
    tables=("list_attr_celeba.*", "list_eval_partition.*", "identity_CelebA.txt"),
)
