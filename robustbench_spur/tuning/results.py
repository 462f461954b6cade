"""What trials leave behind: one JSON file each, append-only, its hash in its name, below ``tuning/`` in the home."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.store import replacing
from robustbench_spur.tuning.rules import Measured, mean_of
from robustbench_spur.types import SpurbenchError

SCHEMA_VERSION = 1
Part = Literal["third", "whole"]


class Kept(BaseModel):
    """Base of what is kept: unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    finished: str = Field(description="ISO 8601, in UTC")


class CellResult(BaseModel):
    """One cell of a trial: a seed, and a fold where the split has folds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(description="in full")
    seed: int
    measured: dict[str, Measured] = Field(description="by rule, on validation")


class TrialResult(Kept):
    """A trial that has ended, or has come to a third of its epochs."""

    number: int
    part: Part
    settings: dict[str, Any] = Field(description="that were tried, in the place of defaults")
    epochs: int = Field(description="of the last training; 0 where none was reached")
    status: Literal["done", "failed"]
    reason: str = Field(description="why it failed; empty where it did not")
    cells: tuple[CellResult, ...] = ()
    seconds: float = Field(description="of work that had to be done for it, on the clock")

    def measured(self, rule: str) -> Measured:
        """What a rule says, as the mean over the cells."""
        if self.status == "failed":
            return Measured(value=None, reason=self.reason)
        return mean_of([cell.measured[rule] for cell in self.cells])


class OracleResult(Kept):
    """The worst group of a trial on the test set, kept apart: nothing is chosen by it."""

    number: int
    settings: dict[str, Any]
    cells: tuple[tuple[str, int, Measured], ...] = Field(description="split, seed, worst group on test")

    @property
    def measured(self) -> Measured:
        """The mean over the cells."""
        return mean_of([measured for _, _, measured in self.cells])


Result = TypeVar("Result", bound=Kept)


class StudyStore:
    """The results of one study.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def describe(self, about: dict[str, Any]) -> None:
        """Write once what the study is."""
        path = self.folder / "study.json"
        if not path.is_file():
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")

    def add(self, result: TrialResult | OracleResult) -> Path:
        """Write a result at once."""
        raw = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()
        stem = (
            f"trial-{result.number:04d}-{result.part}"
            if isinstance(result, TrialResult)
            else f"oracle-{result.number:04d}"
        )
        path = self.folder / f"{stem}-{hashlib.sha256(raw).hexdigest()[:24]}.json"
        with replacing(path) as temporary:
            temporary.write_bytes(raw)
        return path

    def trials(self) -> dict[tuple[int, str], TrialResult]:
        """The newest result of each trial and part of it."""
        return {(one.number, one.part): one for one in self._read("trial-*.json", TrialResult)}

    def oracles(self) -> dict[int, OracleResult]:
        """The newest test value of each trial."""
        return {one.number: one for one in self._read("oracle-*.json", OracleResult)}

    def _read(self, pattern: str, kind: type[Result]) -> Iterator[Result]:
        """Results, oldest first.

        Raises:
            SpurbenchError: a file was changed, or holds something else.
        """
        yield from sorted((read(path, kind) for path in self.folder.glob(pattern)), key=lambda one: one.finished)


def read(path: Path, kind: type[Result]) -> Result:
    """Read one result and check the hash in its name.

    Raises:
        SpurbenchError: it was changed, or holds something else.
    """
    raw = path.read_bytes()
    if not path.stem.endswith(f"-{hashlib.sha256(raw).hexdigest()[:24]}"):
        raise SpurbenchError(
            f"{path} was changed after it was written: its name does not match its content. Remove it."
        )
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SpurbenchError(f"Expected a result of a trial in {path}, found in {where}: {first['msg']}.") from error
