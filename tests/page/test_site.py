"""The site: which pages there are, what they say, that they lead to each other and to nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from robustbench_spur.board import Board, Row
from robustbench_spur.page import indexview, write_site
from robustbench_spur.page.addresses import slug, web_address
from robustbench_spur.page.riskplot import mean_risk
from robustbench_spur.page.site import pages_of
from robustbench_spur.registry import Registry
from robustbench_spur.standing import Standing
from robustbench_spur.types import Estimate
from tests.page.boards import (
    HOSTILE,
    MORE,
    make_board,
    make_manifest,
    make_row,
    not_applicable,
    with_details,
    with_more,
)
from tests.page.reading import Element, Tree, rows_of

DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000000030001a5f645400000000049454e44ae426082"
)
"""A picture of one pixel."""


def of_team(row: Row, team: str, **known: object) -> Row:
    row.standing = Standing(**{"entry": f"{team}-1", "team": team, "tier": "rescored", **known})  # type: ignore[arg-type]
    return row


def big_board() -> Board:
    rows = [
        make_row(name, full) for full in ("phantom/field@0.95", "phantom/field@1.0") for name in ("erm", "groupdro")
    ]
    rows += [make_row("jtt", "phantom/clean"), not_applicable("dfr", "phantom/field@1.0", "group x has no images")]
    return with_more(Board(make_board().manifest, rows))


def site(board: Board, folder: Path, pictures: Path | None = None) -> dict[str, Element]:
    written = write_site(board, folder, Registry(), pictures)
    return {path.relative_to(folder).as_posix(): Tree(path.read_text(encoding="utf-8")).root for path in written}


def addresses(root: Element) -> list[str]:
    named = ("src", "href", "xlink:href", "data", "action", "poster", "srcset")
    return [e.attributes[name] for e in root.all() for name in named if name in e.attributes]


# Names and addresses


def test_slugs_are_safe_and_never_collide_even_where_case_does_not_count() -> None:
    names = ["erm", "ERM", "Erm", "a/b", "a.b", "a/b/c", "a b", "a-b", "a_b", "a+b", "", ".", "..", "../a", "/", "//"]
    names += ["phantom/field@0.95", "phantom.field@0.95", "phantom/field@0.95.", "con", "con/x", "nul", "é", "e\u0301"]
    names += [HOSTILE, "x" * 300, "x" * 301, "a\n", "a\0", "~0bc26a3348", "\ud800", "Ａ", "index.html", "a/b~0", "a//b"]
    slugs = [slug(name).lower() for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_@+~.-]{1,180}", one) and not one.startswith(".") for one in slugs)
    assert slug("phantom/field@0.95") == "phantom.field@0.95"
    reserved = {one.split(".")[0] for one in slugs} & {"con", "nul", "aux", "com1"}
    assert not reserved


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " https://x.org", "data:text/html,x", "//x.org", "/x", "x", "",
     "https:", "https://", "http:///x", "ftp://x.org", "https://x.org/\n", "java\tscript:x", "https://[x", "file:///etc"],
)  # fmt: skip
def test_only_web_addresses_are_led_to(address: str) -> None:
    assert web_address(address) == ""


def test_web_addresses_stay_as_they_are() -> None:
    for address in ("https://x.org", "http://x.org:80/a?b=c#d", "HTTPS://X.org/~me"):
        assert web_address(address) == address


# Files


def test_there_is_a_page_for_every_method_and_split_that_has_rows(tmp_path: Path) -> None:
    pages = site(big_board(), tmp_path)
    methods = {f"methods/{name}.html" for name in ("erm", "groupdro", "jtt", "dfr")}
    splits = {f"splits/phantom.{name}.html" for name in ("field@0.95", "field@1.0", "clean")}
    assert set(pages) == {"index.html"} | methods | splits
    assert next(iter(pages)) == "index.html"
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o644 for name in pages)


def test_pages_that_no_longer_belong_are_removed_and_nothing_else(tmp_path: Path) -> None:
    site(big_board(), tmp_path)
    for kept in ("other.html", "methods/mine.py", "pictures/a.png", "splits/deeper/x.html"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).write_text("mine")
    site(make_board([make_row("erm")]), tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        *("index.html", "methods/erm.html", "splits/phantom.field@0.95.html"),
        *("other.html", "methods/mine.py", "pictures/a.png", "splits/deeper/x.html"),
    }


def test_the_same_board_gives_the_same_bytes_and_no_torch(tmp_path: Path) -> None:
    code = (
        "import hashlib, sys; from pathlib import Path; from robustbench_spur.page import write_site;"
        "from robustbench_spur.registry import Registry; from tests.page.test_site import big_board;"
        "files = write_site(big_board(), Path(sys.argv[1]), Registry());"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules;"
        "print(hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_an_empty_board_is_an_index_that_says_what_to_do(tmp_path: Path) -> None:
    pages = site(make_board([]), tmp_path)
    assert set(pages) == {"index.html"} and "spurbench run" in pages["index.html"].one("p", "empty").text


def check_links(pages: dict[str, Element], folder: Path) -> None:
    """Every link leads to a page of the site, and every fragment to an element of it."""
    for name, root in pages.items():
        for address in addresses(root):
            if address.startswith("data:"):
                continue
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc, (name, address)
            target = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            found = target.resolve().relative_to(folder.resolve()).as_posix()
            assert found in pages, (name, address)
            if parts.fragment:
                ids = [e.attributes["id"] for e in pages[found].all() if "id" in e.attributes]
                assert parts.fragment in ids, (name, address)


def test_all_links_stay_in_the_site_and_arrive(tmp_path: Path) -> None:
    pages = site(big_board(), tmp_path)
    check_links(pages, tmp_path)
    led = {a for a in addresses(pages["index.html"]) if a.endswith(".html")}
    assert led >= set(pages) - {"index.html"}


def test_pages_ask_for_nothing_and_say_so(tmp_path: Path) -> None:
    for path in write_site(big_board(), tmp_path, Registry()):
        text = path.read_text(encoding="utf-8")
        root = Tree(text).root
        assert "url(" not in text and "@import" not in text and "https://" not in text
        policy = next(e.attributes["content"] for e in root.all("meta") if "http-equiv" in e.attributes)
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
        ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
        assert len(ids) == len(set(ids))
        assert len(root.all("h1")) == 1 and root.all("h1")[0].text
        for table in root.all("table"):
            assert len(table.all("caption")) == 1 and table.one("caption").text
            assert all("scope" in head.attributes for head in table.all("th"))
        boxes = [e.attributes["id"] for e in root.all() if e.tag in ("input", "select")]
        labelled = [e.attributes.get("for", "") for e in root.all("label")]
        assert all(box.startswith("f-") or box in labelled for box in boxes)


# What the pages say


def test_the_index_has_every_method_by_every_split(tmp_path: Path) -> None:
    root = site(big_board(), tmp_path)["index.html"]
    table = root.one("table", "heatmap")
    heads = [th.attributes["data-split"] for th in table.one("thead").all("th") if "data-split" in th.attributes]
    assert heads == ["phantom/field@0.95", "phantom/field@1.0", "phantom/clean"]
    strips = {
        tr.all("th")[0].attributes["data-key"]: [td.text for td in tr.all("td")] for tr in table.all("tr", "strip")
    }
    assert strips["erm"] == ["14.0", "14.0", "– not run"]
    assert strips["dfr"] == ["– not run", "not applicable", "– not run"]
    assert [body.attributes["data-track"] for body in table.all("tbody")] == ["none", "train", "reweight"]
    assert len(root.all("table", "board")) == 3 and not root.one("section", "split" if False else "reading").all(
        "figure"
    )
    assert "hidden" in root.one("div", "filters").attributes  # until the script shows it


def test_a_split_page_has_all_columns_plots_and_groups(tmp_path: Path) -> None:
    root = site(big_board(), tmp_path)["splits/phantom.field@0.95.html"]
    assert root.one("h1").text.startswith("phantom/ field@0.95")
    assert "1.5 T scanners go with tumour" in root.text
    assert root.one("table", "groups").all("td")
    heads = [th.text for th in root.one("table", "board").one("thead").all("th")]
    assert heads[-3:] == ["AURC", "seeds", "status"]
    first = rows_of(root.one("table", "board"))[0]
    assert first.one("td", "extra").text.startswith("12.3")
    assert root.one("input", "more-box").attributes["type"] == "checkbox"
    titles = [figure.one("figcaption").all("strong")[0].text for figure in root.all("figure")]
    assert titles == [
        "Worst group accuracy against micro accuracy",
        "Accuracy by group",
        "PGD worst group accuracy by radius of the attack",
        "Errors among the images that it is surest of",
        "Worst group accuracy by rho, share of patients with the tied value",
        "Reliability",
    ]
    risk = root.all("figure")[3].one("table")
    assert [td.text for td in risk.one("tbody").all("tr")[0].all("td")] == [
        "4.0",
        "8.0",
        "16.0",
        "24.0",
        "32.0",
        "40.0",
    ]


def test_risk_curves_of_several_seeds_are_averaged_at_equal_coverage() -> None:
    one = [{"coverage": 0.5, "risk": 0.0}, {"coverage": 1.0, "risk": 0.2}]
    two = [{"coverage": 0.25, "risk": 0.1}, {"coverage": 1.0, "risk": 0.4}]
    found = mean_risk([one, two])
    assert found[24] == pytest.approx((0.0 + 0.2) / 2) and found[49] == pytest.approx(0.3)
    assert found[0] == pytest.approx((0.0 + 0.1) / 2)  # before its first place a curve is level


def test_a_method_page_tells_what_its_source_says(tmp_path: Path) -> None:
    pages = site(big_board(), tmp_path)
    root = pages["methods/groupdro.html"]
    about = next(section for section in root.all("section") if section.attributes.get("aria-labelledby") == "about")
    assert "weights on the groups" in root.one("p", "question").text
    assert {"Source", "Deviations", "Needs"} <= {term.text for term in about.all("dt")}
    (eta, *_) = about.one("table", "knobs").one("tbody").all("tr")
    assert [cell.text for cell in eta.children] == [
        *("eta", "0.01", "> 0", "0.001 to 0.1, by its logarithm", "step size of the group weights"),
    ]
    rows = root.one("table", "places").one("tbody").all("tr")
    assert [row.one("a", "name").text for row in rows] == ["phantom/ field@0.95", "phantom/ field@1.0"]
    assert rows[0].one("td", "rank").text == "1 of 1" and rows[0].one("td", "better").text.startswith("+52.0")
    kinds = [figure.one("figcaption").all("strong")[0].text for figure in root.all("figure")]
    assert kinds.count("Accuracy by group") == 2 and "Reliability" in kinds
    assert [th.text for th in root.all("figure")[1].one("tbody").all("th")] == ["field@0.95", "field@1.0"]
    origin = next(section for section in root.all("section") if section.attributes.get("aria-labelledby") == "origin")
    assert "commit 0123456789ab" in origin.text and "AMD EPYC" in origin.text and "torch 2.9.0" in origin.text
    assert "group x has no images" in pages["methods/dfr.html"].text


@pytest.mark.parametrize("tier", ["rescored", "reproduced"])
def test_another_teams_row_of_the_baseline_takes_it_from_no_page(tmp_path: Path, tier: str) -> None:
    board = big_board()
    for row in board.rows:
        of_team(row, "us", tier="reproduced")
    (theirs,) = with_more(make_board([make_row("erm", "phantom/field@0.95")])).rows
    of_team(theirs, "them", tier=tier)
    root = site(Board(board.manifest, [*board.rows, theirs]), tmp_path)["methods/groupdro.html"]
    groups = [
        figure for figure in root.all("figure") if figure.one("figcaption").all("strong")[0].text == "Accuracy by group"
    ]
    assert len(groups) == 2
    for figure in groups:
        names = [th.text for th in figure.one("table").one("tbody").all("th")]
        assert len([name for name in names if name.startswith("erm")]) == 1
        if tier == "rescored":
            assert "them" not in " ".join(names), "the one that is trusted most"


def test_costs_and_settings_are_told(tmp_path: Path) -> None:
    row = make_row("jtt", cost={"cpu_seconds": 1234.4, "wall_seconds": 700.0})
    method = row.first.method.model_copy(update={"given": {"upweight": 5}, "settings": {"upweight": 5, "id_epochs": 3}})
    row.records = [record.model_copy(update={"method": method}) for record in row.records]
    root = site(make_board([row]), tmp_path)["methods/jtt.html"]
    cells = [cell.text for cell in root.one("table", "runs").one("tbody").all("td")]
    assert cells[:3] == ["0, 1, 2", "1,234", "700"] and "upweight 5" in cells
    assert "upweight 5, id_epochs 3" in root.text and "epochs 12" in root.text


def test_a_method_that_is_not_installed_is_shown_with_its_results(tmp_path: Path) -> None:
    root = site(make_board([make_row("unheard_of")]), tmp_path)["methods/unheard_of.html"]
    assert "not installed here" in root.text and root.one("table", "places").one("tbody").all("tr")


def test_pictures_are_part_of_their_page_with_words_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "phantom.field@0.95.png").write_bytes(DOT)
    (pictures / "phantom.field@0.95.pairs.png").write_bytes(DOT)
    (pictures / "phantom.clean.png").write_bytes(b"<svg>no picture</svg>")
    pages = site(big_board(), tmp_path / "site", pictures)
    images = pages["splits/phantom.field@0.95.html"].all("img")
    assert len(images) == 2 and all(image.attributes["src"].startswith("data:image/png;base64,") for image in images)
    assert "clear@3T" in images[0].attributes["alt"] and "field strength" in images[1].attributes["alt"]
    assert not [name for name, root in pages.items() if root.all("img") and "field@0.95" not in name]


def test_a_row_that_measured_nothing_has_a_page_all_the_same(tmp_path: Path) -> None:
    row = not_applicable("jtt", "x/y", "no")
    row.records = [record.model_copy(update={"split": None}) for record in row.records]
    pages = site(make_board([row]), tmp_path)
    assert "groups are not known" in pages["splits/x.y.html"].text
    assert not pages["methods/jtt.html"].all("figure")


def test_a_large_board_keeps_a_small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        of_team(make_row(f"m{k:02}", full, 0.9 - k / 100, seeds=(0,)), "North")
        for full in ("phantom/clean", "phantom/field@0.95")
        for k in range(20)
    ]
    board = make_board(rows)
    _, text = next(pages_of(board, Registry()))
    bare = len(next(pages_of(make_board(rows[:1]), Registry()))[1].encode())
    assert sum(len(rows_of(table)) for table in Tree(text).root.all("table", "board")) == 40
    assert (len(text.encode()) - bare) / 39 < 2_900  # so that a thousand rows stay below three megabytes
    monkeypatch.setattr(indexview, "ROWS", 20)
    root = Tree(next(pages_of(board, Registry()))[1]).root
    assert [len(rows_of(table)) for table in root.all("table", "board")] == [10] * 2
    assert "The first 10 of 20 rows" in root.all("p", "rest")[0].text
    assert len(root.one("table", "heatmap").all("tr", "strip")) == 20


@pytest.mark.parametrize(
    "noted", [5, "x", [], [5], {}, None, [{}], [{"radius": "x"}], [{"coverage": 0.1, "risk": "x"}]]
)
def test_what_others_noted_in_another_shape_is_left_out(tmp_path: Path, noted: object) -> None:
    row = make_row("jtt")
    about = {"curve": noted, "reliability": noted}
    kinds: dict[str, object] = {"pgd": about, "ece": about, "uncertainty": about}
    row.records = [with_details(record, kinds) for record in row.records]
    row.records[0] = with_details(row.records[0], {"pgd": noted})
    columns = [*(column.model_dump() for column in make_manifest().columns), MORE]
    row.values["aurc"] = Estimate(0.1)
    root = site(Board(make_manifest(columns=columns), [row]), tmp_path)["splits/phantom.field@0.95.html"]
    titles = [figure.one("figcaption").all("strong")[0].text for figure in root.all("figure")]
    assert titles == ["Worst group accuracy against micro accuracy", "Accuracy by group"]


def test_an_estimate_without_an_interval_is_shown_as_such(tmp_path: Path) -> None:
    row = make_row("jtt")
    row.values["worst_group_accuracy"] = Estimate(0.5, reason="too few patients")
    root = site(make_board([row]), tmp_path)["methods/jtt.html"]
    assert "50.0 too few patients" in root.one("td", "main").text
