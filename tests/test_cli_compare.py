"""The verb ``compare``: what it prints, as a table and as JSON, and its errors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import manifest as manifests
from robustbench_spur.cli import Parser, compare
from robustbench_spur.home import Home
from robustbench_spur.types import SpurbenchError
from tests.records import SPLIT, Laboratory, drawn, make_manifest

MANY: dict[str, Any] = {"bootstrap": {"replicates": 2000, "seed": 7, "confidence": 0.95}}
"""As many resamplings as differences of few patients take, corrected for several comparisons."""
HARD, EASY = (drawn((accuracy,) * 4, patients=12, slices=6, seed=4) for accuracy in (0.4, 0.95))


@pytest.fixture
def lab(home: Home) -> Laboratory:
    return Laboratory(home)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the verb on the board of :func:`make_manifest`, and gives what it printed."""
    place = tmp_path / "boards" / "t1"
    place.mkdir(parents=True)
    (place / "board.json").write_text(make_manifest(**MANY).model_dump_json())
    monkeypatch.setattr(manifests, "boards_folder", lambda: tmp_path / "boards")
    monkeypatch.setenv("COLUMNS", "80")
    parser = Parser(prog="spurbench compare")
    compare.add_arguments(parser)

    def run(*arguments: str) -> str:
        manifests.load_manifest.cache_clear()
        options: argparse.Namespace = parser.parse_args([*arguments, "--board", "t1"])
        assert compare.main(options) == 0
        manifests.load_manifest.cache_clear()
        return capsys.readouterr().out

    return run


def test_a_table_names_the_pair_its_difference_and_what_is_resolved(lab: Laboratory, said: Callable[..., str]) -> None:
    for seed in (0, 1):
        lab.add("erm", seed, HARD)
        lab.add("dfr", seed, EASY)
    printed = said("dfr", "erm", "--split", SPLIT)
    assert f"{SPLIT}, worst" in printed
    assert "dfr" in printed
    assert "- erm" in printed
    assert "*" in printed
    assert "0,1" in printed
    assert "corrected for 1 comparison;" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 80
    worst = [mask.reshape(4, -1).mean(axis=1).min() for mask in (EASY, HARD)]
    assert f"{100 * (worst[0] - worst[1]):+.1f} [" in printed


def test_json_is_the_contract(lab: Laboratory, said: Callable[..., str]) -> None:
    for name, mask in (("erm", HARD), ("dfr", EASY), ("jtt", HARD)):
        lab.add(name, test=mask)
    rows = json.loads(said("dfr", "erm", "jtt", "--metric", "worst", "micro", "--json"))
    assert len(rows) == 6
    assert rows[0].keys() == {
        "split",
        "metric",
        "first",
        "second",
        "first_value",
        "second_value",
        "difference",
        "sd_over_seeds",
        "difference_over_seeds",
        "p",
        "p_holm",
        "better",
        "seeds",
        "patients",
        "remark",
    }
    assert rows[0]["difference"].keys() == {"value", "low", "high"}
    assert rows[0]["p"] <= rows[0]["p_holm"] <= 1
    assert (rows[0]["better"], rows[0]["patients"]) == ("dfr", 48)


def test_equal_methods_and_remarks_are_told(lab: Laboratory, said: Callable[..., str]) -> None:
    lab.add("erm", test=HARD)
    lab.add("dfr", test=HARD, off_board=("epochs=3",))
    printed = " ".join(said("erm", "dfr").split())
    assert "+0.0" in printed
    assert "1.000" in printed
    assert "dfr: not the board's: epochs=3" in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["erm", "dfr", "--split", "phantom/field@0.95"],
            "No finished record of dfr on phantom/field@0.95. Run: spurbench",
        ),
        (["erm", "dfr"], "No split has records of all of erm, dfr. Run: spurbench run --method erm dfr"),
        (["erm", "emr"], "Unknown method 'emr'. Did you mean 'erm'"),
        (["erm", "dfr", "--split", "feild"], "Unknown split 'feild'. Did you mean 'field'"),
        (["erm", "dfr", "--metric", "wurst"], "Unknown metric 'wurst'. Did you mean 'worst'"),
        (["erm"], "at least two different methods to compare, found erm"),
        ([], "The following arguments are required: METHOD. Run: spurbench compare --help"),
    ],
)
def test_errors_say_what_to_do(lab: Laboratory, said: Callable[..., str], arguments: list[str], expected: str) -> None:
    lab.add("erm", test=HARD)
    with pytest.raises(SpurbenchError, match=expected):
        said(*arguments)
