"""The scan's plots: every mark where its numbers say, and what cannot be drawn named with its reason."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from robustbench_spur.curation.plots import associations, chart_of, scatter, style
from robustbench_spur.curation.scanned import ColumnScan, Scan
from robustbench_spur.page.geometry import Chart
from robustbench_spur.types import Estimate


def row(
    name: str, utility: Estimate, detectability: Estimate, *, q: float | None = 0.01, kind: str = "numeric"
) -> ColumnScan:
    known = utility.value is not None and detectability.value is not None
    risk = Estimate(utility.value * detectability.value) if known else Estimate(None, reason="no")  # type: ignore[operator]
    return ColumnScan(
        name=name, section="", kind=kind, levels=("a", "b"), support={"a": 3, "b": 4}, missing=0, utility=utility, p=q, q=q,
        detectability=detectability, collinear=False, auroc=None, risk=risk, note="", enough=True, enough_why="",
    )  # fmt: skip


ROWS = (
    row("first", Estimate(0.4, 0.3, 0.45), Estimate(0.75, 0.5, 1.0)),
    row("second", Estimate(0.1, 0.0, 0.2), Estimate(0.25, 0.2, 0.3), q=0.2, kind="categorical"),
    row("third", Estimate(0.2), Estimate(None, reason="no images"), kind="missingness"),
)


def scan_of(rows: tuple[ColumnScan, ...], *, images: bool = True) -> Scan:
    names = tuple(one.name for one in rows)
    matrix = np.arange(len(names) ** 2, dtype=float).reshape(len(names), -1) / 100
    matrix = np.maximum(matrix, matrix.T)
    matrix[2, 0] = matrix[0, 2] = np.nan
    return Scan("y", {"a": 3, "b": 4}, 7, rows, names, matrix, matrix, (), {"images": images})


def centre(d: str) -> tuple[float, float]:
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", d)]
    if "a" in d:  # a circle: its leftmost point and its radius
        return numbers[0] + numbers[2], numbers[1]
    return float(np.mean(numbers[0::2])), float(np.mean(numbers[1::2]))


def marks(chart: Chart) -> dict[str, tuple[float, float]]:
    """Where the mark of each row is, by the first word of its tooltip."""
    return {path.tip.split(":")[0]: centre(path.d) for path in chart.paths if path.kind == "mark" and path.tip}


def test_a_column_is_drawn_where_its_numbers_say() -> None:
    chart = scatter(ROWS)
    # x from 0 at 48 to 50 % at 504 (the first end that holds 45 % and a margin), y from 0 at 350 to 100 % at 34
    found = marks(chart)
    assert set(found) == {"first", "second"}
    assert found["first"] == pytest.approx((48 + 456 * 0.4 / 0.5, 350 - 316 * 0.75), abs=0.3)
    assert found["second"] == pytest.approx((48 + 456 * 0.1 / 0.5, 350 - 316 * 0.25), abs=0.3)
    bars = [path.d for path in chart.paths if path.kind == "bar"]
    assert bars[:2] == ["M321.6 113L458.4 113", "M412.8 192L412.8 34"]
    assert chart.missing == ["third (no images)"]
    assert [cells[0] for cells in chart.rows] == ["first", "second"]
    assert [label.text for label in chart.labels if label.kind == "name"] == ["first"], "the pale one is not named"


def test_what_chance_would_do_as_well_is_pale() -> None:
    assert [style(one).faint for one in (*ROWS, replace(ROWS[0], q=None))] == [False, True, False, True]
    assert len({style(one).shape for one in ROWS}) == 3


def test_lines_of_equal_risk_pass_through_points_of_that_risk() -> None:
    chart = scatter((row("one", Estimate(0.5), Estimate(0.4)),))
    found = marks(chart)["one"]
    guides = [path.d for path in chart.paths if path.kind == "guide"]
    points = [np.array([float(n) for n in re.findall(r"-?[\d.]+", d)]).reshape(-1, 2) for d in guides]
    distance = min(float(np.hypot(*(line - found).T).min()) for line in points)
    assert distance < 8, "0.5 x 0.4 lies on the line of risk 20"


def test_without_images_the_utility_is_drawn_alone() -> None:
    chart = chart_of(scan_of(ROWS, images=False))
    assert chart.kind == "dots" and next(cells[:2] for cells in chart.rows) == ("first", "40.0 (30.0 to 45.0)")
    assert chart_of(scan_of(ROWS)).kind == "scatter"


def test_associations_are_the_lower_triangle_by_rank() -> None:
    found = associations(scan_of((ROWS[1], ROWS[0], replace(ROWS[2], kind="numeric"))))
    assert found.names == ("second", "first", "third")
    assert found.cells == ((), (0.03,), (None, 0.07))
    assert found.others == 0
    fewer = associations(scan_of(ROWS), most=1)
    assert (fewer.names, fewer.cells, fewer.others) == (("first",), ((),), 1)
