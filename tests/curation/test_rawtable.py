"""Files of columns before their cells are understood: which rows and names there are, and where the patients stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_spur.curation.rawtable import read_raw
from robustbench_spur.types import SpurbenchError


def test_rows_that_are_blank_throughout_are_left_out_and_others_need_a_patient(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,a\np1,1\n , \np2,\n,\n")
    raw = read_raw(path, "id", None)
    patients, kept = raw.patients(raw.position("id"))
    assert patients.tolist() == ["p1", "p2"]
    assert kept.tolist() == [True, False, True, False]
    path.write_text("id,a\np1,1\n,\n ,2\n")
    raw = read_raw(path, "id", None)
    with pytest.raises(SpurbenchError, match=r"every row of .*t\.csv, found none in row 4\. Fill it in"):
        raw.patients(raw.position("id"))


def test_columns_keep_the_files_names_and_get_one_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("Who\tMRI\t\n ID \tShape\tShape\n\t0=oval, 1=round\t7=0,8=1\np1\t0\tNA\n")
    raw = read_raw(path, "ID", None)
    assert (raw.names, raw.sections) == (["ID", "Shape", "Shape"], ["Who", "MRI", "MRI"])
    assert raw.titles() == ["ID", "MRI / Shape", "MRI / Shape (2)"]
    assert raw.codings == [{}, {"0": "oval", "1": "round"}, {}]
    assert [bool(note) for note in raw.notes] == [False, False, True], "nothing tells its codes from the meanings"
    assert (raw.first, raw.position("ID"), raw.cells[1].tolist()) == (4, 0, ["0"])
