"""What of a board is shown, and in which order: rows by filters, columns by name, rows sorted by a column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.types import Estimate, SpurbenchError, nearest

FIXED = ("rank", "track", "method", "difference", "seeds", "remark", "tier", "team", "entry")
"""Columns that every board has, whatever its manifest says."""
BEFORE, AFTER = FIXED[:3], FIXED[3:6]
"""Those that stand before and after the manifest's unless others are asked for."""
STATUSES = ("ranked", "provisional", "unranked", "failed", "not_applicable")
"""What a row can be, as :class:`~robustbench_spur.rows.Row` says."""
Sortable = float | str | tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """A column of a table.

    Args:
        name: by which it is asked for.
        title: above it.
        column: of the manifest; None for one of :data:`FIXED`.
    """

    name: str
    title: str
    column: Column | None = None

    @property
    def numeric(self) -> bool:
        """Whether its cells are estimates, written by this program alone."""
        return self.name == "difference" if self.column is None else self.column.metric is not None


def columns_of(manifest: Manifest, names: Iterable[str] = ()) -> list[Shown]:
    """The columns with the given names or titles, in that order, each once.

    Args:
        manifest: of the board.
        names: of :data:`FIXED`, or names or titles of the manifest's columns; ``all`` for every one. None given: the
            columns that the manifest shows, between the fixed ones that a home has.

    Raises:
        SpurbenchError: a name that no column has.
    """
    own, given = {column.name: Shown(column.name, column.title, column) for column in manifest.columns}, list(names)
    fixed = {name: Shown(name, f"from {manifest.baseline}" if name == "difference" else name) for name in FIXED}
    if "all" in given:
        chosen = [*map(fixed.get, BEFORE), *own.values(), *(fixed[name] for name in FIXED if name not in BEFORE)]
    elif given:
        chosen = [find_column(manifest, name, [*fixed.values(), *own.values()]) for name in given]
    else:
        listed = [one for one in own.values() if one.column is not None and one.column.shown]
        chosen = [*map(fixed.get, BEFORE), *listed, *map(fixed.get, AFTER)]
    return list(dict.fromkeys(one for one in chosen if one is not None))


def find_column(manifest: Manifest, name: str, among: Sequence[Shown] = ()) -> Shown:
    """The column with a name, else the one with that title.

    Raises:
        SpurbenchError: there is none.

    Args:
        manifest: of the board.
        name: or title.
        among: columns to look in; all where empty.
    """
    known = among or columns_of(manifest, ["all"])
    found = [one for one in known if one.name == name] or [one for one in known if one.title == name]
    if found:
        return found[0]
    names = [one.name for one in known]
    hint = nearest(name, list(dict.fromkeys([*names, *(one.title for one in known)]))).split("Known:")[0]
    raise SpurbenchError(
        f"Board {manifest.board} has no column {name!r}. {hint}Known: {', '.join(names)}, and their titles."
    )


# Rows by filters


def standing_text(row: Row, what: str) -> str:
    """``entry``, ``team``, ``source`` or ``tier`` of a row; empty where a home's row has none."""
    return str(getattr(row.standing, what))


def filtered(
    board: Board,
    tracks: Sequence[str] = (),
    backbones: Sequence[str] = (),
    statuses: Sequence[str] = (),
    teams: Sequence[str] = (),
) -> Board:
    """The board reduced to some rows; empty means all. Ranks stay as they are: those among all rows.

    Raises:
        SpurbenchError: a track or status that there is not, a backbone or team that no row has.
    """
    ways: list[tuple[str, Sequence[str], Sequence[str], Callable[[Row], str]]] = [
        ("track", tracks, board.manifest.tracks, lambda row: row.first.track),
        ("backbone", backbones, (), lambda row: row.first.network.backbone),
        ("status", statuses, STATUSES, lambda row: row.status),
        ("team", teams, (), lambda row: standing_text(row, "team")),
    ]
    rows = board.rows
    for what, wanted, declared, of in ways:
        known = list(dict.fromkeys([*declared, *(of(row) for row in board.rows if of(row))]))
        for name in wanted:
            if name not in known:
                raise SpurbenchError(
                    f"No row of board {board.manifest.board} has the {what} {name!r}. {nearest(name, known)}"
                )
        rows = [row for row in rows if not wanted or of(row) in wanted]
    return Board(board.manifest, rows)


# Rows in order


def sort_rows(board: Board, name: str, *, reverse: bool = False) -> Board:
    """The board with the rows of every table sorted by a column: best first, or from low to high where nothing is better.

    Rows stay within their table. Rows without a value come last, whichever way; equal ones stay in their order.

    Args:
        board: to sort.
        name: of the column, or its title.
        reverse: worst first, or from high to low.

    Raises:
        SpurbenchError: no such column, or one with several values per row.
    """
    shown = find_column(board.manifest, name)
    if shown.column is not None and shown.column.family is not None:
        raise SpurbenchError(
            f"Expected a column with one value per row to sort by, found {shown.name!r} with a value per group."
        )
    down = _higher_first(shown, board.manifest) != reverse
    rows: list[Row] = []
    for own in board.tables.values():
        keyed = [(key, row) for row in own if (key := sort_key(row, shown)) is not None]
        there = {id(row) for _, row in keyed}
        rows += [row for _, row in sorted(keyed, key=lambda pair: pair[0], reverse=down)]
        rows += [row for row in own if id(row) not in there]
    return Board(board.manifest, rows)


def _higher_first(shown: Shown, manifest: Manifest) -> bool:
    if shown.name == "difference" and shown.column is None:
        return manifest.column(manifest.rank_by).better == "higher"
    return shown.name == "seeds" if shown.column is None else shown.column.better == "higher"


def sort_key(row: Row, shown: Shown) -> tuple[int, Sortable] | None:
    """What a row is sorted by, numbers before texts; None where the row has no value."""
    value = _fixed_value(row, shown.name) if shown.column is None else row.values.get(shown.column.name)
    if isinstance(value, Estimate):
        value = value.value
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, tuple):
        return 0, value
    return (0, float(value)) if isinstance(value, int | float) else (1, str(value).casefold())


def _fixed_value(row: Row, name: str) -> Any:
    if name == "rank":
        return None if row.rank is None or row.rank_high is None else (row.rank, row.rank_high)
    if name == "difference":
        return row.difference
    if name == "seeds":
        return len(row.seeds) or None
    if name == "remark":
        return f"{row.status} {row.reason}"
    about = {"track": row.first.track, "method": row.first.method.name}
    return about[name] if name in about else standing_text(row, name)
