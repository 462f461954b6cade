"""The board as LaTeX: a ``tabular`` with booktabs' rules for every split and network, to be pasted into a paper."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_spur.arranging import Shown, columns_of
from robustbench_spur.board import Board, Row
from robustbench_spur.cellwords import cell_text, plain
from robustbench_spur.manifest import Column
from robustbench_spur.tables import in_blocks, notes
from robustbench_spur.types import Estimate

LEFT_OUT = ("seeds", "remark")
"""Columns that a paper's table leaves out unless they are asked for; remarks stand in comments above it."""
ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{letter: f"\\{letter}" for letter in "_%&#${}"},
}
"""What stands for letters that LaTeX obeys; brackets and stars are taken for arguments after the end of a line."""
TIED = r"$^{\dagger}$"
HEADER = """\
% Needs \\usepackage{booktabs}; with quotation marks in names also \\usepackage[T1]{fontenc}.
% Per cent, in brackets the CONFIDENCE % interval over patients; ranks are within a track.
% Bold: the best of its column among the ranked rows of its track.
% Dagger: rows of a track that share its first rank; the patients do not resolve which of them is best.
"""


def latex(board: Board, columns: Sequence[Shown] = ()) -> str:
    """The board as LaTeX, above each table comments with its split and why cells are missing.

    Args:
        board: best rows first.
        columns: to show; where empty those of the text tables but seeds and remark.
    """
    shown = list(columns) or [
        one for one in columns_of(board.manifest) if one.column is not None or one.name not in LEFT_OUT
    ]
    parts = [HEADER.replace("CONFIDENCE", f"{100 * board.manifest.bootstrap.confidence:.0f}")]
    for (split, backbone, size), rows in board.tables.items():
        about = f"{split}, {backbone}, {size} pixels, board {board.manifest.board} ({board.manifest.status})"
        comments = [f"% {plain(line)}\n" for line in (about, *notes(rows, shown, board))]
        whole = any(one.column is None and one.name == "remark" for one in shown)
        parts.append("".join(comments) + _tabular([row for row in rows if whole or row.seeds], shown, board))
    return "\n".join(parts)


def escaped(text: str) -> str:
    r"""A text that LaTeX prints as it is.

    >>> print(escaped("a_b & 5 %"))
    a\_b \& 5 \%
    """
    return "".join(ESCAPED.get(letter, letter) for letter in plain(text))


def _tabular(rows: list[Row], columns: Sequence[Shown], board: Board) -> str:
    """The table itself, with a rule between tracks where their rows stand together."""
    kinds = "".join("r" if one.numeric else "l" for one in columns)
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _joined([escaped(one.title) for one in columns])]
    best, tied = _best(rows, columns), _tied(rows)
    blocks, before = in_blocks([row.first.track for row in rows]), ""
    for number, row in enumerate(rows):
        if number == 0 or (blocks and row.first.track != before):
            lines.append(r"\midrule")
        before = row.first.track
        lines.append(_joined(_cells(row, columns, board, best, tied)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _joined(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cells(
    row: Row, columns: Sequence[Shown], board: Board, best: dict[tuple[str, str], str], tied: set[int]
) -> list[str]:
    cells = []
    for one in columns:
        if one.numeric:
            value = row.values.get(one.name) if one.column is not None else row.difference
            bold = row.rank is not None and best.get((row.first.track, one.name)) == _point(value)
            cells.append(_number(value, bold=bold))
        else:
            cells.append(_text(cell_text(row, one, board.manifest)))
    if id(row) in tied and cells:
        names = [one.name if one.column is None else "" for one in columns]
        cells[names.index("method") if "method" in names else 0] += TIED
    return cells


def _text(text: str) -> str:
    """A text, or the dash of a cell that has none."""
    return "--" if text == "-" else escaped(text)


def _point(value: object) -> str:
    """A value as it is printed, so that rows that print the same are alike; empty where there is none."""
    return f"{100 * value.value:.1f}" if isinstance(value, Estimate) and value.value is not None else ""


def _number(value: object, *, bold: bool) -> str:
    r"""A number with its interval in small brackets.

    >>> print(_number(Estimate(-0.52, -0.611, -0.43), bold=False))
    $-$52.0 {\scriptsize [$-$61.1, $-$43.0]}
    """
    point = _point(value)
    if not point or not isinstance(value, Estimate):
        return "--"
    text = rf"\textbf{{{_minus(point)}}}" if bold else _minus(point)
    if value.low is None or value.high is None:
        return text
    return rf"{text} {{\scriptsize [{_minus(f'{100 * value.low:.1f}')}, {_minus(f'{100 * value.high:.1f}')}]}}"


def _minus(number: str) -> str:
    return number.replace("-", "$-$")


def _best(rows: Sequence[Row], columns: Sequence[Shown]) -> dict[tuple[str, str], str]:
    """The best number of each track and column as it is printed, among the ranked rows."""
    found: dict[tuple[str, str], str] = {}
    for column in (one.column for one in columns if one.column is not None and one.numeric):
        for track in {row.first.track for row in rows}:
            own = [row for row in rows if row.first.track == track and row.rank is not None]
            values = [value for row in own if (value := _defined(row, column)) is not None]
            if values and column.better != "neither":
                top = max(values) if column.better == "higher" else min(values)
                found[track, column.name] = _point(Estimate(top))
    return found


def _defined(row: Row, column: Column) -> float | None:
    value = row.values.get(column.name)
    return value.value if isinstance(value, Estimate) else None


def _tied(rows: Sequence[Row]) -> set[int]:
    """The rows that share the first rank of their track with another."""
    first: dict[str, list[int]] = {}
    for row in rows:
        if row.rank == 1:
            first.setdefault(row.first.track, []).append(id(row))
    return {one for own in first.values() if len(own) > 1 for one in own}
