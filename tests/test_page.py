"""The page: what it says, what it hides from nobody, and that a real browser shows it without asking for anything."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.board import Board, Row
from robustbench_spur.charts import (
    SHAPES,
    WIDTH,
    Chart,
    Scale,
    Series,
    curves,
    domain,
    dots,
    in_words,
    marker_path,
    overlap,
    place_labels,
    reliability,
    scatter,
    spread_out,
)
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, load_manifest
from robustbench_spur.page import Page, mean_estimate, pooled, render_page, write_page
from robustbench_spur.record import Identity, MethodPart, NetworkPart, Record, SplitPart
from robustbench_spur.registry import Registry
from robustbench_spur.types import Estimate

GROUPS = ("clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T")
HOSTILE = '<img src=x onerror="alert(1)">&"\''
TRACK = {"erm": "none", "jtt": "none", "groupdro": "train", "dfr": "reweight"}
LEVEL = {"erm": 0.14, "jtt": 0.41, "groupdro": 0.66, "dfr": 0.71}


def make_manifest(**changes: Any) -> Manifest:
    one = {"evaluator": "worst_group", "partition": "test"}
    columns = [
        {
            **one,
            "name": "worst_group_accuracy",
            "title": "worst group",
            "metric": "worst_group_accuracy",
            "better": "higher",
        },
        {**one, "name": "which", "title": "which", "lowest": "group_accuracy:"},
        {**one, "name": "groups", "title": "groups", "family": "group_accuracy:", "shown": False},
        {**one, "name": "micro_accuracy", "title": "avg.", "metric": "micro_accuracy", "better": "higher"},
        {
            **one,
            "name": "validation_accuracy",
            "title": "valid.",
            "metric": "micro_accuracy",
            "partition": "validation",
        },
        {"name": "ece", "title": "ECE", "evaluator": "ece", "partition": "test", "metric": "ece", "better": "lower"},
        {
            "name": "pgd_worst_group_accuracy",
            "title": "PGD worst",
            "evaluator": "pgd",
            "partition": "test",
            "metric": "pgd_worst_group_accuracy",
            "better": "higher",
        },
        {
            "name": "radius",
            "title": "radius",
            "evaluator": "pgd",
            "partition": "test",
            "parameter": "headline_radius",
            "shown": False,
        },
    ]
    content: dict[str, Any] = {
        "board": "v1",
        "status": "draft",
        "schema_version": 1,
        "seeds": [0, 1, 2],
        "selection": "last",
        "bootstrap": {"replicates": 2000, "seed": 2025, "confidence": 0.95},
        "minimum_patients": 5,
        "rank_by": "worst_group_accuracy",
        "baseline": "erm",
        "alpha": 0.05,
        "tracks": ["none", "selection", "train", "reweight", "targeted"],
        "setups": {},
        "splits": [{"name": "phantom/field@0.95", "version": 1, "sha256": None}],
        "evaluators": [{"name": name, "version": 1, "parameters": {}} for name in ("worst_group", "ece", "pgd")],
        "columns": columns,
        "tolerances": {},
    }
    return Manifest.model_validate({**content, **changes})


def make_counts(empty: tuple[str, ...] = ()) -> dict[str, dict[str, dict[str, int]]]:
    sizes = {"train": (1140, 60, 60, 1140), "validation": (285, 15, 15, 285), "adapt": (180,) * 4, "test": (450,) * 4}
    counts = {}
    for partition, examples in sizes.items():
        held = {
            g: 0 if g in empty and partition in ("train", "validation") else n
            for g, n in zip(GROUPS, examples, strict=True)
        }
        counts[partition] = {group: {"examples": n, "patients": -(-n // 6)} for group, n in held.items()}
    return counts


def make_bins(level: float) -> list[dict[str, Any]]:
    bins: list[dict[str, Any]] = []
    for k in range(15):
        low, high = k / 15, (k + 1) / 15
        count = 0 if high <= 0.5 else 20 + 8 * k**2 // 3
        middle = max(0.5, low + 0.4 / 15)
        known = {"confidence": middle, "accuracy": min(1.0, 0.35 + 0.5 * middle * (0.5 + level))} if count else {}
        bins.append({"low": low, "high": high, "count": count, "confidence": None, "accuracy": None, **known})
    return bins


def estimate(value: float, width: float = 0.08) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - width), "high": min(1.0, value + 0.8 * width)}


def make_record(method: str, full: str, seed: int, level: float, **changes: Any) -> Record:
    identity = {
        "method": {"name": method},
        "split": {"name": full},
        "network": {},
        "training": {},
        "selection": "last",
        "board": "v1",
    }
    robust = {f"pgd_worst_group_accuracy:{k}/255": estimate(level * (1 - 0.35 * k)) for k in (1, 2)}
    curve = [{"radius": k / 255, "label": f"{k}/255" if k else "0", "worst_group_accuracy": level} for k in range(3)]
    fields: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "board": "v1",
        "board_status": "draft",
        "cell": f"{method}{full}{seed}",
        "config_hash": f"{method}{full}",
        "identity": Identity(**identity),
        "method": MethodPart(name=method, version=1, origin="built-in", sha256="0" * 64, given={}, settings={}),
        "split": SplitPart(
            name=full,
            version=1,
            sha256="0" * 64,
            fingerprint="",
            classes=("clear", "tumour"),
            attribute="field strength",
            values=("3T", "1.5T"),
            counts=make_counts(("clear@1.5T", "tumour@3T") if "@1.0" in full else ()),
            pixel_means={},
            notes=("Test and adapt hold half of each patient's slices of either label.",),
        ),
        "network": NetworkPart(backbone="smallcnn", image_size=64, pretrained=False, weights_sha256=None, parameters=1),
        "training": {"epochs": 12},
        "selection": "last",
        "seed": seed,
        "track": TRACK.get(method, "none"),
        "off_board": (),
        "training_partitions": ("train",),
        "evaluators": {},
        "metrics": {"test": {"pgd": robust}},
        "details": {"test": {"ece": {"reliability": make_bins(level)}, "pgd": {"curve": curve}}},
        "provenance": {
            "package": "0.1.0",
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "python": "3.11.2",
            "platform": "Linux-6.1-x86_64",
            "processor": "AMD EPYC",
            "cpus": 2,
            "libraries": {"torch": "2.9.0", "timm": "1.0.22"},
            "device": "cpu",
            "precision": "float32",
        },
        "started": f"2026-11-2{seed % 3}T10:00:00.000+00:00",
        "finished": f"2026-11-2{seed % 3}T10:05:00.000+00:00",
    }
    return Record.model_validate({**fields, **changes})


def make_row(
    method: str,
    full: str = "phantom/field@0.95",
    level: float | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    **changes: Any,
) -> Row:
    level = LEVEL.get(method, 0.5) if level is None else level
    by_group = dict(zip(GROUPS, (0.97 - level / 20, level + 0.03, level, 0.98 - level / 20), strict=True))
    values = {
        "worst_group_accuracy": Estimate(**estimate(level)),
        "which": "tumour@3T",
        "groups": {name: estimate(value, 0.05) for name, value in by_group.items()},
        "micro_accuracy": Estimate(**estimate(sum(by_group.values()) / 4, 0.04)),
        "validation_accuracy": Estimate(**estimate(0.953 - level / 30, 0.02)),
        "ece": Estimate(**estimate(0.31 - level / 4, 0.03)),
        "pgd_worst_group_accuracy": Estimate(**estimate(0.65 * level)),
        "radius": 1 / 255,
    }
    records = [make_record(method, full, seed, level, **changes) for seed in seeds]
    row = Row(records, "ranked", "", values, ranking=(level, np.full(2, level)))
    row.rank = row.rank_high = 1
    row.difference = Estimate(level - 0.14, level - 0.25, level - 0.03)
    return row


def not_applicable(method: str, split: str, reason: str) -> Row:
    bare = {"status": "not_applicable", "reason": reason, "metrics": {}, "details": {}}
    return Row([make_record(method, split, seed, 0.5, **bare) for seed in (0, 1, 2)], "not_applicable", reason)


def make_board(rows: list[Row] | None = None) -> Board:
    if rows is None:
        rows = [make_row(method) for method in ("erm", "jtt", "groupdro", "dfr")]
        rows[0].rank, rows[0].rank_high, rows[1].rank, rows[1].rank_high = 1, 2, 1, 2
        rows[0].difference = Estimate(None, reason="the baseline itself")
    return Board(make_manifest(), rows)


VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag: str = "", css: str = "") -> list[Element]:
        own = [self] if tag in ("", self.tag) and (not css or css in self.attributes.get("class", "").split()) else []
        return own + [found for child in self.children for found in child.all(tag, css)]

    def one(self, tag: str = "", css: str = "") -> Element:
        found = self.all(tag, css)
        assert len(found) == 1, (tag, css, len(found))
        return found[0]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


class Tree(HTMLParser):
    """A strict little parser: every element is closed, in order, and the texts of an element include its children's."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], [element.tag for element in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, (self.open[-1].tag, tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.texts.append(data)


def parse(board: Board) -> Element:
    return Tree(render_page(board, Registry())).root


def results(root: Element, place: int = 0) -> Element:
    return root.all("table", "board")[place]


def rows_of(table: Element) -> list[Element]:
    return [row for body in table.all("tbody") for row in body.all("tr") if "track" not in row.attributes["class"]]


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
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_page as t;"
        "text = t.render_page(t.make_board(), t.Registry());"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules;"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
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


def test_a_hundred_rows_stay_below_two_megabytes() -> None:
    rows = [
        make_row(f"method-{k}", f"phantom/field@0.{s}", 0.05 + 0.07 * k) for s in (5, 8, 9, 95, 99) for k in range(12)
    ]
    rows += [make_row(f"method-{k}", "phantom/clean", 0.02 * k) for k in range(40)]
    assert len(rows) == 100
    assert len(render_page(make_board(rows), Registry()).encode()) < 2_000_000


def test_methods_differ_in_colour_or_marker_and_keep_them() -> None:
    rows = [make_row(f"m{k:02d}", split) for split in ("phantom/clean", "phantom/field@0.95") for k in range(42)]
    styles = Page(make_board(rows), Registry()).series
    looks = {(series.colour, series.shape) for name, series in styles.items() if name != "erm"}
    assert len(looks) == 42 and (0, 0) not in looks
    assert (styles["erm"].colour, styles["erm"].shape) == (0, 0)


def test_mean_over_seeds_by_hand() -> None:
    two = mean_estimate([Estimate(0.2, 0.1, 0.4), Estimate(0.4, 0.3, 0.6)])
    assert (two.value, two.low, two.high) == pytest.approx((0.3, 0.2, 0.5))
    one = mean_estimate([Estimate(0.2, 0.1, 0.4), Estimate(0.4, reason="why")])
    assert one.value == pytest.approx(0.3)
    assert (one.low, one.high, one.reason) == (None, None, "why")
    assert mean_estimate([Estimate(0.2), Estimate(None, reason="gone")]) == Estimate(None, reason="gone")


def test_reliability_bins_of_two_seeds_are_pooled_by_hand() -> None:
    def one(count: int, confidence: float | None, accuracy: float | None) -> list[dict[str, Any]]:
        return [{"low": 0.5, "high": 1.0, "count": count, "confidence": confidence, "accuracy": accuracy}]

    assert pooled([one(10, 0.6, 0.5), one(30, 0.8, 0.9)]) == [
        {"low": 0.5, "high": 1.0, "count": 40, "confidence": pytest.approx(0.75), "accuracy": pytest.approx(0.8)}
    ]
    assert pooled([one(0, None, None), one(4, 0.7, 0.5)])[0]["confidence"] == pytest.approx(0.7)
    assert pooled([one(0, None, None)])[0]["accuracy"] is None


def test_a_point_is_drawn_where_its_numbers_say() -> None:
    chart = scatter([(Series("a", 1, 1), Estimate(0.75, 0.7, 0.8), Estimate(0.5, 0.4, 0.6))], "accuracy", "worst group")
    (mark,) = [path for path in chart.paths if path.kind == "mark"]
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", mark.d)]
    x, y = np.mean(numbers[0::2]), np.mean(numbers[1::2])
    # x runs from 60 % at 46 to 100 % at WIDTH - 14, y from 30 % at 280 to 100 % at 14
    assert x == pytest.approx(46 + (WIDTH - 60) * 0.15 / 0.4, abs=0.1)
    assert y == pytest.approx(280 - 266 * 0.2 / 0.7, abs=0.1)
    bars = [path.d for path in chart.paths if path.kind == "bar"]
    assert bars == ["M126 204L206 204", "M166 242L166 166"]


def coordinates(chart: Chart) -> list[float]:
    absolute = [path.d for path in chart.paths if "a" not in path.d]
    return [float(n) for d in absolute for n in re.findall(r"-?[\d.]+|nan|inf", d)] + [
        float(n) for label in chart.labels for n in (label.x, label.y)
    ]


shares = st.floats(0, 1)
estimates = st.one_of(
    st.builds(lambda a, b, c: Estimate(sorted((a, b, c))[1], min(a, b, c), max(a, b, c)), shares, shares, shares),
    st.builds(lambda a: Estimate(a, reason="no interval"), shares),
    st.just(Estimate(None, reason="undefined")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(estimates, estimates, estimates, estimates), max_size=12))
def test_plots_stay_in_their_boxes_whatever_is_missing(many: list[tuple[Estimate, ...]]) -> None:
    series = [Series(f"method {k} with a long name", k % 8, k, faint=k % 2 == 0) for k in range(len(many))]
    charts = [
        scatter([(s, a, b) for s, (a, b, *_) in zip(series, many, strict=True)], "accuracy", "worst group"),
        dots(
            [(s, dict(zip(GROUPS, by, strict=True))) for s, by in zip(series, many, strict=True)], GROUPS, 2, "accuracy"
        ),
        curves(
            [(s, dict(zip((0.0, 0.1, 0.2), by[:3], strict=True))) for s, by in zip(series, many, strict=True)],
            {0.0: "0", 0.1: "a", 0.2: "b"},
            "robust",
        ),
    ]
    for chart in charts:
        assert all(-1 <= n <= max(chart.width, chart.height) + 1 for n in coordinates(chart))
        assert len(chart.rows) == len(many)
        drawn = {path.tip.split(":")[0].split(",")[0] for path in chart.paths if path.tip}
        told = {text.split(" (")[0] for text in chart.missing}
        if chart.kind != "dots":
            assert drawn | told == {s.name for s in series} and not drawn & told


def test_a_group_without_a_number_says_so_in_its_lane() -> None:
    chart = dots(
        [(Series("a"), {"p@u": Estimate(0.5), "p@v": Estimate(None, reason="no examples")})],
        ("p@u", "p@v"),
        2,
        "accuracy",
    )
    assert "p@v: no examples" in [label.text for label in chart.labels]
    kinds = [path.kind for path in chart.paths if path.tip]
    assert kinds == ["hollow"]


def test_reliability_copes_with_one_bin_and_with_none() -> None:
    bins = [{"low": 0.5, "high": 1.0, "count": 3, "confidence": 0.8, "accuracy": 1.0}]
    assert reliability(Series("a"), bins, 2, "").rows == [("50 to 100", "3", "80.0", "100.0")]
    empty = [{"low": 0.5, "high": 1.0, "count": 0, "confidence": None, "accuracy": None}]
    assert reliability(Series("a"), empty, 2, "").rows == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(60, 300), st.floats(30, 260)), min_size=1, max_size=12))
def test_names_of_points_keep_clear_of_each_other(points: list[tuple[float, float]]) -> None:
    names = ["groupdro" for _ in points]
    area = (46.0, 14.0, WIDTH, 280.0)
    boxes = place_labels(points, names, [], area)
    for k, box in enumerate(boxes):
        assert overlap(box, area) == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
        assert all(overlap(box, other) < 1e-9 for other in boxes[:k])


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(1, 20))
def test_names_of_lines_are_spread_in_their_order(positions: list[float], gap: float) -> None:
    out = spread_out(positions, gap, 0, 100)
    room = min(gap, 100 / max(1, len(positions) - 1))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in out)
    ordered = [out[k] for k in sorted(range(len(out)), key=lambda k: positions[k])]
    assert all(b - a >= room - 1e-6 for a, b in itertools.pairwise(ordered))


@given(shares)
def test_ticks_are_round_and_few(least: float) -> None:
    low, high = domain([least])
    assert low <= least
    ticks = Scale(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 7 and ticks[-1] == 1.0
    assert all(round(100 * tick, 6) == int(round(100 * tick, 6)) for tick in ticks)


def test_markers_have_one_size_to_the_eye() -> None:
    for shape in range(1, len(SHAPES)):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", marker_path(50, 50, shape, 5))]
        xs, ys = np.array(numbers[0::2]), np.array(numbers[1::2])
        assert 5 <= max(np.hypot(xs - 50, ys - 50)) <= 7.5


def test_estimates_in_words() -> None:
    assert in_words(Estimate(0.25, reason="no interval: one patient")) == "25.0 (no interval: one patient)"
    assert in_words(Estimate(None)) == "none: undefined"


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(path: Path, *flags: str) -> tuple[Element, str]:
    """The page as Chromium leaves it, and what it said on the console."""
    folder = path.parent / "profile"
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    command += [f"--user-data-dir={folder}", "--window-size=1280,900", *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Tree(done.stdout).root, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def injected(board: Board, path: Path, script: str) -> Path:
    """The page with a script of the test's at its end, and without the policy that would stop it."""
    text = render_page(board, Registry())
    text, changed = re.subn(r"<meta http-equiv[^>]*>", "", text)
    assert changed == 1
    path.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return path


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@needs_browser
def test_a_browser_shows_the_page_without_a_complaint(tmp_path: Path) -> None:
    root, console = browse(write_page(make_board(), Home(tmp_path)))
    assert console == ""
    assert root.one("html").attributes["class"] == "js"  # the policy lets the page's own script run
    assert [row.one("span", "name").text for row in rows_of(results(root))] == ["erm", "jtt", "groupdro", "dfr"]


@needs_browser
def test_a_browser_runs_no_other_script(tmp_path: Path) -> None:
    text = render_page(make_board(), Registry())
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    root, console = browse(page)
    assert root.all("title")[0].text != "taken"
    assert "Content Security Policy" in console


@needs_browser
def test_a_click_sorts_within_the_tracks_with_missing_values_last(tmp_path: Path) -> None:
    rows = [make_row(name, level=level) for name, level in (("a", 0.3), ("b", 0.9), ("c", 0.1))]
    rows += [not_applicable("d", "phantom/field@0.95", "no"), make_row("groupdro", level=0.5)]
    script = """
      function order() {
        return Array.from(document.querySelectorAll("table.board .name")).map(e => e.textContent).join(" ");
      }
      var head = Array.from(document.querySelectorAll("table.board thead th")).find(e => e.textContent.trim() == "ECE");
      var said = [order()];
      for (var k = 0; k < 2; k++) {
        head.querySelector("button").focus();
        document.activeElement.click();
        said.push(order(), head.getAttribute("aria-sort"), document.querySelectorAll("[aria-sort=none]").length,
                  document.getElementById("said").textContent);
      }
      document.body.dataset.said = JSON.stringify(said);
      document.body.dataset.loads = performance.getEntriesByType("resource").length;
    """
    root, console = browse(injected(make_board(rows), tmp_path / "page.html", script))
    body = root.one("body").attributes
    heads = len(results(root).one("thead").all("th"))
    # the fixture's calibration error falls as the worst group rises; lower is better, so the first click ascends
    assert json.loads(body["data-said"]) == [
        "a b c d groupdro",
        *("b a c d groupdro", "ascending", heads - 1, "Sorted by ECE, ascending, within each track."),
        *("c a b d groupdro", "descending", heads - 1, "Sorted by ECE, descending, within each track."),
    ]
    assert body["data-loads"] == "0" and console == ""


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_page(tmp_path: Path, width: int) -> None:
    rows = [make_row(f"method-{k}", level=0.08 * k) for k in range(12)]
    script = (
        f"if (innerWidth > {width}) document.body.style.width = '{width}px';"
        "document.body.dataset.width = document.body.scrollWidth;"
        "document.body.dataset.over = Array.from(document.querySelectorAll('table.board td'))"
        ".filter(cell => cell.scrollWidth > cell.clientWidth + 1).length;"
    )
    page = injected(make_board(rows), tmp_path / "page.html", script)
    root, _ = browse(page, f"--window-size={width},900")
    assert int(root.one("body").attributes["data-width"]) <= width
    assert root.one("body").attributes["data-over"] == "0"
