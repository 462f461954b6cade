import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robustbench_spur as rs
from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore, read_predictions
from robustbench_spur.types import SpurbenchError

OPTIONS = {"device": "cpu", "image_size": 16}
ESTIMATES = ("worst_group_accuracy", "micro_accuracy", "balanced_accuracy", "validation_accuracy", "ece")


@pytest.fixture
def small(request_for: Any) -> dict[str, Any]:
    """Options of ``run`` that make a cell tiny."""
    request = request_for()
    return {"settings": request.settings, "split_settings": request.split_settings, **OPTIONS}


# run


def test_run_gives_one_record_per_cell_in_order(small: dict[str, Any], home: Home) -> None:
    records = rs.run(["groupdro", "erm"], ["field", "field@1.0"], seed=[1, 0], **small)
    cells = [(r.method.name, r.split.name.split("[")[0][-4:], r.seed, r.status) for r in records if r.split]
    assert cells == [
        (method, split, seed, "not_applicable" if (method, split) == ("groupdro", "@1.0") else "done")
        for split in ("0.95", "@1.0")
        for method in ("groupdro", "erm")
        for seed in (1, 0)
    ]
    assert len(list(home.records.iterdir())) == 8


def test_run_uses_the_home_it_is_given(small: dict[str, Any], home: Home, tmp_path: Path) -> None:
    (record,) = rs.run("erm", "field", home=tmp_path / "other", **small)
    assert record.status == "done"
    assert (tmp_path / "other" / "records").is_dir()
    assert not home.root.exists()


def test_what_is_done_is_not_done_again(small: dict[str, Any], home: Home) -> None:
    assert rs.run("erm", "field", **small) == rs.run("erm", "field", **small)
    (again,) = rs.run("erm", "field", again=True, **small)
    assert all(stage.cached for stage in again.stages)


def test_a_failure_is_a_record_and_raises_nothing(small: dict[str, Any], home: Home, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur.methods.erm import ERM

        class Mine(ERM):
            name = "mine"
            version = 1
            needs = ()

            def loss(self, model, batch):
                raise ValueError("out of luck")
        """
    )
    (record,) = rs.run("mine", "field", plugin=path, **small)
    assert (record.status, record.reason) == ("failed", "train mine, 2 epochs, seed 0: out of luck")


def test_progress_can_be_shown(small: dict[str, Any], home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    rs.run("erm", "field", **small)
    assert capsys.readouterr() == ("", "")
    rs.run("erm", "field", seed=1, quiet=False, **small)
    assert "train erm, 2 epochs, seed 1" in capsys.readouterr().err


def test_numbers_and_paths_of_other_types(small: dict[str, Any], home: Home, tmp_path: Path) -> None:
    small |= {"settings": {**small["settings"], "learning_rate": np.float64(0.01), "epochs": np.int64(1)}}
    (record,) = rs.run("erm", "field", seed=np.int64(3), home=str(tmp_path / "h"), evaluators="ece", **small)
    assert (record.status, record.seed, record.training["epochs"]) == ("done", 3, 1)
    assert set(record.evaluators) == {"ece"}
    assert [r.seed for r in rs.run("erm", "field", seed=np.arange(2), **small)] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "emr"}, "Unknown method 'emr'. Did you mean 'erm'"),
        ({"split": "feild"}, "Unknown split 'feild'. Did you mean 'field'"),
        ({"seed": -1}, "Expected seeds from 0"),
        ({"seed": 1.5}, "Expected whole numbers as seeds, found 1.5"),
        ({"seed": "0"}, "Expected whole numbers as seeds, found '0'"),
        ({"seed": None}, "Expected whole numbers as seeds, found None"),
        ({"seed": ()}, "at least one seed"),
        ({"settings": {"epoch": 1}}, "erm has no setting 'epoch'. Did you mean 'epochs'"),
        ({"evaluators": "pdg"}, "Unknown evaluator 'pdg'. Did you mean 'pgd'"),
        ({"devise": "cpu"}, "Unknown option 'devise' of run. Did you mean 'device'"),
        ({"methods": "erm"}, "Unknown option 'methods' of run"),
        ({"data": {"digits": "/nothing"}}, "Expected the 'digits' data at /nothing"),
        ({"plugin": "/nothing.py"}, "Expected a plugin file at /nothing.py"),
        ({"weights": "/nothing"}, "Expected a safetensors file at /nothing"),
        ({"checkpoints": {"erm": "/nothing"}}, "Expected a safetensors file at /nothing"),
    ],
    ids=str,
)
def test_run_of_what_cannot_be_carried_out(home: Home, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        rs.run(**{"method": "erm", "split": "field", "device": "cpu", **arguments})
    assert not home.root.exists()


def test_run_with_a_home_that_is_a_file(small: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpurbenchError, match="Set SPURBENCH_HOME to another place"):
        rs.run("erm", "field", home=tmp_path / "file", **small)


# leaderboard


def test_leaderboard_is_a_frame_with_intervals(finished: Home) -> None:
    frame = rs.leaderboard()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 8
    for name in ESTIMATES:
        for column in (name, f"{name}_low", f"{name}_high"):
            assert frame[column].dtype == np.float64
        known = frame[frame[f"{name}_low"].notna()]
        assert len(known)
        assert known[name].between(known[f"{name}_low"], known[f"{name}_high"]).all()
    assert frame[frame.status == "not_applicable"].worst_group_accuracy.isna().all()
    assert str(frame["rank"].dtype) == "Int64"
    assert {"method", "split", "seeds", "track", "config_hash", "worst_group"} <= set(frame.columns)


def test_leaderboard_values_are_those_of_the_command(finished: Home, spurbench: Any) -> None:
    frame = rs.leaderboard(home=finished.root)
    for (_, row), other in zip(frame.iterrows(), spurbench("leaderboard", "--json").rows, strict=True):
        assert row.method == other["method"]
        assert row.config_hash == other["config_hash"]
        for name in ESTIMATES:
            theirs = other[name]["value"]
            assert np.isnan(row[name]) if theirs is None else row[name] == theirs


def test_leaderboard_of_a_split(finished: Home) -> None:
    splits = list(rs.leaderboard().split.unique())
    assert len(splits) == 2
    assert list(rs.leaderboard(splits[0]).split.unique()) == [splits[0]]
    assert len(rs.leaderboard(splits)) == 8
    assert len(rs.leaderboard("clean")) == 0
    with pytest.raises(SpurbenchError, match="Unknown split 'feild'"):
        rs.leaderboard("feild")


def test_leaderboard_without_records(home: Home) -> None:
    frame = rs.leaderboard()
    assert (len(frame), list(frame.columns)) == (0, ["method"])
    with pytest.raises(SpurbenchError, match="Unknown board 'v9'"):
        rs.leaderboard(board="v9")


# evaluate


def test_evaluate_gives_the_numbers_of_the_record(finished: Home) -> None:
    store = RecordStore(finished.records, finished.predictions)
    record = next(r for r in store if r.method.name == "dfr" and r.status == "done")
    assert record.split is not None
    test = read_predictions(store.arrays(record), record.split, "test")
    numbers = rs.evaluate(
        test.labels,
        test.attributes,
        test.logits,
        patients=test.clusters,
        ids=test.ids,
        classes=record.split.classes,
        values=record.split.values,
    )
    assert set(numbers) >= {"worst_group", "ece", "fairness", "uncertainty"}
    for evaluator in ("worst_group", "ece"):
        assert numbers[evaluator] == record.metrics["test"][evaluator]


def test_evaluate_of_a_hand_computed_case() -> None:
    """Groups 0@0: right, right; 0@1: wrong; 1@0: right, wrong; 1@1: right."""
    logits = np.array([[1, 0], [2, 0], [0, 1], [0, 1], [1, 0], [0, 3]], float)
    found = rs.evaluate([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1], logits, evaluators="worst_group")["worst_group"]
    values = {name: found[f"group_accuracy:{name}"]["value"] for name in ("0@0", "0@1", "1@0", "1@1")}
    assert values == {"0@0": 1.0, "0@1": 0.0, "1@0": 0.5, "1@1": 1.0}
    assert found["worst_group_accuracy"]["value"] == 0.0
    assert found["micro_accuracy"]["value"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"]["value"] == pytest.approx(2.5 / 4)


def test_evaluate_names_what_is_undefined() -> None:
    found = rs.evaluate([0, 1], [0, 0], [[1, 0], [0, 1]], values=["a", "b"])["worst_group"]
    assert found["group_accuracy:0@b"]["value"] is None
    assert found["worst_group_accuracy"]["value"] is None
    assert found["worst_group_accuracy"]["reason"]
    assert found["micro_accuracy"]["value"] == 1.0


GOOD: dict[str, Any] = {
    "labels": [0, 0, 1, 1],
    "attributes": [0, 1, 0, 1],
    "logits": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, r"Expected labels of shape \(4,\)"),
        ({"labels": [0, 0, 1, 2]}, "Expected label codes 0 to 1, found 0 to 2"),
        ({"labels": [0, 0, 1, 0.5]}, "Expected whole label codes"),
        ({"labels": ["a", "b", "a", "b"]}, "Expected labels as an array of numbers"),
        ({"labels": None}, "Expected labels as an array of numbers, found object"),
        ({"attributes": [0, 1, 0, -1]}, "Expected attribute codes 0 to 1, found -1 to 1"),
        ({"attributes": [0, 1, 0, float("nan")]}, "Expected finite attributes, found nan"),
        ({"attributes": [0, 1, 0, 1], "values": ["one"]}, "Expected attribute codes 0 to 0, found 0 to 1"),
        ({"logits": [1.0, 0.0, 1.0, 0.0]}, r"Expected logits of shape \(examples, classes\)"),
        ({"logits": [[1.0, 0.0], [1.0]]}, "Expected logits as an array of numbers"),
        ({"logits": [[1.0, float("inf")]] * 4}, "Expected finite logits, found inf"),
        ({"logits": [[1.0, 1e300]] * 4}, "Expected finite logits"),
        ({"logits": [[1.0, 0.0, 0.0]] * 4, "classes": ["a", "b"]}, r"Expected logits of shape \(4, 2\)"),
        ({"patients": ["a"]}, r"Expected patients of shape \(4,\)"),
        ({"ids": ["a"] * 4}, "Expected unique ids, found 3 repeated"),
        ({"evaluators": ["pgd"]}, "Evaluator 'pgd' needs"),
        ({"evaluators": ["eec"]}, "Unknown evaluator 'eec'. Did you mean 'ece'"),
        ({"board": "v9"}, "Unknown board 'v9'"),
    ],
    ids=str,
)
def test_evaluate_of_what_cannot_be_measured(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        rs.evaluate(**{**GOOD, **change})


def test_evaluate_imports_no_torch() -> None:
    script = (
        "import sys\nimport robustbench_spur as rs\n"
        f"found = rs.evaluate(**{GOOD!r})\nassert set(found) >= {{'worst_group', 'ece'}}\n"
        "raise SystemExit('imported torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# the package


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys\nimport robustbench_spur as rs\nassert 'run' in dir(rs) or rs.__all__\n"
        "raise SystemExit(str({'torch', 'pandas', 'numpy', 'pydantic'} & sys.modules.keys() or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_documented() -> None:
    for name in rs.__all__:
        assert getattr(rs, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rs.nothing  # noqa: B018
