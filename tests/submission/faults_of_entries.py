"""Faults of entry.json and of the method's source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustbench_spur.manifest import manifest_sha256
from robustbench_spur.store import file_sha256
from tests.submission.faults import ENTRY, RECORD, Copy, Fault, nested, put
from tests.submission.makers import PLUGIN

MANY = ",".join([*(f'"k{number}":1' for number in range(100_000)), '"k7": 2'])
"""Keys of JSON, the last of them there already: to look for it among all before it would take an hour."""


def said(*path: Any, value: Any) -> Callable[[Copy], object]:
    """An entry that states something else."""
    return lambda copy: copy.entry(put(*path, value=value))


def text(change: Callable[[str], str | bytes]) -> Callable[[Copy], object]:
    """An entry.json of other characters."""

    def damage(copy: Copy) -> None:
        path = copy.path(ENTRY)
        new = change(path.read_text(encoding="utf-8"))
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return damage


def with_value(value: str) -> Callable[[Copy], object]:
    """An entry with one more key, whose value is any text."""
    return text(lambda old: '{"more": ' + value + "," + old.lstrip()[1:])


def plugin(change: Callable[[str], str], *, relabelled: bool = True) -> Callable[[Copy], object]:
    """Another text of the method, as if it were what ran."""

    def damage(copy: Copy) -> None:
        copy.write("plugin.py", change(PLUGIN))
        if not relabelled:
            return
        digest = file_sha256(copy.path("plugin.py"))
        copy.entry(put("method", "sha256", value=digest))

        def ran(content: dict[str, Any]) -> None:
            content["method"]["sha256"] = content["identity"]["method"]["sha256"] = digest

        copy.identity(ran, (0, 1))

    return damage


def built_in(name: str, version: int = 3) -> Callable[[Copy], object]:
    """The entry of a method that is said to be the project's own."""

    def damage(copy: Copy) -> None:
        def stated(entry: dict[str, Any]) -> None:
            entry["plugin"] = None
            entry["method"] |= {"origin": "built-in", "name": name, "version": version}

        def ran(content: dict[str, Any]) -> None:
            content["method"] |= {"origin": "built-in", "name": name, "version": version}
            content["identity"]["method"] |= {"name": name, "version": version}

        copy.path("plugin.py").unlink()
        copy.entry(stated)
        copy.identity(ran, (0, 1))

    return damage


def with_a_setting(copy: Copy) -> None:
    """An entry of ERM with a setting that ERM does not have, in whose place the board's is not looked at."""
    built_in("erm", 1)(copy)

    def more(content: dict[str, Any]) -> None:
        content["method"]["settings"] = content["identity"]["method"]["settings"] = {"pretrained": True}

    copy.identity(more)


def named_like_ours(copy: Copy) -> None:
    """A method with a file of its own that has the name of the project's baseline."""
    plugin(lambda old: old)(copy)

    def named(content: dict[str, Any]) -> None:
        content["method"]["name"] = "erm"

    copy.entry(named)
    copy.write("plugin.py", PLUGIN.replace('"mine"', '"erm"'))


def other_manifest(copy: Copy) -> None:
    copy.entry(put("manifest_sha256", value=manifest_sha256("v1")))


def many_cells(copy: Copy) -> None:
    copy.entry(lambda entry: entry.update(cells=[1] * 3000))


def without_plugin(copy: Copy) -> None:
    copy.path("plugin.py").unlink()
    copy.entry(put("plugin", value=None))


def on_track(copy: Copy) -> None:
    copy.entry(put("track", value="train"))
    copy.record(put("track", value="train"), (0, 1))


JSON_FAULTS = [
    Fault("an entry cut short", text(lambda old: old[:200]), ENTRY, "found no JSON"),
    Fault("an empty entry.json", text(lambda old: ""), ENTRY, "found no JSON ('Expecting value"),
    Fault("no UTF-8", text(lambda old: old.encode() + b"\xff"), ENTRY, "can't decode byte 0xff"),
    Fault("UTF-16", text(lambda old: old.encode("utf-16")), ENTRY, "can't decode byte"),
    Fault("a byte order mark", text(lambda old: "\ufeff" + old), ENTRY, "Unexpected UTF-8 BOM"),
    Fault("a list", text(lambda old: f"[{old}]"), ENTRY, "found a list"),
    Fault("a key twice", with_value('1, "more": 2'), ENTRY, "the key 'more' twice"),
    Fault("lists in lists", with_value(nested(100_000)), ENTRY, "found JSON nested beyond reason"),
    Fault("lists in fewer lists", with_value(nested(40)), ENTRY, "at most 32 levels"),
    Fault("a number of 3000 digits", with_value("1" * 3000), ENTRY, "found a whole number of 9963 bits"),
    Fault("a number of 9000 digits", with_value("1" * 9000), ENTRY, "Exceeds the limit"),
    Fault("NaN", with_value("NaN"), ENTRY, "NaN is no number of JSON"),
    Fault("a float beyond floats", with_value("1e999"), ENTRY, "found a number beyond all floats"),
    Fault("a key twice among many", with_value(f"1, {MANY}"), ENTRY, "the key 'k7' twice"),
    Fault(
        "a hundred thousand keys",
        with_value(f"{{{MANY}}}".replace('"k7": 2', '"k": 2')),
        ENTRY,
        "values or more",
    ),
    Fault("half a million lists", with_value(f"[{'[],' * 500_000}[]]"), ENTRY, "values or more"),
    Fault("half a character", with_value('"\\ud800"'), ENTRY, "found half a character"),
    Fault("an unknown field", with_value("1"), ENTRY, "found '1' in more"),
    Fault("an unknown field in colour", text(lambda old: '{"\\u001b[31m": 1,' + old[1:]), ENTRY, r"in '\x1b[31m'"),
    Fault("three thousand cells", many_cells, ENTRY, "found 3000 cells"),
    Fault("no cells", said("cells", value=[]), ENTRY, "found '[]' in cells"),
    Fault("a missing field", lambda c: c.entry(lambda e: e.pop("team")), ENTRY, "found nothing in team"),
    Fault("a number as text", said("cells", 0, "seed", value="0"), ENTRY, "found '0' in cells.0.seed"),
]
STATED_FAULTS = [
    Fault("a newer schema of entries", said("entry_schema", value=2), ENTRY, "found schema 2. Upgrade"),
    Fault("schema nought", said("entry_schema", value=0), ENTRY, "found schema '0'"),
    Fault(
        "a schema as text", said("entry_schema", value="2"), ENTRY, "expected a schema from 1 to 1, found schema '2'"
    ),
    Fault("another board", said("board", value="v1"), ENTRY, "expected board small, found board 'v1'"),
    Fault("a board by path", said("board", value="../small"), ENTRY, "found board '../small'"),
    Fault("another board's manifest", other_manifest, ENTRY, "that of small, found manifest 881b699a3636d706"),
    Fault("a manifest hash of nothing", said("manifest_sha256", value=""), ENTRY, "found '' in manifest_sha256"),
    Fault(
        "a method named by path", said("method", "name", value="../../erm"), ENTRY, "found '../../erm' in method.name"
    ),
    Fault("HTML as name", said("method", "name", value="<script>"), ENTRY, "found '<script>' in method.name"),
    Fault("an upper-case name", said("method", "name", value="Mine"), ENTRY, "found 'Mine' in method.name"),
    Fault("another name", said("method", "name", value="ours"), "plugin.py", "expected name = 'ours'"),
    Fault("a team in colour", said("team", value="\x1b[31mred"), ENTRY, r"found '\x1b[31mred' in team"),
    Fault("a team of two lines", said("team", value="a\nb"), ENTRY, r"found 'a\nb' in team"),
    Fault("a team written backwards", said("team", value="a\u202eb"), ENTRY, r"found 'a\u202eb' in team"),
    Fault("no team", said("team", value=""), ENTRY, "found '' in team"),
    Fault("a blank team", said("team", value="  "), ENTRY, "found '  ' in team"),
    Fault("a team of a thousand letters", said("team", value="a" * 1000), ENTRY, "at most 200 characters"),
    Fault(
        "a script as address", said("method_source", value="javascript:alert(1)"), ENTRY, "found 'javascript:alert(1)'"
    ),
    Fault("data as address", said("method_source", value="data:text/html,x"), ENTRY, "found 'data:text/html,x'"),
    Fault(
        "quotes in an address", said("method_source", value='https://a"onclick="x'), ENTRY, "found 'https://a\"onclick"
    ),
    Fault(
        "an address in colour", said("method_source", value="https://a\x1b[31m"), ENTRY, r"found 'https://a\x1b[31m'"
    ),
    Fault("no account of the data", said("training_data", value=" "), ENTRY, "found ' ' in training_data"),
    Fault("no account of deviations", said("deviations", value=""), ENTRY, "found '' in deviations"),
    Fault("a day that is none", said("created", value="2026-02-30"), ENTRY, "found '2026-02-30' in created"),
    Fault("a track that is none", said("track", value="all"), "plugin.py", "expected those of track 'all'"),
]
METHOD_FAULTS = [
    Fault(
        "a foreign method without its source",
        without_plugin,
        ENTRY,
        "found a method of origin 'file' without its source",
    ),
    Fault("a foreign method as ours", built_in("mine"), ENTRY, "found method 'mine' of origin built-in"),
    Fault("a newer version than ours", built_in("erm", 99), ENTRY, "found erm v99"),
    Fault(
        "our method on another track", built_in("groupdro", 1), ENTRY, "expected those of track 'none', as the entry"
    ),
    Fault(
        "an origin of ours with a source", said("method", "origin", value="built-in"), ENTRY, "with a source of its own"
    ),
    Fault("an origin in colour", said("method", "origin", value="a\x1b"), ENTRY, r"found 'a\x1b' in method.origin"),
    Fault(
        "another plugin than ran", plugin(lambda old: old + "\n", relabelled=False), "plugin.py", "that of the method"
    ),
    Fault(
        "a plugin of another version", plugin(lambda old: old.replace("= 3", "= 4")), "plugin.py", "found version '4'"
    ),
    Fault(
        "a plugin of no version",
        plugin(lambda old: old.replace("version", "revision")),
        "plugin.py",
        "found no version",
    ),
    Fault(
        "a plugin of another name",
        plugin(lambda old: old.replace('"mine"', '"ours"')),
        "plugin.py",
        "no class that states",
    ),
    Fault(
        "a plugin that needs more", plugin(lambda old: f'{old}    needs = ("adapt",)\n'), "plugin.py", "track reweight"
    ),
    Fault("a plugin named like ours", named_like_ours, "plugin.py", "found a source of its own for erm"),
    Fault("ours with a setting of another", with_a_setting, RECORD, "expected the settings of erm"),
    Fault("a plugin that is no Python", plugin(lambda old: "<html>"), "plugin.py", "found no Python"),
    Fault("a plugin of bytes", plugin(lambda old: old + "\0"), "plugin.py", "found no Python"),
    Fault("a plugin of brackets", plugin(lambda old: "(" * 50_000), "plugin.py", "found no Python"),
    Fault("a plugin of signs", plugin(lambda old: "-" * 200_000 + "1"), "plugin.py", "found no Python"),
    Fault("a plugin of a megabyte", plugin(lambda old: f"{old}# {'x' * 1_000_000}"), "plugin.py", "at most 1000000"),
    Fault("a track that it does not need", on_track, "plugin.py", "expected those of track 'train'"),
]
FAULTS = [*JSON_FAULTS, *STATED_FAULTS, *METHOD_FAULTS]
