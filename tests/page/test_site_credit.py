"""The site says whose a row is and how far it was checked, and lets no name of others become more than text."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_spur.page.naming import labels_of
from robustbench_spur.standing import TIERS
from tests.page.boards import HOSTILE, make_board, make_row, not_applicable, with_more
from tests.page.reading import rows_of
from tests.page.test_site import check_links, of_team, site


def test_rows_of_one_method_from_two_teams_can_be_told_apart(tmp_path: Path) -> None:
    rows = [make_row("erm"), of_team(make_row("jtt", level=0.5), "North"), of_team(make_row("jtt", level=0.3), "South")]
    board = make_board(rows)
    assert sorted(labels_of(board).values()) == ["erm", "jtt · North", "jtt · South"]
    pages = site(board, tmp_path)
    strips = pages["index.html"].one("table", "heatmap").all("th", "method")
    assert [strip.text for strip in strips] == ["erm baseline", "jtt · North", "jtt · South"]
    table = pages["splits/phantom.field@0.95.html"].one("table", "board")
    assert [row.one("small", "credit").text for row in rows_of(table)[1:]] == ["North North-1", "South South-1"]
    own = pages["methods/jtt.html"].one("table", "places")
    assert [row.one("span", "team").text for row in own.one("tbody").all("tr")] == ["North", "South"]


def test_entries_of_one_team_are_told_apart_by_their_id_and_last_by_their_hash() -> None:
    rows = [of_team(make_row("jtt"), "North", entry=entry) for entry in ("a1", "b2", "b2")]
    for row, digest in zip(rows, ("1" * 64, "2" * 64, "3" * 64), strict=True):
        row.records = [record.model_copy(update={"config_hash": digest}) for record in row.records]
    labels = labels_of(make_board(rows)).values()
    assert list(labels) == ["jtt · North · a1", "jtt · North · b2", "jtt · North · b2 · 33333333"]


def test_a_failure_beside_a_ranked_row_takes_its_name_from_none(tmp_path: Path) -> None:
    failed = not_applicable("jtt", "phantom/clean", "no")
    rows = [make_row("jtt", "phantom/clean"), failed, make_row("jtt", "phantom/field@0.95")]
    assert [name == "jtt" for name in labels_of(make_board(rows)).values()] == [True, False, True]
    root = site(make_board(rows), tmp_path)["index.html"]
    assert len(root.one("table", "heatmap").all("tr", "strip")) == 1
    assert len(rows_of(root.all("table", "board")[0])) == 2


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_the_tier_is_a_chip_with_its_meaning(tmp_path: Path, tier: str) -> None:
    row = of_team(make_row("jtt"), "North", tier=tier, collected=tier != "rescored")
    pages = site(make_board([row]), tmp_path)
    for name in ("index.html", "splits/phantom.field@0.95.html", "methods/jtt.html"):
        chip = pages[name].one("table", "board").one("span", "tier")
        assert (chip.text, chip.attributes["title"]) == (tier, TIERS[tier])
        assert "ranked" in pages[name].one("td", "status").text
        assert ("partly blank" in pages[name].one("td", "status").text) == (tier == "rescored")
        assert TIERS[tier] in pages[name].one("dl", "tiers").text


def test_rows_of_a_home_carry_no_tier(tmp_path: Path) -> None:
    assert not site(make_board(), tmp_path)["index.html"].all("span", "tier")


def test_sources_are_led_to_only_where_they_are_on_the_web(tmp_path: Path) -> None:
    rows = [
        of_team(make_row("erm"), "a", source="https://example.org/?a=1&b=2"),
        of_team(make_row("jtt"), "b", source="javascript:alert(1)"),
        of_team(make_row("dfr"), "c", source='https://example.org/"onclick="x'),
    ]
    for root in site(make_board(rows), tmp_path).values():
        away = [e for e in root.all("a") if ":" in e.attributes.get("href", "")]
        assert all(e.attributes["rel"] == "nofollow noopener noreferrer" for e in away)
        assert all(e.attributes["href"].startswith("https://example.org/") for e in away)
        assert not [e for e in root.all() for name in e.attributes if name.startswith("on")]


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>", HOSTILE, "../../etc/passwd", "a' style='x", "{{ 7 * 7 }}"]
    rows = [
        of_team(make_row(name, f"{name}/{name}"), f'"{name}', entry=name, source=name, tier=name) for name in hostile
    ]
    clean = site(with_more(make_board([of_team(make_row("erm", "x/y"), "me", source="https://x.org")])), tmp_path / "a")
    pages = site(with_more(make_board(rows)), tmp_path / "b")
    assert len(pages) == 1 + 2 * len(hostile)
    check_links(pages, tmp_path / "b")
    known = {e.tag for root in clean.values() for e in root.all()}
    for root in pages.values():
        assert {e.tag for e in root.all()} <= known | {"option"}
        assert len(root.all("script")) == len(root.all("style")) == 1 and not root.all("img")
        assert not [e for e in root.all() for name in e.attributes if name.startswith("on")]
    assert "49" not in {e.text for e in pages["index.html"].all("a")}
    assert all(name in pages["index.html"].text.replace("_ ", "_") for name in hostile[:2])
