"""Work in several processes gives what it gives in one, in order, and says how it goes on."""

from __future__ import annotations

import os

import pytest

from robustbench_spur.sidebyside import THREADS, side_by_side


def square(number: int) -> tuple[int, str | None]:
    """A number's square, and how many threads the process may use."""
    if number < 0:
        raise ValueError(f"{number} is below zero")
    return number**2, os.environ.get(THREADS[0])


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_made_comes_in_order(processes: int) -> None:
    told: list[tuple[int, int]] = []
    before = dict(os.environ)
    found = side_by_side(square, [3, 1, 2], lambda done, total: told.append((done, total)), processes)
    assert [value for value, _ in found] == [9, 1, 4]
    assert {threads for _, threads in found} == {"1"}
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert dict(os.environ) == before
    assert side_by_side(square, [], processes=processes) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_comes_through(processes: int) -> None:
    with pytest.raises(ValueError, match="-1 is below zero"):
        side_by_side(square, [1, -1], processes=processes)
