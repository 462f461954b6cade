"""The whole scan on rendered patients: what is tied to the label and visible comes first, and nothing else is taken for it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from robustbench_spur.curation.features import read_table
from robustbench_spur.curation.frozen import features_of, plain
from robustbench_spur.curation.images import list_images
from robustbench_spur.curation.levels import levels
from robustbench_spur.curation.probe import Probe, auroc_within, of_table
from robustbench_spur.curation.scan import scan
from robustbench_spur.curation.scanned import ColumnScan, Scan
from robustbench_spur.phantom.cohort import plan_slices
from robustbench_spur.phantom.render import Slices, render

PATIENTS, EACH, SIZE, RHO = 160, 3, 64, 0.9
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """A scan, its rows by name, and the AUROC of the probe within classes."""

    scan: Scan
    rows: dict[str, ColumnScan]
    auroc: dict[str, float]
    raw: dict[str, float]


def tied(rng: np.random.Generator, label: Codes, share: float) -> Codes:
    """A feature that agrees with the label in exactly that share of the patients of each class."""
    out = label.copy()
    for value in (0, 1):
        rows = rng.permutation(np.flatnonzero(label == value))
        out[rows[: round((1 - share) * len(rows))]] = 1 - value
    return out


def write(root: Path, seed: int) -> Path:
    """Images in a folder per patient, and a table of what is known of them."""
    rng = np.random.default_rng(seed)
    label = np.arange(PATIENTS) % 2
    low, ward, rotated = tied(rng, label, RHO), tied(rng, label, RHO), tied(rng, label, 0.5)
    names = [f"P{number:03d}" for number in range(PATIENTS)]
    plan = plan_slices(seed, np.arange(PATIENTS), label * EACH, (1 - label) * EACH)
    fields = np.where(low == 1, 1.5, 3.0)
    slices = Slices(plan.row, plan.z, fields[plan.row], rotated[plan.row] == 1)
    for number, (row, image) in enumerate(zip(plan.row.tolist(), render(seed, slices, SIZE), strict=True)):
        (root / "images" / names[row]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "images" / names[row] / f"{number:03d}.png")
    columns = {
        "patient": names,
        "tumour": np.where(label == 1, "yes", "no"),
        "field_strength": fields,
        "age": rng.normal(55, 11, PATIENTS).round(1),
        "code": [f"c{number}" for number in rng.integers(0, 40, PATIENTS)],
        "pair": [f"p{number // 2}" for number in rng.permutation(PATIENTS)],
        "number": [f"n{number}" for number in rng.permutation(PATIENTS)],
        "weight": rng.permutation(PATIENTS) / 3,
        "ward": np.where(ward == 1, "north", "south"),
        "orientation": np.where(rotated == 1, "rotated", "upright"),
    }
    with (root / "table.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return root / "table.csv"


@pytest.fixture(scope="module", params=[0, 1], ids=["seed0", "seed1"])
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Found:
    """From files to findings."""
    path = write(tmp_path_factory.mktemp("phantom"), request.param)
    table = read_table(path, patient="patient")
    images = list_images(path.parent / "images", [str(patient) for patient in table.patients])
    assert (images.how, images.unclaimed, len(images.items)) == ("folders", 0, PATIENTS * EACH)
    table, values = of_table(table, "tumour", features_of(images.items, plain(SIZE)))
    probe = Probe(values)
    made = scan(table, "tumour", detector=probe.detector, permutations=199, replicates=300)
    classes, curves, raw = levels(table.find("tumour")).codes, dict[str, float](), dict[str, float]()
    for name in made.names:
        codes = levels(table.find(name)).codes
        curve = auroc_within(codes, probe.scores(codes, classes), classes)
        assert curve is not None
        curves[name] = curve
        raw[name] = float(normalized_mutual_info_score(codes, classes, average_method="geometric"))
    return Found(made, {row.name: row for row in made.rows}, curves, raw)


def known(number: float | None) -> float:
    assert number is not None
    return number


def test_what_is_tied_and_visible_comes_first(found: Found) -> None:
    first = found.scan.rows[0]
    assert first.name == "field_strength"
    assert known(first.risk.low) > 0.1
    assert known(first.utility.value) == pytest.approx(0.53, abs=0.02), "1 - H(0.1) bits of a balanced label"
    assert known(first.detectability.low) > 0.2
    assert found.auroc["field_strength"] > 0.9
    assert not first.collinear


def test_nothing_else_is_taken_for_a_shortcut(found: Found) -> None:
    others = found.scan.rows[1:]
    assert len(others) == 7
    assert {row.risk.low for row in others} == {0.0, None}
    assert max(known(row.risk.value) for row in others if row.risk.value is not None) < 0.03


def test_random_columns_of_many_levels_have_no_risk(found: Found) -> None:
    """Unadjusted, they would tell more of the label than most."""
    for name, least in (("code", 0.05), ("pair", 0.2), ("number", 0.3)):
        assert found.raw[name] > least
        assert known(found.rows[name].utility.low) == 0.0
        assert known(found.rows[name].utility.value) < 0.05
    for name in ("code", "pair"):
        assert found.rows[name].risk.low == 0.0
        assert known(found.rows[name].risk.value) < 0.005
    number = found.rows["number"]
    assert found.scan.rows[-1] == number
    assert number.risk.value is None
    assert "names patients" in number.note


def test_a_column_that_is_tied_and_not_visible_has_utility_alone(found: Found) -> None:
    ward = found.rows["ward"]
    assert known(ward.utility.low) > 0.3
    assert ward.detectability.low == 0.0
    assert known(ward.detectability.value) < 0.05
    assert 0.3 < found.auroc["ward"] < 0.7


def test_a_column_that_is_visible_and_not_tied_has_detectability_alone(found: Found) -> None:
    orientation = found.rows["orientation"]
    assert known(orientation.detectability.low) > 0.8
    assert found.auroc["orientation"] > 0.99
    assert orientation.utility.low == 0.0
    assert known(orientation.utility.value) < 0.02


@pytest.mark.parametrize("name", ["age", "weight"])
def test_a_number_that_is_neither_has_neither(found: Found, name: str) -> None:
    assert found.rows[name].utility.low == found.rows[name].detectability.low == 0.0
    assert 0.35 < found.auroc[name] < 0.65
