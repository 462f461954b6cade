"""The page of a split: its tables with all columns, and the pictures that were made of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from robustbench_spur.page.addresses import slug
from robustbench_spur.page.geometry import Chart
from robustbench_spur.page.render import Page
from robustbench_spur.page.sections import Section

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """An image that is part of its page."""

    data: str
    alt: str
    caption: str
    title: str


@dataclass(frozen=True)
class SplitView:
    """What the page of a split shows.

    Args:
        name: in full.
        sections: a table for every network that it was run with.
        sweep: the plot over rho of the split that this is one rho of; None where there is none.
        pictures: of its images.
        siblings: other splits of the same dataset, for the way to their pages.
    """

    name: str
    sections: list[Section]
    sweep: Chart | None
    pictures: list[Picture]
    siblings: list[str]


def split_view(name: str, page: Page, pictures: Path | None) -> SplitView:
    """The view of a split's page.

    Args:
        name: of the split, in full.
        page: of the board.
        pictures: folder of pictures by slug; None where there are none.
    """
    sections = [section for section in page.sections if section.split == name]
    every = dict.fromkeys(section.split for section in page.sections)
    sweeps = dict(page.sweeps)
    return SplitView(
        name=name,
        sections=sections,
        sweep=sweeps.get(name.partition("@")[0]) if "[" not in name and "+" not in name else None,
        pictures=_pictures(sections[0], pictures),
        siblings=[other for other in every if other.partition("/")[0] == name.partition("/")[0]],
    )


def _pictures(section: Section, folder: Path | None) -> list[Picture]:
    """Examples of every group, and pairs, as far as their files are there."""
    if folder is None:
        return []
    groups = f" The groups are {', '.join(section.groups)}." if section.groups else ""
    attribute = section.part.attribute if section.part else "attribute"
    kinds = (
        (".png", "Examples", f"Example images of {section.split}, some of every group.{groups}"),
        (
            ".pairs.png",
            "Pairs",
            f"Images of {section.split} beside the same images with another {attribute}, all else alike.",
        ),
    )
    found = [(folder / (slug(section.split) + ending), title, text) for ending, title, text in kinds]
    return [
        Picture(embedded(path.read_bytes()), text, text, title)
        for path, title, text in found
        if path.is_file() and path.read_bytes().startswith(PNG)
    ]


def embedded(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
