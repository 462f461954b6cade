"""Anybody's table from the command line: columns by their names, and the way from a table to a trained model."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.splits.usertable import rows_of, write

NAMES = {"path": "file", "label": "diagnosis", "attribute": "scanner", "split": "fold", "patient": "id"}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A table whose columns have names of their own, with its images."""
    rows, random = rows_of(each=8), np.random.default_rng(0)
    for row in rows:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (10, 8), np.uint8)).save(tmp_path / row["path"])
    return write(tmp_path / "mine.csv", [{NAMES[key]: cell for key, cell in row.items()} for row in rows])


def columns(**names: str) -> list[str]:
    return ["--columns", *(f"{name}={column}" for name, column in {**NAMES, **names}.items())]


def test_columns_say_what_split_set_says(spurbench: Any, home: Any, mine: Path) -> None:
    given = ["--data", f"table={mine}", "--json"]
    (one,) = spurbench("data", "describe", "table/own", *given, *columns()).rows
    long = [f"{name}_column={column}" for name, column in NAMES.items()]
    (other,) = spurbench("data", "describe", "table/own", *given, "--split-set", *long).rows
    assert one == other
    assert one["attribute"] == "scanner"
    assert one["partitions"]["train"]["examples"] == 32
    (alone,) = spurbench("data", "describe", "table/own", *given, *columns(patient="-")).rows
    assert any("own cluster" in note for note in alone["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "path=file"], "Expected a column 'label' in .*--columns label=NAME"),
        (["--columns", "file=path"], "has no setting 'file_column'. Did you mean"),
        (["--columns", "path"], "Expected --columns NAME=VALUE, found 'path'"),
        (
            [*columns(), "--split-set", "label_column=other"],
            "Expected the column of label once, found --columns label=diagnosis and --split-set label_column=other",
        ),
    ],
)
def test_wrong_columns_are_refused(spurbench: Any, home: Any, mine: Path, arguments: list[str], message: str) -> None:
    for verb in (["data", "describe", "table/own"], ["data", "prepare", "table/own"], ["run", "--split", "table/own"]):
        ended = spurbench(*verb, "--data", f"table={mine}", *arguments)
        assert ended.code == 2
        assert re.search(message, ended.err), ended.err


def test_a_table_is_checked_prepared_and_trained_on(spurbench: Any, home: Any, mine: Path) -> None:
    """Column names with a space and of digits: what is printed as the next command is that command."""
    frame = pd.read_csv(mine).rename(columns={"diagnosis": "the diagnosis", "fold": "1"})
    frame.to_csv(mine, index=False)
    given = ["--data", f"table={mine}", *columns(label="the diagnosis", split="1")]
    assert spurbench("data", "check", "table/own", *given).code == 0
    prepared = spurbench("data", "prepare", "table/own", *given, "--image-size", 16)
    assert prepared.code == 0
    assert "96 images ready, 96 of them made now" in prepared.out
    again = shlex.split(prepared.out.rpartition("Next: spurbench ")[2].partition(", then ")[0])
    assert again[:2] == ["data", "check"]
    assert spurbench(*again).code == 0
    budget = ["--set", "epochs=1", "batch_size=8", "--image-size", 16, "--device", "cpu", "--evaluator", "worst_group"]
    run = spurbench("run", "--method", "erm", "dfr", "--split", "table/own", *given, *budget)
    assert run.code == 0
    assert "not applicable: the split has no adapt partition" in run.out
    assert "images of table/own" not in run.err  # they were there already
