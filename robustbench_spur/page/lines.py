"""The rows of the ranked tables as texts and bars, and how each row looks in the plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import Column
from robustbench_spur.page.credit import Credit, credit_of
from robustbench_spur.page.geometry import COLOURS, SHAPES, Series, marker_path
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.naming import labels_of, variant
from robustbench_spur.page.texts import percent
from robustbench_spur.types import Estimate


@dataclass(frozen=True)
class Value:
    """A share in a row, as texts; ``key`` sorts it, ``low`` to ``high`` is its bar, all in per cent."""

    column: Column
    text: str
    interval: str
    note: str
    key: float | None
    low: float | None
    high: float | None
    detail: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the ranked table.

    Args:
        row: the board's.
        series: how it looks in the plots.
        variant: what of it is not the board's, such as ``epochs=4``.
        about: the method in a line; empty where its plugin is not here.
        values: under the columns shown, in their order.
        difference: from the baseline, in points.
        clear: 1 or -1 where the interval of the difference excludes zero on that side, else 0.
        marker: path data of its marker.
        more: values under the columns that a terminal has no room for.
        credit: whose it is; None for a row of one's own home.
    """

    row: Row
    series: Series
    variant: str
    about: str
    values: list[Value]
    difference: Value
    clear: int
    marker: str
    more: list[Value]
    credit: Credit | None

    @property
    def rank(self) -> str:
        """The rank, or the range of ranks of a tie; empty for a row that is not ranked."""
        first, last = self.row.rank, self.row.rank_high
        if first is None:
            return ""
        return str(first) if last in (None, first) else f"{first}–{last}"

    @property
    def status(self) -> str:
        """The status as words."""
        return self.row.status.replace("_", " ")


def styles_of(board: Board) -> dict[str, Series]:
    """Colour and marker by name: the same on all pages, the baseline's neutral."""
    labels, baseline = labels_of(board), board.manifest.baseline
    neutral = {labels[id(row)] for row in board.rows if row.first.method.name == baseline and not variant(row)}
    styles = {name: Series(name, 0, k) for k, name in enumerate([baseline, *sorted(neutral - {baseline})])}
    for k, name in enumerate(sorted(set(labels.values()) - set(styles))):
        shape = 1 + (k % COLOURS + k // COLOURS) % (len(SHAPES) - 1)
        styles[name] = Series(name, 1 + k % COLOURS, shape)
    return styles


def line_of(row: Row, words: Glossary, styles: Mapping[str, Series]) -> Line:
    """The view of a row.

    Args:
        row: the board's.
        words: of the page.
        styles: by name; see :func:`styles_of`.
    """
    name = words.names[id(row)]
    style = styles[name]
    change = row.difference
    return Line(
        row=row,
        series=Series(name, style.colour, style.shape, faint=row.rank is None),
        variant=variant(row),
        about=words.about_method(row.first.method.name),
        values=[value_of(row, column, words) for column in words.columns],
        difference=shown(words.ranking, change, signed=True),
        clear=0 if change.low is None or change.high is None else int(change.low > 0) - int(change.high < 0),
        marker=marker_path(8, 8, style.shape, 4.6),
        more=[value_of(row, column, words) for column in words.more],
        credit=credit_of(row),
    )


def value_of(row: Row, column: Column, words: Glossary) -> Value:
    """A number of a row; the ranking one names the group that is lowest, and how many patients it has."""
    estimate = row.values.get(column.name)
    if not isinstance(estimate, Estimate):
        estimate = Estimate(None, reason=row.reason or "not evaluated")
    place = (column.evaluator, column.partition)
    kin = [c for c in words.manifest.columns if c.lowest and (c.evaluator, c.partition) == place]
    named = row.values.get(kin[0].name) if kin and column is words.ranking else None
    part = next((record.split for record in row.records if record.split), None)
    patients = part.counts[column.partition][named]["patients"] if part and named else None
    detail = f"{named}, {patients} patients" if patients is not None else str(named or "")
    if column.partition in row.first.training_partitions:
        detail = f"{detail}; trained on it".lstrip("; ")
    return shown(column, estimate, detail=detail)


def shown(column: Column, estimate: Estimate, *, signed: bool = False, detail: str = "") -> Value:
    """An estimate as texts, with the reason for what is missing."""
    if estimate.value is None:
        return Value(column, "", "", estimate.reason or "undefined", None, None, None, detail)
    plus = "+" if signed and estimate.value > 0 else ""
    text, key = plus + percent(estimate.value), round(100 * estimate.value, 4)
    if estimate.low is None or estimate.high is None:
        return Value(column, text, "", estimate.reason or "no interval", key, None, None, detail)
    ends = round(100 * estimate.low, 1), round(100 * estimate.high, 1)
    between = " to " if signed else "–"
    return Value(column, text, f"{percent(estimate.low)}{between}{percent(estimate.high)}", "", key, *ends, detail)
