"""Of many rows the plots show the baseline and the best of every track; the table has all."""

from __future__ import annotations

from robustbench_spur.page import render_page
from robustbench_spur.page.plots import ROOM
from robustbench_spur.registry import Registry
from tests.page.boards import make_board, make_row
from tests.page.reading import Element, Tree


def page(*rows: object) -> Element:
    return Tree(render_page(make_board(list(rows)), Registry())).root  # type: ignore[arg-type]


def drawn(figure: Element) -> set[str]:
    return {title.text.split(":")[0].split(",")[0] for title in figure.one("svg").all("title")[1:]}


def test_many_rows() -> None:
    none = [make_row(f"n{k:02}", level=0.9 - k / 100) for k in range(40)]
    train = [make_row(f"t{k:02}", level=0.9 - k / 100, track="train") for k in range(30)]
    root = page(*none, *train, make_row("erm", level=0.1))
    scattered, groups, curve = root.all("figure")[:3]
    everybody = {row.first.method.name for row in [*none, *train]} | {"erm"}
    assert drawn(scattered) == everybody
    best = {"erm", *(f"n{k:02}" for k in range(7)), *(f"t{k:02}" for k in range(6))}
    assert len(best) == ROOM
    assert drawn(groups) == drawn(curve) == best
    assert {text.text for text in scattered.all("text", "name")} == best
    assert "Not drawn: 57 more rows" in groups.one("p").text


def test_few_rows_are_all_drawn() -> None:
    groups = page(*(make_row(f"n{k}", level=k / 20) for k in range(5))).all("figure")[1]
    assert drawn(groups) == {f"n{k}" for k in range(5)}
    assert not groups.all("p")
