"""From an archive's addresses to one right file under its name: each is asked in turn until one gives it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from robustbench_spur.download.guard import alone, require_space
from robustbench_spur.download.identity import Seen, check_file, examine, recorded, seen_in
from robustbench_spur.download.part import Part
from robustbench_spur.download.transfer import Progress, Refused, fill
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError


def fetch(archive: Archive, folder: Path, progress: Progress | None = None) -> Seen:
    """Have an archive in a folder: kept where it is there and right, else downloaded from the first address that has it.

    A download that was cut off goes on where it was, in this run or a later one. Nothing but a whole file with the
    right hash ever bears the archive's name.

    Args:
        archive: what to fetch.
        folder: made where it is missing.
        progress: called with the bytes so far and their total.

    Raises:
        SpurbenchError: no address serves the file, it is not the one expected, the disk is full, or another process is
            fetching it.
    """
    for url in archive.urls:
        check_url(url)
    if Path(archive.name).name != archive.name:
        raise SpurbenchError(f"Expected a file name as the name of an archive, found {archive.name!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / f".{archive.name}.lock", f"fetching {folder / archive.name}"):
        kept = _kept(archive, folder)
        return kept if kept is not None else _download(archive, folder, progress or (lambda done, total: None))


def check_url(url: str) -> None:
    """Refuse an address that is not plain HTTP or HTTPS.

    >>> check_url("https://example.org/a.zip")

    Raises:
        SpurbenchError: another scheme, no host, or a name and password in it.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    except ValueError:
        good = False
    if not good:
        raise SpurbenchError(f"Expected an address such as https://host/file, without a password, found {url!r}.")


def _kept(archive: Archive, folder: Path) -> Seen | None:
    """The file that is there; None where there is none, or one that a published hash shows to be wrong."""
    path = folder / archive.name
    if not path.is_file():
        return None
    try:
        return check_file(archive, path, folder)
    except SpurbenchError:
        if archive.sha256 or archive.md5:
            return None
        raise


def _download(archive: Archive, folder: Path, progress: Progress) -> Seen:
    part, failures = Part(folder / archive.name), list[str]()
    known = bool(archive.sha256 or archive.md5 or archive.name in seen_in(folder))
    require_space(folder, max((archive.size or 0) - part.size, 0))
    for url in archive.urls:
        # a wrong file that was put together from two answers may be the fault of neither: once more, in one piece
        for _ in range(2):
            continued = part.size > 0
            try:
                continued |= fill(archive, url, part, progress, known=known)
            except Refused as refused:
                fault = str(refused)
                break
            seen, fault = examine(archive, part.path, folder, url)
            if not fault:
                part.publish()
                return recorded(archive, seen, folder)
            part.clear()
            if not continued:
                break
        failures.append(f"{url}: {fault}")
    raise SpurbenchError(_sorry(archive, part, failures))


def _sorry(archive: Archive, part: Part, failures: list[str]) -> str:
    kept = f" The first {part.size} bytes are kept; run the same command again to go on." if part.size else ""
    note = f" Note: {archive.note}" if archive.note else ""
    found = "; ".join(failures) or "no address is known"
    return f"Expected {archive.name}, found it nowhere: {found}.{kept}{note}\nGive another address: --url URL"
