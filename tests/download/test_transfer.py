"""Connections that break and files that change meanwhile: nothing is fetched twice, and nothing is glued that does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_spur.download import fetch, transfer
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError
from tests.download.server import BLOCK, CONTENT, NAME, OTHER, Served, Server, left

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
    assert len(served.asked) == transfer.TRIES
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
    served.cuts = [20_000] * (transfer.TRIES + 2)
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


def test_a_server_that_falls_silent_is_asked_again(
    archive: Archive, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", (5.0, 0.2))
    monkeypatch.setattr(transfer, "TRIES", 2)
    released = threading.Event()
    served.cuts, served.after = [100_000, 0, 0], lambda: released.wait(20)
    with pytest.raises(SpurbenchError, match="does not answer in time"):
        fetch(archive, tmp_path)
    released.set()
    fetch(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert all(wanted is not None for wanted in served.ranges_asked[1:])


def test_a_server_that_does_not_say_which_part_it_sends_is_left(
    archive: Archive, server: Server, served: Served, tmp_path: Path
) -> None:
    served.cuts, served.says = [100_000], False
    with pytest.raises(SpurbenchError, match="a part of the file and does not say which"):
        fetch(archive, tmp_path)
    second = server.files["/second"] = Served()
    fetch(replace(archive, urls=(*archive.urls, server.url("/second"))), tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert second.sent < len(CONTENT), "what the first one sent was kept"


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
        "import sys; from pathlib import Path; from robustbench_spur.download import fetch, transfer\n"
        "from robustbench_spur.splits.base import Archive\n"
        f"transfer.BLOCK = {BLOCK}\n"
        "fetch(Archive(sys.argv[1], (sys.argv[2],), sha256=sys.argv[3]), Path(sys.argv[4]))"
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
            patched.setattr(transfer, "TRIES", 1)
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
