"""The verb ``audit``: from predictions, weights or anybody's code to findings and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur.home import Home
from tests.conftest import TINY_SIZE, TINY_SPLIT

CODE = """
import torch

class Corner(torch.nn.Module):
    def forward(self, images):
        bright = images[:, :, :2, :2].mean((1, 2, 3))
        return torch.stack([-bright, bright], 1)

def factory():
    return Corner()

def no_model():
    return 3

def broken():
    raise KeyError("weights")

def other_shape():
    return torch.nn.Linear(7, 2)
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Predictions that follow the attribute: 20 patients of two slices in each group."""
    rows = ["id,patient,label,attribute,logit_0,logit_1"]
    for number in range(160):
        label, value = number // 40 // 2, number // 40 % 2
        rows.append(
            f"s{number},p{number // 2},{'tumour' if label else 'clear'},{'new' if value else 'old'},0,{4 * value - 2}"
        )
    path = tmp_path / "ours.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "code_of_ours.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "work")
    return "code_of_ours"


SPLIT = ["--split", "field", "--image-size", str(TINY_SIZE), "--device", "cpu"]
SPLIT += ["--split-set", *(f"{name}={value}" for name, value in TINY_SPLIT.items())]


def test_predictions_that_follow_the_attribute_are_found_out(
    spurbench: Any, table: Path, tmp_path: Path, home: Home
) -> None:
    page = tmp_path / "page.html"
    asked = [
        "--classes",
        "clear",
        "tumour",
        "--values",
        "old",
        "new",
        "--conflict",
        "clear@new",
        "tumour@old",
        "--attribute-name",
        "scanner",
    ]
    (told,) = spurbench("audit", table, *asked, "--html", page, "--json").rows
    found = {one["question"]: one for one in told["findings"]}
    failing = found["Does it fail some patients more than others?"]
    assert failing["verdict"] == "problem"
    # 20 patients, none right: the exact bound is 1 - 0.025 ** (1 / 20)
    assert "Of clear@new (40 slices of 20 patients) it gets 0.0 % (0.0 to 16.8) right" in failing["sentence"]
    errors = found["Do its errors fall on those whom the shortcut misleads?"]
    # no resampling gives another share than all of them, so that no interval is known
    assert (errors["verdict"], errors["evaluator"]) == ("doubt", "fairness")
    assert errors["sentence"].startswith("100.0 %")
    assert told["left_out"]["encoding"] == "needs the model, or the features of its last layer"
    assert told["page"] == str(page)
    assert "ours.csv" in page.read_text(encoding="utf-8") and str(tmp_path) not in page.read_text(encoding="utf-8")


def test_features_beside_predictions_tell_use_from_knowledge(
    spurbench: Any, table: Path, tmp_path: Path, home: Home
) -> None:
    """The classifier reads the second feature alone, which is the attribute with noise."""
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = [lines[0].replace("logit_0,logit_1", "logit_0,logit_1,feature_0,feature_1")]
    rng = np.random.default_rng(0)
    for line in lines[1:]:
        name, patient, label, value, *_ = line.split(",")
        first = rng.normal() + 2 * (label == "tumour") - 1
        second = rng.normal() + 4 * (value == "new") - 2
        rows.append(f"{name},{patient},{label},{value},0,{second:.6f},{first:.6f},{second:.6f}")
    table.write_text("\n".join(rows), encoding="utf-8")
    asked = ["--classes", "clear", "tumour", "--html", tmp_path / "page.html", "--json"]
    (told,) = spurbench("audit", table, *asked).rows
    (found,) = [one for one in told["findings"] if one["evaluator"] == "encoding"]
    assert found["verdict"] == "problem" and "encoding" not in told["left_out"]
    assert found["sentence"].startswith("A probe of its features tells it with an AUROC of 0.99")


def test_in_the_terminal_the_worst_comes_first(spurbench: Any, table: Path, tmp_path: Path, home: Home) -> None:
    ended = spurbench("audit", table, "--classes", "clear", "tumour", "--html", tmp_path / "page.html")
    assert ended.code == 0
    text = " ".join(ended.out.split())
    assert text.index("problem Does it fail") < text.index("Not measured:")
    assert "needs the model" in text


def test_code_is_examined_on_a_split(spurbench: Any, ours: str, tmp_path: Path, home: Home) -> None:
    asked = ["--model", f"{ours}:factory", *SPLIT, "--html", tmp_path / "page.html", "--json"]
    ended = spurbench("audit", *asked)
    (told,) = ended.rows
    assert (
        told["model"] == f"{ours}:factory" and told["slices"] == TINY_SPLIT["test_patients"] * TINY_SPLIT["test_slices"]
    )
    # the corner holds nothing but the noise of the field strength, and never a lesion
    lesion = told["metrics"]["lesion_removed"]["lesion_effect"]["value"]
    assert lesion == pytest.approx(0.0, abs=1e-6)
    assert "features" in told["left_out"]["encoding"] and ended.code == 1
    assert "takes minutes" in told["left_out"]["corruptions"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--model", "code_of_ours", *SPLIT], "Expected --model package.module:function, found 'code_of_ours'"),
        (
            ["--model", "code_of_ours:no_model", *SPLIT],
            "Expected a torch.nn.Module from code_of_ours:no_model, found int",
        ),
        (["--model", "code_of_ours:broken", *SPLIT], "found KeyError: 'weights'"),
        (["--model", "no_such_code:factory", *SPLIT], "found ModuleNotFoundError"),
        (["--model", "code_of_ours:other_shape", *SPLIT], "Give --image-size, or let the model take such images"),
        (["--model", "code_of_ours:factory"], "Expected a split to test the model on, found none"),
        (["--model", "code_of_ours:factory", "--arch", "resnet50", *SPLIT], "--arch makes no sense with model"),
        ([], "Expected a file of predictions, or --weights FILE, or --model MODULE:FUNCTION, found none"),
        (["--weights", "none.safetensors", *SPLIT], "none.safetensors"),
        (["none.csv"], "none.csv"),
    ],
    ids=str,
)
def test_what_cannot_be_audited_is_told_in_one_line(
    spurbench: Any, ours: str, home: Home, asked: list[str], said: str
) -> None:
    ended = spurbench("audit", *asked)
    assert ended.code == 2
    told = [line for line in ended.err.splitlines() if line.startswith("spurbench: ")]
    assert len(told) == 1 and said in ended.err
    assert not Path("audit.html").exists()


def test_the_leaderboard_stands_beside_the_same_patients(
    spurbench: Any, ours: str, tmp_path: Path, home: Home, tiny: list[str], tiny_board: str
) -> None:
    spurbench("run", "--method", "erm", "--split", "field", "--seed", "0", "1", "--board", tiny_board, *tiny)
    page = tmp_path / "page.html"
    spurbench("audit", "--model", f"{ours}:factory", *SPLIT, "--board", tiny_board, "--html", page)
    text = page.read_text(encoding="utf-8")
    assert "Beside the leaderboard" in text and '<th scope="row">erm</th>' in text
    # other patients: nothing to stand beside
    other = [*SPLIT[:-1], SPLIT[-1], "seed=7"]
    spurbench("audit", "--model", f"{ours}:factory", *other, "--board", tiny_board, "--html", page)
    assert "Beside the leaderboard" not in page.read_text(encoding="utf-8")


def test_json_is_the_same_as_the_page_has(spurbench: Any, table: Path, tmp_path: Path, home: Home) -> None:
    asked = ["--classes", "clear", "tumour", "--html", tmp_path / "page.html", "--json"]
    (told,) = spurbench("audit", table, *asked).rows
    assert json.loads(json.dumps(told)) == told
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(one["question"] in text for one in told["findings"])
