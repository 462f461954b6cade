"""The page as a tree of elements, read strictly, so that tests can ask what stands where."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from robustbench_spur.board import Board
from robustbench_spur.page import render_page
from robustbench_spur.registry import Registry

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
