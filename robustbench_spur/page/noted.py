"""What the evaluators noted in the records of a row: of records that others sent in, of whatever shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from robustbench_spur.manifest import Column
from robustbench_spur.page.lines import Line
from robustbench_spur.record import Record
from robustbench_spur.standing import CLAIMED

Places = list[Mapping[str, Any]]
"""Places of a curve, or bins."""


def measured(line: Line, column: Column, kind: str) -> list[tuple[Record, Places]]:
    """The places that the evaluator of a column noted under ``kind``, by finished record; what is no list of them is none.

    Nothing of a claim: there were no predictions to hold it against.
    """
    if line.row.standing.tier == CLAIMED:
        return []
    done = [record for record in line.row.records if record.status == "done"]
    noted = [(record, _within(record.details, column.partition, column.evaluator, kind)) for record in done]
    return [(record, value) for record, value in noted if value and isinstance(value, list) and _are_places(value)]


def _within(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _are_places(value: list[Any]) -> bool:
    return all(isinstance(place, Mapping) for place in value)


def has_numbers(place: Mapping[str, Any], *names: str) -> bool:
    """Whether a place states finite numbers under all names.

    >>> has_numbers({"risk": 0.5}, "risk"), has_numbers({"risk": None}, "risk"), has_numbers({}, "risk")
    (True, False, False)
    """
    return all(number(place.get(name)) is not None for name in names)


def number(value: Any) -> float | None:
    """A finite number as it is, None for everything else.

    >>> number(0.5), number(True), number("0.5"), number(float("inf"))
    (0.5, None, None, None)
    """
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
