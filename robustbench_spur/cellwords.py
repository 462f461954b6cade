"""What the cells of a board's tables say, in words and per cent, and why a cell that is not there is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_spur.arranging import Shown, standing_text
from robustbench_spur.board import Row
from robustbench_spur.manifest import Manifest
from robustbench_spur.types import Estimate

STRANGE = "\N{REPLACEMENT CHARACTER}"
"""In place of what a terminal obeys rather than prints."""


def percent(estimate: Any) -> str:
    """An estimate as ``61.5 [55.0, 67.9]``, in per cent; a dash where it is undefined.

    >>> percent(Estimate(0.615, 0.55, 0.679)), percent(Estimate(None, reason="no patients"))
    ('61.5 [55.0, 67.9]', '-')
    """
    if not isinstance(estimate, Estimate) or estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def two_lines(estimate: Any) -> str:
    """An estimate with its interval in whole per cent below, for a narrow column.

    >>> two_lines(Estimate(0.615, 0.55, 0.679)).splitlines()
    ['61.5', '55..68']
    """
    value = percent(estimate).split(" ")[0]
    if not isinstance(estimate, Estimate) or estimate.value is None or estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{100 * estimate.low:.0f}..{100 * estimate.high:.0f}"


def plain(text: str) -> str:
    r"""A text on one line that moves no cursor and sets no colour: what is no printable character is replaced.

    >>> ascii(plain("red \x1b[31m\n team"))
    "'red \\ufffd[31m team'"
    """
    return "".join(letter if letter.isprintable() else STRANGE for letter in " ".join(text.split()))


def rank_text(row: Row) -> str:
    """``1`` for a rank that is resolved, ``1-2`` for a tie, a dash for a row that is not ranked.

    >>> rank_text(Row([], "ranked", "", rank=1, rank_high=2))
    '1-2'
    """
    if row.rank is None or row.rank_high is None:
        return "-"
    return str(row.rank) if row.rank == row.rank_high else f"{row.rank}-{row.rank_high}"


def method_text(row: Row) -> str:
    """The method with the settings that were given for it."""
    given = ", ".join(f"{name}={value}" for name, value in row.first.method.given.items())
    return plain(f"{row.first.method.name} ({given})" if given else row.first.method.name)


def remark(row: Row, seeds: Sequence[int] = ()) -> str:
    """Status and reason of a row that is not plainly ranked, and how many of the board's seeds it has.

    Args:
        row: of the board.
        seeds: of the board.
    """
    if row.status == "ranked":
        return ""
    words = plain(f"{row.status.replace('_', ' ')}: {row.reason}" if row.reason else row.status.replace("_", " "))
    count = f"{len(set(row.seeds) & set(seeds))} of {len(seeds)} seeds"
    told = row.status == "not_applicable" or set(seeds) <= set(row.seeds) or count in words
    return words if told else f"{words} ({count})"


def cell_text(row: Row, shown: Shown, manifest: Manifest) -> str:
    """A cell on one line, for people; a dash where it has nothing, which :func:`gaps` explains."""
    if shown.column is not None:
        value = row.values.get(shown.column.name)
        return percent(value) if shown.numeric else _value_text(value)
    ways: dict[str, str] = {
        "rank": rank_text(row),
        "track": plain(row.first.track),
        "method": method_text(row),
        "difference": percent(row.difference),
        "seeds": ",".join(map(str, row.seeds)) or "-",
        "remark": remark(row, manifest.seeds),
    }
    return ways[shown.name] if shown.name in ways else plain(standing_text(row, shown.name)) or "-"


def _value_text(value: Any) -> str:
    """A group's name, a parameter, or a family of estimates."""
    if isinstance(value, Mapping):
        return "; ".join(f"{plain(str(name))} {percent(as_estimate(one))}" for name, one in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else plain(str(value))


def as_estimate(one: Any) -> Any:
    """A member of a family, which is kept as JSON has it, as an estimate."""
    if isinstance(one, Mapping):
        return Estimate(one.get("value"), one.get("low"), one.get("high"), str(one.get("reason", "")))
    return one


def gaps(row: Row, columns: Sequence[Shown], manifest: Manifest) -> list[str]:
    """Why cells of a row that was measured are dashes, or numbers without an interval: a text for each.

    Of a row that was not measured :func:`remark` says why, for all its cells.
    """
    if not row.seeds:
        return []
    found = []
    for shown in columns:
        if shown.column is not None:
            found.append(why_missing(row.values.get(shown.column.name), shown.title, numeric=shown.numeric))
        elif shown.name == "difference" and row.first.method.name != manifest.baseline:
            found.append(why_missing(row.difference, f"difference {shown.title}", numeric=True))
    return [text for text in found if text]


def why_missing(value: Any, what: str, *, numeric: bool) -> str:
    """Why a value or its interval is not there; empty where they are.

    >>> why_missing(Estimate(None, reason="no patients"), "ECE", numeric=True), why_missing(0.1, "radius", numeric=False)
    ('no ECE: no patients', '')
    """
    if isinstance(value, Estimate):
        reason = plain(value.reason)
        if value.value is None:
            return f"no {what}: {reason or 'undefined'}"
        return f"no interval of {what}: {reason}" if value.low is None and reason else ""
    if numeric:
        return f"no {what}: not measured"
    return "" if value not in (None, {}) else f"no {what}: not measured, or undefined for a group"
