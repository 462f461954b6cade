"""A real browser shows the page: without a complaint, without a request, without a foreign script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from robustbench_spur.board import Board
from robustbench_spur.home import Home
from robustbench_spur.page import render_page, write_page
from robustbench_spur.registry import Registry
from tests.page.boards import make_board, make_row, not_applicable
from tests.page.reading import Element, Tree, results, rows_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(path: Path, *flags: str, fragment: str = "") -> tuple[Element, str]:
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
    command += [
        f"--user-data-dir={folder}",
        "--window-size=1280,900",
        *flags,
        "--dump-dom",
        path.as_uri() + (f"#{fragment}" if fragment else ""),
    ]
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
