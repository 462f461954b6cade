"""The board that the package comes with holds together, and a manifest that does not is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import manifest as manifest_module
from robustbench_spur.manifest import DEFAULT_BOARD, Column, Manifest, SplitPin, boards_folder, load_manifest
from robustbench_spur.method import TRACKS
from robustbench_spur.record import SCHEMA_VERSION
from robustbench_spur.registry import Registry
from robustbench_spur.rows import Row
from robustbench_spur.scoring import load_evaluators
from robustbench_spur.splitref import parse_split, parse_splits
from robustbench_spur.types import SpurbenchError
from tests.records import make_manifest, make_record

ROW_KEYS = {
    "method", "split", "seeds", "track", "backbone", "selection", "tier", "status", "reason", "rank", "rank_high",
    "config_hash", "worst_group", "group_accuracies", "pgd_radius",
}  # fmt: skip
ESTIMATES = {
    "worst_group_accuracy", "micro_accuracy", "balanced_accuracy", "validation_accuracy", "ece",
    "pgd_worst_group_accuracy", "aurc", "equalised_odds", "conflict_error_share", "attribute_flip_rate",
    "attribute_effect", "lesion_effect",
}  # fmt: skip


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(manifest_module, "boards_folder", lambda: tmp_path)
    load_manifest.cache_clear()
    yield tmp_path
    load_manifest.cache_clear()


def v1() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((boards_folder() / DEFAULT_BOARD / "board.json").read_text())
    return content


def write(folder: Path, content: Any, name: str = "v9") -> None:
    (folder / name).mkdir()
    (folder / name / "board.json").write_text(content if isinstance(content, str) else json.dumps(content))


# The board of the package


def test_the_default_board_is_frozen_under_its_own_name() -> None:
    board = load_manifest()
    assert (board.board, board.status, board.schema_version) == (DEFAULT_BOARD, "frozen", SCHEMA_VERSION)
    assert load_manifest(DEFAULT_BOARD) is load_manifest(DEFAULT_BOARD)
    assert Manifest.model_validate(board.model_dump(mode="json")) == board


def test_the_frozen_manifest_is_never_edited() -> None:
    """A later board is a new folder. Whoever changes this hash changes what published numbers mean."""
    digest = hashlib.sha256((boards_folder() / "v1" / "board.json").read_bytes()).hexdigest()
    assert digest == "881b699a3636d70686b2a00a9a9784f2f6f8804e6343add8962e51739b66e594"


def test_the_pins_of_the_embedded_splits_are_what_their_data_sets_make() -> None:
    registry = Registry()
    for pin in load_manifest().splits:
        if pin.name.startswith("phantom/"):
            (ref,) = parse_splits(pin.name, registry)
            assert SplitPin.of(pin.name, int(ref.plugin.version or 0), ref.open(None).table) == pin


def test_its_columns_refer_to_what_the_evaluators_state() -> None:
    board, registry = load_manifest(), Registry()
    pinned = {pin.name for pin in board.evaluators}
    for column in board.columns:
        plugin = registry.find("evaluator", column.evaluator)
        assert plugin.source is not None
        assert column.evaluator in pinned
        assert column.partition in plugin.literal("partitions", ("test",))
        metrics = plugin.literal("metrics")
        if column.metric is not None:
            family = f"{column.metric.partition(':')[0]}:"
            defined = metrics[column.metric] if column.metric in metrics else metrics[family]
            assert column.better in (defined.better, "neither")
        elif column.parameter is not None:
            assert column.parameter in {setting.name for setting in plugin.source.settings}
        else:
            family = str(column.family or column.lowest)
            assert family.endswith(":")
            assert family in metrics


def test_a_row_has_the_names_that_json_promises() -> None:
    board = load_manifest()
    columns = {column.name: column for column in board.columns}
    row = Row([make_record()], "failed", "why").as_dict(board.columns)
    assert row.keys() >= ROW_KEYS | ESTIMATES
    assert columns.keys() <= ROW_KEYS | ESTIMATES
    assert {name for name, column in columns.items() if column.metric} == ESTIMATES
    for name in ESTIMATES:
        assert {"value", "low", "high"} <= row[name].keys()
    assert (columns["worst_group"].lowest, columns["group_accuracies"].family) == ("group_accuracy:", "group_accuracy:")
    assert (columns["pgd_radius"].evaluator, columns["pgd_radius"].parameter) == ("pgd", "headline_radius")
    assert (columns["validation_accuracy"].partition, columns["validation_accuracy"].metric) == (
        "validation",
        "micro_accuracy",
    )


def test_every_split_is_written_in_full_and_of_the_version_here() -> None:
    board, registry = load_manifest(), Registry()
    for pin in board.splits:
        ref = parse_split(pin.name, registry)
        assert ref.full == pin.name
        assert ref.plugin.version == pin.version
        setup = board.setup(ref.dataset)
        assert setup is not None
        sizes = ref.plugin.literal("image_sizes", ())
        assert not sizes or setup.image_size in sizes


def test_every_evaluator_is_pinned_with_all_its_settings() -> None:
    board = load_manifest()
    for pin, evaluator in zip(board.evaluators, load_evaluators(Registry(), board.evaluators), strict=True):
        assert pin.parameters.keys() == type(evaluator.parameters).model_fields.keys()
        assert type(evaluator.parameters).model_validate(pin.parameters) == evaluator.parameters


def test_tracks_and_baseline_are_those_of_the_methods() -> None:
    board, registry = load_manifest(), Registry()
    assert board.tracks == ("none", *TRACKS.values())
    assert registry.find("method", board.baseline).literal("needs") == ()
    assert board.column(board.rank_by).metric == "worst_group_accuracy"


def test_every_folder_of_leaderboards_with_a_manifest_loads() -> None:
    for path in boards_folder().glob("*/board.json"):
        assert load_manifest(path.parent.name).board == path.parent.name


# Looking up


def test_what_the_board_does_not_have() -> None:
    board = make_manifest()
    assert board.pin("phantom/field@0.5") is None
    assert board.setup("digits") is None
    with pytest.raises(SpurbenchError, match=r"Board t1 has no column 'wurst'\. Did you mean 'worst'"):
        board.column("wurst")


@pytest.mark.parametrize("name", ["v0", "", ".", "../leaderboards/v1", "v1/"])
def test_an_unknown_board_gives_those_that_there_are(name: str) -> None:
    with pytest.raises(SpurbenchError, match=f"^Unknown board '{name}'. .*Known: .*v1"):
        load_manifest(name)


# What is refused


def test_a_file_that_is_no_manifest_is_refused_in_one_line(boards: Path) -> None:
    write(boards, "{")
    write(boards, {**v1(), "alpha": 2}, "v8")
    write(boards, {**v1(), "more": 1}, "v7")
    for name, found in (
        ("v9", "no JSON: "),
        ("v8", "alpha: Input should be less than 1"),
        ("v7", "more: Extra inputs"),
    ):
        with pytest.raises(SpurbenchError) as error:
            load_manifest(name)
        assert str(error.value).startswith(f"Expected a board manifest in {boards / name / 'board.json'}, found ")
        assert found in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rank_by": "wurst"}, "rank_by has to name a column of a metric with a direction, found 'wurst'"),
        ({"rank_by": "which"}, "rank_by has to name a column of a metric"),
        ({"rank_by": "valid"}, "rank_by has to name a column of a metric with a direction, found 'valid'"),
        ({"splits": 2 * [{"name": "a/b", "version": 1, "sha256": None}]}, "splits have to have different names"),
        ({"splits": []}, "at least 1 item"),
        ({"seeds": []}, "at least 1 item"),
        ({"status": "final"}, "'draft' or 'frozen'"),
        ({"bootstrap": {"replicates": 10, "seed": 0, "confidence": 0.95}}, "greater than or equal to 100"),
    ],
)
def test_a_manifest_that_cannot_rank_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_manifest(**change)


@pytest.mark.parametrize("kinds", [{}, {"metric": "m", "family": "f:"}, {"lowest": "f:", "parameter": "p"}])
def test_a_column_has_one_kind_of_value(kinds: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="column 'c' has to state one of metric, family, lowest, parameter, found"):
        Column(name="c", title="c", evaluator="e", partition="test", **kinds)
