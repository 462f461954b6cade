"""Fetches archives over HTTP: what came is kept and continued, and only a file with the right hash gets its name.

The hash is the identity, an address only a place to look. Where no SHA-256 is published, the first file that is seen is
trusted, recorded in ``SEEN.json`` beside it, and every later one is held to that record.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Archive
from robustbench_spur.store import replacing
from robustbench_spur.types import SpurbenchError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and their total, None where the server does not say it."""
SEEN = "SEEN.json"
ZIPPED = (".zip", ".npz", ".xlsx")
GZIP = b"\x1f\x8b"
BLOCK = 1 << 16
"""Bytes written at once: the most that a broken connection costs."""
TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
TRIES = 4
"""Requests in a row that may bring nothing new before the next address is asked."""
PAUSE = 0.5
"""Seconds before the second of them; doubled each time."""


@dataclass(frozen=True)
class Seen:
    """A file as it was found.

    Args:
        name: of the archive.
        sha256: of its bytes, in hexadecimal digits.
        md5: likewise.
        size: in bytes.
        url: where it came from; empty for a file that was put there by hand.
        date: when it was first looked at, UTC, ISO 8601.
    """

    name: str
    sha256: str
    md5: str
    size: int
    url: str
    date: str


def seen_in(folder: Path) -> dict[str, Seen]:
    """What was seen first, by name of the archive; nothing where nothing is recorded.

    Raises:
        SpurbenchError: the record cannot be read.
    """
    path = folder / SEEN
    if not path.is_file():
        return {}
    from pydantic import TypeAdapter

    with reading(path, "a record of what was downloaded"):
        found = TypeAdapter(list[Seen]).validate_json(path.read_bytes())
    return {seen.name: seen for seen in found}


def check_file(archive: Archive, path: Path, folder: Path, url: str = "") -> Seen:
    """Hold a file to the published hashes, and to the record where no SHA-256 is published; a first one is recorded.

    Args:
        archive: what it should be.
        path: of the file.
        folder: of the dataset, whose record counts.
        url: where it came from.

    Raises:
        SpurbenchError: it is another file, or none.
    """
    with reading(path, archive.name):
        seen = _identify(archive.name, path, url)
    first = seen_in(folder).get(archive.name)
    fault = _fault(archive, seen, first, folder) or _strange(archive, path)
    if fault:
        raise SpurbenchError(f"Expected {archive.name}, found another file at {path}: {fault}.")
    return _recorded(archive, seen, folder)


def forget(archive: Archive, folder: Path) -> None:
    """Take what was seen first off the record: the next file of that name is trusted as the first one was."""
    if archive.name in seen_in(folder):
        with _record(folder) as there:
            there.pop(archive.name, None)


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


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Raises:
        SpurbenchError: another process holds it.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise SpurbenchError(f"Another process is {what}. Wait for it to end.") from None


def require_space(folder: Path, size: int) -> None:
    """Refuse to begin what cannot end.

    Args:
        folder: where it is to lie.
        size: in bytes.

    Raises:
        SpurbenchError: the disk has less free space.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SpurbenchError(
            f"Expected {size / 1e9:.2f} GB of free space for {folder}, found {free / 1e9:.2f} GB."
            " Free some, or name another place."
        )


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
    first, part, failures = seen_in(folder).get(archive.name), _Part(folder / archive.name), list[str]()
    known = bool(archive.sha256 or archive.md5 or first)
    require_space(folder, max((archive.size or 0) - part.size, 0))
    for url in archive.urls:
        # a wrong file that was put together from two answers may be the fault of neither: once more, in one piece
        for _ in range(2):
            continued = part.size > 0
            try:
                continued |= _fill(archive, url, part, progress, known=known)
                seen = _identify(archive.name, part.path, url)
                fault = _fault(archive, seen, first, folder) or _strange(archive, part.path)
            except _Refused as refused:
                failures.append(f"{url}: {refused}")
                break
            if not fault:
                part.publish()
                return _recorded(archive, seen, folder)
            part.clear()
            if not continued:
                failures.append(f"{url}: {fault}")
                break
    raise SpurbenchError(_sorry(archive, part, failures))


def _sorry(archive: Archive, part: _Part, failures: list[str]) -> str:
    kept = f" The first {part.size} bytes are kept; run the same command again to go on." if part.size else ""
    note = f" Note: {archive.note}" if archive.note else ""
    found = "; ".join(failures) or "no address is known"
    return f"Expected {archive.name}, found it nowhere: {found}.{kept}{note}\nGive another address: --url URL"


def _identify(name: str, path: Path, url: str) -> Seen:
    from pooch import file_hash

    sha256, md5 = (file_hash(str(path), alg=algorithm) for algorithm in ("sha256", "md5"))
    return Seen(name, sha256, md5, path.stat().st_size, url, datetime.now(UTC).isoformat(timespec="seconds"))


def _fault(archive: Archive, seen: Seen, first: Seen | None, folder: Path) -> str:
    """How a file differs from what is published, or else from what was seen first; empty where it does not."""
    for what in ("sha256", "md5", "size"):
        expected, found = getattr(archive, what), getattr(seen, what)
        if expected is not None and str(expected).lower() != str(found):
            return f"expected {what} {expected}, found {found}"
    if archive.sha256 is None and first is not None and first.sha256 != seen.sha256:
        return (
            f"expected sha256 {first.sha256} as first seen on {first.date[:10]} ({folder / SEEN}),"
            f" found {seen.sha256}; to take the new file from now on: --accept"
        )
    return ""


def _strange(archive: Archive, path: Path) -> str:
    """Whether a file that nothing is published about is not even of the kind that its name says; empty where it is."""
    if archive.sha256 or archive.md5:
        return ""
    if archive.name.endswith(ZIPPED) and not zipfile.is_zipfile(path):
        return "expected a whole zip archive, found something else"
    if archive.name.endswith(".gz"):
        with path.open("rb") as stream:
            if stream.read(2) != GZIP:
                return "expected a gzip file, found something else"
    return ""


def _recorded(archive: Archive, seen: Seen, folder: Path) -> Seen:
    """The record of a file where its SHA-256 is not published, made now if there is none."""
    if archive.sha256:
        return seen
    folder.mkdir(parents=True, exist_ok=True)
    with _record(folder) as there:
        return there.setdefault(archive.name, seen)


@contextlib.contextmanager
def _record(folder: Path) -> Iterator[dict[str, Seen]]:
    """What was seen, to be changed; written as a whole when the block ends well."""
    from filelock import FileLock

    with FileLock(folder / f".{SEEN}.lock", timeout=30):
        there = seen_in(folder)
        before = dict(there)
        yield there
        if there != before:
            rows: list[dict[str, Any]] = [asdict(there[name]) for name in sorted(there)]
            with replacing(folder / SEEN) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


# over the wire


class _Refused(Exception):  # noqa: N818 - what happened, not a fault of this program
    """This address will not do, with the reason in words."""


class _Dropped(Exception):  # noqa: N818 - likewise
    """The answer ended early or cannot be used; asking again may help."""


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of a partial file come from: address, what the server calls this version of the file, its size."""

    url: str
    version: str
    total: int | None


class _Part:
    """The unfinished file ``NAME.part``, and a note beside it about its origin."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.part")
        self.note = final.with_name(f"{final.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def origin(self) -> _Origin:
        """As noted; one that fits nothing where there is no note or a damaged one."""
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(_Origin).validate_json(self.note.read_bytes())
        except (OSError, ValueError):
            return _Origin("", "", None)

    def begin(self, origin: _Origin) -> None:
        """Empty the file, then note what is about to be written to it."""
        self.clear()
        self.path.touch()
        with replacing(self.note) as temporary:
            temporary.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def clear(self) -> None:
        """Drop it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def publish(self) -> None:
        """Give it its name."""
        self.path.replace(self.final)
        self.note.unlink(missing_ok=True)


class _Request:
    """One request, as the file that pooch's downloader writes into: it goes on where the part ends, or begins anew.

    Args:
        archive: what is fetched.
        url: where from.
        part: what came before.
        progress: called after every block.
        known: whether a hash will show if the pieces do not belong together.
    """

    def __init__(self, archive: Archive, url: str, part: _Part, progress: Progress, *, known: bool) -> None:
        self.archive, self.url, self.part, self.progress, self.known = archive, url, part, progress, known
        self.total: int | None = None
        self.continued = False
        self._response: Any = None
        self._file: Any = None

    def run(self) -> None:
        """Ask, and write what comes.

        Raises:
            _Dropped: the answer ended early.
            _Refused: the answer is something else than the file.
            requests.RequestException: no answer, one that says no, or a broken connection.
        """
        from pooch import HTTPDownloader

        ask = HTTPDownloader(
            chunk_size=BLOCK,
            headers=self._headers(),
            hooks={"response": self._answered},
            auth=lambda request: request,  # else requests looks for a password in the user's .netrc
            timeout=TIMEOUT,
        )
        try:
            ask(self.url, self, None)
        finally:
            if self._file is not None:
                self._file.close()
            if self._response is not None:
                self._response.close()
        if self.total is not None and self.part.size < self.total:
            raise _Dropped(f"the connection broke off after {self.part.size} of {self.total} bytes")

    def write(self, data: bytes) -> None:
        """Append a block."""
        self._file.write(data)
        self.done += len(data)
        limit = self.archive.size if self.total is None else self.total
        if limit is not None and self.done > limit:
            self.part.clear()
            raise _Refused(f"expected {limit} bytes, found more")
        self.progress(self.done, self.total)

    def flush(self) -> None:
        """Hand what was written to the system, so that a killed process loses none of it."""
        self._file.flush()

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        size, origin = self.part.size, self.part.origin()
        same = origin.url == self.url and bool(origin.version)
        if size and (same or self.known):
            headers["Range"] = f"bytes={size}-"
            if same:
                headers["If-Range"] = origin.version
        return headers

    def _answered(self, response: Any, **_: Any) -> None:
        """Judge an answer by its head, before a byte of it is written."""
        if response.is_redirect:
            return
        self._response = response
        if response.status_code >= 400:  # the downloader raises what it means
            if response.status_code == 416:  # there is nothing after what is there: it belongs to another file
                self.part.clear()
            return
        headers = response.headers
        if response.status_code not in (200, 206):
            raise _Refused(f"answers {response.status_code}")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise _Refused(f"sends the file encoded as {headers['Content-Encoding']}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise _Refused("sends a web page in place of the file")
        begin, self.total = _span(response)
        if self.archive.size is not None and self.total not in (None, self.archive.size):
            raise _Refused(f"expected {self.archive.size} bytes, found {self.total}")
        if self.total is None and "Transfer-Encoding" not in headers and not self.known:
            raise _Refused("does not say how long the file is, and no hash is known, so that a cut would go unnoticed")
        require_space(self.part.path.parent, max((self.total or 0) - begin, 0))
        self._place(begin, _Origin(self.url, _version(headers), self.total))
        self.done, self._file = begin, self.part.path.open("ab")

    def _place(self, begin: int, origin: _Origin) -> None:
        """Go on where the part ends, if what comes fits there; else begin anew."""
        if begin == 0:
            self.part.begin(origin)
            return
        before = self.part.origin()
        other = before.url == self.url and before.version and before.version != origin.version
        other = other or (before.total is not None and before.total != origin.total)
        if begin != self.part.size or other:
            self.part.clear()
            raise _Dropped("the file changed on the server")
        self.continued = True


def _span(response: Any) -> tuple[int, int | None]:
    """First byte of an answer, and the size of the whole file; None where it is not told."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None:
            raise _Refused("answers with a part of the file and does not say which")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _version(headers: Any) -> str:
    """What a server calls this version of a file; a weak tag does not promise equal bytes (RFC 9110, 13.1.5)."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _fill(archive: Archive, url: str, part: _Part, progress: Progress, *, known: bool) -> bool:
    """Ask an address until the part is whole; returns whether it was put together from several answers.

    Raises:
        _Refused: it does not have the file, or nothing more came in several tries.
    """
    from requests import RequestException

    continued, failures, furthest = False, 0, part.size
    while True:
        origin = part.origin()
        if part.size and part.size == origin.total and (known or origin.url == url):
            return continued
        request = _Request(archive, url, part, progress, known=known)
        try:
            request.run()
            return continued or request.continued
        except (RequestException, _Dropped) as error:
            continued |= request.continued
            if part.size > furthest:
                failures, furthest = 0, part.size
            failures += 1
            if failures >= TRIES or not _passing(error):
                raise _Refused(_reason(error)) from error
            time.sleep(PAUSE * 2 ** (failures - 1))


def _passing(error: Exception) -> bool:
    """Whether asking again may help."""
    from requests import ConnectionError as Unreachable
    from requests import HTTPError, Timeout
    from requests.exceptions import ChunkedEncodingError

    if isinstance(error, HTTPError):
        status = error.response.status_code
        return status >= 500 or status in (408, 416, 425, 429)
    return isinstance(error, _Dropped | Unreachable | Timeout | ChunkedEncodingError)


def _reason(error: Exception) -> str:
    """A failed request in a few words."""
    from requests import ConnectionError as Unreachable
    from requests import HTTPError, Timeout
    from requests.exceptions import ChunkedEncodingError, SSLError

    match error:
        case HTTPError():
            return f"answers {error.response.status_code} {error.response.reason}"
        case Timeout():
            return "does not answer in time"
        case SSLError():
            return "its certificate is not in order"
        case ChunkedEncodingError():
            return "the connection broke off"
        case Unreachable():
            return "cannot be reached"
    return " ".join(str(error).split()) or type(error).__name__
