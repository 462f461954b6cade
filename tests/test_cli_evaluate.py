"""``spurbench evaluate`` on files of predictions: anybody's model is measured as a board measures, without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustbench_spur as rs
from robustbench_spur.ensembling import ensemble
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.shortcut_testing import ShortcutTesting
from robustbench_spur.manifest import load_manifest
from robustbench_spur.measuring import NEEDS_FEATURES, NEEDS_MODEL, Seed, available, measure
from robustbench_spur.predictionsfile import load_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import Scorer, as_json, load_evaluators, pins_of
from robustbench_spur.statistics import resample
from tests.evaluators import reference

NAMES = ["--classes", "clear", "tumour", "--values", "3T", "1.5T"]
ACCURACY = ["--evaluator", "worst_group"]


def rows(seed: int = 0, *, patients: int = 40, slices: int = 3, margin: float = 1.0) -> list[list[Any]]:
    """Patients of four equally large groups in turn, with noise of a seed on logits that lean towards label and attribute."""
    noise = np.random.default_rng(seed).normal(0, 1, patients * slices)
    found = []
    for number in range(patients * slices):
        patient = number // slices
        label, value = patient % 2, patient // 2 % 2
        score = margin * (2 * label - 1) + 0.7 * (2 * value - 1) + noise[number]
        found.append(
            [f"s{number}", f"p{patient}", ["clear", "tumour"][label], ["3T", "1.5T"][value], 0.0, round(score, 5)]
        )
    return found


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes rows to a table and gives its path."""

    def write(table: list[list[Any]], name: str = "ours.csv") -> Path:
        lines = ["id,patient,label,attribute,logit_0,logit_1", *(",".join(map(str, row)) for row in table)]
        (tmp_path / name).write_text("\n".join(lines))
        return tmp_path / name

    return write


def read(path: Path) -> Predictions:
    return load_predictions(path, classes=("clear", "tumour"), values=("3T", "1.5T")).predictions


def save(path: Path, said: Predictions, **scores: Any) -> Path:
    """The rows of predictions as an npz file, with the scores given."""
    columns: dict[str, Any] = {"id": said.ids, "patient": said.clusters, "label": said.labels}
    np.savez(path, **columns, attribute=said.attributes, **scores)
    return path


def refused(ended: Any, message: str) -> None:
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("spurbench: ") and message in ended.err and ended.err.count("\n") == 1, ended.err


def values_of(row: dict[str, Any], evaluator: str) -> dict[str, float | None]:
    return {name: one["value"] for name, one in row["metrics"][evaluator].items()}


# what comes out


def test_a_hand_computed_case(spurbench: Any, write: Any) -> None:
    """Groups clear@3T: right, right; clear@1.5T: wrong; tumour@3T: right, wrong; tumour@1.5T: right."""
    said = [("clear", "3T", -1), ("clear", "3T", -2), ("clear", "1.5T", 1)]
    said += [("tumour", "3T", 1), ("tumour", "3T", -1), ("tumour", "1.5T", 3)]
    path = write([[f"s{n}", f"p{n}", label, value, 0, score] for n, (label, value, score) in enumerate(said)])
    ended = spurbench("evaluate", path, *NAMES, *ACCURACY, "--json")
    assert ended.code == 0 and ended.err == ""
    (row,) = ended.rows
    found = values_of(row, "worst_group")
    assert found["worst_group_accuracy"] == 0 and found["balanced_accuracy"] == pytest.approx(2.5 / 4)
    assert found["micro_accuracy"] == pytest.approx(4 / 6)
    assert row["examples"] == row["patients"] == 6 and row["files"] == [str(path)]
    assert row["groups"][2] == {"group": "tumour@3T", "examples": 2, "patients": 2}
    assert row["details"]["worst_group"]["worst_group"] == "clear@1.5T"


def test_the_command_says_what_python_says(spurbench: Any, write: Any) -> None:
    path = write(rows())
    said = read(path)
    there = rs.evaluate(
        said.labels,
        said.attributes,
        said.logits,
        patients=said.clusters,
        ids=said.ids,
        classes=said.groups.classes,
        values=said.groups.values,
    )
    (row,) = spurbench("evaluate", path, *NAMES, "--json").rows
    assert row["metrics"] == json.loads(json.dumps(there))
    assert set(row["metrics"]) == {p.name for p in Registry().entries("evaluator") if not p.literal("collects", ())}
    assert row["failed"] == {} and row["left_out"]["pgd"] == NEEDS_MODEL


def test_the_table(spurbench: Any, write: Any) -> None:
    path = write(rows(patients=14))
    out = spurbench("evaluate", path, *NAMES).out
    lines = out.splitlines()
    assert lines[0] == f"{path}: 42 examples of 14 patients"
    assert ["tumour@1.5T", "9", "3"] in [line.split() for line in lines]
    metrics = [line.split()[0] for line in lines if line.split() and "accuracy" in line.split()[0]]
    assert metrics[:2] == ["worst_group_accuracy", "micro_accuracy"]  # the board's columns, in its order
    assert metrics.index("patient_macro_accuracy") < metrics.index("group_accuracy:clear@3T")
    assert "Warning: tumour@1.5T has 3 patient(s), fewer than 5: shown, not ranked on" in lines
    assert out.count("has 3 patient(s)") == 2  # two such groups, each told once
    assert any(line.startswith("Left out ") and "pgd" in line and NEEDS_MODEL in line for line in lines)
    assert "\x1b" not in out and max(map(len, lines[2:6])) <= 100
    undefined = spurbench("evaluate", path, *NAMES[:4], "3T", "1.5T", "7T", *ACCURACY).out
    line = next(line for line in undefined.splitlines() if line.startswith("worst_group_accuracy"))
    assert line.split()[1] == "-" and "2 of 6 declared groups have" in line


def test_values_that_are_not_declared_are_those_that_occur(spurbench: Any, write: Any) -> None:
    path = write(rows())
    (row,) = spurbench("evaluate", path, *NAMES[:3], "--attribute-name", "field", *ACCURACY, "--json").rows
    assert [one["group"] for one in row["groups"]] == ["clear@1.5T", "clear@3T", "tumour@1.5T", "tumour@3T"]


def test_groups_in_which_the_shortcut_misleads(spurbench: Any, write: Any) -> None:
    path = write(rows())
    asked = ["evaluate", path, *NAMES, "--evaluator", "fairness", "--json"]
    (without,), (row,) = spurbench(*asked).rows, spurbench(*asked, "--conflict", "clear@1.5T", "tumour@3T").rows
    assert without["metrics"]["fairness"]["conflict_error_share"]["value"] is None
    share = row["metrics"]["fairness"]["conflict_error_share"]["value"]
    said = read(path)
    wrong = ~said.correct
    assert share == pytest.approx((wrong & (said.labels != said.attributes)).sum() / wrong.sum())
    refused(
        spurbench(*asked, "--conflict", "clear@1.5"),
        "Unknown group 'clear@1.5' in --conflict. Did you mean 'clear@1.5T'",
    )


def test_probabilities_and_logits_give_the_same(spurbench: Any, tmp_path: Path, write: Any) -> None:
    table = rows()
    path = write(table)
    said = read(path)
    save(tmp_path / "ours.npz", said, probs=said.probabilities)
    asked = [*NAMES, "--evaluator", "worst_group", "ece", "--json"]
    (one,), (other,) = (spurbench("evaluate", file, *asked).rows for file in (path, tmp_path / "ours.npz"))
    for evaluator in ("worst_group", "ece"):
        first, second = values_of(one, evaluator), values_of(other, evaluator)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert second[name] == pytest.approx(value, abs=1e-6), name


def test_a_note_where_patients_are_not_told(spurbench: Any, tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("label,attribute,prob_0,prob_1\n0,0,1,0\n1,1,0.2,0.8\n0,1,0.7,0.3\n1,0,0.4,0.6\n")
    (row,) = spurbench("evaluate", path, *ACCURACY, "--json").rows
    assert ["no column 'patient'" in row["notes"][1], "1 probabilities" in row["notes"][0]] == [True, True]
    assert "no column 'patient'" in spurbench("evaluate", path, *ACCURACY).out


# seeds


def test_several_files_are_seeds_and_their_mean(spurbench: Any, write: Any) -> None:
    """The mean of each seed's worst group, and its interval from the mean under the same resamplings."""
    paths = [write(rows(seed), f"seed{seed}.csv") for seed in (0, 1, 2)]
    turned = write(list(reversed(rows(1))), "seed1.csv")  # the order of the rows is put right
    assert turned == paths[1]
    *seeds, mean = spurbench("evaluate", *paths, *NAMES, *ACCURACY, "--json").rows
    assert [row["seed"] for row in (*seeds, mean)] == [*map(str, paths), "mean"]
    for name, one in mean["metrics"]["worst_group"].items():
        single = [values_of(row, "worst_group")[name] for row in seeds]
        assert one["value"] == pytest.approx(np.mean([value for value in single if value is not None])), name
    (alone,) = spurbench("evaluate", paths[1], *NAMES, *ACCURACY, "--json").rows
    assert alone["metrics"] == seeds[1]["metrics"]

    out = spurbench("evaluate", *paths, *NAMES, *ACCURACY).out
    heading = next(line.split() for line in out.splitlines() if line.startswith("metric"))
    assert heading == ["metric", "mean", "interval", "better", "seed0", "seed1", "seed2", "remark"]


def test_the_interval_of_a_mean_over_seeds(write: Any) -> None:
    """Held against resamplings that are made here."""
    manifest = load_manifest("v1")
    seeds = [Seed(str(s), read(write(rows(s), f"{s}.csv"))) for s in (0, 1)]
    (evaluator,) = load_evaluators(Registry(), pins_of(("worst_group",), Registry(), manifest))
    (result,) = measure(seeds, [evaluator], manifest.bootstrap).findings
    first = seeds[0].predictions
    strata = np.array([int(first.group[first.patient == p][0]) for p in range(len(first.patients))])
    means = resample(
        lambda counts: {
            "mean": np.mean([evaluator.measure(s.predictions, counts)["micro_accuracy"] for s in seeds], axis=0)
        },
        len(first.patients),
        manifest.bootstrap.replicates,
        manifest.bootstrap.seed,
        strata,
    )["mean"]
    low, high = np.quantile(means, [0.025, 0.975])
    found = result.mean["micro_accuracy"].as_dict()
    assert found["low"] == pytest.approx(low, abs=0.01) and found["high"] == pytest.approx(high, abs=0.01)


def test_an_ensemble_of_files(spurbench: Any, write: Any) -> None:
    paths = [write(rows(seed), f"seed{seed}.csv") for seed in (0, 1, 2)]
    (row,) = spurbench("evaluate", *paths, *NAMES, *ACCURACY, "--ensemble", "--json").rows
    one = ensemble([read(path) for path in paths])
    assert values_of(row, "worst_group")["micro_accuracy"] == pytest.approx(one.correct.mean())
    assert row["seed"] == "ensemble of 3" and row["files"] == [*map(str, paths)]
    refused(spurbench("evaluate", paths[0], *NAMES, "--ensemble"), "Expected several files to make an ensemble of")


def test_seeds_of_another_set(spurbench: Any, write: Any) -> None:
    first, other = write(rows()), write(rows(patients=39), "other.csv")
    refused(spurbench("evaluate", first, other, *NAMES), "Expected the same examples in every file, found 3")


# validation


def test_evaluators_that_read_validation(spurbench: Any, write: Any) -> None:
    test = write(rows())
    known = write([[f"v{row[0]}", f"v{row[1]}", *row[2:]] for row in rows(5)], "validation.csv")
    asked = ["evaluate", test, *NAMES, "--validation", known]
    (row,) = spurbench(*asked, "--evaluator", "generalisation", "--json").rows
    sets = [read(path) for path in (known, test)]
    gap = sets[0].correct.mean() - sets[1].correct.mean()
    assert values_of(row, "generalisation")["generalisation_gap"] == pytest.approx(gap)
    assert row["notes"] == []
    (same,) = spurbench(*asked[:-1], test, "--evaluator", "generalisation", "--json").rows
    assert "40 patients are in the predictions and in --validation alike" in same["notes"][0]
    (without,) = spurbench(*asked[:-2], "--json").rows
    assert without["left_out"]["generalisation"] == "needs predictions on validation"
    refused(spurbench(*asked[:-2], "--evaluator", "generalisation"), "needs predictions on validation")
    refused(spurbench(*asked, known), "Expected as many files in --validation as files of predictions, 1, found 2")


# features


@pytest.fixture
def featured(tmp_path: Path) -> Any:
    """Writes the rows of a seed as an npz with features, whose last layer is a linear one, and gives its path."""

    def featured(name: str = "seen.npz", seed: int = 0, **change: Any) -> Path:
        table = rows(seed, patients=60)
        label, value = (np.array([row[place] for row in table]) for place in (2, 3))
        points = np.random.default_rng(seed).normal(size=(len(table), 4)).astype(np.float32)
        points[:, 0] += 2 * (label == "tumour") - 1
        points[:, 1] += 3 * (value == "1.5T") - 1.5
        arrays = {
            "id": np.array([f"{name}{row[0]}" for row in table]),
            "patient": np.array([f"{name}{row[1]}" for row in table]),
            "label": label,
            "attribute": value,
            "logits": np.stack([np.zeros(len(table)), points @ [1.0, 0.8, 0.0, 0.0]], axis=1),
            "features": points,
        }
        np.savez(tmp_path / name, **{key: array for key, array in {**arrays, **change}.items() if array is not None})
        return tmp_path / name

    return featured


ENCODING = ["--evaluator", "encoding", "--json"]


def test_features_in_place_of_a_model(spurbench: Any, featured: Any) -> None:
    path = featured()
    ended = spurbench("evaluate", path, *NAMES, "--json")
    (row,) = ended.rows
    assert ended.code == 0 and row["failed"] == {} and row["left_out"]["pgd"] == NEEDS_MODEL
    assert row["left_out"]["shortcut_testing"] == "needs features and predictions on train and validation"
    found = load_predictions(path, classes=("clear", "tumour"), values=("3T", "1.5T"))
    (evaluator,), _ = available(Registry(), load_manifest("v1"), ["encoding"])
    arrays = evaluator.collect(Subject(found.predictions, features=found.features))
    expected = Scorer(None, load_manifest("v1").bootstrap).score(
        evaluator, dataclasses.replace(found.predictions, arrays=arrays), ""
    )
    assert row["metrics"]["encoding"] == json.loads(json.dumps(as_json(expected)))
    values = values_of(row, "encoding")
    assert values["attribute_encoding"] > 0.9 and values["probe_alignment"] > 0.5 and values["projection_effect"] > 0.1


def test_a_last_layer_that_is_not_known(spurbench: Any, featured: Any) -> None:
    path = featured(logits=np.random.default_rng(5).normal(size=(180, 2)))
    (row,) = spurbench("evaluate", path, *NAMES, *ENCODING).rows
    effect = row["metrics"]["encoding"]["projection_effect"]
    assert effect["value"] is None and effect["reason"].startswith("the last layer is not known")
    assert values_of(row, "encoding")["attribute_encoding"] > 0.9
    weight = np.array([[0.0, 0, 0, 0], [1, 0.8, 0, 0]])
    refused(
        spurbench("evaluate", featured(head_weight=2 * weight), *NAMES), "Expected features @ head_weight.T + head_bias"
    )
    (given,) = spurbench("evaluate", featured(head_weight=weight), *NAMES, *ENCODING).rows
    (found,) = spurbench("evaluate", featured(), *NAMES, *ENCODING).rows
    assert given["metrics"] == found["metrics"]


def test_features_of_seeds_and_ensembles(spurbench: Any, featured: Any) -> None:
    first = featured()
    said = dict(np.load(first))
    turned = {key: array[::-1] for key, array in said.items()}
    second = featured("second.npz", **turned)
    one, two, mean = spurbench("evaluate", first, second, *NAMES, *ENCODING).rows
    for name, value in values_of(one, "encoding").items():
        assert values_of(two, "encoding")[name] == values_of(mean, "encoding")[name] == pytest.approx(value, abs=1e-9)
    asked = ["evaluate", first, second, *NAMES, "--ensemble"]
    (row,) = spurbench(*asked, "--json").rows
    assert row["left_out"]["encoding"] == NEEDS_FEATURES and "an ensemble has no last layer" in row["notes"][0]
    refused(
        spurbench(*asked, *ENCODING), f"'encoding' cannot be carried out: {NEEDS_FEATURES}. Give features in the file"
    )


def test_features_of_other_partitions(spurbench: Any, featured: Any) -> None:
    test, known, taught = featured(), featured("validation.npz", 1), featured("train.npz", 2)
    evaluator = ShortcutTesting(ShortcutTesting.Parameters(**ShortcutTesting.quick))
    parts = [
        load_predictions(path, classes=("clear", "tumour"), values=("3T", "1.5T")).part
        for path in (test, known, taught)
    ]
    seeds = [Seed("ours", parts[0].predictions, features=parts[0].features)]
    bootstrap = load_manifest("v1").bootstrap
    measured = measure(seeds, [evaluator], bootstrap, others=[{"validation": parts[1], "train": parts[2]}])
    assert measured.failed == {} and len(measured.findings[0].details[0]["networks"]) == 3
    asked = ["evaluate", test, *NAMES, "--evaluator", "shortcut_testing", "--validation", known]
    refused(spurbench(*asked), "needs features and predictions on train")
    refused(spurbench(*asked, "--train", featured("bare.npz", 3, features=None)), "needs features on train")
    narrow = featured("narrow.npz", 3, features=np.zeros((180, 3)))
    refused(spurbench(*asked, "--train", narrow), "Expected 4 features in ")
    refused(
        spurbench(*asked, "--train", taught, taught), "Expected as many files in --train as files of predictions, 1"
    )
    refused(
        spurbench("evaluate", "--weights", "x", "--split", "field", "--train", taught), "--train makes no sense with"
    )


# drafts, and what fails


DRAFT = """
import numpy as np
from robustbench_spur import Evaluator, Metric

class Mine(Evaluator):
    name = "mine"
    version = 1
    metrics = {"most": Metric("Whatever.")}

    def measure(self, predictions, counts):
        raise ValueError("out of luck")
"""


def test_an_evaluator_that_fails_stops_no_other(spurbench: Any, write: Any, draft: Any) -> None:
    path, plugin = write(rows()), draft(DRAFT)
    ended = spurbench("evaluate", path, *NAMES, "--plugin", plugin, "--json")
    assert ended.code == 1
    assert ended.rows[0]["failed"] == {"mine": "ValueError: out of luck"} and "worst_group" in ended.rows[0]["metrics"]
    told = spurbench("evaluate", path, *NAMES, "--plugin", plugin, "--evaluator", "mine")
    assert told.code == 1 and "FAILED mine: ValueError: out of luck" in told.out
    broken = draft(DRAFT.replace("import numpy", "import no_such_thing"), "broken.py")
    (row,) = spurbench("evaluate", path, *NAMES, "--plugin", broken, "--json").rows
    assert "no_such_thing" in row["left_out"]["mine"]


def test_the_boards_evaluators_have_the_boards_settings() -> None:
    manifest = load_manifest("v1")
    found, left_out = available(Registry(), manifest)
    assert [one.name for one in found][: len(manifest.evaluators)] == [pin.name for pin in manifest.evaluators]
    assert left_out == {}
    of_board, _ = available(Registry(), manifest, ["board", "ece"])
    assert [one.name for one in of_board] == [pin.name for pin in manifest.evaluators]
    cheap, slow = available(Registry(), manifest, costly=False)
    assert {one.name for one in found} == {one.name for one in cheap} | slow.keys() and slow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected a file of predictions, or --weights FILE"),
        (["none.csv"], "found no such file"),
        (["{ours}", "--weights", "x"], "found predictions and weights"),
        (["{ours}", "--arch", "resnet50"], "--arch makes no sense with predictions. Leave it out."),
        (["{ours}", "--image-size", "64"], "--image-size makes no sense with predictions"),
        (["{ours}"], "Give the names in the order of the score columns: --classes"),
        (["{ours}", *NAMES, "--evaluator", "eec"], "Unknown evaluator 'eec'. Did you mean 'ece'"),
        (
            ["{ours}", *NAMES, "--evaluator", "pgd"],
            "Evaluator 'pgd' cannot be carried out: needs the model. Give --weights",
        ),
        (["{ours}", *NAMES, "--board", "v9"], "Unknown board 'v9'"),
        (["--weights", "none.safetensors"], "Expected a split to test the weights on"),
        (["--weights", "x", "--split", "field", "--classes", "a"], "--classes makes no sense with weights"),
        (["--weights", "x", "--split", "field", "--ensemble"], "--ensemble makes no sense with weights"),
    ],
    ids=str,
)
def test_bad_input(spurbench: Any, write: Any, arguments: list[str], message: str) -> None:
    path = write(rows())
    refused(spurbench("evaluate", *(one.replace("{ours}", str(path)) for one in arguments)), message)


# known predictors, hard ones


@pytest.mark.parametrize(
    ("name", "expected"),
    [("constant", (0.0, 0.5, 0.0)), ("perfect", (1.0, 1.0, 0.0)), ("shortcut_only", (0.0, 0.5, 1.0))],
)
def test_known_predictors(spurbench: Any, tmp_path: Path, name: str, expected: tuple[float, float, float]) -> None:
    said = getattr(reference, name)()
    path = save(tmp_path / "known.npz", said, logits=said.logits)
    (row,) = spurbench("evaluate", path, "--json").rows
    found = values_of(row, "worst_group")
    assert (found["worst_group_accuracy"], found["micro_accuracy"], found["positive_rate_gap"]) == expected
    assert row["failed"] == {}


@pytest.mark.parametrize("shape", [(1, 2, 2), (40, 10, 1), (60, 2, 5)])
def test_hard_sets(spurbench: Any, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """One patient, ten classes, five values: a defined value or a reason, everywhere."""
    patients, classes, values = shape
    said = reference.random(1, rows=4 * patients, patients=patients, classes=classes, values=values)
    path = save(tmp_path / "hard.npz", said, logits=said.logits)
    (row,) = spurbench("evaluate", path, "--json").rows
    assert row["failed"] == {}
    for evaluator, metrics in row["metrics"].items():
        for metric, one in metrics.items():
            assert one["value"] is not None or one["reason"], (evaluator, metric)


@pytest.mark.parametrize("features", [False, True])
def test_it_imports_no_torch(write: Any, featured: Any, features: bool) -> None:
    arguments = ["evaluate", str(featured() if features else write(rows())), *NAMES]
    script = (
        "import sys\nfrom robustbench_spur.cli import main\n"
        f"code = main({arguments!r})\n"
        "found = {'torch', 'timm', 'torchmetrics', 'netcal'} & sys.modules.keys()\n"
        "raise SystemExit(code or str(found or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "worst_group_accuracy" in done.stdout and ("probe_alignment" in done.stdout) == features
