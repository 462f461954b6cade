"""``spurbench data list`` and ``data download``: what is said before, meanwhile and after, and what is left."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robustbench_spur.cli.data.download import Bar, chosen, following
from robustbench_spur.download import check_url, transfer
from robustbench_spur.download.identity import SEEN
from robustbench_spur.registry import Registry
from robustbench_spur.types import SpurbenchError

DATASET = '''
    """Two archives, one for each split, and a table for both."""

    from robustbench_spur.splits.base import Archive, Dataset


    class Mine(Dataset):
        name = "mine"
        version = 1
        summary = "Pictures of mine."
        splits = {{"left": "a", "right": "b"}}
        aliases = {{"l": "left"}}
        image_size = 16
        source = "My own [camera]"
        licence = "CC0 1.0"
        archives = (
            Archive("left.zip", ("{url}/left.zip",), sha256="{sha256}", size={size}, splits=("left",), unpack=True),
            Archive("right.zip", ("{url}/right.zip",), splits=("right",), unpack=True, note="a [guess]"),
            Archive("table.csv", ("{url}/table.csv",)),
        )
'''


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder that is served, and its address."""
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "shelf"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def mine(shelf: tuple[Path, str], draft: Any, home: Any) -> Path:
    """A draft of a data set whose archives lie on the shelf."""
    folder, url = shelf
    for name in ("left", "right"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}/a.txt", name)
    (folder / "table.csv").write_text("a,b\n")
    content = (folder / "left.zip").read_bytes()
    path: Path = draft(DATASET.format(url=url, sha256=hashlib.sha256(content).hexdigest(), size=len(content)))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


# download


def test_a_split_brings_its_archive_and_what_serves_all(spurbench: Any, mine: Path, home: Any) -> None:
    ended = spurbench("data", "download", "mine/l", "--plugin", mine)
    assert ended.code == 0, ended.err
    assert names(home.data / "mine") == {"left.zip", "table.csv", SEEN}
    lines = ended.out.splitlines()
    assert lines[:2] == ["Source: My own [camera]", "Licence: CC0 1.0"]
    assert "as published" in lines[2]
    assert "recorded, as none is published" in lines[3]
    assert lines[4] == "Next: spurbench data prepare mine/left"
    again = spurbench("data", "download", "mine/left", "--plugin", mine)
    assert again.out.count("there already") == 2


def test_a_data_set_with_several_archives_asks_for_a_choice(spurbench: Any, mine: Path, home: Any) -> None:
    ended = spurbench("data", "download", "mine", "--plugin", mine)
    assert ended.code == 2
    assert "mine/SPLIT (left, right), or add --archive FILE" in ended.err
    assert "right.zip" in ended.out
    assert not home.data.exists()


def test_an_archive_comes_from_another_address_into_another_folder(
    spurbench: Any, mine: Path, shelf: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = shelf
    (folder / "left.zip").rename(folder / "moved")
    place = tmp_path / "mine here"
    ended = spurbench(
        "data", "download", "mine", "--archive", "left.zip", "--url", f"{url}/moved", "--to", place, "--plugin", mine
    )
    assert ended.code == 0, ended.err
    assert names(place) == {"left.zip"}
    assert f"--from '{place / 'left.zip'}'" in ended.out


def test_one_address_is_not_for_two_archives(spurbench: Any, mine: Path) -> None:
    ended = spurbench("data", "download", "mine/left", "--url", "http://127.0.0.1:9/x", "--plugin", mine)
    assert ended.code == 2
    assert "left.zip, table.csv" in ended.err


def test_one_that_fails_does_not_stop_the_others(
    spurbench: Any, mine: Path, shelf: tuple[Path, str], home: Any
) -> None:
    (shelf[0] / "right.zip").unlink()
    ended = spurbench("data", "download", "mine/right", "--plugin", mine)
    assert ended.code == 1
    assert "FAILED Expected right.zip" in ended.err
    assert "404" in ended.err
    assert "right.zip: a [guess]" in ended.out
    assert "Next" not in ended.out
    assert names(home.data / "mine") == {"table.csv", SEEN}


def test_a_file_that_changed_is_refused_until_it_is_accepted(
    spurbench: Any, mine: Path, shelf: tuple[Path, str], home: Any
) -> None:
    command = ("data", "download", "mine", "--archive", "table.csv", "--plugin", mine)
    assert spurbench(*command).code == 0
    (home.data / "mine" / "table.csv").unlink()
    (shelf[0] / "table.csv").write_text("c,d\n")
    ended = spurbench(*command)
    assert (ended.code, "--accept" in ended.err) == (1, True)
    assert spurbench(*command, "--accept").code == 0
    assert (home.data / "mine" / "table.csv").read_text() == "c,d\n"
    assert spurbench(*command).code == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("nothing",), "Unknown dataset 'nothing'"),
        (("mine/middle",), "no split 'middle'"),
        (("mine", "--archive", "lef.zip"), "Did you mean 'left.zip'?"),
        (("mine", "--archive", "left.zip", "--url", "ftp://host/left.zip"), "Expected an address such as"),
        (("curated",), "states none"),
    ],
)
def test_what_cannot_be_meant_is_told(spurbench: Any, mine: Path, asked: tuple[str, ...], message: str) -> None:
    ended = spurbench("data", "download", *asked, "--plugin", mine)
    assert ended.code == 2
    assert message in ended.err


def test_what_is_made_here_needs_no_download(spurbench: Any, home: Any) -> None:
    ended = spurbench("data", "download", "phantom/field")
    assert ended.code == 0
    assert "Nothing to download" in ended.out
    assert not home.data.exists()


def test_an_interrupted_download_is_kept_and_goes_on(
    spurbench: Any, mine: Path, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(bar: Bar, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Bar, "__call__", stop)
        assert spurbench("data", "download", "mine/left", "--plugin", mine).code == 130
    assert "left.zip.part" in names(home.data / "mine")
    (row,) = [row for row in spurbench("data", "list", "--json", "--plugin", mine).rows if row["name"] == "mine"]
    assert [archive["state"] for archive in row["archives"]] == ["partial", "absent", "absent"]
    assert spurbench("data", "download", "mine/left", "--plugin", mine).code == 0


def test_progress_is_a_bar_on_a_terminal_and_a_line_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_spur.cli.data.download.LINE_SECONDS", 0.0)
    for terminal, text in ((True, "a [b].zip"), (False, "a [b].zip: 1.0 of 2.0 MB\na [b].zip: 2.0 MB\n")):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=100)
        with Bar("a [b].zip", console) as bar:
            bar(1_000_000, 2_000_000)
            bar(2_000_000, None)
        assert text in out.getvalue()


# which archives, and what comes next


def test_every_built_in_split_names_the_archives_it_needs() -> None:
    """Against the facts: one zip per split and one table for all; the four files of one test set and training set."""
    registry = Registry()
    spurbreast, digits = registry.find("dataset", "spurbreast"), registry.find("dataset", "digits")
    for split in spurbreast.literal("splits"):
        needed = [archive.name for archive in chosen(spurbreast, split, [])]
        assert needed == [f"{split}.zip", "Clinical_and_Other_Features.xlsx"]
    assert len(chosen(digits, "", [])) == len(chosen(digits, "colour", [])) == 4
    assert chosen(spurbreast, "", []) == []


def test_built_in_archives_state_only_hashes_of_the_right_length_and_good_addresses() -> None:
    for plugin in Registry().entries("dataset"):
        for archive in plugin.literal("archives", ()):
            for value, digits in ((archive.sha256, 64), (archive.md5, 32)):
                assert value is None or (len(value) == digits and int(value, 16))
            assert archive.urls
            assert all(url.startswith("https://") and check_url(url) is None for url in archive.urls)
            assert set(archive.splits) <= set(plugin.literal("splits"))
            assert archive.sha256 or archive.md5 or archive.note, f"{archive.name}: nothing is published, and no note"


def test_only_one_archive_of_the_release_is_known_by_its_hash() -> None:
    archives = Registry().find("dataset", "spurbreast").literal("archives")
    known = [archive for archive in archives if archive.sha256 or archive.md5 or archive.size]
    assert [(archive.name, archive.size) for archive in known] == [("field_strength.zip", 905_891_386)]
    assert all("guess" in archive.note for archive in archives if archive.unpack and archive not in known)


def test_the_next_command_names_a_split(mine: Path) -> None:
    plugin = Registry((mine,)).find("dataset", "mine")
    left, right, table = plugin.literal("archives")
    assert following(plugin, "", [right], None) == "spurbench data prepare mine/right"
    assert following(plugin, "left", [left, table], None) == "spurbench data prepare mine/left"
    assert following(plugin, "", [table], None) == "spurbench data prepare mine/SPLIT"
    assert following(plugin, "", [table], Path("x")) == "spurbench data prepare mine/SPLIT --from x/table.csv"
    with pytest.raises(SpurbenchError, match="no archive 'x'"):
        chosen(plugin, "", ["x"])


# list


def test_the_list_says_where_files_lie_and_what_is_known_of_archives(spurbench: Any, mine: Path, home: Any) -> None:
    spurbench("data", "download", "mine/right", "--plugin", mine)
    folder = home.data / "mine"
    (folder / "right.zip").rename(folder / ".right.zip.unpacked")
    rows = {row["name"]: row for row in spurbench("data", "list", "--json", "--plugin", mine).rows}
    assert rows["phantom"]["embedded"] is True
    assert rows["spurbreast"]["place"] is None
    assert (rows["mine"]["place"], rows["mine"]["licence"]) == (str(folder), "CC0 1.0")
    left, right, table = rows["mine"]["archives"]
    assert (left["hash"], left["state"], left["splits"]) == ("published", "absent", ["left"])
    assert (right["hash"], right["state"], right["note"]) == ("seen", "unpacked", "a [guess]")
    assert (table["hash"], table["state"], table["size"]) == ("seen", "present", 4)
    text = spurbench("data", "list", "--plugin", mine).out
    assert all(word in text for word in ("Pictures of mine.", "CC0 1.0", "left.zip", "--data spurbreast=PATH"))


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_is_readable_at_usual_widths(
    spurbench: Any, mine: Path, home: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    note = "the address is a guess from that of another archive of the same record; [look] there for the right one"
    mine.write_text(mine.read_text().replace("a [guess]", note).replace('table.csv",)', f'table.csv",), note="{note}"'))
    monkeypatch.setenv("COLUMNS", str(width))
    lines = spurbench("data", "list", "--plugin", mine).out.splitlines()
    rows = {row["name"]: row for row in spurbench("data", "list", "--json", "--plugin", mine).rows}
    assert [archive["note"] for archive in rows["mine"]["archives"]] == ["", note, note]
    for archive in (archive for row in rows.values() for archive in row["archives"]):
        (line,) = [line for line in lines if line.split()[:1] == [archive["name"]]]
        assert archive["state"] in line.split(), "a row takes one line"
        assert line.split()[-1].startswith("(") == bool(archive["note"])
    assert max(len(line) for line in lines if not line.startswith("  files:")) <= width
    assert " ".join(" ".join(lines).split()).count(note) == 1, "a note of several archives stands once, whole"


def test_a_broken_data_set_does_not_hide_the_others(spurbench: Any, draft: Any, home: Any) -> None:
    broken = draft('class Broken(Dataset):\n    name = "broken"\n    version = "x"\n    splits = {"a": "b"}\n')
    rows = {row["name"]: row for row in spurbench("data", "list", "--json", "--plugin", broken).rows}
    assert (rows["broken"]["status"], rows["phantom"]["status"]) == ("broken", "ok")
    assert "version" in spurbench("data", "list", "--plugin", broken).out
    assert spurbench("data", "download", "broken", "--plugin", broken).code == 2


def test_the_list_loads_nothing_heavy(home: Any) -> None:
    code = (
        "import sys\nfrom robustbench_spur.cli import main\n"
        "assert main(['data', 'list']) == 0\n"
        "heavy = {'torch', 'pandas', 'scipy', 'sklearn', 'timm', 'pooch', 'requests', 'pydicom'} & sys.modules.keys()\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
