"""What a verifier has to say: where, what was found, what was expected, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["fault", "flag", "warning"]
LEVELS: dict[Level, str] = {
    "fault": "rejected until it is mended",
    "flag": "accepted only after a person has looked at it",
    "warning": "accepted as it is",
}
"""What each level means for an entry."""
LONGEST = 200


@dataclass(frozen=True)
class Remark:
    """One thing that a verifier noticed.

    Args:
        level: one of :data:`LEVELS`.
        file: where, relative to what was verified; empty for the whole.
        found: what is there. It may quote a stranger's text: cut, and with control characters escaped.
        expected: what should be.
        remedy: what to do.
    """

    level: Level
    file: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        """In one line."""
        place = f"{self.file}: " if self.file else ""
        return f"{place}expected {self.expected}, found {self.found}. {self.remedy}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level,
            "file": self.file,
            "found": self.found,
            "expected": self.expected,
            "remedy": self.remedy,
        }


class FaultError(Exception):
    """A fault after which a file cannot be read on; it carries the remark."""

    def __init__(self, file: str, found: str, expected: str, remedy: str) -> None:
        self.remark = Remark("fault", file, found, expected, remedy)
        super().__init__(str(self.remark))


def quoted(text: object, longest: int = LONGEST) -> str:
    r"""A stranger's text for a terminal: in quotes, control characters escaped, cut.

    >>> quoted("a" * 9, 4), quoted("red\x1b[31m")
    ("'aaaa…'", "'red\\x1b[31m'")
    """
    whole = str(text)
    return repr(whole if len(whole) <= longest else f"{whole[:longest]}…")


def shown(name: str) -> str:
    r"""The name of a file for a terminal: as it is where it can be printed, else quoted.

    >>> shown("entries/mine"), shown("a\nb")
    ('entries/mine', "'a\\nb'")
    """
    return name if name.isprintable() else quoted(name)
