"""What a tuner may try: the search ranges that a method's settings declare, and values drawn from them.

A value is drawn by a hash of (seed, name of the setting, number of the trial). So one more setting moves the values of no
other, and a longer search begins with the trials of a shorter one.

Source: DomainBed (Gulrajani and Lopez-Paz, ICLR 2021) draws each setting by a hash of its own (``seed_hash``).
Deviations: the whole value follows from the hash; there, the hash seeds a generator.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from robustbench_spur.literals import evaluate
from robustbench_spur.parameters import Choice, LogUniform, Training, Uniform
from robustbench_spur.registry import Plugin
from robustbench_spur.store import content_hash
from robustbench_spur.types import SpurbenchError

DIGITS = 4
"""Significant digits of a drawn number: enough for any setting, and few enough to be read and typed."""
HEX = 13
"""Hexadecimal digits of the hash that are used: 52 bits, which a float holds exactly."""


def uniform(seed: int, name: str, trial: int) -> float:
    """A number in [0, 1) that follows from seed, name and trial alone, a multiple of 2**-52.

    >>> uniform(0, "eta", 1) == uniform(0, "eta", 1), uniform(0, "eta", 1) == uniform(0, "eta", 2)
    (True, False)
    """
    return int(content_hash([seed, name, trial])[:HEX], 16) / 16.0**HEX


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Args:
        name: of the setting.
        search: its range.
        whole: whether its values are whole numbers.
    """

    name: str
    search: LogUniform | Uniform | Choice
    whole: bool

    def at(self, share: float) -> Any:
        """The value at a share of the range, a number in [0, 1).

        >>> Dimension("eta", LogUniform(1e-3, 1e-1), False).at(0.5)
        0.01
        >>> Dimension("layers", Uniform(1, 3), True).at(0.99)
        3
        """
        match self.search:
            case Choice(options=options):
                return options[int(share * len(options))]
            case LogUniform(low=low, high=high):
                value = low * (high / low) ** share
                return min(max(round(value), round(low)), round(high)) if self.whole else short(value, low, high)
            case Uniform(low=low, high=high) if self.whole:
                return int(low) + int(share * (int(high) - int(low) + 1))
            case Uniform(low=low, high=high):
                return short(low + share * (high - low), low, high)

    def draw(self, seed: int, trial: int) -> Any:
        """The value of a trial."""
        return self.at(uniform(seed, self.name, trial))


def short(value: float, low: float, high: float) -> float:
    """A number with few digits, inside its range.

    >>> short(0.0123456789, 1e-3, 1e-1)
    0.01235
    """
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


@dataclass(frozen=True)
class Space:
    """All settings that are searched.

    Args:
        dimensions: one for each, in the order in which they are declared.
    """

    dimensions: tuple[Dimension, ...]

    def draw(self, seed: int, trial: int) -> dict[str, Any]:
        """The settings of a trial; none for trial 0, which has the defaults."""
        return {one.name: one.draw(seed, trial) for one in self.dimensions} if trial else {}

    def spec(self) -> list[list[Any]]:
        """What determines the draws, as JSON values."""
        return [[one.name, repr(one.search), one.whole] for one in self.dimensions]


def space_of(plugin: Plugin, fixed: Collection[str] = (), *, training: bool = False) -> Space:
    """The settings of a method that declare a search range, read from its source.

    Args:
        plugin: of the method.
        fixed: names of settings that are not searched, since they were given.
        training: add those of the training budget that declare one.

    Raises:
        SpurbenchError: nothing is left to search, or a range is no range.
    """
    settings = plugin.source.settings if plugin.source else []
    found = [(s.name, s.search, "int" in s.type.split(" | ")) for s in settings if s.search is not None]
    own = {setting.name for setting in settings}
    if training:
        found += [(name, search, whole) for name, search, whole in _of_the_budget() if name not in own]
    dimensions = [_checked(plugin, *one) for one in found if one[0] not in fixed]
    if not dimensions:
        given = sorted({name for name, _, _ in found} & set(fixed))
        why = f"all of them are given ({', '.join(given)})" if given else "it declares no search range"
        also = "" if training else " Give --training to search the step size and the weight decay, or"
        raise SpurbenchError(
            f"Expected settings of {plugin.name} to search, found none: {why}.{also}"
            f"{' declare' if also else ' Declare'} ranges: parameter(..., search=LogUniform(low, high))."
        )
    return Space(tuple(dimensions))


def _of_the_budget() -> list[tuple[str, Any, bool]]:
    """Fields of the training budget with a search range."""
    found = []
    for name, info in Training.model_fields.items():
        extra = info.json_schema_extra
        text = extra.get("search") if isinstance(extra, dict) else None
        if isinstance(text, str):
            found.append((name, evaluate(ast.parse(text, mode="eval").body, {}), info.annotation is int))
    return found


def _checked(plugin: Plugin, name: str, search: Any, whole: bool) -> Dimension:
    """A dimension whose range holds values."""
    match search:
        case Choice(options=options):
            fine = len(options) > 0
        case LogUniform(low=low, high=high):
            fine = 0 < low < high < math.inf
        case Uniform(low=low, high=high):
            fine = -math.inf < low < high < math.inf and not (whole and (low % 1 or high % 1))
        case _:
            fine = False
    if not fine:
        raise SpurbenchError(
            f"Expected LogUniform(low, high), Uniform(low, high) or Choice(options) as the search range of {name}, written as a"
            f" literal, found {search}. Correct {plugin.where}."
        )
    return Dimension(name, search, whole)
