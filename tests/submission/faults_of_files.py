"""Faults of the folder: links, names, sizes, and files that are missing or not listed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.submission.faults import ARRAYS, ENTRY, RECORD, Copy, Fault


def linked(copy: Copy, name: str, target: str) -> None:
    """A link in the place of a file or a folder."""
    path = copy.path(name)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def moved_and_linked(copy: Copy) -> None:
    """Predictions that lie outside of the entry, with a link in their place: hash and size are right."""
    outside = copy.folder.parent / "outside.npz"
    shutil.move(copy.path(ARRAYS), outside)
    copy.path(ARRAYS).symlink_to(outside)


def written(name: str, content: str = "") -> Callable[[Copy], object]:
    """A file beside the others."""
    return lambda copy: copy.write(name, content)


def replaced_by_folder(name: str) -> Callable[[Copy], object]:
    def damage(copy: Copy) -> None:
        copy.path(name).unlink()
        (copy.path(name) / "inside").mkdir(parents=True)
        (copy.path(name) / "inside" / "file").touch()

    return damage


def emptied(copy: Copy) -> None:
    shutil.rmtree(copy.folder)
    copy.folder.mkdir()


def sparse(name: str, size: int) -> Callable[[Copy], object]:
    """A file that says it is large, and takes no room."""

    def damage(copy: Copy) -> None:
        copy.path(name).touch()
        os.truncate(copy.path(name), size)

    return damage


def odd(name: str) -> Callable[[Copy], object]:
    """A file with a name that is hard to handle."""
    return lambda copy: Path(copy.folder, name).write_text("")


def removed(name: str) -> Callable[[Copy], object]:
    return lambda copy: copy.path(name).unlink()


FAULTS = [
    Fault("a link to predictions outside", moved_and_linked, ARRAYS, "found a symbolic link"),
    Fault(
        "a link to a file of the system",
        lambda c: linked(c, "passwd", "/etc/passwd"),
        "passwd",
        "found a symbolic link",
    ),
    Fault("a link that leads nowhere", lambda c: linked(c, "nowhere", "nowhere"), "nowhere", "found a symbolic link"),
    Fault("a link in place of a folder", lambda c: linked(c, "records", "/etc"), "records", "found a symbolic link"),
    Fault("a link in place of the entry", lambda c: linked(c, ENTRY, "/etc/passwd"), ENTRY, "found a symbolic link"),
    Fault("a pipe", lambda c: os.mkfifo(c.path("pipe")), "pipe", "found a special file"),
    Fault("a line break in a name", odd("a\nb"), "", r"found the name 'a\nb'"),
    Fault("a name like an option", odd("-rf"), "", "found the name '-rf'"),
    Fault("a hidden file", odd(".git"), "", "found the name '.git'"),
    Fault("a name with a colour in it", odd("\x1b[31mred"), "", r"found the name '\x1b[31mred'"),
    Fault("a name with HTML", odd("<img src=x>"), "", "found the name '<img src=x>'"),
    Fault(
        "a name that is no Unicode",
        lambda c: Path(os.fsdecode(os.fsencode(c.folder) + b"/\xff")).touch(),
        "",
        r"'\udcff'",
    ),
    Fault("a name that ends in a dot", odd("seed."), "", "found the name 'seed.'"),
    Fault("names that differ in case", odd("Entry.json"), "", "beside a name that differs in case alone"),
    Fault("folders too deep", written("a/b/c/d/e/f"), "a/b/c/d/e", "found a folder deeper than that"),
    Fault("an empty folder", lambda c: c.path("empty").mkdir(), "empty/", "found an empty folder"),
    Fault(
        "a folder in place of a record",
        replaced_by_folder(RECORD),
        f"{RECORD}/inside/file",
        "that the entry does not list",
    ),
    Fault("a folder in place of the entry", replaced_by_folder(ENTRY), ENTRY, "found a folder"),
    Fault("nothing at all", emptied, ENTRY, "expected an entry as spurbench submit packs it"),
    Fault(
        "a file that is not listed",
        written("notes.txt", "mine"),
        "notes.txt",
        "found a file that the entry does not list",
    ),
    Fault(
        "code that is not listed",
        written("sitecustomize.py", "raise"),
        "sitecustomize.py",
        "that the entry does not list",
    ),
    Fault("a missing record", removed(RECORD), RECORD, "found no such file"),
    Fault("missing predictions", removed(ARRAYS), ARRAYS, "found no such file"),
    Fault("a missing plugin", removed("plugin.py"), "plugin.py", "found no such file"),
    Fault("JSON of 100 MB", sparse(ENTRY, 100_000_000), ENTRY, "found 100000000 bytes"),
    Fault("a file of 3 GB", sparse("large", 3_000_000_000), "large", "found 3000000000 bytes"),
    Fault(
        "more than 20 GB in all",
        lambda c: [sparse(f"large{n}", 2_000_000_000)(c) for n in range(11)],
        "",
        "found more than that in all",
    ),
]


def listing(key: str, **values: object) -> Callable[[Copy], object]:
    """Change what is listed of the first cell's record or predictions."""
    return lambda copy: copy.listing(lambda cell: cell[key].update(values))


def listed_twice(copy: Copy) -> None:
    copy.entry(lambda entry: entry["cells"].append({**entry["cells"][0], "seed": 7}))


def cell_twice(copy: Copy) -> None:
    copy.entry(lambda entry: entry["cells"][1].update(seed=0))


FAULTS += [
    Fault("it lists itself", listing("record", file=ENTRY), ENTRY, f"should not list {ENTRY} itself"),
    Fault("a file listed twice", listed_twice, ENTRY, f"should list every file once, has {RECORD} twice"),
    Fault("a cell listed twice", cell_twice, ENTRY, "should list every cell once"),
    Fault(
        "an absolute path", listing("record", file="/etc/passwd"), ENTRY, "found '/etc/passwd' in cells.0.record.file"
    ),
    Fault("a path that leaves", listing("record", file="../entry/x.json"), ENTRY, "found '../entry/x.json' in cells.0"),
    Fault("a path that leaves further in", listing("record", file="a/../../x"), ENTRY, "found 'a/../../x' in cells.0"),
    Fault("a path of another system", listing("record", file="C:\\x"), ENTRY, r"found 'C:\\x' in cells.0"),
    Fault("negative bytes", listing("record", bytes=-1), ENTRY, "found '-1' in cells.0.record.bytes"),
    Fault("other bytes than listed", listing("predictions", bytes=12), ARRAYS, "expected 12 bytes, as the entry lists"),
    Fault("a hash that is none", listing("record", sha256="0"), ENTRY, "found '0' in cells.0.record.sha256"),
    Fault(
        "another hash than listed",
        listing("predictions", sha256="0" * 64),
        RECORD,
        "expected predictions 'seed0.npz' ('000000000000')",
    ),
    Fault(
        "a record that was edited",
        listing("record", sha256="0" * 64),
        RECORD,
        "expected 0000000000000000, as the entry",
    ),
]
