"""Which cells of a board are done, failed, stale or missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.coverage import belongs, coverage, departure
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import MethodPart
from robustbench_spur.registry import Registry
from tests.records import EVALUATORS, SPLIT, Laboratory, make_identity, make_manifest, make_record

METHOD = "from robustbench_spur import Method\nclass Mine(Method):\n    name = 'mine'\n    version = 2\n"
OTHER = "phantom/clean"
Rows = list[dict[str, Any]]


@pytest.fixture
def lab(home: Home) -> Laboratory:
    return Laboratory(home)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return path


@pytest.fixture
def cells(lab: Laboratory, draft: Path) -> Callable[..., Rows]:
    def cells(
        manifest: Manifest | None = None, splits: tuple[str, ...] = (SPLIT,), seeds: tuple[int, ...] = (0,)
    ) -> Rows:
        registry = Registry((draft,))
        board = manifest or make_manifest()
        return coverage(lab.home, board, registry, [registry.find("method", "mine")], splits, seeds)

    return cells


def by_draft(draft: Path, **changes: Any) -> dict[str, Any]:
    """What a record of the draft as it is now states."""
    plugin = Registry((draft,)).find("method", "mine")
    method: dict[str, Any] = {
        "name": "mine",
        "version": plugin.version,
        "origin": "file",
        "sha256": plugin.sha256,
        "given": {},
        "settings": {},
    }
    own = MethodPart.model_validate({**method, **changes})
    return {"identity": make_identity("mine", method={"version": own.version, "sha256": own.sha256}), "method": own}


def state(rows: Rows) -> tuple[str, str]:
    (row,) = rows
    return row["status"], row["reason"]


def test_one_row_per_cell_in_the_order_asked_for(lab: Laboratory, draft: Path, cells: Callable[..., Rows]) -> None:
    record = lab.add("mine", 1, **by_draft(draft))
    found = cells(splits=(OTHER, SPLIT), seeds=(1, 0))
    assert found == [
        {"method": "mine", "split": OTHER, "seed": 1, "status": "missing", "reason": "", "finished": None},
        {"method": "mine", "split": OTHER, "seed": 0, "status": "missing", "reason": "", "finished": None},
        {"method": "mine", "split": SPLIT, "seed": 1, "status": "done", "reason": "", "finished": record.finished},
        {"method": "mine", "split": SPLIT, "seed": 0, "status": "missing", "reason": "", "finished": None},
    ]


def test_the_newest_finished_record_counts(lab: Laboratory, draft: Path, cells: Callable[..., Rows]) -> None:
    own = by_draft(draft)
    lab.add("mine", status="failed", reason="RuntimeError: first", **own)
    assert state(cells()) == ("failed", "RuntimeError: first")
    lab.add("mine", status="failed", reason="RuntimeError: second", **own)
    assert state(cells()) == ("failed", "RuntimeError: second")
    lab.add("mine", status="not_applicable", reason="a group has no patients", **own)
    assert state(cells()) == ("not_applicable", "a group has no patients")
    lab.add("mine", **own)
    assert state(cells()) == ("done", "")
    lab.add("mine", status="failed", reason="RuntimeError: third", **own)
    assert state(cells()) == ("done", "")


def test_other_settings_leave_the_boards_cell_missing(lab: Laboratory, draft: Path, cells: Callable[..., Rows]) -> None:
    lab.add("mine", off_board=("epochs=9",), **by_draft(draft))
    assert state(cells()) == ("missing", "1 with other settings")


@pytest.mark.parametrize("change", [{"board": "t2"}, {"board_status": "frozen"}])
def test_records_of_another_board_or_status_do_not_count(
    lab: Laboratory, draft: Path, cells: Callable[..., Rows], change: dict[str, Any]
) -> None:
    record = lab.add("mine", **by_draft(draft), **change)
    assert not belongs(record, make_manifest())
    assert state(cells()) == ("missing", "")


# Stale


def test_a_method_of_another_version_or_text_makes_its_cells_stale(
    lab: Laboratory, draft: Path, cells: Callable[..., Rows]
) -> None:
    lab.add("mine", **by_draft(draft, version=1))
    assert state(cells()) == ("stale", "method v1, now v2")
    lab.add("mine", **by_draft(draft, sha256="of another text"))
    assert state(cells()) == ("stale", "the draft was changed")
    done = lab.add("mine", **by_draft(draft))
    assert cells()[0]["finished"] == done.finished
    lab.add("mine", **by_draft(draft, version=1))
    assert state(cells()) == ("done", "")
    draft.write_text(METHOD + "# edited\n")
    assert state(cells()) == ("stale", "method v1, now v2")


def test_a_dataset_of_another_version_makes_its_cells_stale(
    lab: Laboratory, draft: Path, cells: Callable[..., Rows]
) -> None:
    own = by_draft(draft)
    own["identity"] = make_identity("mine", method=own["identity"].method, split={"version": 99})
    lab.add("mine", **own)
    now = Registry().find("dataset", "phantom").version
    assert state(cells()) == ("stale", f"split v99, now v{now}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"splits": [{"name": SPLIT, "version": 1, "sha256": "f" * 64}]}, "another table than the board's"),
        ({"splits": [{"name": OTHER, "version": 1, "sha256": None}]}, f"split {SPLIT} is not on the board"),
        ({"selection": "validation_accuracy"}, "selection=last, the board has validation_accuracy"),
        (
            {"evaluators": [{"name": "worst_group", "version": 99, "parameters": {}}]},
            f"measured by worst_group v{EVALUATORS['worst_group']['version']}, the board has v99",
        ),
        (
            {"evaluators": [{"name": "ece", **EVALUATORS["ece"], "parameters": {"bins": 10}}]},
            "measured by ece with other settings than the board's",
        ),
        ({"evaluators": [{"name": "pgd", "version": 1, "parameters": {}}]}, "not measured by pgd"),
    ],
)
def test_a_board_that_has_moved_on_makes_cells_stale(
    lab: Laboratory, draft: Path, cells: Callable[..., Rows], change: dict[str, Any], reason: str
) -> None:
    record = lab.add("mine", **by_draft(draft))
    assert departure(record, make_manifest()) == ""
    board = make_manifest(**change)
    assert departure(record, board) == reason
    assert state(cells(board)) == ("stale", reason)


@pytest.mark.parametrize(
    ("field", "value"),
    [("backbone", "resnet18"), ("image_size", 32), ("pretrained", True), ("epochs", 5), ("momentum", 0.0)],
)
def test_every_part_of_the_setup_counts(field: str, value: Any) -> None:
    content = make_manifest().model_dump(mode="json")
    setup = content["setups"]["phantom"]
    place = setup if field in setup else setup["training"]
    before, place[field] = place[field], value
    board = Manifest.model_validate(content)
    assert departure(make_record(), board) == f"{field}={before}, the board has {value}"


def test_a_record_that_fails_before_its_split_is_open_is_stale_like_others(
    lab: Laboratory, draft: Path, cells: Callable[..., Rows]
) -> None:
    lab.add("mine", status="failed", reason="x", split=None, **by_draft(draft, version=1))
    assert state(cells()) == ("stale", "method v1, now v2")
