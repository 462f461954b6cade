"""Downloads from a server on this machine that drops connections, serves wrong or changing files, or knows no ranges."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_spur import download
from robustbench_spur.download import SEEN, Seen, alone, check_file, check_url, fetch, forget, seen_in
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError

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
        if begin:
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


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without files, and no waiting between tries."""
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "BLOCK", BLOCK)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.files = {}
    return running


@pytest.fixture
def served(server: Server) -> Served:
    """The file at ``/file.bin``."""
    return server.files.setdefault("/file.bin", Served())


@pytest.fixture
def archive(server: Server, served: Served) -> Archive:
    """It, with its hash published."""
    return Archive(NAME, (server.url("/file.bin"),), sha256=sha256(CONTENT))


@pytest.fixture
def unpublished(archive: Archive) -> Archive:
    """It, with nothing published."""
    return replace(archive, sha256=None)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


# What comes


def test_a_file_comes_whole_under_its_name_and_its_progress_is_told(archive: Archive, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    seen = fetch(archive, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert (tmp_path / "new" / NAME).read_bytes() == CONTENT
    assert left(tmp_path / "new") == {NAME}
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert seen == Seen(NAME, sha256(CONTENT), md5, len(CONTENT), archive.urls[0], seen.date)
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_asked_for_again(archive: Archive, served: Served, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(archive, tmp_path).sha256 == sha256(CONTENT)
    assert served.asked == []


def test_a_wrong_file_that_is_there_is_replaced_once_the_right_one_has_come(
    archive: Archive, served: Served, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(OTHER)
    served.codes = [404]
    with pytest.raises(SpurbenchError, match="404"):
        fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == OTHER
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


# Connections that break


@pytest.mark.parametrize("published", [True, False])
def test_what_came_is_not_fetched_again(archive: Archive, served: Served, tmp_path: Path, *, published: bool) -> None:
    served.cuts = [100_000, 50_000, 30_000]
    fetch(archive if published else replace(archive, sha256=None), tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert len(served.asked) == 4
    assert all(headers.get("If-Range") == '"one"' for headers in served.asked[1:])
    assert len(CONTENT) <= served.sent <= len(CONTENT) + 3 * BLOCK


def test_a_server_without_ranges_is_asked_for_the_whole_again(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.ranges, served.cuts = False, [100_000, 150_000]
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert served.sent == 250_000 + len(CONTENT)


def test_a_connection_that_always_breaks_is_given_up_and_what_came_is_kept(
    archive: Archive, served: Served, tmp_path: Path
) -> None:
    served.cuts = [100_000] + [0] * 9
    with pytest.raises(SpurbenchError, match="broke off") as caught:
        fetch(archive, tmp_path)
    assert len(served.asked) == download.TRIES
    there = (tmp_path / f"{NAME}.part").read_bytes()
    assert CONTENT.startswith(there)
    assert len(there) > 100_000 - BLOCK
    assert f"The first {len(there)} bytes are kept" in str(caught.value)
    assert not (tmp_path / NAME).exists()
    served.cuts, served.sent = [], 0
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert served.sent == len(CONTENT) - len(there)
    assert left(tmp_path) == {NAME}


def test_it_may_break_often_as_long_as_something_comes(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.cuts = [20_000] * (download.TRIES + 2)
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_an_end_that_the_library_does_not_notice_is_noticed(
    archive: Archive, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with urllib3 before version 2, which does not hold an answer to its length."""
    monkeypatch.setattr("urllib3.response.HTTPResponse._init_length", lambda self, method: None)
    served.cuts = [100_000]
    fetch(replace(archive, sha256=None), tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert served.ranges_asked == [None, "bytes=100000-"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, len(CONTENT)), max_size=3),
    ranges=st.booleans(),
    tag=st.sampled_from(["", '"a"', 'W/"a"']),
)
def test_wherever_connections_break_the_file_comes_whole(
    unpublished: Archive,
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    tag: str,
    *,
    ranges: bool,
) -> None:
    served = server.files["/file.bin"] = Served(ranges=ranges, cuts=list(cuts), tag=tag)
    folder = tmp_path_factory.mktemp("cut")
    fetch(unpublished, folder)
    assert (folder / NAME).read_bytes() == CONTENT
    if tag == '"a"' and ranges:
        assert served.sent <= len(CONTENT) + len(cuts) * BLOCK
    if tag != '"a"':  # nothing says that two answers belong to one version, and no hash would show it
        assert served.ranges_asked == [None] * len(served.asked)


def test_a_killed_process_leaves_what_came_and_the_next_goes_on(
    archive: Archive, served: Served, tmp_path: Path
) -> None:
    released = threading.Event()

    def hang() -> None:
        released.wait(20)

    served.content, served.after, served.told = CONTENT[:100_000], hang, False
    served.headers = {"Content-Length": str(len(CONTENT))}
    code = (
        "import sys; from pathlib import Path; from robustbench_spur import download\n"
        "from robustbench_spur.splits.base import Archive\n"
        f"download.BLOCK = {BLOCK}\n"
        "download.fetch(Archive(sys.argv[1], (sys.argv[2],), sha256=sys.argv[3]), Path(sys.argv[4]))"
    )
    arguments = [NAME, archive.urls[0], archive.sha256, str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=dict(os.environ))
    part, end = tmp_path / f"{NAME}.part", time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 90_000) and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    released.set()
    there = part.stat().st_size
    assert not (tmp_path / NAME).exists()
    served.content, served.after, served.told, served.headers, served.sent = CONTENT, lambda: None, True, {}, 0
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert there > 90_000
    assert served.sent == len(CONTENT) - there


# Files that change


@pytest.mark.parametrize("heed", [True, False])
def test_a_file_that_changes_between_two_answers_is_not_glued(
    unpublished: Archive, served: Served, tmp_path: Path, *, heed: bool
) -> None:
    def change() -> None:
        served.content, served.tag = OTHER, '"two"'

    served.cuts, served.meanwhile, served.heed = [100_000], change, heed
    fetch(unpublished, tmp_path)
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_a_part_of_another_size_or_longer_than_the_file_is_dropped(
    unpublished: Archive, served: Served, tmp_path: Path
) -> None:
    for length in (100_000, 300_000):
        served.cuts = [length - 1]
        served.content, served.tag = OTHER + OTHER, '"one"'
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(download, "TRIES", 1)
            with pytest.raises(SpurbenchError):
                fetch(unpublished, tmp_path)
        served.content = CONTENT  # of the same tag: this server says nothing true
        fetch(unpublished, tmp_path)
        assert (tmp_path / NAME).read_bytes() == CONTENT
        (tmp_path / NAME).unlink()


def test_pieces_that_do_not_belong_together_are_fetched_anew_in_one_piece(
    archive: Archive, served: Served, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:100_000])
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert served.ranges_asked == ["bytes=100000-", None]


def test_pieces_of_two_versions_are_told_by_the_hash(archive: Archive, served: Served, tmp_path: Path) -> None:
    def change() -> None:
        served.content = CONTENT  # of the same tag: this server says nothing true

    served.content, served.cuts, served.meanwhile = OTHER, [100_000], change
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert [wanted is None for wanted in served.ranges_asked] == [True, False, True]


def test_a_whole_part_is_not_asked_for_again_and_dropped_where_it_is_wrong(
    archive: Archive, served: Served, tmp_path: Path
) -> None:
    def stop(done: int, total: int | None) -> None:
        if done == total:
            raise KeyboardInterrupt

    for content, asked in ((CONTENT, 1), (OTHER, 2)):
        served.content, served.asked = content, []
        with pytest.raises(KeyboardInterrupt):
            fetch(archive, tmp_path, stop)
        served.content = CONTENT
        fetch(archive, tmp_path)
        assert len(served.asked) == asked
        assert (tmp_path / NAME).read_bytes() == CONTENT
        (tmp_path / NAME).unlink()


def test_a_range_that_begins_elsewhere_is_not_glued(unpublished: Archive, served: Served, tmp_path: Path) -> None:
    served.cuts, served.shift = [100_000], -7
    fetch(unpublished, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_second_address_goes_on_where_the_first_broke_off_if_a_hash_is_published(
    archive: Archive, server: Server, served: Served, tmp_path: Path
) -> None:
    second = server.files["/second"] = Served(tag='"another"')
    both = replace(archive, urls=(*archive.urls, server.url("/second")))
    served.cuts = [100_000] + [0] * 9
    fetch(both, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert second.sent <= 100_000 + BLOCK
    assert "If-Range" not in second.asked[0]


def test_without_a_hash_a_second_address_begins_anew(
    unpublished: Archive, server: Server, served: Served, tmp_path: Path
) -> None:
    second = server.files["/second"] = Served(OTHER)
    served.cuts = [100_000] + [0] * 9
    seen = fetch(replace(unpublished, urls=(*unpublished.urls, server.url("/second"))), tmp_path)
    assert (tmp_path / NAME).read_bytes() == OTHER
    assert (second.sent, seen.url) == (len(OTHER), server.url("/second"))


# Wrong files and bad addresses


def test_a_wrong_file_is_told_with_both_hashes_and_not_kept(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.content = OTHER
    with pytest.raises(SpurbenchError) as caught:
        fetch(archive, tmp_path)
    message = str(caught.value)
    assert all(text in message for text in (sha256(CONTENT), sha256(OTHER), archive.urls[0], "--url"))
    assert message.count("\n") <= 1
    assert left(tmp_path) == set()
    assert len(served.asked) == 1


@pytest.mark.parametrize("first", ["wrong", "missing", "forbidden", "failing", "page", "encoded", "shut"])
def test_the_next_address_is_asked_where_one_does_not_have_the_file(
    archive: Archive, server: Server, tmp_path: Path, first: str
) -> None:
    server.files |= {
        "/wrong": Served(OTHER),
        "/forbidden": Served(codes=[403]),
        "/failing": Served(codes=[500] * 9),
        "/page": Served(headers={"Content-Type": "text/html; charset=utf-8"}),
        "/encoded": Served(headers={"Content-Encoding": "gzip"}),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shut = f"http://127.0.0.1:{free.getsockname()[1]}/"
    bad = shut if first == "shut" else server.url(f"/{first}")
    assert fetch(replace(archive, urls=(bad, *archive.urls)), tmp_path).url == archive.urls[0]
    assert (tmp_path / NAME).read_bytes() == CONTENT
    if first in server.files:
        asked = len(server.files[f"/{first}"].asked)
        assert asked == (download.TRIES if first == "failing" else 1)


def test_an_error_of_the_server_that_passes_is_waited_for(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.codes = [503, 429]
    fetch(archive, tmp_path)
    assert len(served.asked) == 3


def test_every_address_that_failed_is_named(archive: Archive, server: Server, tmp_path: Path) -> None:
    server.files["/wrong"] = Served(OTHER)
    urls = (server.url("/gone"), server.url("/wrong"))
    with pytest.raises(SpurbenchError) as caught:
        fetch(replace(archive, urls=urls, note="a guess"), tmp_path)
    assert all(text in str(caught.value) for text in (*urls, "404 Not Found", sha256(OTHER), "Note: a guess"))


def test_another_size_is_told_before_the_file_comes(archive: Archive, served: Served, tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=f"expected 5 bytes, found {len(CONTENT)}"):
        fetch(replace(archive, size=5), tmp_path)


def test_more_bytes_than_published_are_not_taken(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.told = False
    with pytest.raises(SpurbenchError, match="expected 10000 bytes, found more"):
        fetch(replace(archive, size=10_000), tmp_path)
    assert left(tmp_path) == set()


def test_a_length_that_is_not_told_needs_a_hash(
    archive: Archive, unpublished: Archive, served: Served, tmp_path: Path
) -> None:
    served.told = False
    with pytest.raises(SpurbenchError, match="a cut would go unnoticed"):
        fetch(unpublished, tmp_path)
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "file:///etc/passwd", "host/a", "", "https://me:secret@host/a", "http://[::1"]
)
def test_only_plain_http_addresses_are_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="Expected an address such as"):
        check_url(url)
    with pytest.raises(SpurbenchError, match="Expected an address such as"):
        fetch(Archive(NAME, (url,)), tmp_path)


def test_a_redirect_is_followed_but_not_to_a_file(archive: Archive, server: Server, tmp_path: Path) -> None:
    moved = server.files["/moved"] = Served(codes=[302], headers={"Location": "file:///etc/hostname"})
    with pytest.raises(SpurbenchError, match="file:///etc/hostname"):
        fetch(replace(archive, urls=(server.url("/moved"),)), tmp_path)
    moved.codes, moved.headers = [302], {"Location": "/file.bin"}
    fetch(replace(archive, urls=(server.url("/moved"),)), tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_no_password_is_sent(archive: Archive, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(archive, tmp_path / "data")
    assert "Authorization" not in served.asked[0]


def test_a_name_that_is_a_path_is_refused(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="Expected a file name"):
        fetch(replace(archive, name="../file.bin"), tmp_path)


def test_a_full_disk_is_told_before_anything_is_asked(
    archive: Archive, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Full)
    with pytest.raises(SpurbenchError, match="of free space"):
        fetch(replace(archive, size=len(CONTENT)), tmp_path)
    assert served.asked == []
    with pytest.raises(SpurbenchError, match="of free space"):  # the size is told by the server only
        fetch(archive, tmp_path)
    assert served.sent <= len(CONTENT)


def test_two_processes_do_not_write_one_file(archive: Archive, tmp_path: Path) -> None:
    with (
        alone(tmp_path / f".{NAME}.lock", "fetching it"),
        pytest.raises(SpurbenchError, match="Another process is fetching"),
    ):
        fetch(archive, tmp_path)


def test_an_interrupted_download_is_kept(archive: Archive, served: Served, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(archive, tmp_path, stop)
    assert (tmp_path / f"{NAME}.part").stat().st_size > 50_000
    fetch(archive, tmp_path)
    assert served.ranges_asked[1] is not None
    assert (tmp_path / NAME).read_bytes() == CONTENT


# Trust on first use


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


def test_a_damaged_record_is_told(unpublished: Archive, tmp_path: Path) -> None:
    (tmp_path / SEEN).write_text("[{")
    with pytest.raises(SpurbenchError, match=SEEN):
        fetch(unpublished, tmp_path)
