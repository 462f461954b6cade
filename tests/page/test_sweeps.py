"""A split that was run at several rho has a plot over rho; one that was not has none."""

from __future__ import annotations

from robustbench_spur.page import render_page
from robustbench_spur.registry import Registry
from tests.page.boards import make_board, make_row
from tests.page.reading import Element, Tree


def section(*rows: object) -> Element | None:
    root = Tree(render_page(make_board(list(rows)), Registry())).root  # type: ignore[arg-type]
    found = [one for one in root.all("section") if one.attributes.get("aria-labelledby") == "rho"]
    return found[0] if found else None


def test_methods_that_ran_at_several_rho_are_drawn_over_rho() -> None:
    found = section(
        make_row("erm", "phantom/field@0.5", 0.9),
        make_row("erm", "phantom/field@0.95", 0.2),
        make_row("erm", "phantom/field@1.0", 0.1),
        make_row("groupdro", "phantom/field@0.95", 0.7),
        make_row("erm", "phantom/orientation@0.95", 0.3),
    )
    assert found is not None
    (table,) = found.all("table")
    assert [th.text for th in table.one("thead").all("th")] == ["method", "rho 0.5, %", "rho 0.95, %", "rho 1, %"]
    (row,) = table.one("tbody").all("tr")
    assert row.one("th").text == "erm"
    assert [td.text.split(" (")[0] for td in row.all("td")] == ["90.0", "20.0", "10.0"]
    assert "phantom/field" in found.one("figcaption").text


def test_other_settings_and_protocols_are_no_sweep() -> None:
    rows = [make_row("erm", f"phantom/field@{rho}") for rho in ("0.95", "0.9[seed=1]", "1.0+carve")]
    assert section(*rows) is None
