"""The measures against hand formulas, scikit-learn and scipy, and against the faults of the published code."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from robustbench_spur.association import contingency, cramers_v
from robustbench_spur.curation.features import Column
from robustbench_spur.curation.levels import levels, missingness, quantile_edges
from robustbench_spur.curation.measures import (
    Draws,
    adjusted_information,
    associations,
    benjamini_hochberg,
    detectability,
    permute,
)

Codes = NDArray[np.int64]


def column(values: Sequence[object], kind: str = "numeric") -> Column:
    return Column("c", np.array(values, dtype=object), "numeric" if kind == "numeric" else "categorical")


def noisy(rng: np.random.Generator, y: Codes, agreement: float) -> Codes:
    return np.where(rng.random(len(y)) < agreement, y, rng.integers(0, int(y.max()) + 1, len(y)))


# Levels


def test_numbers_are_binned_by_quantiles_and_missing_is_a_level() -> None:
    found = levels(column([*map(float, range(100)), None]))
    assert found.names == ("to 19", "above 19, to 39", "above 39, to 59", "above 59, to 79", "above 79", "missing")
    assert found.support == {**dict.fromkeys(found.names[:-1], 20), "missing": 1}
    assert found.missing == 5


def test_few_numbers_and_texts_stay_as_they_are() -> None:
    assert levels(column([3.0, 1.5, 3.0, 2.8936])).names == ("1.5", "2.8936", "3")
    assert levels(column(["b", "a", None], "text")).names == ("a", "b", "missing")
    assert levels(column([None, None])).constant
    assert levels(column([2.0, 2.0])).constant
    assert not levels(column([2.0, None])).constant


def test_bins_are_fixed_on_given_rows() -> None:
    values = [*map(float, range(10)), 1000.0, 2000.0]
    assert levels(column(values), 2, np.arange(10)).edges == (4.0,)
    assert levels(column(values), 2).edges == (5.0,)


def test_missingness_is_a_feature_of_its_own() -> None:
    found = missingness(column([1.0, None]))
    assert found is not None
    assert (found.name, found.values.tolist()) == ("c (missing)", ["known", "missing"])
    assert missingness(column([1.0, 2.0])) is None
    assert missingness(column([None, None])) is None


@given(st.lists(st.integers(-5, 30).map(float), min_size=1, max_size=200), st.integers(2, 7))
def test_bins_keep_the_order_and_split_what_can_be_split(numbers: list[float], bins: int) -> None:
    found = levels(column(list(numbers)), bins)
    assert len(found.names) <= max(bins, 1)
    assert (len(found.names) > 1) == (len(set(numbers)) > 1)
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(found.codes[order]) >= 0).all()
    assert all((found.codes[np.array(numbers) == n] == found.codes[numbers.index(n)]).all() for n in set(numbers))
    assert len(quantile_edges(np.array(numbers), bins)) < bins


# Utility


def test_information_is_that_of_scikit_learn_and_the_adjustment_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    x = noisy(rng, y, 0.5)
    draws = Draws.make(150, 499, 5, seed=1)
    null = np.mean([mutual_info_score(x, y[order]) for order in draws.permutations])
    entropies = [scipy.stats.entropy(np.bincount(codes)) for codes in (x, y)]
    expected = (mutual_info_score(x, y) - null) / (np.sqrt(entropies[0] * entropies[1]) - null)
    found = adjusted_information(x, y, draws)
    assert found.value == pytest.approx(expected, abs=1e-12)
    exact = adjusted_mutual_info_score(x, y, average_method="geometric")
    assert found.value == pytest.approx(exact, abs=0.003), "the exact mean over all permutations"
    assert found.p == 1 / 500


def test_a_resample_is_that_of_patients_repeated() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    x = noisy(rng, y, 0.6)
    draws = Draws.make(60, 50, 40, seed=3)

    def information(labels: Codes, row: int) -> float:
        return float(mutual_info_score(np.repeat(x, draws.weights[row]), np.repeat(labels, draws.weights[row])))

    chance = np.mean([information(y[draws.permutations[row]], row) for row in range(40)])
    drawn = [np.repeat(codes, draws.weights[7]) for codes in (x, y)]
    scale = np.sqrt(np.prod([scipy.stats.entropy(np.bincount(codes)) for codes in drawn]))
    expected = (information(y, 7) - chance) / (scale - chance)
    assert adjusted_information(x, y, draws).replicates[7] == pytest.approx(expected, abs=1e-12)


@given(arrays.arrays(np.int64, 40, elements=st.integers(0, 3)), st.permutations(range(4)))
@settings(max_examples=25, deadline=None)
def test_the_adjustment_ignores_names_and_order_of_the_columns(x: Codes, names: list[int]) -> None:
    y, draws = np.arange(40) % 2, Draws.make(40, 30, 5, seed=0)
    found = adjusted_information(x, y, draws)
    np.testing.assert_allclose(adjusted_information(np.array(names)[x], y, draws).value, found.value)
    assert np.isnan(found.value) == (len(np.unique(x)) == 1)
    assert not found.value > 1


@pytest.mark.parametrize("size", [2, 20, 200])
def test_random_columns_of_any_cardinality_come_out_at_zero(size: int) -> None:
    """Unadjusted, 200 levels on 400 patients explain about half of a binary label; resamples even more."""
    values, lows = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = adjusted_information(
            rng.integers(0, size, 400), rng.integers(0, 2, 400), Draws.make(400, 99, 200, seed=seed)
        )
        values.append(found.value)
        lows.append(np.quantile(found.replicates, 0.025))
    assert abs(np.mean(values)) < 0.02
    assert max(lows) < 0.01
    rng = np.random.default_rng(0)
    raw = mutual_info_score(rng.integers(0, 200, 400), rng.integers(0, 2, 400)) / np.sqrt(np.log(200) * np.log(2))
    assert raw > 0.1


def test_the_permutation_p_value_is_uniform_under_the_null() -> None:
    rng, draws = np.random.default_rng(5), Draws.make(60, 99, 1, seed=0)
    pairs = [(rng.integers(0, 12, 60), rng.integers(0, 3, 60)) for _ in range(300)]
    p_values = [adjusted_information(x, y, draws).p for x, y in pairs]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
    assert min(p_values) >= 1 / 100
    assert np.mean(np.array(p_values) <= 0.05) < 0.1


def test_the_interval_covers_the_true_utility() -> None:
    """A binary feature that is the label in 65 % of patients and a coin in the rest: I and H by hand."""
    q = 0.825
    true = 1 + q * np.log2(q) + (1 - q) * np.log2(1 - q)
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 250)
        found = adjusted_information(noisy(rng, y, 0.65), y, Draws.make(250, 49, 250, seed=seed))
        low, high = np.quantile(found.replicates, [0.025, 0.975])
        covered += int(low <= true <= high)
    assert covered >= 51  # fewer than that in 1 of 1000 series if 95 % cover


def test_permutations_are_permutations_and_unbiased() -> None:
    rows = permute(5, 4000, seed=9)
    assert (np.sort(rows, axis=1) == np.arange(5)).all()
    assert abs(rows.mean(axis=0) - 2).max() < 0.12


def test_blocks_of_memory_do_not_change_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, 80), rng.integers(0, 3, 80)
    whole = adjusted_information(x, y, Draws.make(80, 60, 60, seed=1))
    monkeypatch.setattr("robustbench_spur.curation.measures.WORK_BYTES", 20_000)
    parts = adjusted_information(x, y, Draws.make(80, 60, 60, seed=1))
    assert (whole.value, whole.p) == (parts.value, parts.p)
    np.testing.assert_array_equal(whole.replicates, parts.replicates)


# Detectability: the faults of the published code


@pytest.fixture
def cohort() -> tuple[Codes, Codes, Draws]:
    """A feature that is independent of the label, which 60 % of the patients carry."""
    rng = np.random.default_rng(0)
    y = (np.arange(500) < 300).astype(np.int64)
    return rng.integers(0, 3, 500), y, Draws.make(500, 199, 200, seed=0)


def test_a_perfect_detector_scores_one_and_not_the_share_of_class_zero(cohort: tuple[Codes, Codes, Draws]) -> None:
    feature, y, draws = cohort
    found = detectability(feature, feature, y, draws)
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.replicates.min() == pytest.approx(1.0)
    assert (found.undefined, found.collinear) == ((), False)


@pytest.mark.parametrize(("perfect", "share"), [(0, 0.4), (1, 0.6)])
def test_a_detector_perfect_in_one_class_scores_that_class_share(
    cohort: tuple[Codes, Codes, Draws], perfect: int, share: float
) -> None:
    feature, y, draws = cohort
    blind = np.random.default_rng(1).integers(0, 3, 500)
    found = detectability(feature, np.where(y == perfect, feature, blind), y, draws)
    assert found.value == pytest.approx(share, abs=0.02)
    low, high = np.quantile(found.replicates, [0.025, 0.975])
    assert low < share < high


def test_a_blind_detector_scores_zero(cohort: tuple[Codes, Codes, Draws]) -> None:
    feature, y, draws = cohort
    for seed in range(1, 6):
        found = detectability(feature, np.random.default_rng(seed).integers(0, 3, 500), y, draws)
        assert found.value < 0.02
        assert np.quantile(found.replicates, 0.025) == 0.0
    assert detectability(feature, np.zeros(500, np.int64), y, draws).value == 0.0


def test_a_detector_that_reads_the_label_alone_scores_zero() -> None:
    """A feature that follows the label can be guessed from it: beyond the label nothing is seen."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 400)
    feature, draws = noisy(rng, y, 0.8), Draws.make(400, 99, 50, seed=0)
    assert adjusted_information(feature, y, draws).value > 0.4
    assert detectability(feature, y, y, draws).value == 0.0


def test_a_feature_constant_in_each_class_is_collinear() -> None:
    y, draws = np.arange(100) % 2, Draws.make(100, 99, 50, seed=0)
    found = detectability(y, y, y, draws)
    assert (found.value, found.undefined, found.collinear) == (1.0, (0, 1), True)
    half = np.where(y == 1, np.arange(100) // 2 % 2, 0)
    found = detectability(half, half, y, draws)
    assert found.value == pytest.approx(1.0)
    assert (found.undefined, found.collinear) == ((0,), False)


# Many columns


def test_benjamini_hochberg_by_hand_and_by_scipy() -> None:
    assert benjamini_hochberg([0.005, 0.03, 0.02, 0.8]).tolist() == pytest.approx([0.02, 0.04, 0.04, 0.8])
    p = np.random.default_rng(0).random(97) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p))
    holes = np.insert(p, 5, np.nan)
    np.testing.assert_allclose(np.delete(benjamini_hochberg(holes), 5), benjamini_hochberg(p))
    assert np.isnan(benjamini_hochberg(holes)[5])
    assert benjamini_hochberg([]).size == 0


def test_associations_are_cramers_v_and_corrected_for_bias() -> None:
    rng = np.random.default_rng(0)
    x, many, constant = rng.integers(0, 2, 120), rng.integers(0, 40, 120), np.zeros(120, np.int64)
    y = noisy(rng, x, 0.6)
    plain, corrected = associations([x, y, many, constant])
    for i, a in enumerate((x, y, many)):
        for j, b in enumerate((x, y, many)):
            assert plain[i, j] == pytest.approx(cramers_v(contingency(a, b)))
    table = contingency(x, y)
    chi = scipy.stats.chi2_contingency(table, correction=False).statistic
    phi, size = max(0.0, chi / 120 - 1 / 119), 2 - 1 / 119
    assert corrected[0, 1] == pytest.approx(np.sqrt(phi / (size - 1)))
    assert corrected[0, 2] < 0.2 < plain[0, 2]
    assert np.isnan(plain[3]).all()
    np.testing.assert_array_equal(corrected, corrected.T)
