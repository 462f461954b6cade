"""A server on this machine that drops connections, serves wrong or changing files, or knows no ranges."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTENT = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(len(CONTENT))
BLOCK = 4096
NAME = "file.bin"


@dataclass
class Served:
    """A file on the server, how the server treats it, and what was asked of it.

    Args:
        content: its bytes.
        ranges: whether the server knows ranges.
        tag: its ETag.
        cuts: bytes of the body after which the next answers break off.
        codes: codes of the next answers, in place of the file.
        headers: more headers.
        heed: whether the server heeds If-Range.
        told: whether the length is told.
        asked: headers of the requests.
        sent: bytes of bodies that were sent.
        meanwhile: called between head and body of an answer.
        after: called after each answer.
        shift: how many bytes after the one asked for a range begins.
        says: whether an answer with a part says which part it is.
    """

    content: bytes = CONTENT
    ranges: bool = True
    tag: str = '"one"'
    cuts: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    heed: bool = True
    told: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    meanwhile: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    shift: int = 0
    says: bool = True

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        served = self.server.files.get(self.path)
        if served is None:
            self.send_error(404)
            return
        served.asked.append(dict(self.headers.items()))
        if served.codes:
            self.send_response(served.codes.pop(0))
            for name, value in {"Content-Length": "0", **served.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        begin = self._begin(served)
        if begin > len(served.content) - 1:
            self.send_error(416)
            return
        self._answer(served, begin)
        served.after()

    def _begin(self, served: Served) -> int:
        wanted = self.headers.get("Range") if served.ranges else None
        changed = served.heed and self.headers.get("If-Range", served.tag) != served.tag
        return 0 if wanted is None or changed else int(wanted.removeprefix("bytes=").removesuffix("-")) + served.shift

    def _answer(self, served: Served, begin: int) -> None:
        body, whole = served.content[begin:], len(served.content)
        self.send_response(206 if begin else 200)
        if served.told:
            self.send_header("Content-Length", str(len(body)))
        if begin and served.says:
            self.send_header("Content-Range", f"bytes {begin}-{whole - 1}/{whole}")
        for name, value in {**({"ETag": served.tag} if served.tag else {}), **served.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        part = body[: served.cuts.pop(0)] if served.cuts else body
        # all is noted before the last byte leaves: the client's next request may come at once
        served.sent += len(part)
        served.meanwhile()
        self.wfile.write(part)
        self.wfile.flush()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path) -> set[str]:
    """Names in a folder, but for locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}
