"""What is not a fault: flags for a person, warnings, and hostile text that is only text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur.manifest import Manifest, SplitPin
from robustbench_spur.submission.entry import load_entry
from robustbench_spur.submission.remarks import Remark, quoted
from robustbench_spur.submission.safely import Limits
from robustbench_spur.submission.verifier import Known, Verdict, Verifier, known_of
from tests.submission.faults import ARRAYS, ENTRY, RECORD, put
from tests.submission.faults_of_arrays import GOOD, WEIGHTS, tensors, weights
from tests.submission.faults_of_entries import built_in
from tests.submission.makers import SPLIT, SPLITS, TEAM, Arrays, Copy, packed


def only(verdict: Verdict, level: str) -> Remark:
    """The one remark that there is."""
    (remark,) = verdict.remarks
    assert remark.level == level, str(remark)
    assert verdict.sound
    return remark


def test_a_sound_entry_has_no_remark_and_every_number_is_recomputed(copy: Copy, small_board: Manifest) -> None:
    verdict = Verifier(small_board).verify(copy.folder)
    assert verdict.remarks == []
    about = verdict.as_dict()
    assert (about["verdict"], about["cells"], about["method"], about["team"]) == ("verified", 2, "mine", TEAM)
    assert about["entry"] == load_entry(copy.folder).id
    record = copy.content(RECORD)
    stated = record["metrics"]["test"]["worst_group"]["worst_group_accuracy"]["value"]
    assert verdict.ranking[SPLIT, 0] == pytest.approx(stated)


def test_verifying_changes_nothing_and_says_the_same_again(copy: Copy, small_board: Manifest) -> None:
    first, second = (Verifier(small_board).verify(copy.folder) for _ in range(2))
    assert (first.ranking, first.cells) == (second.ranking, second.cells)
    assert [one.digest for one in first.said] == [one.digest for one in second.said]


def test_html_in_the_name_of_a_team_is_text_and_no_part_of_the_id(copy: Copy, small_board: Manifest) -> None:
    entry = load_entry(copy.folder)
    assert entry.team == TEAM
    assert "<" not in entry.id
    assert Verifier(small_board).verify(copy.folder).sound


# Warnings


def test_an_entry_without_a_seed_is_sound_and_unranked(copy: Copy, small_board: Manifest) -> None:
    for name in (RECORD, ARRAYS):
        copy.path(name.replace("seed0", "seed1")).unlink()
    copy.entry(lambda entry: entry["cells"].pop())
    remark = only(Verifier(small_board).verify(copy.folder), "warning")
    assert (remark.file, remark.found, remark.expected) == (ENTRY, f"seeds 0 of {SPLIT!r}", "seeds 0, 1")
    assert "unranked" in remark.remedy


def test_numbers_without_predictions_are_a_claim(copy: Copy, small_board: Manifest) -> None:
    copy.path(ARRAYS).unlink()
    copy.listing(lambda cell: cell.update(predictions=None))
    copy.record(put("predictions", value=None))
    verdict = Verifier(small_board).verify(copy.folder)
    remark = only(verdict, "warning")
    assert (remark.file, remark.found) == (RECORD, "numbers without predictions")
    assert verdict.cells == 1


def test_a_failure_is_a_result(copy: Copy, small_board: Manifest) -> None:
    copy.path(ARRAYS).unlink()
    copy.listing(lambda cell: cell.update(predictions=None))

    def failed(record: dict[str, object]) -> None:
        record |= {"status": "failed", "reason": "it broke", "predictions": None, "metrics": {}, "details": {}}

    copy.record(failed)
    verdict = Verifier(small_board).verify(copy.folder)
    assert (verdict.remarks, verdict.cells) == ([], 1)


def test_a_cell_off_the_board_says_so(copy: Copy, small_board: Manifest) -> None:
    copy.record(put("off_board", value=["epochs=500"]))
    remark = only(Verifier(small_board).verify(copy.folder), "warning")
    assert (remark.found, remark.remedy) == ("'epochs=500'", "It is shown, unranked.")


def test_weights_that_are_safetensors_are_taken(copy: Copy, small_board: Manifest) -> None:
    weights(tensors(GOOD))(copy)
    assert copy.path(WEIGHTS).is_file()
    assert Verifier(small_board).verify(copy.folder).remarks == []


def test_our_own_method_in_another_text_is_noticed(copy: Copy, small_board: Manifest) -> None:
    built_in("erm", 1)(copy)
    remark = only(Verifier(small_board).verify(copy.folder), "warning")
    assert remark.found.startswith("another text of erm v1")


def test_our_own_method_is_held_against_its_source(tmp_path: Path, small_board: Manifest) -> None:
    folder = packed(tmp_path, "erm")
    assert Verifier(small_board).verify(folder).remarks == []
    assert not (folder / "plugin.py").exists()


# Flags


def test_settings_that_were_given_are_for_a_person(copy: Copy, small_board: Manifest) -> None:
    copy.record(put("method", "given", value={"eta": 0.5}))
    verdict = Verifier(small_board).verify(copy.folder)
    assert only(verdict, "flag").found == "settings \"{'eta': 0.5}\""
    assert verdict.as_dict()["verdict"] == "for a person"


def test_another_entrys_logits_are_for_a_person(copy: Copy, small_board: Manifest) -> None:
    first = Verifier(small_board).verify(copy.folder)
    copy.entry(put("team", value="Copyists"))
    verdict = Verifier(small_board, known_of([first])).verify(copy.folder)
    assert [one.level for one in verdict.remarks] == ["flag", "flag"]
    assert all(first.entry is not None and first.entry.id in one.found for one in verdict.remarks)


def test_the_same_logits_for_two_seeds_are_for_a_person(copy: Copy, small_board: Manifest) -> None:
    one, other = (copy.path(RECORD.replace("seed0", f"seed{seed}")) for seed in (0, 1))
    other.write_text(one.read_text())
    shutil.copy(copy.path(ARRAYS), copy.path(ARRAYS.replace("seed0", "seed1")))
    copy.record(put("seed", value=1), (1,))
    copy.record(put("predictions", "file", value="seed1.npz"), (1,))
    remark = only(Verifier(small_board).verify(copy.folder), "flag")
    assert remark.found == f"on {SPLIT}, seed 1, the logits on {SPLIT}, seed 0"


@pytest.mark.parametrize(("best", "flagged"), [(0.2, True), (0.9, False)])
def test_a_result_that_is_too_good_is_for_a_person(
    copy: Copy, small_board: Manifest, best: float, flagged: bool
) -> None:
    """The board's margin is a tenth, and the made-up model's worst group is at about 0.7."""
    verdict = Verifier(small_board, Known(best={(SPLIT, "none"): best})).verify(copy.folder)
    assert bool(verdict.of("flag")) == flagged
    if flagged:
        assert only(verdict, "flag").expected == "at most 0.1 beyond the best so far, 0.200"


def test_the_best_of_what_is_known_is_a_mean_over_seeds(copy: Copy, small_board: Manifest) -> None:
    verdict = Verifier(small_board).verify(copy.folder)
    mean = np.mean([verdict.ranking[SPLIT, seed] for seed in (0, 1)])
    known = known_of([verdict, Verdict(copy.folder)])
    assert known.best == {(SPLIT, "none"): pytest.approx(mean)}
    assert {one.entry for one in known.said} == {verdict.entry.id if verdict.entry else ""}


def test_several_splits_are_one_entry(tmp_path: Path, small_board: Manifest) -> None:
    verdict = Verifier(small_board).verify(packed(tmp_path, splits=SPLITS))
    assert (verdict.remarks, verdict.cells) == ([], 4)


# Limits and words


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (Limits(files=3), "more files than that"),
        (Limits(folders=2), "more folders than that"),
        (Limits(depth=1), "a folder deeper than that"),
        (Limits(file_bytes=100), "bytes"),
        (Limits(total_bytes=20_000), "more than that in all"),
        (Limits(json_bytes=100), "bytes"),
        (Limits(arrays=13), "14 arrays"),
        (Limits(unpacked_bytes=100), "bytes unpacked"),
    ],
)
def test_every_limit_is_kept(copy: Copy, small_board: Manifest, limits: Limits, found: str) -> None:
    verdict = Verifier(small_board, limits=limits).verify(copy.folder)
    assert any(found in one.found for one in verdict.of("fault"))


def test_a_remark_says_where_and_what_and_what_to_do() -> None:
    remark = Remark("fault", "entry.json", "nothing", "something", "Add it.")
    assert str(remark) == "entry.json: expected something, found nothing. Add it."
    assert str(Remark("fault", "", "a", "b", "C.")) == "expected b, found a. C."
    assert quoted("\x1b[31m\n\u202e") == r"'\x1b[31m\n\u202e'"


# Splits whose table is the user's own


@pytest.fixture
def unpinned(small_board: Manifest) -> Manifest:
    """The board, as if the split's table depended on the user's copy of the data."""
    pins = (SplitPin(name=SPLIT, version=1, sha256=None), *small_board.splits[1:])
    return small_board.model_copy(update={"splits": pins})


def test_rows_that_are_not_pinned_are_held_against_the_records_own_account(copy: Copy, unpinned: Manifest) -> None:
    verdict = Verifier(unpinned).verify(copy.folder)
    assert (verdict.sound, verdict.cells) == (True, 2)
    assert {one.found for one in verdict.remarks} == {"a split whose table the board does not pin"}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("labels", 7, "Expected label codes 0 to 1, found 0 to 7."),
        ("attributes", -1, "Expected attribute codes 0 to 1, found -1 to 1."),
        ("clusters", "P300001", "8 patients of tumour@3T, as the record says, found 8 and 7"),
        ("ids", None, "repeated"),
    ],
)
def test_rows_that_are_not_pinned_have_codes_ids_and_counts(
    copy: Copy, unpinned: Manifest, name: str, value: Any, found: str
) -> None:
    def change(arrays: Arrays) -> None:
        column = arrays[f"test/{name}"]
        column[:1] = column[1:2] if value is None else value

    copy.arrays(change)
    faults = Verifier(unpinned).verify(copy.folder).of("fault")
    assert len(faults) == 1, [str(one) for one in faults]
    fault = faults[0]
    assert fault.file == ARRAYS
    assert found in fault.found


@pytest.mark.parametrize("partition", ["train", "test"])
def test_an_account_without_a_partition_hides_nothing(copy: Copy, unpinned: Manifest, partition: str) -> None:
    copy.record(lambda record: record["split"]["counts"].pop(partition))
    assert f"no counts of {partition}" in {one.found for one in Verifier(unpinned).verify(copy.folder).of("fault")}


def test_a_forced_cell_is_a_fault_whatever_settings_were_given(copy: Copy, small_board: Manifest) -> None:
    copy.record(put("method", "given", value={"a": 1}))
    assert {one.level for one in Verifier(small_board).verify(copy.folder).remarks} == {"flag"}
    copy.record(put("degenerate", value=True))
    (fault,) = Verifier(small_board).verify(copy.folder).of("fault")
    assert fault.found == "a cell that was forced where its method is not applicable"
