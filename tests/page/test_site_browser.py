"""A real browser opens the site: its filters, its order, its columns, and what is left of it without JavaScript."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from robustbench_spur.page import write_site
from robustbench_spur.registry import Registry
from tests.page.boards import HOSTILE, make_board, make_row, with_more
from tests.page.reading import Element
from tests.page.test_browser import browse, needs_browser
from tests.page.test_site import big_board, of_team

SPLIT, METHOD = "splits/phantom.field@0.95.html", "methods/groupdro.html"


def shown_in(root: Element, css: str) -> list[Element]:
    """Elements of a class that are not hidden, nor in a part of the page that is."""
    if "hidden" in root.attributes:
        return []
    own = [root] if css in root.attributes.get("class", "").split() else []
    return own + [found for child in root.children for found in shown_in(child, css)]


def scripted(page: Path, script: str) -> Path:
    """A page with a script of the test's at its end, and without the policy that would stop it."""
    text, changed = re.subn(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    assert changed == 1
    changed_page = page.with_name("scripted.html")
    changed_page.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return changed_page


def told(page: Path, script: str, *flags: str) -> object:
    """What a script, run at the end of a page, hands to ``say``; the page asks for nothing and complains of nothing."""
    code = "function say(what) { document.body.dataset.said = JSON.stringify(what); }" + script
    code += "document.body.dataset.loads = performance.getEntriesByType('resource').length;"
    root, console = browse(scripted(page, code), *flags)
    body = root.one("body").attributes
    assert console == "" and body["data-loads"] == "0"
    return json.loads(body["data-said"])


@needs_browser
@pytest.mark.parametrize("name", [SPLIT, METHOD])
def test_pages_are_shown_without_a_complaint(tmp_path: Path, name: str) -> None:
    write_site(big_board(), tmp_path, Registry())
    root, console = browse(tmp_path / name)
    assert console == "" and root.one("html").attributes["class"] == "js"


@needs_browser
def test_an_address_can_hold_the_filters(tmp_path: Path) -> None:
    write_site(big_board(), tmp_path, Registry())
    root, console = browse(tmp_path / "index.html", fragment="show:q=GROUP&split=phantom%2Ffield%401.0")
    assert console == "" and root.one("html").attributes["class"] == "js"
    strips = shown_in(root.one("table", "heatmap"), "strip")
    assert [strip.all("th")[0].text for strip in strips] == ["groupdro"]
    assert [td.text for td in strips[0].all("td") if "hidden" not in td.attributes] == ["66.0"]
    assert [section.attributes["data-split"] for section in shown_in(root, "split")] == ["phantom/field@1.0"]
    assert [e.text for e in shown_in(root.one("main"), "name") if e.tag == "a"] == ["groupdro"]
    assert root.one("output").text == "1 of 4 methods"


FILTER = """
  var names = function (css) {
    return Array.from(document.querySelectorAll(css)).filter(e => e.offsetParent !== null).map(e => e.textContent.trim());
  };
  var type = function (id, value) {
    var field = document.getElementById(id);
    field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  };
  var seen = function () {
    return [names("tr.strip th").join(" "), names("section.split h3").length, location.hash, names("output")[0]];
  };
  var said = [seen()];
  type("f-track", "train"); said.push(seen());
  type("f-q", "nobody"); said.push(seen(), names(".none-left").length);
  type("f-track", ""); type("f-q", " north "); said.push(seen());
  document.getElementById("f-clear").click(); said.push(seen(), document.activeElement.id);
  type("f-split", "phantom/clean"); said.push(seen(), names("table.heatmap thead a").length);
  document.getElementById("f-clear").click();
  var button = document.querySelector("table.heatmap th[data-split='phantom/field@0.95'] button");
  button.click(); button.click();
  said.push(names("tr.strip th").join(" "), document.getElementById("said").textContent);
  say(said);
"""


@needs_browser
def test_filters_hide_what_does_not_fit_and_the_address_keeps_them(tmp_path: Path) -> None:
    rows = [make_row(name, level=level) for name, level in (("erm", 0.1), ("jtt", 0.4), ("bsoftmax", 0.3))]
    rows += [of_team(make_row("groupdro"), "North"), make_row("jtt", "phantom/clean", 0.9)]
    write_site(make_board(rows), tmp_path, Registry())
    everybody = "erm baseline jtt bsoftmax groupdro"
    assert told(tmp_path / "index.html", FILTER) == [
        [everybody, 2, "", ""],
        ["groupdro", 2, "#show:track=train", "1 of 4 methods"],
        ["", 2, "#show:q=nobody&track=train", "0 of 4 methods"],
        2,
        ["groupdro", 2, "#show:q=+north+", "1 of 4 methods"],
        [everybody, 2, "", ""],
        "f-q",
        [everybody, 1, "#show:split=phantom%2Fclean", "4 of 4 methods"],
        1,
        "erm baseline bsoftmax jtt groupdro",
        "Sorted by phantom/field@0.95, ascending, within each track.",
    ]


@needs_browser
def test_more_columns_are_shown_when_they_are_asked_for(tmp_path: Path) -> None:
    write_site(big_board(), tmp_path, Registry())
    script = """
      var cell = document.querySelector("td.extra"), box = document.querySelector(".more-box");
      var before = getComputedStyle(cell).display;
      box.click();
      say([before, getComputedStyle(cell).display]);
    """
    assert told(tmp_path / SPLIT, script) == ["none", "table-cell"]


@needs_browser
def test_without_javascript_the_tables_are_there_and_the_filters_are_not(tmp_path: Path) -> None:
    write_site(big_board(), tmp_path, Registry())
    page = tmp_path / "index.html"
    # the page's text is read out by a script of the browser's, so that the page's own is refused instead of all
    text, changed = re.subn(r"script-src 'sha256-[^']*'", "script-src 'none'", page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    root, console = browse(page)
    assert changed == 1 and console.count("CONSOLE") == 1 and "script-src" in console
    assert "class" not in root.one("html").attributes
    assert not shown_in(root, "filters")
    assert len(shown_in(root, "strip")) == 4 and len(shown_in(root, "board")) == 3


@needs_browser
@pytest.mark.parametrize("name", ["index.html", SPLIT, METHOD])
def test_nothing_sticks_out_of_a_narrow_page(tmp_path: Path, name: str) -> None:
    rows = [make_row(f"method_{'x' * k}", level=0.08 * k) for k in range(12)] + [make_row("groupdro")]
    rows[0].records[0] = rows[0].records[0].model_copy(update={"off_board": (f"eta={HOSTILE}",)})
    write_site(with_more(make_board(rows)), tmp_path, Registry())
    script = "document.body.style.width = '390px'; say(document.body.scrollWidth);"
    assert int(str(told(tmp_path / name, script, "--window-size=390,900"))) <= 390
