"""The audit's page: every finding with its verdict and numbers, texts escaped, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_spur.audit import Audit, audit
from robustbench_spur.audit.beside import Beside
from robustbench_spur.audit.page import headline, render_page, write_page
from robustbench_spur.evaluators.base import Finding, Picture
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.evaluators.worst_group import WorstGroup
from robustbench_spur.manifest import load_manifest
from robustbench_spur.measuring import Seed, measure
from robustbench_spur.types import Estimate
from tests.evaluators import reference
from tests.page.reading import Element, Tree


@pytest.fixture(scope="module")
def one() -> Audit:
    seeds = [Seed("toy", reference.random(0))]
    measured = measure(seeds, [WorstGroup(), Calibration()], load_manifest().bootstrap)
    found = audit(measured, "toy <b>", ["<i>a note"])
    return replace(found, left_out={"pgd": "no images & no model"})


def tree(found: Audit, beside: tuple[Beside, ...] = ()) -> Element:
    return Tree(render_page(found, load_manifest(), beside)).root


def with_findings(found: Audit, *verdicts: str) -> Audit:
    findings = tuple(Finding("Is it?", v, "It is.", (), "Much.") for v in verdicts)  # type: ignore[arg-type]
    measured = (replace(found.measured[0], findings=findings), *(replace(m, findings=()) for m in found.measured[1:]))
    return replace(found, measured=measured)


def test_texts_are_escaped_and_left_out_evaluators_told(one: Audit) -> None:
    root = tree(one)
    assert root.one("h1").text == "Audit: toy <b>"
    assert any("<i>a note" in p.text for p in root.all("p"))
    words = root.all("dl", "words")[0]
    assert words.one("dt").text == "pgd" and words.one("dd").text == "No images & no model."


def test_every_finding_shows_its_numbers(one: Audit) -> None:
    articles = tree(one).all("article")
    assert len(articles) == len(one.findings)
    for article, (finding, source) in zip(articles, one.findings, strict=True):
        assert finding.sentence in [p.text for p in article.all("p")]
        rows = article.one("tbody").all("tr")
        assert [row.one("th").text for row in rows] == list(finding.metrics)
        for row, metric in zip(rows, finding.metrics, strict=True):
            value = source.estimates[metric].value
            assert row.all("td")[0].text == (f"{100 * value:.1f} %" if value is not None else "–")
            assert row.all("td")[2].text == source.definition(metric)


def test_all_metrics_of_all_evaluators_are_there(one: Audit) -> None:
    names = {th.attributes.get("title"): th for th in tree(one).all("th") if "title" in th.attributes}
    assert {m.definition(metric) for m in one.measured for metric in m.estimates} == set(names)


def test_the_page_loads_nothing(one: Audit) -> None:
    text = render_page(one, load_manifest())
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<script" not in text
    assert text == render_page(one, load_manifest())


def test_pictures_are_in_the_page(one: Audit) -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    shown = replace(one, measured=(replace(one.measured[0], pictures=(Picture("a slice", image),)), *one.measured[1:]))
    (found,) = tree(shown).all("img")
    assert found.attributes["alt"] == "a slice"
    data = base64.b64decode(found.attributes["src"].removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(data))) == image).all()


def test_the_leaderboard_beside_it_is_sorted(one: Audit) -> None:
    rows = (Beside("erm", "none", Estimate(0.155, 0.1, 0.2)), Beside("groupdro", "train", Estimate(0.688, 0.6, 0.7)))
    section = next(s for s in tree(one, rows).all("section") if s.attributes["aria-labelledby"] == "beside")
    assert [th.text for th in section.one("tbody").all("th")] == ["this model", "groupdro", "erm"]
    assert "68.8 % 60.0 to 70.0" in [td.text for td in section.all("td")]


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("problem", "doubt", "no sign"), "3 questions were asked; 1 found a problem, 1 more gave rise to doubt."),
        (("problem",), "1 question was asked; 1 found a problem."),
        (("doubt", "unknown"), "2 questions were asked; none found a problem, 1 gave rise to doubt."),
        (("no sign",), "1 question was asked; none found a problem. That is no proof"),
        ((), "0 questions were asked; none found a problem."),
    ],
)
def test_the_headline_counts_verdicts(one: Audit, verdicts: tuple[str, ...], said: str) -> None:
    assert headline(with_findings(one, *verdicts)).startswith(said)


def test_writing_makes_the_folder(one: Audit, tmp_path: Path) -> None:
    path = write_page(one, load_manifest(), tmp_path / "deep" / "audit.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
