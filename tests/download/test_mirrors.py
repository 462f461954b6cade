"""Addresses are asked in turn, and only a whole file with the right hash gets the archive's name."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_spur.download import Seen, alone, check_url, fetch, guard, transfer
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError
from tests.download.server import BLOCK, CONTENT, NAME, OTHER, Served, Server, left, sha256

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


# Several addresses


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


def test_a_wrong_file_in_pieces_is_told_as_well(archive: Archive, served: Served, tmp_path: Path) -> None:
    served.content, served.cuts = OTHER, [100_000, len(OTHER)] * 2
    with pytest.raises(SpurbenchError) as caught:
        fetch(archive, tmp_path)
    assert all(text in str(caught.value) for text in (archive.urls[0], sha256(CONTENT), sha256(OTHER)))
    assert left(tmp_path) == set()


def test_an_address_without_a_certificate_in_order_is_told(archive: Archive, tmp_path: Path) -> None:
    url = archive.urls[0].replace("http:", "https:")
    with pytest.raises(SpurbenchError, match="its certificate is not in order"):
        fetch(replace(archive, urls=(url,)), tmp_path)


@pytest.mark.parametrize("first", ["wrong", "missing", "forbidden", "failing", "page", "encoded", "nothing", "shut"])
def test_the_next_address_is_asked_where_one_does_not_have_the_file(
    archive: Archive, server: Server, tmp_path: Path, first: str
) -> None:
    server.files |= {
        "/wrong": Served(OTHER),
        "/forbidden": Served(codes=[403]),
        "/failing": Served(codes=[500] * 9),
        "/page": Served(headers={"Content-Type": "text/html; charset=utf-8"}),
        "/encoded": Served(headers={"Content-Encoding": "gzip"}),
        "/nothing": Served(codes=[204]),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shut = f"http://127.0.0.1:{free.getsockname()[1]}/"
    bad = shut if first == "shut" else server.url(f"/{first}")
    assert fetch(replace(archive, urls=(bad, *archive.urls)), tmp_path).url == archive.urls[0]
    assert (tmp_path / NAME).read_bytes() == CONTENT
    if first in server.files:
        asked = len(server.files[f"/{first}"].asked)
        assert asked == (transfer.TRIES if first == "failing" else 1)


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

    monkeypatch.setattr(guard.shutil, "disk_usage", lambda path: Full)
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
    there = (tmp_path / f"{NAME}.part").stat().st_size
    assert there > 50_000
    told: list[int] = []
    fetch(archive, tmp_path, lambda done, total: told.append(done))
    assert served.ranges_asked[1] is not None
    assert there < told[0] <= there + BLOCK, "progress goes on where it was"
    assert (tmp_path / NAME).read_bytes() == CONTENT
