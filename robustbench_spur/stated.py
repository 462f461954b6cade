"""What a plugin's class may state: types of the attributes that are believed of the source without running it."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.splits.base import Archive

PartitionName = Literal["train", "validation", "adapt", "selection", "test"]
NAME = re.compile("[a-z][a-z0-9_]*")
"""What a plugin may be called: names are parts of file names, of options and of pages."""


class _Literals(BaseModel):
    """What a class states, as the source has it."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: int = Field(ge=0)
    summary: str = ""
    source: str = ""


class _MethodLiterals(_Literals):
    needs: tuple[Literal["validation_attributes", "train_attributes", "adapt", "shortcut"], ...] = ()
    every_group_in: tuple[PartitionName, ...] = ()
    presets: dict[str, dict[str, Any]] = {}


class _EvaluatorLiterals(_Literals):
    metrics: dict[str, Metric]
    collects: tuple[str, ...] = ()
    partitions: tuple[PartitionName, ...] = ()
    reads: tuple[PartitionName, ...] = ()
    requires: tuple[str, ...] = ()
    costly: bool = False


class _DatasetLiterals(_Literals):
    splits: dict[str, str] = Field(min_length=1)
    aliases: dict[str, str] = {}
    tied: tuple[str, ...] = ()
    rhos: tuple[float, ...] = ()
    default_rho: float = 1.0
    embedded: bool = False
    image_size: int = Field(default=8, ge=8)
    image_sizes: tuple[int, ...] = ()
    channels: int = Field(default=1, ge=1)
    augmentations: tuple[Literal["horizontal_flip", "shift"], ...] = ()
    licence: str = ""
    archives: tuple[Archive, ...] = ()


LITERALS: dict[str, type[_Literals]] = {
    "method": _MethodLiterals,
    "evaluator": _EvaluatorLiterals,
    "dataset": _DatasetLiterals,
}
"""Types of what is believed of the source without running it."""
STATED = {
    "method": ("name", "version", "needs", "every_group_in", "presets"),
    "evaluator": ("name", "version", "metrics", "collects", "partitions", "reads", "requires", "costly"),
    "dataset": ("name", "version", "splits", "aliases", "tied", "rhos", "default_rho", "embedded"),
}
"""Class attributes that the source is believed on: the class must have the same values."""
