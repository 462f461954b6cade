"""From a board to the page's bytes: the whole view, handed to the templates."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.board import Board
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.page.geometry import Chart
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.lines import Line, styles_of
from robustbench_spur.page.plots import sweep_chart
from robustbench_spur.page.provenance import number_and_days, origins
from robustbench_spur.page.sections import Section, section_of
from robustbench_spur.record import Record
from robustbench_spur.registry import Registry
from robustbench_spur.store import replacing

if TYPE_CHECKING:
    from jinja2 import Environment


def write_page(board: Board, home: Home, path: Path | None = None, plugin_files: tuple[Path, ...] = ()) -> Path:
    """Write the page of a board, at once. Imports no torch.

    Args:
        board: to show.
        home: folder of results.
        path: of the file; ``leaderboards/<board>/index.html`` in ``home`` unless given.
        plugin_files: drafts given by path, which the page then describes as it does installed plugins.

    Returns:
        The file.

    Raises:
        SpurbenchError: a plugin file is not there.
    """
    target = path or home.pages / board.manifest.board / "index.html"
    text = render_page(board, Registry(plugin_files))
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
    return target


def render_page(board: Board, registry: Registry) -> str:
    """The page of a board as HTML.

    Args:
        board: to show.
        registry: where sentences about datasets, methods and metrics come from.
    """
    environment = templates()
    script = environment.get_template("sort.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    words = Glossary(board, registry)
    return environment.get_template("page.html.j2").render(
        page=Page(words), words=words, links=None, script=script, script_sha256=digest
    )


def templates() -> Environment:
    """The templates of all pages: every text is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("robustbench_spur.page", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@dataclass
class Page:
    """What the templates show; the words for it are the glossary's.

    Args:
        words: of the board.
    """

    words: Glossary

    @property
    def manifest(self) -> Manifest:
        """The board's rules."""
        return self.words.manifest

    @cached_property
    def sections(self) -> list[Section]:
        """A section for every table of the board."""
        board, styles = self.words.board, styles_of(self.words.board)
        return [section_of(k, rows, self.words, styles) for k, rows in enumerate(board.tables.values(), start=1)]

    @cached_property
    def overview(self) -> list[tuple[str, list[Line | None]]]:
        """Every method under the board's own settings, with its row in every section or None."""
        found = {
            (number, line.series.name): line
            for number, section in enumerate(self.sections)
            for lines in section.lines.values()
            for line in lines
            if not line.variant
        }
        names = sorted({name for _, name in found}, key=lambda name: (name != self.manifest.baseline, name))
        return [(name, [found.get((number, name)) for number in range(len(self.sections))]) for name in names]

    @cached_property
    def sweeps(self) -> list[tuple[str, Chart]]:
        """Splits that were run at several rho, each with a plot over rho."""
        return sweeps_of(self)

    @cached_property
    def _records(self) -> list[Record]:
        return [record for row in self.words.board.rows for record in row.records]

    @property
    def records(self) -> str:
        """How many records there are, and from when."""
        return number_and_days(self._records)

    @property
    def provenance(self) -> list[tuple[str, list[str]]]:
        """Which code and machines the records are from, each with the number of records."""
        return origins(self._records)


def sweeps_of(page: Page, wanted: Callable[[Line], bool] = lambda line: True) -> list[tuple[str, Chart]]:
    """Splits that were run at several rho, each with a plot over rho.

    Args:
        page: of the board.
        wanted: which lines are drawn.
    """
    tied: dict[tuple[str, str], dict[float, list[Line]]] = {}
    for section in page.sections:
        if found := re.fullmatch(r"([^@\[+]+)@([0-9]+(?:\.[0-9]+)?)", section.split):
            lines = [line for own in section.lines.values() for line in own if wanted(line)]
            tied.setdefault((found[1], section.network), {})[float(found[2])] = lines
    drawn = [(name, sweep_chart(page.words, by)) for (name, _), by in tied.items()]
    return [(name, chart) for name, chart in drawn if chart is not None]
