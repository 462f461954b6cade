"""Archives that are well meant are unpacked whole; those that are not leave nothing behind."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from robustbench_spur import unpack as module
from robustbench_spur.types import SpurbenchError
from robustbench_spur.unpack import safe_path, unpack

FILES = {"field/training/0/a.png": b"a" * 5000, "field/b.txt": b"", "c.txt": b"c"}


def make_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo()
            info.filename = info.orig_filename = name  # as it is: the constructor mends names
            info.compress_type, info.external_attr = method, 0o644 << 16
            archive.writestr(info, data)
    return path


def make_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make(path: Path, files: Mapping[str, bytes]) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def found(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(archive: Path, target: Path, message: str, **limits: int) -> None:
    """Told in one or two lines that name the archive, with nothing left in the target or beside it."""
    beside = {path.name for path in target.parent.iterdir()} | {target.name}
    with pytest.raises(SpurbenchError, match=message) as caught:
        unpack(archive, target, **limits)
    assert archive.name in str(caught.value)
    assert str(caught.value).count("\n") <= 1
    assert found(target) == {}
    assert [path for path in target.rglob("*") if path.is_dir()] == []
    assert {path.name for path in target.parent.iterdir()} == beside


KINDS = pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])


# What is well meant


@KINDS
def test_all_files_come_out(tmp_path: Path, kind: str) -> None:
    told: list[tuple[int, int]] = []
    count = unpack(
        make(tmp_path / kind, FILES), tmp_path / "to", progress=lambda done, total: told.append((done, total))
    )
    assert found(tmp_path / "to") == FILES
    assert (count, told) == (3, [(1, 3), (2, 3), (3, 3)])


def test_a_gz_file_comes_out_under_its_name_without_the_ending(tmp_path: Path) -> None:
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"content"))
    assert unpack(tmp_path / "labels-idx1-ubyte.gz", tmp_path / "to") == 1
    assert found(tmp_path / "to") == {"labels-idx1-ubyte": b"content"}


def test_what_other_programs_pack_is_understood(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "ä ö.txt").write_bytes(b"1")
    (source / "empty").mkdir()
    subprocess.run(["tar", "-czf", tmp_path / "a.tar.gz", "-C", source, "."], check=True)
    subprocess.run([sys.executable, "-m", "zipfile", "-c", tmp_path / "a.zip", source / "deep"], check=True)
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "tar") == 1
    assert unpack(tmp_path / "a.zip", tmp_path / "zip") == 1
    assert found(tmp_path / "tar") == found(tmp_path / "zip") == {"deep/er/ä ö.txt": b"1"}


@KINDS
def test_what_a_mac_adds_is_left_out(tmp_path: Path, kind: str) -> None:
    clutter = {"__MACOSX/field/._b.txt": b"x", "field/.DS_Store": b"x"}
    assert unpack(make(tmp_path / kind, FILES | clutter), tmp_path / "to") == 3
    assert found(tmp_path / "to") == FILES


def test_modes_are_not_taken_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("run")
        info.mode = 0o4777
        archive.addfile(info)
    unpack(tmp_path / "a.tar", tmp_path / "to")
    assert (tmp_path / "to" / "run").stat().st_mode & 0o7111 == 0


# Doing it again


def test_again_mends_what_is_missing_and_leaves_the_rest(tmp_path: Path) -> None:
    archive, target = make_zip(tmp_path / "a.zip", FILES), tmp_path / "to"
    unpack(archive, target)
    (target / "field" / "b.txt").unlink()
    (target / "field" / "mine.txt").write_bytes(b"mine")
    before = (target / "c.txt").stat().st_ino
    unpack(archive, target)
    assert found(target) == FILES | {"field/mine.txt": b"mine"}
    assert (target / "c.txt").stat().st_ino == before


@pytest.mark.parametrize("place", ["c.txt", "field/b.txt"])
def test_nothing_is_overwritten(tmp_path: Path, place: str) -> None:
    target = tmp_path / "to"
    mine = {place: b"mine"}
    (target / place).parent.mkdir(parents=True)
    (target / place).write_bytes(b"mine")
    with pytest.raises(SpurbenchError, match="found another"):
        unpack(make_zip(tmp_path / "a.zip", FILES), target)
    assert found(target) == mine


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_another_kind_of_thing_in_the_place_is_told(tmp_path: Path, there: str) -> None:
    target, outside = tmp_path / "to", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    if there == "file":
        (target / "field").write_bytes(b"")
    elif there == "folder":
        (target / "c.txt").mkdir()
    else:
        (target / "field").symlink_to(outside)
    with pytest.raises(SpurbenchError, match="Move it away"):
        unpack(make_zip(tmp_path / "a.zip", FILES), target)
    assert found(outside) == {}


def test_a_killed_run_leaves_no_file_half_and_the_next_clears_up(tmp_path: Path) -> None:
    archive, target = make_zip(tmp_path / "a.zip", FILES), tmp_path / "to"
    code = (
        "import os, sys; from pathlib import Path; from robustbench_spur.unpack import unpack\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: done == 2 and os._exit(9))"
    )
    process = subprocess.run([sys.executable, "-c", code, archive, target], env=dict(os.environ), check=False)
    assert process.returncode == 9
    assert all(name.startswith(".a.zip.unpacking/") for name in found(target))
    assert len(found(target)) == 2
    unpack(archive, target)
    assert found(target) == FILES


# What is not well meant


BAD_NAMES = [
    "../out.txt",
    "a/../../out.txt",
    "a/..",
    "/tmp/out.txt",
    "//host/out.txt",
    "C:\\out.txt",
    "C:out.txt",
    "a\\..\\..\\out.txt",
    ".. /out.txt",
    "a/.../out.txt",
    "a\nb",
    "a" * 2000,
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_a_name_that_may_leave_the_target_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    refused(make(tmp_path / kind, {"good.txt": b"1", name: b"2"}), tmp_path / "to", "may leave the target")


def test_a_name_that_ends_at_a_zero_byte_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.txtX../b": b"1"})
    path.write_bytes(path.read_bytes().replace(b"a.txtX../b", b"a.txt\0../b"))
    refused(path, tmp_path / "to", "may leave the target")


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("a.b/\\:~ \0\nCß"), max_size=12))
@example("..")
@example("a/./../b")
def test_a_safe_path_stays_below_the_target(name: str) -> None:
    path = safe_path(name)
    if path is not None:
        target = os.path.join(os.sep, "some", "target")  # noqa: PTH118 - an independent account of what a path means
        meant = os.path.normpath(os.path.join(target, name))  # noqa: PTH118
        assert meant == os.path.join(target, *path.parts)  # noqa: PTH118
        assert meant.startswith(target + os.sep)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("ab./A\\"), min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_whatever_the_names_nothing_lies_outside_and_all_or_nothing_comes_out(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    place = tmp_path_factory.mktemp("names")
    files = {name: name.encode() for name in names}
    archive = make_tar(place / "a.tar", files)
    target = place / "deep" / "to"
    try:
        count = unpack(archive, target)
    except SpurbenchError:
        assert found(target) == {}
    else:
        assert count == len(files)
        assert sorted(found(target).values()) == sorted(files.values())
    assert {path.name for path in place.iterdir()} == {"a.tar", "deep"}
    assert {path.name for path in (place / "deep").iterdir()} == {"to"}


def add_tar(kind: bytes, linkname: str = "") -> Callable[[Path], Path]:
    def make_it(folder: Path) -> Path:
        with tarfile.open(folder / "a.tar", "w") as archive:
            info = tarfile.TarInfo("thing")
            info.type, info.linkname = kind, linkname
            archive.addfile(info)
        return folder / "a.tar"

    return make_it


def add_zip_link(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("thing")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return folder / "a.zip"


@pytest.mark.parametrize(
    "build",
    [
        add_zip_link,
        add_tar(tarfile.SYMTYPE, "/etc/passwd"),
        add_tar(tarfile.LNKTYPE, "../../secret"),
        add_tar(tarfile.FIFOTYPE),
        add_tar(tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    refused(build(tmp_path), tmp_path / "to", "a link or a device")


@pytest.mark.parametrize(
    "names",
    [
        ("a.txt", "A.TXT"),
        ("dir/a", "Dir/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("stra\u00dfe", "STRASSE"),
        ("\u00e9", "e\u0301"),
        ("a/./b", "a/b"),
        ("a", "a."),
        ("a/b", "a /c"),
    ],
)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_names_that_are_one_file_somewhere_are_refused(tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    refused(make(tmp_path / kind, dict.fromkeys(names, b"1")), tmp_path / "to", "Expected different names")


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a"))
    refused(tmp_path / "a.tar", tmp_path / "to", "Expected different names")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": b"1"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path / "to", "an encrypted file")


def test_an_unusual_compression_is_refused(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a.zip", {"a": b"1"}, zipfile.ZIP_LZMA), tmp_path / "to", "compressed by method 14")


# Limits


@KINDS
def test_too_many_files_or_bytes_are_refused(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, FILES)
    refused(archive, tmp_path / "to", "at most 2 files", max_files=2)
    refused(archive, tmp_path / "to", "5000 bytes", max_bytes=5000)
    assert unpack(archive, tmp_path / "to", max_files=3, max_bytes=5001) == 3


def test_bytes_are_counted_where_no_size_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(20 * module.BLOCK)))
    refused(tmp_path / "bomb.gz", tmp_path / "to", "found more", max_bytes=module.BLOCK)


def test_a_claimed_size_below_the_real_one_brings_no_more_bytes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": bytes(100_000)})
    size = (100_000).to_bytes(4, "little")
    assert path.read_bytes().count(size) == 2
    path.write_bytes(path.read_bytes().replace(size, (10).to_bytes(4, "little")))
    refused(path, tmp_path / "to", "unreadable", max_bytes=1000)


def test_a_tar_that_claims_more_than_there_is_is_not_read_to_its_end(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 10**15
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    refused(tmp_path / "a.tar", tmp_path / "to", "found more")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 40 * module.BLOCK
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + b"a" * info.size + bytes(1024))
    refused(tmp_path / "a.tar.gz", tmp_path / "to", "a header of")


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz"])
def test_what_follows_the_last_file_counts_too(tmp_path: Path, kind: str) -> None:
    plain = make_tar(tmp_path / "plain.tar", {"a": b"1"}).read_bytes() + bytes(3 * module.BLOCK)
    (tmp_path / kind).write_bytes(gzip.compress(plain) if kind.endswith(".gz") else plain)
    refused(tmp_path / kind, tmp_path / "to", "after its files, found more", max_bytes=module.BLOCK)


def test_a_full_disk_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 5000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Full)
    with pytest.raises(SpurbenchError, match="of free space"):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "to")


# Damage


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.gz"])
def test_a_damaged_archive_is_told(tmp_path: Path, kind: str) -> None:
    refused(tmp_path / kind, tmp_path / "to", "no such file")
    (tmp_path / kind).write_bytes(b"no archive")
    refused(tmp_path / kind, tmp_path / "to", "unreadable")
    data = {"a": random.Random(0).randbytes(50_000)}
    whole = (tmp_path / kind).with_name("whole" + kind[1:])
    if kind == "a.gz":
        whole.write_bytes(gzip.compress(data["a"]))
    else:
        make(whole, data)
    content = whole.read_bytes()
    (tmp_path / kind).write_bytes(content[: len(content) // 2])
    refused(tmp_path / kind, tmp_path / "to", "unreadable")
    if kind != "a.tar":  # which has no checksum of its content
        (tmp_path / kind).write_bytes(content[:30_000] + bytes(10) + content[30_010:])
        refused(tmp_path / kind, tmp_path / "to", "unreadable")


def test_an_archive_without_files_and_other_files_are_told(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a.zip", {}), tmp_path / "to", "found none")
    refused(make_zip(tmp_path / "b.zip", {"folder/": b""}), tmp_path / "to", "found none")
    (tmp_path / "a.rar").write_bytes(b"x")
    refused(tmp_path / "a.rar", tmp_path / "to", "Expected an archive")
