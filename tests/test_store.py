"""Artifacts are there as a whole or not at all, whoever writes them and however often."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import stat
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_spur.home import KINDS, Home
from robustbench_spur.store import (
    DONE,
    Store,
    canonical,
    content_hash,
    file_sha256,
    read_arrays,
    replacing,
    write_arrays,
)
from robustbench_spur.types import SpurbenchError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
KEY = "ab" + 62 * "0"


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Hashes


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_the_hash_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    assert content_hash(value) == content_hash(dict(reversed(value.items())))
    assert json.loads(canonical(value)) == value


def test_the_hash_is_the_sha256_of_canonical_json() -> None:
    assert canonical({"b": [1, 2.5, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null]}'
    assert content_hash({"a": "ü"}) == hashlib.sha256('{"a":"ü"}'.encode()).hexdigest()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": [number]})


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    raw = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(raw)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(raw).hexdigest()


# One file


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    for text in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text
    assert everything_below(tmp_path) == ["deep", "deep/file.txt"]


def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert everything_below(tmp_path) == ["file.txt"]
    assert path.read_text() == "old"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("")
    with Store(tmp_path / "store").making(KEY):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file", "folder", f"store/ab/{KEY}")]
    assert modes[0] == modes[1]
    assert modes[2] == modes[3]


# Artifacts


def test_an_artifact_is_there_once_its_block_has_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.making(KEY) as (folder, about):
        write_arrays(folder / "arrays.npz", {"x": np.arange(3)})
        about["title"] = "three numbers"
        assert not store.has(KEY)
    assert store.has(KEY)
    assert store.folder(KEY) == tmp_path / "ab" / KEY
    assert store.about(KEY) == {"title": "three numbers"}
    assert store.arrays(KEY)["x"].tolist() == [0, 1, 2]
    assert everything_below(tmp_path) == ["ab", f"ab/{KEY}", f"ab/{KEY}/arrays.npz", f"ab/{KEY}/{DONE}"]


@pytest.mark.parametrize("what", ["the work", "the notes"])
def test_an_artifact_whose_maker_raises_leaves_nothing(tmp_path: Path, what: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError), store.making(KEY) as (folder, about):
        (folder / "half").write_text("written")
        if what == "the work":
            raise ValueError
        about["loss"] = float("nan")
    assert not store.has(KEY)
    assert everything_below(tmp_path) == ["ab"]


def test_an_artifact_that_cannot_be_published_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.folder(KEY)).mkdir(parents=True)
    (store.folder(KEY) / "of somebody else").touch()
    with pytest.raises(OSError, match="not empty"), store.making(KEY):
        pass
    assert everything_below(tmp_path) == ["ab", f"ab/{KEY}", f"ab/{KEY}/of somebody else"]


def test_of_two_makers_the_first_to_end_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.making(KEY) as (slow, about):
        with store.making(KEY) as (fast, also):
            also["who"] = "fast"
            assert fast != slow
        about["who"] = "slow"
    assert store.about(KEY) == {"who": "fast"}
    assert everything_below(tmp_path) == ["ab", f"ab/{KEY}", f"ab/{KEY}/{DONE}"]


def make_often(root: Path, who: int, times: int) -> None:
    store = Store(root)
    for number in range(times):
        key = f"{number:02}" + 62 * "0"
        with store.making(key) as (folder, about):
            write_arrays(folder / "arrays.npz", {"who": np.full(2000, who)})
            about["who"] = who
        found = store.arrays(key)["who"]
        assert (found == store.about(key)["who"]).all()


def test_two_processes_that_make_the_same_artifacts(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=make_often, args=(tmp_path, who, 30)) for who in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("*/*")) == [f"{n:02}" + 62 * "0" for n in range(30)]
    for n in range(30):
        folder = Store(tmp_path).folder(f"{n:02}" + 62 * "0")
        assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", DONE]


# Arrays


@given(
    st.dictionaries(
        st.text(string.ascii_letters + "_:@/.", min_size=1, max_size=12).filter(lambda name: name != "file"),
        st.lists(st.floats(width=32), max_size=4) | st.lists(st.text("abü", max_size=4), min_size=1, max_size=4),
        max_size=4,
    )
)
def test_arrays_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[Any]]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    arrays = {name: np.array(column) for name, column in columns.items()}
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_arrays(tmp_path / name, {"x": np.arange(1000), "name": np.array(["a", "b"])})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "array", [np.array([{"a": 1}]), np.array(["a", None]), np.array([(1, None)], dtype=[("x", int), ("y", object)])]
)
def test_python_objects_are_refused_and_nothing_is_written(tmp_path: Path, array: Any) -> None:
    with pytest.raises(TypeError, match="'bad' holds Python objects"):
        write_arrays(tmp_path / "arrays.npz", {"good": np.arange(2), "bad": array})
    assert everything_below(tmp_path) == []


def test_a_pickle_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", bad=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SpurbenchError, match="allow_pickle=False"):
        read_arrays(tmp_path / "arrays.npz")


# The home of it all


def test_the_home_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path / "x" / ".." / "y"))
    home = Home.default()
    assert home.root == tmp_path / "y"
    assert not home.root.exists()
    monkeypatch.delenv("SPURBENCH_HOME")
    assert Home.default().root.name == "spurbench"


def test_sizes_are_those_of_the_files_and_cleaning_keeps_what_cannot_be_made_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert set(home.sizes().values()) == {(0, 0)}
    for number, name in enumerate((*KINDS, "records", "predictions", "leaderboards"), start=1):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_bytes(bytes(number))
        (tmp_path / name / "gone").symlink_to(tmp_path / "nowhere")
    assert home.sizes()["pixels"] == (1, 1)
    assert home.sizes()["records"] == (1, 5)
    assert home.clean(("scores",)) == 4
    assert home.sizes()["scores"] == (0, 0)
    assert home.clean() == 1 + 2 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaderboards", "predictions", "records"]
    assert home.clean() == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all"])
def test_damaged_arrays_are_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(SpurbenchError, match=r"arrays.npz, found it damaged \(.*\). Run: spurbench clean"):
        read_arrays(path)
