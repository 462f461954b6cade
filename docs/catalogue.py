"""Write ``docs/methods.md``: every built-in method with its track, source and deviations, as its own file states them.

Run it with ``python docs/catalogue.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from robustbench_spur.method import TRACKS, track_of
from robustbench_spur.registry import BUILT_IN, Plugin, Registry

HEADINGS = {
    "none": "no attributes at all",
    "selection": "attributes on validation, for choosing only",
    "train": "attributes in training",
    "reweight": "a small unbiased set (`adapt`)",
    "targeted": "knowledge of the shortcut",
}
START = """# Methods

Every built-in method, by the track on which it is ranked: what it may see. One file each in `methods/`; `spurbench describe
NAME` shows its equations, settings and search ranges, [results.md](results.md) how it fares. Made from those files by
`python docs/catalogue.py`.
"""


def main() -> None:
    """Write the page."""
    (Path(__file__).parent / "methods.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The text of the page."""
    methods = [plugin for plugin in Registry().entries("method") if plugin.origin == BUILT_IN]
    parts = [START]
    assert set(HEADINGS) == {"none", *TRACKS.values()}
    for track, meaning in HEADINGS.items():
        own = [one for one in methods if track_of(tuple(one.literal("needs", ()))) == track]
        if own:
            parts.append(f"## Track `{track}`: {meaning}\n")
            parts += [entry(plugin) for plugin in own]
    return "\n".join(parts)


def entry(plugin: Plugin) -> str:
    """One method: what it does, where it comes from, and where it departs from that."""
    assert plugin.source is not None
    lines = [f"### `{plugin.name}`\n", f"{sentence(plugin.literal('summary', ''))}\n"]
    lines += [f"- {name}: {section(plugin.source.doc, name)}" for name in ("Source", "Deviations", "Needs")]
    return "\n".join(lines) + "\n"


def section(doc: str, name: str) -> str:
    """The text of a section of a module's docstring, in one line."""
    found = re.search(rf"^{name}: (.*?)(?=^\w+: |\Z)", doc, re.MULTILINE | re.DOTALL)
    text = " ".join(found.group(1).replace("``", "`").split()) if found else ""
    # stars, bars and brackets would be read as Markdown
    return re.sub(r"(?<!\\)([*|<>])", r"\\\1", text)


def sentence(text: str) -> str:
    """A summary as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    main()
