"""A board as a small static site: an index, a page for every method and one for every split."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.board import Board
from robustbench_spur.page.addresses import Links, slug
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.indexview import index_of
from robustbench_spur.page.methodview import method_view
from robustbench_spur.page.render import Page, templates
from robustbench_spur.page.splitview import split_view
from robustbench_spur.registry import Registry
from robustbench_spur.store import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

METHODS, SPLITS = "methods", "splits"
"""Folders of the site beside its index."""


def write_site(board: Board, folder: Path, registry: Registry, pictures: Path | None = None) -> list[Path]:
    """Write a board as a site that works from a folder, without a server. Imports no torch.

    Every file is written at once, and HTML files in ``methods`` and ``splits`` that do not belong to the site are removed:
    other files there, and everything elsewhere, are left alone.

    Args:
        board: to show.
        folder: of the site; made where it is not there.
        registry: where sentences about datasets, methods and metrics come from.
        pictures: folder of pictures of splits, ``<slug>.png`` (examples of every group) and ``<slug>.pairs.png`` (images
            with and without their shortcut), by :func:`~robustbench_spur.page.addresses.slug`; a split may have none.

    Returns:
        The files, the index first.
    """
    written = []
    for name, text in pages_of(board, registry, pictures):
        path = folder / name
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o644)
        written.append(path)
    for part in (METHODS, SPLITS):
        for path in (folder / part).glob("*.html"):
            if path not in written:
                path.unlink()
    return written


def pages_of(board: Board, registry: Registry, pictures: Path | None = None) -> Iterator[tuple[str, str]]:
    """The pages of a site, as names relative to its folder and HTML."""
    page, shown = Page(Glossary(board, registry)), Templates(templates())
    yield "index.html", shown.page("site-index", page, Links(), index_of(page))
    for name in sorted({row.first.method.name for row in board.rows}):
        yield f"{METHODS}/{slug(name)}.html", shown.page("site-method", page, Links("../"), method_view(name, page))
    for name in sorted({row.split for row in board.rows}):
        view = split_view(name, page, pictures)
        yield f"{SPLITS}/{slug(name)}.html", shown.page("site-split", page, Links("../"), view)


@dataclass(frozen=True)
class Templates:
    """Templates that are read once for all pages of a site.

    Args:
        environment: that they are from.
    """

    environment: Environment

    @cached_property
    def script(self) -> str:
        """The only script that the pages' policy lets run."""
        return "".join(self.environment.get_template(f"{name}.js.j2").render() for name in ("sort", "filter"))

    def page(self, template: str, page: Page, links: Links, view: object) -> str:
        """A page as HTML.

        Args:
            template: name of its template.
            page: of the board.
            links: to the other pages.
            view: what it shows.
        """
        digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
        return self.environment.get_template(f"{template}.html.j2").render(
            page=page, words=page.words, links=links, view=view, script=self.script, script_sha256=digest
        )
