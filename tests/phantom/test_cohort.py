import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from robustbench_spur.phantom.anatomy import draw_extents
from robustbench_spur.phantom.cohort import BUFFER, CORE, MOST_SLICES, TENTHS, plan_slices, tumour_free_weights
from robustbench_spur.types import SpurbenchError


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(0, MOST_SLICES), st.integers(0, MOST_SLICES))
def test_slices_lie_where_their_label_says(seed: int, positive: int, negative: int) -> None:
    patients = np.arange(12)
    plan = plan_slices(seed, patients, np.full(12, positive), np.full(12, negative))
    assert np.bincount(plan.label, minlength=2).tolist() == [12 * negative, 12 * positive]
    extent = draw_extents(seed, patients)
    distance = np.abs(plan.z - extent.z[plan.row])
    height = extent.half_height[plan.row]
    assert (distance[plan.label == 1] <= CORE * height[plan.label == 1] + 0.05).all()
    assert (distance[plan.label == 0] > height[plan.label == 0] + BUFFER).all()
    assert len(np.unique(plan.row * 10_000 + plan.tenths)) == len(plan.row)


def test_positions_of_both_labels_are_distributed_alike() -> None:
    count = 20_000
    plan = plan_slices(1, np.arange(count), np.full(count, 1), np.full(count, 1))
    edges = np.linspace(-52, 52, 25)
    table = [np.histogram(plan.z[plan.label == label], edges)[0] for label in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 0.01
    # The best possible guess from position is right by half of the total variation above chance; 0.512 by chance alone.
    with_tumour, without = np.array(table) / count
    assert 0.5 + np.abs(with_tumour - without).sum() / 4 < 0.515


def test_the_plan_of_a_patient_is_the_same_whoever_else_is_planned() -> None:
    one = plan_slices(3, np.array([17]), np.array([2]), np.array([2]))
    many = plan_slices(3, np.arange(20), np.full(20, 2), np.full(20, 2))
    assert one.tenths.tolist() == many.tenths[many.row == 17].tolist()


def test_weights_are_symmetric_and_cover_every_tumour_position() -> None:
    weights = tumour_free_weights()
    assert weights == pytest.approx(weights[::-1], rel=1e-6)
    furthest = 41 + CORE * 24 * 1.3
    assert TENTHS.max() / 10 >= furthest and (weights[np.abs(TENTHS) <= 550] > 0).all()


def test_more_slices_than_fit_are_refused() -> None:
    with pytest.raises(SpurbenchError, match="at most 16 slices per patient and label, found 17"):
        plan_slices(1, np.arange(2), np.array([1, 17]), np.array([1, 1]))
