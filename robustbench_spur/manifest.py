"""The rules of a board version: what is run, how it is measured, what the columns are. Scoring takes it as an argument."""

from __future__ import annotations

import hashlib
import importlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from robustbench_spur.parameters import Settings, Training
from robustbench_spur.types import SplitTable, SpurbenchError, nearest

DEFAULT_BOARD = "v1"


class PartitionPin(Settings):
    """The rows of a partition."""

    sha256: str = Field(description="of its rows, in order: id, label, attribute, patient")
    groups: dict[str, dict[str, int]] = Field(description="examples and patients of every group, as a record has them")


class SplitPin(Settings):
    """A split of the board."""

    name: str = Field(description="in full, as dataset/split@rho")
    version: int = Field(description="of the dataset plugin")
    sha256: str | None = Field(
        description="of its id/label/group/patient table; None where it depends on the user's copy"
    )
    classes: tuple[str, ...] = Field(default=(), description="in order; none where the table is not pinned")
    attribute: str = ""
    values: tuple[str, ...] = Field(default=(), description="of the attribute, in order")
    partitions: dict[str, PartitionPin] = Field(default_factory=dict)

    @classmethod
    def of(cls, name: str, version: int, table: SplitTable) -> Self:
        """The pin of a split whose table is known."""
        counts, groups = table.counts(), table.groups
        return cls(
            name=name,
            version=version,
            sha256=table.sha256(),
            classes=groups.classes,
            attribute=groups.attribute,
            values=groups.values,
            partitions={
                partition: PartitionPin(sha256=rows.digest(), groups=counts[partition])
                for partition, rows in table.partitions.items()
            },
        )


class EvaluatorPin(Settings):
    """An evaluator of the board, with all its settings."""

    name: str
    version: int
    parameters: dict[str, Any]


class Setup(Settings):
    """What the cells of a dataset are trained with."""

    backbone: str
    image_size: int
    pretrained: bool = False
    training: Training


class Bootstrap(Settings):
    """How intervals are made."""

    replicates: int = Field(ge=100, description="resamples of the patients")
    seed: int
    confidence: float = Field(gt=0.5, lt=1)


class Column(Settings):
    """A column of the table: one of the four kinds of value, of one evaluator on one partition."""

    name: str
    title: str
    evaluator: str
    partition: str
    metric: str | None = Field(default=None, description="a metric, shown with its interval")
    family: str | None = Field(default=None, description="a family of metrics, as a dictionary by member")
    lowest: str | None = Field(default=None, description="the member of a family that is lowest on average over seeds")
    parameter: str | None = Field(default=None, description="a parameter of the evaluator")
    better: Literal["higher", "lower", "neither"] = "neither"
    shown: bool = Field(default=True, description="whether the terminal's table has it")

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        kinds = {"metric": self.metric, "family": self.family, "lowest": self.lowest, "parameter": self.parameter}
        stated = [name for name, value in kinds.items() if value is not None]
        if len(stated) != 1:
            raise ValueError(f"column {self.name!r} has to state one of {', '.join(kinds)}, found {stated or 'none'}")
        return self


class Manifest(Settings):
    """A board version, as ``leaderboards/<version>/board.json`` states it."""

    board: str
    status: Literal["draft", "frozen"]
    schema_version: int
    seeds: tuple[int, ...] = Field(min_length=1, description="that a ranked row must have")
    selection: str
    bootstrap: Bootstrap
    minimum_patients: int = Field(description="a worst group with fewer is shown, not ranked")
    rank_by: str = Field(description="name of the column that ranks")
    baseline: str = Field(description="method that the paired differences across tracks are from")
    alpha: float = Field(gt=0, lt=1, description="family-wise error of the ties")
    tracks: tuple[str, ...]
    setups: dict[str, Setup] = Field(description="by dataset")
    splits: tuple[SplitPin, ...] = Field(min_length=1)
    evaluators: tuple[EvaluatorPin, ...]
    columns: tuple[Column, ...]
    tolerances: dict[str, float]

    @model_validator(mode="after")
    def _can_rank(self) -> Self:
        for what, names in (("columns", [c.name for c in self.columns]), ("splits", [s.name for s in self.splits])):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} have to have different names, found {names}")
        if not any(c.name == self.rank_by and c.metric and c.better != "neither" for c in self.columns):
            raise ValueError(f"rank_by has to name a column of a metric with a direction, found {self.rank_by!r}")
        return self

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that its columns are of."""
        return tuple(dict.fromkeys(column.partition for column in self.columns))

    def setup(self, dataset: str) -> Setup | None:
        """What the board trains a dataset's cells with; None where the board does not have the dataset."""
        return self.setups.get(dataset)

    def pin(self, split: str) -> SplitPin | None:
        """The board's entry of a split given in full; None where the board does not have it."""
        return next((pin for pin in self.splits if pin.name == split), None)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            SpurbenchError: no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise SpurbenchError(
            f"Board {self.board} has no column {name!r}. {nearest(name, [c.name for c in self.columns])}"
        )


def boards_folder() -> Path:
    """The folder of board versions that this installation came with."""
    package = importlib.import_module("robustbench_spur.leaderboards")
    return Path(next(iter(package.__path__)))


@lru_cache
def manifest_sha256(board: str = DEFAULT_BOARD) -> str:
    """Hash of a board's manifest, as it is installed."""
    return hashlib.sha256((boards_folder() / board / "board.json").read_bytes()).hexdigest()


@lru_cache
def load_manifest(board: str = DEFAULT_BOARD) -> Manifest:
    """Read the manifest of a board version.

    Raises:
        SpurbenchError: no such board, or its file does not hold what a manifest must.
    """
    path = boards_folder() / board / "board.json"
    if board != path.parent.name or not path.is_file():
        known = [p.parent.name for p in boards_folder().glob("*/board.json")]
        raise SpurbenchError(f"Unknown board {board!r}. {nearest(board, known)}")
    return read_manifest(path)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        SpurbenchError: the file does not hold what a manifest must.
    """
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise SpurbenchError(f"Expected a board manifest in {path}, found in {where}: {first['msg']}.") from error
    except ValueError as error:
        raise SpurbenchError(f"Expected a board manifest in {path}, found no JSON: {error}.") from error
