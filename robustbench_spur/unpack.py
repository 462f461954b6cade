"""Unpacks archives that need not be well meant: no path leaves the target, no links, a limit on files and on bytes."""

from __future__ import annotations

import contextlib
import filecmp
import gzip
import io
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from robustbench_spur.download import alone, require_space
from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

Progress = Callable[[int, int], None]
"""Called with the number of files that are written, and of all."""
MAX_BYTES = 32 * 10**9
MAX_FILES = 500_000
LONGEST_NAME = 1024
BLOCK = 1 << 20
LARGEST_READ = 16 * BLOCK
"""What one header of a tar may take, in bytes: tarfile reads it as a whole."""
KINDS = (".zip", ".tar", ".tar.gz", ".tgz", ".gz")
CLUTTER = {"__MACOSX", ".DS_Store"}
"""Left out: what a Mac adds to archives."""


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive.

    Args:
        name: as written there.
        size: in bytes, as claimed there; 0 where nothing is.
        folder: whether it is one.
        fault: what it is that is refused; empty where it is not.
        open: gives its bytes.
    """

    name: str
    size: int
    folder: bool
    fault: str
    open: Callable[[], IO[bytes] | gzip.GzipFile]


def unpack(
    archive_file: Path,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    progress: Progress | None = None,
) -> int:
    """Unpack a zip, tar, tar.gz or gz file into a folder.

    All names are checked before anything is written, and all is written to a hidden folder in the target before any
    of it gets its name: a run that is killed leaves no file half. Nothing is overwritten: done again, the whole is
    unpacked again, and what is there must be the same. Modes, owners and times are not taken over.

    Args:
        archive_file: its kind is known by its ending.
        target: made where it is missing.
        max_bytes: that the files may have together, counted as they are written.
        max_files: that it may hold, folders included.
        progress: called after each file.

    Returns:
        Number of files.

    Raises:
        SpurbenchError: the archive is missing, damaged, encrypted, of another kind or too large; it holds a link, a
            device, or a name that is absolute, leaves the target or is there twice; or another file is in its place.
    """
    target.mkdir(parents=True, exist_ok=True)
    temporary = target / f".{archive_file.name}.unpacking"
    with (
        alone(target / f"{temporary.name}.lock", f"unpacking {archive_file}"),
        _opened(archive_file) as (members, rest),
    ):
        files = _checked(members, archive_file, max_bytes, max_files)
        require_space(target, sum(member.size for member in files.values()))
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        try:
            _write(files, archive_file, temporary, max_bytes, progress or (lambda done, total: None))
            _drain(rest, archive_file, max_bytes)
            _check_places(temporary, target)
            _publish(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return len(files)


def safe_path(name: str) -> PurePosixPath | None:
    """The path below the target that a member's name means; None where it means none, on any system.

    >>> safe_path("a/./b.png"), safe_path("a/../../b"), safe_path("/etc/passwd")
    (PurePosixPath('a/b.png'), None, None)
    """
    path = PurePosixPath(name)
    odd = any(letter in "\\:" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    # not only "..": some systems drop dots and spaces at the end of a name
    inside = path.parts and not path.is_absolute() and all(part.strip(". ") for part in path.parts)
    return path if inside and not odd and len(name) <= LONGEST_NAME else None


# what is in an archive


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Iterator[Member], Any]]:
    """The members of an archive, which can be read until the block ends, and the stream whose end proves it whole."""
    if not path.name.endswith(KINDS):
        raise SpurbenchError(f"Expected an archive ({', '.join(KINDS)}), found {path}.")
    with contextlib.ExitStack() as stack:
        with _told(path):
            stream: Any = io.BytesIO()
            if path.suffix == ".zip":
                members = _zip_members(stack.enter_context(zipfile.ZipFile(path)))
            elif path.name.endswith((".tar", ".tar.gz", ".tgz")):
                stream = stack.enter_context(path.open("rb") if path.suffix == ".tar" else gzip.GzipFile(path))
                bounded: Any = _Bounded(stream)
                members = _tar_members(stack.enter_context(tarfile.open(fileobj=bounded, mode="r:")))
            else:
                path.open("rb").close()
                members = iter([Member(path.stem, 0, False, "", lambda: gzip.GzipFile(path))])
        yield members, stream


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged archive into one message."""
    with reading(path, "a whole archive"):
        try:
            yield
        except tarfile.TarError as error:
            raise ValueError(str(error)) from error


class _Bounded(io.RawIOBase):
    """A stream that is not read in pieces that would fill the memory, whatever a header claims."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise ValueError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        fault = ""
        if info.flag_bits & 1:
            fault = "an encrypted file"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "a link or a device"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            fault = f"a file compressed by method {info.compress_type}"
        # not its filename, which ends where the written one has a zero byte
        yield Member(info.orig_filename, info.file_size, info.is_dir(), fault, partial(file.open, info))


def _tar_members(file: tarfile.TarFile) -> Iterator[Member]:
    for info in file:
        fault = "" if info.isreg() or info.isdir() else "a link or a device"
        opened: Callable[[], Any] = partial(file.extractfile, info)
        yield Member(info.name, info.size, info.isdir(), fault, opened)


def _checked(members: Iterator[Member], archive: Path, max_bytes: int, max_files: int) -> dict[PurePosixPath, Member]:
    """The files by their paths; refused as a whole where one member is not in order."""
    files: dict[PurePosixPath, Member] = {}
    taken: dict[str, tuple[PurePosixPath, bool]] = {}
    count = total = 0
    while (member := _next(members, archive)) is not None:
        count, total = count + 1, total + member.size
        if count > max_files or total > max_bytes:
            raise _too_large(archive, max_bytes, max_files)
        if member.folder and member.name in (".", "./"):
            continue
        path = safe_path(member.name)
        if path is None or member.fault:
            found = member.fault or "a path that may leave the target"
            raise SpurbenchError(
                f"Expected plain files in {archive}, found {found}: {member.name!r}. Nothing was unpacked."
            )
        if CLUTTER.isdisjoint(path.parts):
            _claim(path, member.folder, taken, archive)
            if not member.folder:
                files[path] = member
    if not files:
        raise SpurbenchError(f"Expected files in {archive}, found none.")
    return files


def _next(members: Iterator[Member], archive: Path) -> Member | None:
    with _told(archive):
        return next(members, None)


def _claim(path: PurePosixPath, folder: bool, taken: dict[str, tuple[PurePosixPath, bool]], archive: Path) -> None:
    """Refuse a second file of a name, also where names differ only in case, in how an accent is written, or in a last dot."""
    for place in (*reversed(path.parents[:-1]), path):
        is_folder = folder or place != path
        key = unicodedata.normalize("NFC", "/".join(part.rstrip(". ") for part in place.parts)).casefold()
        other, other_is_folder = taken.setdefault(key, (place, is_folder))
        new = other is place
        if not new and (other != place or not (is_folder and other_is_folder)):
            raise SpurbenchError(
                f"Expected different names in {archive}, found {str(other)!r} and {str(place)!r}, which are one file on"
                " some systems. Nothing was unpacked."
            )


def _too_large(archive: Path, max_bytes: int, max_files: int) -> SpurbenchError:
    return SpurbenchError(
        f"Expected at most {max_files} files and {max_bytes} bytes in {archive}, found more. Nothing was unpacked."
    )


# files


def _write(
    files: Mapping[PurePosixPath, Member], archive: Path, folder: Path, max_bytes: int, progress: Progress
) -> None:
    written = 0
    for number, (path, member) in enumerate(files.items(), 1):
        place = folder.joinpath(*path.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out, contextlib.ExitStack() as stack:
            with _told(archive):
                stream: Any = member.open()
            stack.callback(stream.close)
            while block := _read(stream, archive):
                written += len(block)
                if written > max_bytes:
                    raise _too_large(archive, max_bytes, len(files))
                out.write(block)
        progress(number, len(files))


def _read(stream: IO[bytes] | gzip.GzipFile, archive: Path) -> bytes:
    with _told(archive):  # here, so that a full disk is not taken for a damaged archive
        return stream.read(BLOCK)


def _drain(stream: Any, archive: Path, max_bytes: int) -> None:
    """Read to the end, where gzip has its checksum: tarfile stops after the last member."""
    left = max_bytes
    while block := _read(stream, archive):
        left -= len(block)
        if left < 0:
            raise SpurbenchError(f"Expected the end of {archive} after its files, found more. Get the file again.")


def _check_places(new: Path, target: Path) -> None:
    """Refuse to unpack onto something else."""
    for entry in sorted(new.iterdir()):
        place = target / entry.name
        if place.is_symlink() or (place.exists() and place.is_dir() != entry.is_dir()):
            expected = "a folder" if entry.is_dir() else "a file"
            raise SpurbenchError(f"Expected nothing or {expected} at {place}, found something else. Move it away.")
        if entry.is_dir() and place.is_dir():
            _check_places(entry, place)
        elif place.is_file() and not filecmp.cmp(entry, place, shallow=False):
            raise SpurbenchError(f"Expected nothing or the archive's file at {place}, found another. Move it away.")


def _publish(new: Path, target: Path) -> None:
    for entry in sorted(new.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _publish(entry, place)
        elif not place.exists():
            entry.rename(place)
