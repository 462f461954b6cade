"""What a file is known by: the published hash, or else the record of the first one that was seen."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_spur.download import check_file, fetch, forget, seen_in
from robustbench_spur.download.identity import SEEN
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError
from tests.download.server import CONTENT, NAME, OTHER, Served, left, sha256


def test_what_is_seen_first_is_recorded_and_held_to(unpublished: Archive, served: Served, tmp_path: Path) -> None:
    first = fetch(unpublished, tmp_path)
    assert seen_in(tmp_path) == {NAME: first}
    (row,) = json.loads((tmp_path / SEEN).read_text())
    assert (row["sha256"], row["size"], row["url"]) == (sha256(CONTENT), len(CONTENT), unpublished.urls[0])
    (tmp_path / NAME).unlink()
    assert fetch(unpublished, tmp_path) == first
    (tmp_path / NAME).unlink()
    served.content, served.tag = OTHER, '"two"'
    with pytest.raises(SpurbenchError, match="as first seen on") as caught:
        fetch(unpublished, tmp_path)
    assert all(text in str(caught.value) for text in (sha256(CONTENT), sha256(OTHER), "--accept", SEEN))
    assert left(tmp_path) == {SEEN}
    forget(unpublished, tmp_path)
    assert fetch(unpublished, tmp_path).sha256 == seen_in(tmp_path)[NAME].sha256 == sha256(OTHER)


def test_a_file_that_changed_here_is_told_and_not_replaced(unpublished: Archive, tmp_path: Path) -> None:
    fetch(unpublished, tmp_path)
    (tmp_path / NAME).write_bytes(OTHER)
    with pytest.raises(SpurbenchError, match="found another file at"):
        fetch(unpublished, tmp_path)
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_a_published_sha256_needs_no_record_and_an_md5_does(archive: Archive, tmp_path: Path) -> None:
    fetch(archive, tmp_path / "a")
    assert seen_in(tmp_path / "a") == {}
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    fetch(replace(archive, sha256=None, md5=md5.upper()), tmp_path / "b")
    assert seen_in(tmp_path / "b")[NAME].sha256 == sha256(CONTENT)


def test_a_published_md5_is_held_to(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=f"expected md5 {'0' * 32}, found"):
        fetch(replace(archive, sha256=None, md5="0" * 32), tmp_path)
    with pytest.raises(SpurbenchError, match=f"expected md5 {'0' * 32}, found"):
        fetch(replace(archive, md5="0" * 32), tmp_path)


def test_a_file_got_by_hand_is_checked_the_same(archive: Archive, unpublished: Archive, tmp_path: Path) -> None:
    mine = tmp_path / "elsewhere.bin"
    mine.write_bytes(CONTENT)
    assert check_file(archive, mine, tmp_path / "data").sha256 == sha256(CONTENT)
    assert check_file(unpublished, mine, tmp_path / "data").url == ""
    mine.write_bytes(OTHER)
    for one in (archive, unpublished):
        with pytest.raises(SpurbenchError, match=r"elsewhere\.bin"):
            check_file(one, mine, tmp_path / "data")
    with pytest.raises(SpurbenchError, match="no such file"):
        check_file(archive, tmp_path / "nothing", tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a.xlsx", "a.gz"])
def test_what_is_not_even_of_its_kind_is_not_trusted(unpublished: Archive, tmp_path: Path, name: str) -> None:
    with pytest.raises(SpurbenchError, match="found something else"):
        fetch(replace(unpublished, name=name), tmp_path)
    assert seen_in(tmp_path) == {}


def test_what_is_of_its_kind_is_trusted(unpublished: Archive, served: Served, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("a", b"1")
    for name, content in (("a.zip", stream.getvalue()), ("a.gz", gzip.compress(b"1"))):
        served.content = content
        fetch(replace(unpublished, name=name), tmp_path)
        assert seen_in(tmp_path)[name].sha256 == sha256(content)


def test_a_damaged_record_is_told(unpublished: Archive, tmp_path: Path) -> None:
    (tmp_path / SEEN).write_text("[{")
    with pytest.raises(SpurbenchError, match=SEEN):
        fetch(unpublished, tmp_path)
