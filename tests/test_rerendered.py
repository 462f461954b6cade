"""A scene is rendered once, is the same when it is read again, and is kept only when it was whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from robustbench_spur.home import Home
from robustbench_spur.rerendered import kept_scene
from robustbench_spur.runtime import Runtime
from robustbench_spur.stage import Stage

PIXELS = Stage("pixels", {"partition": "test"}, (), "images")
ROWS, CODE = 700, "c0de"


class Renderer:
    """Renders rows of numbers, and counts how often it is asked to."""

    def __init__(self, rows: int = ROWS, dtype: Any = np.uint8, stop: int | None = None) -> None:
        self.images = np.random.default_rng(0).integers(0, 255, (rows, 1, 4, 4)).astype(dtype)
        self.calls, self.stop = 0, stop

    def __call__(self) -> Iterator[Any]:
        self.calls += 1
        for start in range(0, len(self.images), 128):
            if self.stop is not None and start >= self.stop:
                raise RuntimeError("no more")
            yield self.images[start : start + 128].copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_read_again_is_what_was_rendered(home: Home, dtype: Any) -> None:
    render = Renderer(dtype=dtype)
    for _ in range(3):
        blocks = list(kept_scene(Runtime(home), PIXELS, "lesion", CODE, ROWS, render)())
        whole = np.concatenate(blocks)
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole, render.images)
        blocks[0][...] = 0  # who takes a block may write to it
    assert render.calls == 1


def test_scenes_of_other_names_and_other_images_are_others(home: Home) -> None:
    runtime, first, second, third = Runtime(home), Renderer(), Renderer(), Renderer()
    list(kept_scene(runtime, PIXELS, "lesion", CODE, ROWS, first)())
    list(kept_scene(runtime, PIXELS, "body", CODE, ROWS, second)())
    list(kept_scene(runtime, Stage("pixels", {"partition": "train"}, (), ""), "lesion", CODE, ROWS, third)())
    fourth = Renderer()
    list(kept_scene(runtime, PIXELS, "lesion", "another", ROWS, fourth)())
    assert (first.calls, second.calls, third.calls, fourth.calls) == (1, 1, 1, 1)


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 1, 0])
def test_a_scene_with_other_rows_is_given_as_it_is_and_not_kept(home: Home, rows: int) -> None:
    render = Renderer(rows)
    for times in (1, 2):
        assert sum(map(len, kept_scene(Runtime(home), PIXELS, "lesion", CODE, ROWS, render)())) == rows
        assert render.calls == times


def test_a_scene_that_fails_or_is_left_early_is_not_kept(home: Home) -> None:
    with pytest.raises(RuntimeError, match="no more"):
        list(kept_scene(Runtime(home), PIXELS, "lesion", CODE, ROWS, Renderer(stop=256))())
    early = kept_scene(Runtime(home), PIXELS, "lesion", CODE, ROWS, Renderer())()
    next(early)
    early.close()
    again = Renderer()
    list(kept_scene(Runtime(home), PIXELS, "lesion", CODE, ROWS, again)())
    assert again.calls == 1
    assert not list(home.root.rglob(".*"))  # nothing half written is left
