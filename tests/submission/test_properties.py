"""Whatever is done to a sound entry, the verifier says what it thinks of it, and never crashes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_spur.manifest import Manifest
from robustbench_spur.store import file_sha256
from robustbench_spur.submission.remarks import FaultError
from robustbench_spur.submission.safely import DEPTH, STRANGE, parse_json
from robustbench_spur.submission.verifier import Verifier
from tests.submission.faults import ARRAYS, ENTRY, RECORD, UNFORESEEN
from tests.submission.makers import Copy

FILES = (ENTRY, RECORD, ARRAYS, "plugin.py")
quick = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of JSON, at most six levels deep."""
    if len(path) == 6 or not isinstance(content, dict | list):
        return [path]
    inside = content.items() if isinstance(content, dict) else enumerate(content)
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


def judged(copy: Copy, manifest: Manifest) -> bool:
    """Whether an entry is sound, once it is known that every fault has words."""
    verdict = Verifier(manifest).verify(copy.folder)
    assert all(str(one).isprintable() and one.expected != UNFORESEEN for one in verdict.remarks)
    return verdict.sound


def fresh(template: Path, folder: str) -> Copy:
    return Copy(Path(shutil.copytree(template, Path(folder) / "entry")))


@quick
@given(st.data())
def test_a_changed_byte_is_noticed_in_every_file(template: Path, small_board: Manifest, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES[1:]))
    with tempfile.TemporaryDirectory() as folder:
        copy = fresh(template, folder)
        content = bytearray(copy.path(name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        copy.path(name).write_bytes(content)
        assert not judged(copy, small_board)


@quick
@given(st.data())
def test_a_file_cut_short_is_noticed(template: Path, small_board: Manifest, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    with tempfile.TemporaryDirectory() as folder:
        copy = fresh(template, folder)
        content = copy.path(name).read_bytes()
        copy.path(name).write_bytes(content[: data.draw(st.integers(0, len(content) - 4))])
        assert not judged(copy, small_board)


@quick
@given(st.data())
def test_a_changed_byte_of_the_entry_or_of_what_it_then_lists_never_crashes(
    template: Path, small_board: Manifest, data: st.DataObject
) -> None:
    """The listing is made to agree, so that readers and checks meet the change; a letter of a note may well be sound."""
    name = data.draw(st.sampled_from(FILES))
    with tempfile.TemporaryDirectory() as folder:
        copy = fresh(template, folder)
        content = bytearray(copy.path(name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        copy.path(name).write_bytes(content)
        if name in (ARRAYS, "plugin.py"):
            copy.list_anew()
        judged(copy, small_board)


@quick
@given(st.data())
def test_any_value_anywhere_in_the_json_never_crashes(
    template: Path, small_board: Manifest, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from((ENTRY, RECORD)))
    with tempfile.TemporaryDirectory() as folder:
        copy = fresh(template, folder)
        content = copy.content(name)
        *path, last = data.draw(st.sampled_from(places(content)[1:]))
        inside = content
        for key in path:
            inside = inside[key]
        inside[last] = data.draw(values)
        copy.path(name).write_text(json.dumps(content))
        if name == RECORD:
            copy.listing(lambda cell: cell["record"].update(listed(copy.path(RECORD))))
        judged(copy, small_board)


def listed(path: Path) -> dict[str, Any]:
    """Size and hash of a file."""
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


@quick
@given(st.dictionaries(st.text(), values, max_size=4))
def test_json_that_every_program_reads_alike_is_read_as_it_is(content: dict[str, Any]) -> None:
    small = json.loads(json.dumps(content), parse_int=lambda text: int(text) % 2**62)
    assert parse_json(json.dumps(small).encode(), "x") == small


def test_the_deepest_json_that_is_read() -> None:
    assert parse_json(('{"a":' * (DEPTH - 1) + "1" + "}" * (DEPTH - 1)).encode(), "x")


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(st.integers(0, 9), st.sampled_from("eE"), st.sampled_from(("", "+", "-")), st.integers(0, 999)).map(
        lambda parts: "".join(map(str, parts))
    ),
    st.tuples(st.integers(1, 9), st.integers(0, 400)).map(lambda parts: f"{parts[0]}{'0' * parts[1]}.5"),
)


@given(st.lists(st.one_of(NUMBERS, st.text().map(json.dumps), st.sampled_from(['"\\ud83d"', '"\\uD83D\\uDE00"']))))
def test_what_bytes_show_is_what_a_look_at_every_value_shows(values: list[str]) -> None:
    """Most files are let pass by a look at their bytes: none of them may hold a value that would be refused."""
    raw = f'{{"x": [{", ".join(values)}]}}'.encode("utf-8", "surrogatepass")
    found = []
    for pattern in (STRANGE, re.compile(b"")):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("robustbench_spur.submission.safely.STRANGE", pattern)
            try:
                parse_json(raw, "x")
                found.append("")
            except FaultError as fault:
                found.append(str(fault))
    assert found[0] == found[1]
