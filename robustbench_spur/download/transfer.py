"""One address: asked again where the connection breaks, from the byte after the last one that is there.

What comes is appended only where it belongs to what is there: the server's tag of the version says so, or the known hash
will show it. An answer that cannot be the file is refused by its head, before a byte of it is written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from robustbench_spur.download.guard import require_space
from robustbench_spur.download.part import Origin, Part
from robustbench_spur.splits.base import Archive

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and their total, None where the server does not say it."""
BLOCK = 1 << 16
"""Bytes written at once: the most that a broken connection costs."""
TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
TRIES = 4
"""Requests in a row that may bring nothing new before the next address is asked."""
PAUSE = 0.5
"""Seconds before the second of them; doubled each time."""


class Refused(Exception):  # noqa: N818 - what happened, not a fault of this program
    """This address will not do, with the reason in words."""


class _Dropped(Exception):  # noqa: N818 - likewise
    """The answer ended early or cannot be used; asking again may help."""


class _Request:
    """One request, as the file that pooch's downloader writes into: it goes on where the part ends, or begins anew.

    Args:
        archive: what is fetched.
        url: where from.
        part: what came before.
        progress: called after every block.
        known: whether a hash will show if the pieces do not belong together.
    """

    def __init__(self, archive: Archive, url: str, part: Part, progress: Progress, *, known: bool) -> None:
        self.archive, self.url, self.part, self.progress, self.known = archive, url, part, progress, known
        self.done = 0
        self.total: int | None = None
        self.continued = False
        self._response: Any = None
        self._file: Any = None

    def run(self) -> None:
        """Ask, and write what comes.

        Raises:
            _Dropped: the answer ended early.
            Refused: the answer is something else than the file.
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
            raise Refused(f"expected {limit} bytes, found more")
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
            raise Refused(f"answers {response.status_code}")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(f"sends the file encoded as {headers['Content-Encoding']}")
        if headers.get("Content-Type", "").startswith("text/html"):
            raise Refused("sends a web page in place of the file")
        begin, self.total = _span(response)
        if self.archive.size is not None and self.total not in (None, self.archive.size):
            raise Refused(f"expected {self.archive.size} bytes, found {self.total}")
        if self.total is None and "Transfer-Encoding" not in headers and not self.known:
            raise Refused("does not say how long the file is, and no hash is known, so that a cut would go unnoticed")
        require_space(self.part.path.parent, max((self.total or 0) - begin, 0))
        self._place(begin, Origin(self.url, _version(headers), self.total))
        self.done, self._file = begin, self.part.path.open("ab")

    def _place(self, begin: int, origin: Origin) -> None:
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
            raise Refused("answers with a part of the file and does not say which")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _version(headers: Any) -> str:
    """What a server calls this version of a file; a weak tag does not promise equal bytes (RFC 9110, 13.1.5)."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def fill(archive: Archive, url: str, part: Part, progress: Progress, *, known: bool) -> bool:
    """Ask an address until the part is whole.

    Args:
        archive: what is fetched.
        url: where from.
        part: what is there already.
        progress: called after every block.
        known: whether a hash will show if the pieces do not belong together.

    Returns:
        Whether the part was put together from several answers.

    Raises:
        Refused: it does not have the file, or nothing more came in several tries.
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
                raise Refused(_reason(error)) from error
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
        case _ if isinstance(error, Timeout) or "timed out" in str(error):  # the latter where it falls silent halfway
            return "does not answer in time"
        case SSLError():
            return "its certificate is not in order"
        case ChunkedEncodingError():
            return "the connection broke off"
        case Unreachable():
            return "cannot be reached"
    return " ".join(str(error).split()) or type(error).__name__
