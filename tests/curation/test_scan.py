"""The scan: planted shortcuts come first, random columns of many levels last, and what cannot be told is said."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from robustbench_spur.curation.features import Column, FeatureTable, read_table
from robustbench_spur.curation.measures import benjamini_hochberg
from robustbench_spur.curation.scan import RISK, Detector, interval, scan
from robustbench_spur.curation.scanned import Scan
from robustbench_spur.types import Estimate, SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "duke_breast_mri_metadata" / "Clinical_and_Other_Features.xlsx"
Codes = NDArray[np.int64]


def quick(
    table: FeatureTable,
    label: str,
    *,
    columns: Sequence[str] | None = None,
    detector: Detector | None = None,
    min_patients: int = 30,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    return scan(
        table,
        label,
        columns=columns,
        detector=detector,
        min_patients=min_patients,
        progress=progress,
        permutations=99,
        replicates=200,
    )


def categorical(name: str, values: NDArray[np.generic] | Sequence[object]) -> Column:
    return Column(name, np.array([None if v is None else str(v) for v in values], dtype=object), "categorical")


def known(number: float | None) -> float:
    assert number is not None
    return number


def numeric(name: str, values: NDArray[np.float64]) -> Column:
    return Column(name, np.array(values.tolist(), dtype=object), "numeric")


def table(seed: int = 0, patients: int = 400) -> FeatureTable:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, patients)
    weak = np.where(rng.random(patients) < 0.3, y, rng.integers(0, 2, patients))
    strong = np.where(rng.random(patients) < 0.8, y, rng.integers(0, 2, patients))
    lacking = [None if rng.random() < 0.1 + 0.5 * label else "x" for label in y]
    columns = (
        categorical("many", rng.integers(0, 200, patients)),
        categorical("weak", weak),
        numeric("age", rng.normal(60, 10, patients) - 4 * y),
        categorical("planted", strong),
        categorical("diagnosis", np.where(y == 1, "tumour", "clear")),
        categorical("ward", lacking),
        categorical("hospital", np.zeros(patients)),
        categorical("number", np.arange(patients)),
    )
    ids = np.array([f"p{i}" for i in range(patients)], dtype=object)
    return FeatureTable(Path("made.csv"), ids, columns, patients)


@pytest.fixture(scope="module")
def found() -> Scan:
    return scan(table(), "diagnosis", permutations=199, replicates=300)


def test_the_planted_column_is_first_and_random_ones_are_last(found: Scan) -> None:
    names = [row.name for row in found.rows]
    assert names[0] == "planted"
    assert set(names[:5]) == {"planted", "weak", "age", "ward", "ward (missing)"}
    assert names[-1] == "hospital", "constant, so undefined"
    rows = {row.name: row for row in found.rows}
    for name in ("many", "number"):
        assert rows[name].risk.low == 0.0
        assert known(rows[name].utility.value) < 0.03
    assert "names patients" in rows["number"].note
    assert "diagnosis" not in names


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_order_holds_for_other_draws(seed: int) -> None:
    chosen = ["many", "weak", "age", "planted"]
    names = [row.name for row in quick(table(seed), "diagnosis", columns=chosen).rows]
    assert (names[0], names[-1]) == ("planted", "many")


def test_rows_are_ranked_by_the_lower_bound_and_not_by_the_value() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 300)
    columns = [np.where(rng.random(300) < 0.02 * i, y, rng.integers(0, 3, 300)) for i in range(12)]
    pool = FeatureTable(
        Path("made.csv"),
        np.arange(300).astype(str).astype(object),
        (*(categorical(f"c{i}", c) for i, c in enumerate(columns)), categorical("y", y)),
        300,
    )
    rows = quick(pool, "y").rows
    lows = [known(row.risk.low) for row in rows]
    assert lows == sorted(lows, reverse=True)
    values = [known(row.risk.value) for row in rows]
    assert values != sorted(values, reverse=True), "else the value would give the same order"


def test_p_values_are_adjusted_over_all_columns(found: Scan) -> None:
    p = [np.nan if row.p is None else row.p for row in found.rows]
    q = [np.nan if row.q is None else row.q for row in found.rows]
    np.testing.assert_allclose(q, benjamini_hochberg(p))
    assert found.rows[0].p == 1 / 200


def test_missing_is_a_level_and_an_attribute(found: Scan) -> None:
    rows = {row.name: row for row in found.rows}
    assert rows["ward"].levels == ("x", "missing")
    assert rows["ward (missing)"].kind == "missingness"
    assert rows["ward (missing)"].utility.value == pytest.approx(rows["ward"].utility.value)
    assert rows["ward"].missing == rows["ward"].support["missing"] > 0
    assert sum(rows["ward"].support.values()) == 400


def test_support_says_whether_a_split_can_be_made(found: Scan) -> None:
    rows = {row.name: row for row in found.rows}
    made = table()
    labels, weak = (made.find(name).values for name in ("diagnosis", "weak"))
    cells = {(v, y): int(((weak == v) & (labels == y)).sum()) for v in ("0", "1") for y in ("clear", "tumour")}
    assert rows["weak"].enough
    assert rows["weak"].enough_why.startswith(f"{min(cells.values())} patients with ")
    tight = quick(made, "diagnosis", columns=["weak"], min_patients=min(cells.values()) + 1).rows[0]
    assert not tight.enough
    assert not rows["many"].enough
    assert rows["ward"].enough_why == "1 level besides missing values"
    assert rows["hospital"].enough_why == "1 level besides missing values"


# With images


def seen(share: float, seed: int = 0) -> Detector:
    """A detector that reads a share of the patients right and guesses the others."""
    rng = np.random.default_rng(seed)

    def detector(levels: Codes, classes: Codes) -> Codes:
        assert levels.shape == classes.shape
        return np.where(rng.random(len(levels)) < share, levels, rng.permutation(levels))

    return detector


def test_risk_is_utility_times_detectability() -> None:
    made, chosen = table(), ["planted", "weak", "many", "number", "hospital"]
    perfect = quick(made, "diagnosis", columns=chosen, detector=lambda levels, classes: levels)
    blind = quick(made, "diagnosis", columns=chosen, detector=lambda levels, classes: classes * 0)
    alone = {row.name: row for row in quick(made, "diagnosis", columns=chosen).rows}
    assert perfect.rows[0].name == "planted"
    assert perfect.rows[0].detectability.value == pytest.approx(1.0)
    assert perfect.rows[0].risk.value == pytest.approx(alone["planted"].utility.value)
    assert {row.risk.value for row in blind.rows if row.name in ("planted", "weak", "many")} == {0.0}
    assert alone["planted"].detectability.reason == "no images"
    reasons = {row.name: row.detectability.reason for row in perfect.rows if row.risk.value is None}
    assert set(reasons) == {"number", "hospital"}
    assert "none can be learned" in reasons["number"]


def test_a_weaker_shortcut_that_is_seen_beats_a_stronger_one_that_is_not() -> None:
    made = table()
    strong = np.unique(made.find("planted").values, return_inverse=True)[1]

    def detector(levels: Codes, classes: Codes) -> Codes:
        return np.zeros_like(levels) if np.array_equal(levels, strong) else levels

    chosen = ["planted", "weak"]
    assert quick(made, "diagnosis", columns=chosen).rows[0].name == "planted"
    assert quick(made, "diagnosis", columns=chosen, detector=detector).rows[0].name == "weak"


def test_the_product_of_value_and_interval_follow_from_the_same_resamples() -> None:
    row = quick(table(), "diagnosis", columns=["planted"], detector=seen(0.7)).rows[0]
    utility, risk = known(row.utility.value), known(row.risk.value)
    assert risk == pytest.approx(utility * known(row.detectability.value))
    assert 0 < known(row.risk.low) < risk < known(row.risk.high) < utility


def test_a_feature_that_is_the_label_is_marked_collinear() -> None:
    made = table()
    twin = categorical("twin", made.find("diagnosis").values)
    pool = FeatureTable(made.path, made.patients, (*made.columns, twin), made.rows)
    row = quick(pool, "diagnosis", columns=["twin"], detector=lambda levels, classes: levels).rows[0]
    assert row.collinear
    assert row.note.startswith("not identifiable within class clear, tumour: ")
    assert (row.utility.value, row.detectability.value) == (1.0, 1.0)


def test_scores_in_place_of_levels_give_an_auroc_within_classes_too() -> None:
    made, chosen = table(), ["planted", "weak"]

    def scores(levels: Codes, classes: Codes) -> NDArray[np.float64]:
        high = np.clip(levels + np.random.default_rng(3).normal(0, 0.7, len(levels)), -3, 4) / 7 + 3 / 7
        return np.column_stack([1 - high, high])

    found = quick(made, "diagnosis", columns=chosen, detector=scores)
    same = quick(made, "diagnosis", columns=chosen, detector=lambda a, y: scores(a, y).argmax(axis=1))
    assert {row.auroc for row in same.rows} == {None}
    assert [row.detectability for row in found.rows] == [row.detectability for row in same.rows]
    classes = np.unique(made.find("diagnosis").values, return_inverse=True)[1]
    for row in found.rows:
        codes = np.unique(made.find(row.name).values, return_inverse=True)[1]
        told = scores(codes, classes)[:, 1]
        curves = [roc_auc_score(codes[classes == label], told[classes == label]) for label in (0, 1)]
        assert row.auroc == pytest.approx(np.average(curves, weights=np.bincount(classes)))
    twin = categorical("twin", made.find("diagnosis").values)
    pool = FeatureTable(made.path, made.patients, (*made.columns, twin), made.rows)
    assert quick(pool, "diagnosis", columns=["twin"], detector=scores).rows[0].auroc is None


def test_a_detector_of_another_shape_is_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"levels of shape \(400,\) from the detector, found \(3,\)"):
        quick(table(), "diagnosis", columns=["weak"], detector=lambda levels, classes: levels[:3])


# Settings and mistakes


def test_the_same_seed_gives_the_same_scan_and_it_is_json(found: Scan) -> None:
    again = scan(table(), "diagnosis", permutations=199, replicates=300)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert text == json.dumps(again.as_dict(), allow_nan=False)
    assert json.loads(text)["rows"][0]["risk"].keys() == {"value", "low", "high"}
    assert found.settings["seed"] == 2025


def test_progress_counts_the_columns() -> None:
    told: list[tuple[int, int]] = []
    quick(table(), "diagnosis", columns=["weak", "ward"], progress=lambda *pair: told.append(pair))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_patients_without_a_label_are_left_out_and_noted() -> None:
    made = table()
    labels = made.find("diagnosis").values.copy()
    labels[:7] = None
    columns = tuple(categorical("diagnosis", labels) if c.name == "diagnosis" else c for c in made.columns)
    pool = FeatureTable(made.path, made.patients, columns, made.rows, varying=("diagnosis",))
    found = quick(pool, "diagnosis", columns=["weak"])
    assert found.patients == sum(found.classes.values()) == 393
    assert any("7 patients without 'diagnosis'" in note for note in found.notes)
    assert any("differs between rows of one patient" in note for note in found.notes)


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("hospital", {}, "two classes or more in 'hospital' of made.csv, found 0"),
        ("diagnose", {}, "Did you mean 'diagnosis'"),
        ("diagnosis", {"columns": ["wek"]}, "Did you mean 'weak'"),
        ("diagnosis", {"columns": ["diagnosis"]}, "a column besides the label"),
        ("diagnosis", {"permutations": 0}, "permutations of at least 1, found 0"),
        ("diagnosis", {"bins": 1}, "bins of at least 2, found 1"),
    ],
)
def test_mistakes_are_told(label: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        scan(table(), label, **options)  # type: ignore[arg-type]


# Duke's real table


def test_dukes_real_table() -> None:
    if not REAL.is_file():
        pytest.skip(f"no Duke spreadsheet at {REAL}")
    duke = read_table(REAL, patient="Patient ID")
    found = scan(duke, "Mol Subtype", permutations=199, replicates=200)
    assert found.patients == 922
    assert found.classes == {"ER/PR pos, HER2 pos": 104, "her2": 59, "luminal-like": 595, "trip neg": 164}
    kinds = [row.kind for row in found.rows]
    assert len(kinds) - kinds.count("missingness") == len(found.names) == 96
    assert {row.name for row in found.rows[:3]} == {"HER2", "ER", "PR"}, "which define the subtype"
    rows = {row.name: row for row in found.rows}
    assert rows["Field Strength (Tesla)"].support == {"1.5": 468, "2.8936": 1, "3": 453}
    assert "names patients" in rows["Image Position of Patient"].note
    assert found.rows[-1].name == "BIRADS DATA"
    pair = [duke.find(name).texts.tolist() for name in ("Field Strength (Tesla)", "Manufacturer")]
    counts = scipy.stats.contingency.crosstab(*pair).count
    expected = scipy.stats.contingency.association(counts, method="cramer")
    place = [found.names.index(name) for name in ("Field Strength (Tesla)", "Manufacturer")]
    assert found.association_plain[place[0], place[1]] == pytest.approx(expected)
    assert found.associated("Field Strength (Tesla)")[0][0] == "Manufacturer Model Name"


def test_where_nothing_varies_the_interval_is_what_as_many_patients_can_bound() -> None:
    """No error among 160 patients: an error share of 2.28 % would do that in one of forty samples, and leaves .842 bits."""
    ones, zeros = np.ones(50), np.zeros(50)
    share = scipy.stats.beta.ppf(0.975, 1, 160)
    bits = 1 - scipy.stats.entropy([share, 1 - share], base=2)
    perfect = interval(RISK, 1.0, ones, 160)
    assert (perfect.low, perfect.high) == (pytest.approx(bits), 1.0)
    assert interval(RISK, 1.0, ones, 1).low == 0.0
    assert interval(RISK, 0.0, zeros, 160) == Estimate(0.0, 0.0, 0.0)
    spread = interval(RISK, 1.0, np.linspace(0.5, 1, 101), 160)
    assert (spread.low, spread.high) == pytest.approx((0.5125, 0.9875))
