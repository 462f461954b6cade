"""What the source of a method says of it: read as text, never run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robustbench_spur.method import track_of
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.texts import sentence, setting
from robustbench_spur.parameters import Choice, LogUniform, Share, Uniform

HEADED = re.compile(r"^([A-Z][a-z]+): ?", re.MULTILINE)
"""Beginning of a part of a docstring that has a heading."""


@dataclass(frozen=True)
class Knob:
    """A setting of a method, all as texts: its default, the values allowed, and what a search may try."""

    name: str
    default: str
    allowed: str
    search: str
    doc: str


@dataclass(frozen=True)
class Dossier:
    """A method in its own words.

    Args:
        known: whether its plugin is here.
        reason: why its plugin cannot be read; empty where it can.
        summary: in a sentence.
        text: paragraphs, each a list of lines.
        parts: what stands under a heading of its docstring, such as its deviations from the paper.
        needs: annotations that it consumes.
        track: that this puts it on; empty where it is not known.
        facts: version, origin and what else there is, as titles and texts.
        knobs: its settings.
    """

    known: bool
    reason: str
    summary: str
    text: list[list[str]]
    parts: list[tuple[str, str]]
    needs: tuple[str, ...]
    track: str
    facts: list[tuple[str, str]]
    knobs: list[Knob]


def dossier_of(name: str, words: Glossary) -> Dossier:
    """What is known of a method from its plugin; of one that is not installed here, that it is not."""
    plugin = words.plugins["method"].get(name)
    if plugin is None or plugin.source is None:
        return Dossier(plugin is not None, plugin.reason if plugin else "", "", [], [], (), "", [], [])
    needs = tuple(map(str, plugin.literal("needs", ())))
    text, parts = parted(plugin.source.doc)
    if (source := plugin.literal("source", "")) and "Source" not in dict(parts):
        parts.insert(0, ("Source", str(source)))
    groups = ", ".join(map(str, plugin.literal("every_group_in", ())))
    wraps = plugin.literal("wraps", "")
    facts = [
        ("Version", str(plugin.version)),
        ("Origin", plugin.origin),
        ("Examples of every group in", groups),
        ("Wraps", f"the method that its setting {wraps} names; it needs what that one needs" if wraps else ""),
    ]
    return Dossier(
        known=True,
        reason="",
        summary=sentence(str(plugin.literal("summary", ""))),
        text=text,
        parts=parts,
        needs=needs,
        track=track_of(needs),
        facts=[(title, said) for title, said in facts if said],
        knobs=[
            Knob(one.name, default_of(one.default), one.range, search_of(one.search), one.doc)
            for one in plugin.source.settings
        ],
    )


def default_of(value: object) -> str:
    """A default in words.

    >>> default_of(0.1), default_of(Share(0.25, "epochs")), default_of(None)
    ('0.1', '25 % of the epochs', 'none')
    """
    if isinstance(value, Share):
        return f"{100 * value.share:g} % of the {value.field.replace('_', ' ')}"
    return "none" if value is None else setting(value)


def search_of(value: object) -> str:
    """A search range in words; empty where there is none.

    >>> search_of(LogUniform(0.001, 0.1)), search_of(Choice((1, 2, 5)))
    ('0.001 to 0.1, by its logarithm', '1, 2 or 5')
    """
    match value:
        case None:
            return ""
        case Choice(options=options):
            return " or ".join(filter(None, (", ".join(map(setting, options[:-1])), setting(options[-1]))))
        case LogUniform(low=low, high=high):
            return f"{low:g} to {high:g}, by its logarithm"
        case Uniform(low=low, high=high):
            return f"{low:g} to {high:g}"
        case _:
            return str(value)


def parted(doc: str) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """A docstring as paragraphs of lines, and what stands under its headings.

    Lines that were only wrapped are joined; items of a list keep their line.

    >>> parted(chr(10).join(("One", "two.", "", "1. First", "   item.", "2. Second.", "Source: a", "  paper.")))
    ([['One two.'], ['1. First item.', '2. Second.']], [('Source', 'a paper.')])
    """
    pieces = HEADED.split(doc.strip())
    paragraphs = [paragraph for block in re.split(r"\n\s*\n", pieces[0]) if (paragraph := _lines(block))]
    parts = [(title, " ".join(text.split())) for title, text in zip(pieces[1::2], pieces[2::2], strict=True)]
    return paragraphs, parts


def _lines(block: str) -> list[str]:
    """The lines of a paragraph: one for each item of a list, one where there is none."""
    lines: list[str] = []
    for line in block.splitlines():
        if lines and not re.match(r"\s*(\d+\.|[-*])\s", line):
            lines[-1] = f"{lines[-1]} {line.strip()}"
        elif line.strip():
            lines.append(line.strip())
    return lines
