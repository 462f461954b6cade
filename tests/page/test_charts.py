"""The plots: every mark where its number says, and nothing outside its box or on top of something else."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.page.charts import curves, dots, reliability, scatter
from robustbench_spur.page.geometry import SHAPES, WIDTH, Chart, Scale, Series, domain, marker_path
from robustbench_spur.page.labels import overlap, place_labels, spread_out
from robustbench_spur.page.plots import mean_estimate, pooled
from robustbench_spur.page.texts import in_words
from robustbench_spur.types import Estimate
from tests.page.boards import GROUPS


def test_mean_over_seeds_by_hand() -> None:
    two = mean_estimate([Estimate(0.2, 0.1, 0.4), Estimate(0.4, 0.3, 0.6)])
    assert (two.value, two.low, two.high) == pytest.approx((0.3, 0.2, 0.5))
    one = mean_estimate([Estimate(0.2, 0.1, 0.4), Estimate(0.4, reason="why")])
    assert one.value == pytest.approx(0.3)
    assert (one.low, one.high, one.reason) == (None, None, "why")
    assert mean_estimate([Estimate(0.2), Estimate(None, reason="gone")]) == Estimate(None, reason="gone")


def test_reliability_bins_of_two_seeds_are_pooled_by_hand() -> None:
    def one(count: int, confidence: float | None, accuracy: float | None) -> list[dict[str, Any]]:
        return [{"low": 0.5, "high": 1.0, "count": count, "confidence": confidence, "accuracy": accuracy}]

    assert pooled([one(10, 0.6, 0.5), one(30, 0.8, 0.9)]) == [
        {"low": 0.5, "high": 1.0, "count": 40, "confidence": pytest.approx(0.75), "accuracy": pytest.approx(0.8)}
    ]
    assert pooled([one(0, None, None), one(4, 0.7, 0.5)])[0]["confidence"] == pytest.approx(0.7)
    assert pooled([one(0, None, None)])[0]["accuracy"] is None


def test_a_point_is_drawn_where_its_numbers_say() -> None:
    chart = scatter([(Series("a", 1, 1), Estimate(0.75, 0.7, 0.8), Estimate(0.5, 0.4, 0.6))], "accuracy", "worst group")
    (mark,) = [path for path in chart.paths if path.kind == "mark"]
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", mark.d)]
    x, y = np.mean(numbers[0::2]), np.mean(numbers[1::2])
    # x runs from 60 % at 46 to 100 % at WIDTH - 14, y from 30 % at 280 to 100 % at 14
    assert x == pytest.approx(46 + (WIDTH - 60) * 0.15 / 0.4, abs=0.1)
    assert y == pytest.approx(280 - 266 * 0.2 / 0.7, abs=0.1)
    bars = [path.d for path in chart.paths if path.kind == "bar"]
    assert bars == ["M126 204L206 204", "M166 242L166 166"]


def coordinates(chart: Chart) -> list[float]:
    absolute = [path.d for path in chart.paths if "a" not in path.d]
    return [float(n) for d in absolute for n in re.findall(r"-?[\d.]+|nan|inf", d)] + [
        float(n) for label in chart.labels for n in (label.x, label.y)
    ]


shares = st.floats(0, 1)
estimates = st.one_of(
    st.builds(lambda a, b, c: Estimate(sorted((a, b, c))[1], min(a, b, c), max(a, b, c)), shares, shares, shares),
    st.builds(lambda a: Estimate(a, reason="no interval"), shares),
    st.just(Estimate(None, reason="undefined")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(estimates, estimates, estimates, estimates), max_size=12))
def test_plots_stay_in_their_boxes_whatever_is_missing(many: list[tuple[Estimate, ...]]) -> None:
    series = [Series(f"method {k} with a long name", k % 8, k, faint=k % 2 == 0) for k in range(len(many))]
    charts = [
        scatter([(s, a, b) for s, (a, b, *_) in zip(series, many, strict=True)], "accuracy", "worst group"),
        dots(
            [(s, dict(zip(GROUPS, by, strict=True))) for s, by in zip(series, many, strict=True)], GROUPS, 2, "accuracy"
        ),
        curves(
            [(s, dict(zip((0.0, 0.1, 0.2), by[:3], strict=True))) for s, by in zip(series, many, strict=True)],
            {0.0: "0", 0.1: "a", 0.2: "b"},
            "robust",
        ),
    ]
    for chart in charts:
        assert all(-1 <= n <= max(chart.width, chart.height) + 1 for n in coordinates(chart))
        assert len(chart.rows) == len(many)
        drawn = {path.tip.split(":")[0].split(",")[0] for path in chart.paths if path.tip}
        told = {text.split(" (")[0] for text in chart.missing}
        if chart.kind != "dots":
            assert drawn | told == {s.name for s in series} and not drawn & told


def test_a_group_without_a_number_says_so_in_its_lane() -> None:
    chart = dots(
        [(Series("a"), {"p@u": Estimate(0.5), "p@v": Estimate(None, reason="no examples")})],
        ("p@u", "p@v"),
        2,
        "accuracy",
    )
    assert "p@v: no examples" in [label.text for label in chart.labels]
    kinds = [path.kind for path in chart.paths if path.tip]
    assert kinds == ["hollow"]


def test_reliability_copes_with_one_bin_and_with_none() -> None:
    bins = [{"low": 0.5, "high": 1.0, "count": 3, "confidence": 0.8, "accuracy": 1.0}]
    assert reliability(Series("a"), bins, 2, "").rows == [("50 to 100", "3", "80.0", "100.0")]
    empty = [{"low": 0.5, "high": 1.0, "count": 0, "confidence": None, "accuracy": None}]
    assert reliability(Series("a"), empty, 2, "").rows == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(60, 300), st.floats(30, 260)), min_size=1, max_size=12))
def test_names_of_points_keep_clear_of_each_other(points: list[tuple[float, float]]) -> None:
    names = ["groupdro" for _ in points]
    area = (46.0, 14.0, WIDTH, 280.0)
    boxes = place_labels(points, names, [], area)
    for k, box in enumerate(boxes):
        assert overlap(box, area) == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
        assert all(overlap(box, other) < 1e-9 for other in boxes[:k])


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(1, 20))
def test_names_of_lines_are_spread_in_their_order(positions: list[float], gap: float) -> None:
    out = spread_out(positions, gap, 0, 100)
    room = min(gap, 100 / max(1, len(positions) - 1))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in out)
    ordered = [out[k] for k in sorted(range(len(out)), key=lambda k: positions[k])]
    assert all(b - a >= room - 1e-6 for a, b in itertools.pairwise(ordered))


@given(shares)
def test_ticks_are_round_and_few(least: float) -> None:
    low, high = domain([least])
    assert low <= least
    ticks = Scale(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 7 and ticks[-1] == 1.0
    assert all(round(100 * tick, 6) == int(round(100 * tick, 6)) for tick in ticks)


def test_markers_have_one_size_to_the_eye() -> None:
    for shape in range(1, len(SHAPES)):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", marker_path(50, 50, shape, 5))]
        xs, ys = np.array(numbers[0::2]), np.array(numbers[1::2])
        assert 5 <= max(np.hypot(xs - 50, ys - 50)) <= 7.5


def test_estimates_in_words() -> None:
    assert in_words(Estimate(0.25, reason="no interval: one patient")) == "25.0 (no interval: one patient)"
    assert in_words(Estimate(None)) == "none: undefined"
