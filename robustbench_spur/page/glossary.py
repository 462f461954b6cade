"""What a board's rules and its plugins' own sources say about datasets, methods, metrics and tracks, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from robustbench_spur.board import Board
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.page.credit import credit_of
from robustbench_spur.page.naming import labels_of
from robustbench_spur.page.texts import sentence, setting
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.standing import TIERS

TRACKS = {
    "none": ("No attributes", "The method knows images and labels only."),
    "selection": (
        "Attributes for selection",
        "It sees the attribute on the validation set, to choose a model, not to train.",
    ),
    "train": ("Attributes in training", "It sees the attribute of every training image."),
    "reweight": (
        "A small unbiased set",
        "It trains on a small set in which all groups are alike, with their attributes.",
    ),
    "targeted": (
        "Knows the shortcut",
        "It is built against this very shortcut, or sees the attribute when it is tested.",
    ),
}
"""Each track's title, and which annotations it is about, in plain words."""


@dataclass
class Glossary:
    """The words of a page.

    Args:
        board: whose names are explained.
        registry: where sentences about datasets, methods and metrics come from.
    """

    board: Board
    registry: Registry

    @property
    def manifest(self) -> Manifest:
        """The board's rules."""
        return self.board.manifest

    @cached_property
    def ranking(self) -> Column:
        """The column that ranks."""
        return self.manifest.column(self.manifest.rank_by)

    @cached_property
    def columns(self) -> list[Column]:
        """Columns of numbers, the ranking one first; names and settings are shown beside the numbers they belong to."""
        shown = [c for c in self.manifest.columns if c.shown and c.metric is not None and c is not self.ranking]
        return [self.ranking, *shown]

    @cached_property
    def more(self) -> list[Column]:
        """The other columns of numbers, which a terminal has no room for."""
        return [c for c in self.manifest.columns if c.metric is not None and c not in self.columns]

    @cached_property
    def names(self) -> dict[int, str]:
        """Name of every row, by its ``id()``; no two of a table are alike."""
        return labels_of(self.board)

    @cached_property
    def tiers(self) -> list[tuple[str, str]]:
        """The tiers that rows of the board have, with what each means."""
        found = {credit.tier for row in self.board.rows if (credit := credit_of(row))}
        return [(tier, meaning) for tier, meaning in TIERS.items() if tier in found]

    @cached_property
    def partly(self) -> str:
        """What was not checked of some rows, though all else was; empty where that is so of none."""
        return next((credit.note for row in self.board.rows if (credit := credit_of(row)) and credit.note), "")

    @cached_property
    def plugins(self) -> dict[str, dict[str, Plugin]]:
        """Plugins by kind and name; what is not installed here is not described."""
        kinds = ("dataset", "method", "evaluator")
        return {kind: {plugin.name: plugin for plugin in self.registry.entries(kind)} for kind in kinds}

    def said(self, kind: str, name: str, attribute: str) -> Any:
        """What a plugin's source states, None where the plugin is not here."""
        plugin = self.plugins[kind].get(name)
        return plugin.literal(attribute) if plugin else None

    @cached_property
    def methods(self) -> list[tuple[str, str, str]]:
        """Name, summary and source of every method on the board."""
        names = sorted({row.first.method.name for row in self.board.rows})
        return [(n, self.said("method", n, "summary") or "", self.said("method", n, "source") or "") for n in names]

    @cached_property
    def datasets(self) -> list[dict[str, Any]]:
        """Name, summary, source, licence and whether it is generated, of every dataset that the board names."""
        full = [pin.name for pin in self.manifest.splits] + [row.split for row in self.board.rows]
        asked = ("summary", "source", "licence", "embedded")
        return [
            {"name": name, **{attribute: self.said("dataset", name, attribute) for attribute in asked}}
            for name in dict.fromkeys(name.partition("/")[0] for name in full)
        ]

    def track(self, name: str) -> tuple[str, str]:
        """A track's title and what it is about; its bare name where it is not one of ours."""
        return TRACKS.get(name, (name, ""))

    def heading(self, column: Column) -> str:
        """A column's name in full, in words; its title, which is short for a terminal, says how words are spelled."""
        spelled = {word.casefold(): word for word in re.findall(r"\w+", column.title)}
        return " ".join(spelled.get(word, word) for word in column.name.split("_"))

    def definition(self, column: Column) -> str:
        """What a column's metric is, in its evaluator's words."""
        metrics = self.said("evaluator", column.evaluator, "metrics")
        metric = metrics.get(column.metric) if isinstance(metrics, Mapping) else None
        return str(getattr(metric, "definition", ""))

    def beside(self, column: Column) -> list[str]:
        """Settings that belong to a column, such as the radius of an attack."""
        values = next((row.values for row in self.board.rows if row.values), {})
        kin = [c for c in self.manifest.columns if c.parameter and c.evaluator == column.evaluator]
        return [f"{c.title} {setting(values[c.name])}" for c in kin if values.get(c.name) is not None]

    def about_split(self, split: str) -> list[str]:
        """What a split is, from its dataset's own words and its name."""
        dataset, _, rest = split.partition("/")
        name = re.split(r"[@\[]", rest, maxsplit=1)[0]
        told = [self.said("dataset", dataset, "summary"), (self.said("dataset", dataset, "splits") or {}).get(name)]
        if rho := re.match(r"@([\d.]+)", rest.removeprefix(name)):
            told.append(
                f"In train and validation, {100 * float(rho[1]):g} % of the patients of each class carry the attribute value"
                " that is tied to the class."
            )
        return [sentence(text) for text in told if text]

    def about_method(self, name: str) -> str:
        """What a method does, in a line; empty where its plugin is not here."""
        return sentence(self.said("method", name, "summary") or "")
