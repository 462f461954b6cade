"""What a stage is named after, and the order of stages that need each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustbench_spur.stage
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.store import content_hash


def stage(
    spec: Mapping[str, Any] | None = None,
    parents: tuple[Stage, ...] = (),
    *,
    kind: str = "train",
    title: str = "",
    place: Mapping[str, str] | None = None,
) -> Stage:
    return Stage(kind, spec or {}, parents, title, place or {})


def test_the_key_is_the_hash_of_kind_spec_parents_and_engine_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustbench_spur.stage, "ENGINE_VERSION", 7)
    parent = stage({"seed": 0}, kind="pixels")
    assert parent.key == content_hash([7, "pixels", {"seed": 0}, []])
    assert stage({"seed": 0}, (parent,)).key == content_hash([7, "train", {"seed": 0}, [parent.key]])


def test_what_determines_the_result_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = stage({"n": 1}), stage({"n": 2})
    different = [
        stage({"seed": 0}, (first, second)),
        stage({"seed": 1}, (first, second)),
        stage({"seed": 0, "more": None}, (first, second)),
        stage({"seed": 0}, (second, first)),
        stage({"seed": 0}, (first,)),
        stage({"seed": 0}, (first, stage({"n": 3}))),
        stage({"seed": 0}, (first, second), kind="outputs"),
    ]
    keys = {one.key for one in different}
    assert len(keys) == len(different)
    monkeypatch.setattr(robustbench_spur.stage, "ENGINE_VERSION", robustbench_spur.stage.ENGINE_VERSION + 1)
    assert stage({"seed": 0}, (stage({"n": 1}), stage({"n": 2}))).key not in keys


def test_title_and_place_do_not_change_the_key() -> None:
    parent, renamed = stage({"n": 1}), stage({"n": 1}, title="other", place={"path": "/elsewhere"})
    assert parent.key == renamed.key
    assert stage({"a": 1, "b": 2}, (parent,)).key == stage({"b": 2, "a": 1}, (renamed,), title="x").key


DAGS = st.lists(st.lists(st.integers(0, 11), max_size=4), min_size=1, max_size=12)


@given(DAGS, st.lists(st.integers(0, 11), min_size=1, max_size=4), st.integers(1, 4))
def test_parents_come_first_and_each_key_once(edges: list[list[int]], wanted: list[int], kinds: int) -> None:
    """Stage k may need any stage before it; several stages share a key where ``kinds`` is small."""
    stages: list[Stage] = []
    for k, parents in enumerate(edges):
        chosen = tuple(stages[p % k] for p in parents) if k else ()
        stages.append(stage({"n": k % kinds}, chosen, title=str(k)))
    roots = tuple(stages[w % len(stages)] for w in wanted)
    order = [one.key for one in in_order(roots)]
    assert len(order) == len(set(order))
    assert set(order) == needed(roots)
    for one in in_order(roots):
        assert all(order.index(parent.key) < order.index(one.key) for parent in one.parents)


def needed(roots: tuple[Stage, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        found.add(one.key)
        waiting += one.parents
    return found


def test_ancestry_ends_with_the_stage_itself() -> None:
    pixels = stage(kind="pixels")
    model = stage(parents=(pixels,))
    outputs = stage(parents=(model, pixels), kind="outputs")
    assert [one.kind for one in outputs.ancestry()] == ["pixels", "train", "outputs"]
    assert in_order(()) == []
