"""The page: what it says, what it hides from nobody, and that it asks for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from robustbench_spur.board import Board, Row
from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.page import render_page, write_page
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.lines import styles_of
from robustbench_spur.page.sections import Section, section_of
from robustbench_spur.record import NetworkPart
from robustbench_spur.registry import Registry
from robustbench_spur.types import Estimate
from tests.page.boards import (
    GROUPS,
    HOSTILE,
    estimate,
    make_board,
    make_manifest,
    make_record,
    make_row,
    not_applicable,
)
from tests.page.reading import Tree, parse, results, rows_of


def test_header_says_board_version_status_and_question() -> None:
    root = parse(make_board())
    assert root.one("h1").text == "Leaderboard v1 draft"
    assert "shortcut" in root.one("p", "question").text
    assert "2,000 resamplings of the test patients" in root.text
    frozen = parse(Board(make_manifest(status="frozen"), make_board().rows))
    assert frozen.one("h1").text == "Leaderboard v1 frozen" and "A draft:" not in frozen.text


def test_every_row_stands_in_its_track_with_all_its_numbers() -> None:
    table = results(parse(make_board()))
    assert [body.all("tr", "track")[0].text.split(" The")[0].split(" It")[0] for body in table.all("tbody")] == [
        "No attributes",
        "Attributes in training",
        "A small unbiased set",
    ]
    rows = rows_of(table)
    assert [row.one("span", "name").text for row in rows] == ["erm", "jtt", "groupdro", "dfr"]
    first = [cell.text for cell in rows[0].children]
    assert first[0] == "1–2"
    assert "14.0" in first[2] and "6.0–20.4" in first[2] and "tumour@3T, 75 patients" in first[2]
    assert first[3] == "the baseline itself"
    assert first[-2:] == ["0, 1, 2", "ranked"]
    assert rows[2].children[3].text.startswith("+52.0") and "better" in rows[2].children[3].attributes["class"]


def test_a_cell_is_never_empty_and_says_why_a_number_is_missing() -> None:
    rows = make_board().rows
    rows[1].values["pgd_worst_group_accuracy"] = Estimate(None, reason="not evaluated")
    rows[1].values["micro_accuracy"] = Estimate(0.69, reason="no interval: undefined in 400 of 2000 resamplings")
    rows[2] = not_applicable("groupdro", "phantom/field@0.95", "group tumour@3T has no training patients")
    rows[3].status, rows[3].reason, rows[3].rank, rows[3].rank_high = "unranked", "2 of 3 seeds", None, None
    root = parse(make_board(rows))
    cells = [cell for row in rows_of(results(root)) for cell in row.children]
    assert all(cell.text for cell in cells)
    texts = [cell.text for cell in cells]
    assert "not evaluated" in texts
    assert any("69.0 no interval: undefined in 400 of 2000 resamplings" in text for text in texts)
    assert "not applicable group tumour@3T has no training patients" in texts
    assert "unranked 2 of 3 seeds" in texts


def test_columns_have_their_names_in_full() -> None:
    heads = [head.text for head in results(parse(make_board())).one("thead").all("th")]
    assert heads == [
        "rank",
        "method",
        "worst group accuracy",
        "from erm points",
        "micro accuracy",
        "validation accuracy",
        "ECE",
        "PGD worst group accuracy radius 1/255",
        "seeds",
        "status",
    ]
    root = parse(Board(load_manifest(), []))
    assert "PGD worst group accuracy" in [term.text for term in root.one("section", "reading").all("dt")]


def test_a_failed_row_gives_its_reason_even_where_no_data_were_read() -> None:
    row = Row(
        [make_record("erm", "xray/tag@0.95", 0, 0.5, status="failed", reason="no file", split=None)],
        "failed",
        "no file",
    )
    root = parse(make_board([row]))
    assert "failed no file" in [cell.text for cell in rows_of(results(root))[0].children]
    assert "groups are not known" in root.text and not root.all("figure")


def test_the_split_is_explained_and_its_groups_are_counted() -> None:
    root = parse(make_board([make_row("erm", "phantom/field@1.0", 0.02)]))
    text = root.one("section", "split").text
    assert "1.5 T scanners go with tumour" in text
    assert "100 % of the patients of each class" in text
    assert "Test and adapt hold half" in text
    table = root.one("table", "groups")
    assert [head.text for head in table.all("th") if head.attributes["scope"] == "col"] == [
        "group",
        "train",
        "validation",
        "adapt",
        "test",
    ]
    lines = [[cell.text for cell in row.children] for row in table.one("tbody").all("tr")]
    assert lines[0] == ["clear@3T", "1,140 190 patients", "285 48 patients", "180 30 patients", "450 75 patients"]
    assert lines[1][:3] == ["clear@1.5T", "empty", "empty"]


def of_a_design(full: str, **left_out: tuple[str, ...]) -> Row:
    """A row on a split whose partitions leave out groups by design; all others have the usual counts."""
    row = make_row("erm", full)
    part = row.first.split
    assert part is not None
    counts = {
        name: {
            group: {"examples": 0, "patients": 0, "designed": 0} if group in left_out.get(name, ()) else n
            for group, n in own.items()
        }
        for name, own in part.counts.items()
    }
    split = part.model_copy(update={"counts": counts})
    row.records = [record.model_copy(update={"split": split}) for record in row.records]
    gone = left_out.get("test", ())
    row.values["groups"] = {name: one for name, one in row.values["groups"].items() if name not in gone}
    return row


def section_of_row(row: Row) -> Section:
    board = make_board([row])
    return section_of(1, [row], Glossary(board, Registry()), styles_of(board))


def test_groups_that_no_partition_has_by_design_are_left_out_and_others_are_told_from_empty_ones() -> None:
    everywhere = ("tumour@3T",)
    others = dict.fromkeys(("validation", "adapt"), everywhere)
    section = section_of_row(of_a_design("x/y@1.0", train=(*everywhere, "clear@1.5T"), test=everywhere, **others))
    assert section.groups == ["clear@3T", "clear@1.5T", "tumour@1.5T"]
    assert [section.designed(name, "clear@1.5T") for name in section.partitions] == [False, True, True, True]
    assert section.incomplete
    assert section.share("validation", "clear@1.5T") == 0  # designed, and empty: the row is of rho 1
    complete = section_of_row(of_a_design("x/y", **dict.fromkeys(("train", "test", *others), everywhere)))
    assert complete.groups == section.groups and not complete.incomplete
    plain = section_of_row(make_row("erm"))
    assert plain.groups == list(GROUPS) and not plain.incomplete


def test_the_plot_of_groups_has_those_of_the_test() -> None:
    section = section_of_row(of_a_design("x/y", test=("clear@3T", "tumour@1.5T")))
    (chart,) = (chart for chart in section.charts if chart.kind == "dots")
    assert chart.head == ("method", "clear@1.5T, %", "tumour@3T, %")
    assert "undefined" not in " ".join(chart.rows[0])


def test_names_are_text_and_never_markup() -> None:
    values = ("u", "</svg></style></script>")
    groups = [f"{one}@{value}" for one in (HOSTILE, "b") for value in values]
    split = make_record("erm", f"x/{HOSTILE}", 0, 0.5).split
    assert split is not None
    counts = {"test": {group: {"examples": 6, "patients": 2} for group in groups}}
    changes = {"classes": (HOSTILE, "b"), "attribute": HOSTILE, "values": values, "counts": counts, "notes": (HOSTILE,)}
    split = split.model_copy(update=changes)
    row = make_row(HOSTILE, f"x/{HOSTILE}", off_board=(f"eta={HOSTILE}",), split=split)
    row.values["which"] = f"{HOSTILE}@u"
    row.values["groups"] = {name: estimate(0.5) for name in groups}
    row.status, row.reason = "unranked", HOSTILE
    clean = parse(make_board([make_row("erm", "x/y")]))
    root = parse(make_board([row]))
    assert HOSTILE in root.one("span", "name").text
    assert not root.all("img") and len(root.all("script")) == len(root.all("style")) == 1
    assert not [e for e in root.all() for name in e.attributes if name.startswith("on")]
    assert {element.tag for element in root.all()} == {element.tag for element in clean.all()}
    assert all(re.fullmatch(r"[a-z0-9-]+", e.attributes["id"]) for e in root.all() if "id" in e.attributes)


def test_the_page_asks_for_nothing() -> None:
    text = render_page(make_board(), Registry())
    root = Tree(text).root
    addresses = [
        e.attributes[a]
        for e in root.all()
        for a in ("src", "href", "xlink:href", "data", "action")
        if a in e.attributes
    ]
    assert all(address.startswith("#") or address == "data:," for address in addresses)
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    policy = next(e.attributes["content"] for e in root.all("meta") if "http-equiv" in e.attributes)
    assert "default-src 'none'" in policy
    ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)


def test_tables_and_plots_can_be_read_aloud() -> None:
    root = parse(make_board())
    for table in root.all("table"):
        assert len(table.all("caption")) == 1 and table.one("caption").text
        assert all("scope" in head.attributes for head in table.all("th"))
    ids = {e.attributes["id"]: e for e in root.all() if "id" in e.attributes}
    plots = [svg for svg in root.all("svg") if svg.attributes.get("role") == "img"]
    assert len(plots) == 3 + 4
    for svg in plots:
        assert ids[svg.attributes["aria-labelledby"]].tag == "title" and ids[svg.attributes["aria-labelledby"]].text
        assert ids[svg.attributes["aria-describedby"]].tag == "desc" and ids[svg.attributes["aria-describedby"]].text
    assert all(svg.attributes.get("aria-hidden") == "true" for svg in root.all("svg") if svg not in plots)
    figures = root.all("figure")
    assert len(figures) == 4 and all(figure.one("table", "numbers").all("td") for figure in figures)
    assert "14.0 (6.0 to 20.4)" in figures[0].one("table").text
    assert "9.1 (1.1 to 15.5)" in figures[2].one("table").text  # 0.65 of 14.0, 8 below and 6.4 above


def test_the_footer_names_code_machine_records_and_licences() -> None:
    text = parse(make_board()).one("footer").text
    assert "12 records, finished 2026-11-20 to 2026-11-22" in text
    assert "robustbench-spur 0.1.0, commit 0123456789ab" in text
    assert "AMD EPYC, 2 CPUs" in text and "torch 2.9.0" in text
    assert "Generated by this package" in text
    manifest = make_manifest(splits=[{"name": "spurbreast/field_strength", "version": 1, "sha256": None}])
    assert "CC BY-NC 4.0" in parse(Board(manifest, make_board().rows)).one("footer").text


def test_an_empty_board_says_what_to_do() -> None:
    root = parse(make_board([]))
    assert "spurbench run" in root.one("p", "empty").text


def test_unknown_plugins_and_a_board_without_plots_are_shown_all_the_same() -> None:
    manifest = make_manifest(columns=[make_manifest().columns[0].model_dump()])
    row = make_row("mine", "theirs/thing[n=3]", details={}, metrics={})
    row.values = {"worst_group_accuracy": row.values["worst_group_accuracy"]}
    root = parse(Board(manifest, [row]))
    assert not root.all("figure")
    assert "Its file is not installed here." in root.text
    assert root.one("section", "split").one("h2").text == "theirs/ thing[n=3]"


def test_a_split_on_two_networks_is_two_sections() -> None:
    other = NetworkPart(backbone="resnet18", image_size=224, pretrained=True, weights_sha256=None, parameters=1)
    root = parse(make_board([make_row("erm"), make_row("erm", network=other, off_board=("backbone=resnet18",))]))
    assert len(root.all("section", "split")) == 2
    assert "resnet18, 224 × 224 pixels" in root.one("table", "overview").text


def test_the_same_board_gives_the_same_bytes_and_no_torch() -> None:
    code = (
        "import hashlib, sys; from robustbench_spur.page import render_page;"
        "from robustbench_spur.registry import Registry; from tests.page.boards import make_board;"
        "text = render_page(make_board(), Registry());"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules;"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "ignore", "-c", code]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_write_page_writes_under_home_or_where_it_is_told(tmp_path: Path) -> None:
    board, home = make_board(), Home(tmp_path / "home")
    path = write_page(board, home)
    assert path == home.pages / "v1" / "index.html"
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    told = write_page(board, home, tmp_path / "page.html")
    assert told.read_bytes() == path.read_bytes() == render_page(board, Registry()).encode()


DRAFT = """
raise SystemExit("the page reads a draft and never runs it")

class Mine(Method):
    name = "mine"
    version = 1
    summary = "weighs by luck"

class Theirs(Dataset):
    name = "theirs"
    version = 1
    summary = "Images of theirs."
    splits = {"thing": "a thing is tied to the label"}

class Own(Evaluator):
    name = "own"
    version = 1
    metrics = {"luck": Metric("Share of lucky guesses.")}
"""


def test_drafts_given_by_path_are_described(tmp_path: Path) -> None:
    draft = tmp_path / "draft.py"
    draft.write_text(DRAFT)
    column = {"name": "luck", "title": "luck", "evaluator": "own", "partition": "test", "metric": "luck"}
    manifest = make_manifest(
        columns=[{**column, "better": "higher"}],
        rank_by="luck",
        splits=[{"name": "theirs/thing", "version": 1, "sha256": None}],
    )
    row = make_row("mine", "theirs/thing", details={}, metrics={})
    row.values = {"luck": Estimate(0.5)}
    told = ["Weighs by luck.", "Images of theirs.", "A thing is tied to the label.", "Share of lucky guesses."]
    board, home = Board(manifest, [row]), Home(tmp_path / "home")
    without = write_page(board, home).read_text(encoding="utf-8")
    described = write_page(board, home, plugin_files=(draft,)).read_text(encoding="utf-8")
    assert "is not installed here" in without and not [text for text in told if text in without]
    assert "is not installed here" not in described and all(text in described for text in told)


def test_a_hundred_rows_stay_below_two_megabytes() -> None:
    rows = [
        make_row(f"method-{k}", f"phantom/field@0.{s}", 0.05 + 0.07 * k) for s in (5, 8, 9, 95, 99) for k in range(12)
    ]
    rows += [make_row(f"method-{k}", "phantom/clean", 0.02 * k) for k in range(40)]
    assert len(rows) == 100
    assert len(render_page(make_board(rows), Registry()).encode()) < 2_000_000


def test_methods_differ_in_colour_or_marker_and_keep_them() -> None:
    rows = [make_row(f"m{k:02d}", split) for split in ("phantom/clean", "phantom/field@0.95") for k in range(42)]
    styles = styles_of(make_board(rows))
    looks = {(series.colour, series.shape) for name, series in styles.items() if name != "erm"}
    assert len(looks) == 42 and (0, 0) not in looks
    assert (styles["erm"].colour, styles["erm"].shape) == (0, 0)
