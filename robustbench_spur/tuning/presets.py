"""Tuned presets: what a search chose for a split, kept with its evidence in a file beside the method.

The file is ``tuned/<method>.json`` in the folder of the method's file. Where that belongs to an installed package, or cannot be
written to, it is ``presets/<method>.json`` in the home, which is looked at first. A preset is of one split: settings that
serve one say nothing of another.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.home import Home
from robustbench_spur.registry import Plugin
from robustbench_spur.splitref import SplitRef
from robustbench_spur.store import replacing
from robustbench_spur.types import SpurbenchError

TUNED = "tuned"
"""Name of the preset, and of the folder."""
SCHEMA_VERSION = 1
INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages: what is written there is lost with the next version."""


class TunedPreset(BaseModel):
    """The settings chosen for one split, and what they were chosen by."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    settings: dict[str, Any] = Field(description="in the place of the method's defaults; none where these were chosen")
    rule: str = Field(description="that chose them")
    needs: tuple[str, ...] = Field(description="annotations that the rule consumed, in the words of a method's needs")
    track: str = Field(description="of method and rule together")
    trial: int = Field(description="the number of the chosen one")
    value: float = Field(description="of the rule, for the chosen trial")
    part: str = Field(description="class, group or environment that the value is of")
    patients: int | None = Field(description="of that part")
    trials: list[dict[str, Any]] = Field(description="all that were tried, with what every rule said on validation")
    search: list[list[Any]] = Field(description="name, range, and whether whole, of every setting that was searched")
    sampler: str
    tuning_seed: int
    seeds: tuple[int, ...] = Field(description="of training, in every trial")
    method_version: int
    method_sha256: str = Field(description="of the method's file")
    split_version: int
    split_sha256: tuple[str, ...] = Field(description="of the table, one for each fold")
    network: dict[str, Any]
    training: dict[str, Any]
    numerics: dict[str, Any]
    board: str
    package: str | None = Field(description="version")
    finished: str = Field(description="ISO 8601, in UTC")
    command: str = Field(description="that makes it again")


class PresetFile(BaseModel):
    """All tuned presets of a method."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    method: str
    presets: dict[str, TunedPreset] = Field(
        description="by split in full; a protocol's folds together, or each by itself"
    )


def split_key(refs: list[SplitRef]) -> str:
    """What a preset is kept under: the split, or the one fold of it that was tuned on."""
    return refs[0].full if len(refs) == 1 else refs[0].family


def beside(plugin: Plugin) -> Path | None:
    """The file beside the method's; None where the method has no file."""
    return plugin.path.resolve().parent / TUNED / f"{plugin.name}.json" if plugin.path else None


def in_home(plugin: Plugin, home: Home) -> Path:
    """The file in the home."""
    return home.root / "presets" / f"{plugin.name}.json"


def place_of(plugin: Plugin, home: Home, *, only_home: bool = False) -> Path:
    """Where a new preset of a method is kept."""
    path = beside(plugin)
    if only_home or path is None or set(INSTALLED) & set(path.parts):
        return in_home(plugin, home)
    folder = path.parent if path.parent.is_dir() else path.parent.parent
    return path if os.access(folder, os.W_OK) else in_home(plugin, home)


def read_presets(path: Path) -> dict[str, TunedPreset]:
    """The presets in a file, by split; none where there is no file.

    Raises:
        SpurbenchError: the file does not hold presets, or is of a newer version of this package.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        schema = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise SpurbenchError(f"{path} has schema {schema}, this version reads up to {SCHEMA_VERSION}. Upgrade.")
        return PresetFile.model_validate(content).presets
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SpurbenchError(f"Expected tuned presets in {path}, found in {where}: {first['msg']}.") from error
    except ValueError as error:
        raise SpurbenchError(f"Expected tuned presets in {path}, found no JSON: {error}.") from error


def presets_of(plugin: Plugin, home: Home) -> dict[str, TunedPreset]:
    """All tuned presets of a method, by split; those in the home go before those beside the method."""
    path = beside(plugin)
    return {**(read_presets(path) if path else {}), **read_presets(in_home(plugin, home))}


def find_preset(plugin: Plugin, ref: SplitRef, home: Home) -> TunedPreset:
    """The tuned preset of a method for a split.

    Raises:
        SpurbenchError: there is none, or it was made for another version of the method or the split.
    """
    found = presets_of(plugin, home)
    preset = found.get(ref.full) or found.get(ref.family)
    again = f"Run: spurbench tune --method {plugin.name} --split '{ref.full}'"
    if preset is None:
        there = f" It has one for {', '.join(sorted(found))}." if found else ""
        raise SpurbenchError(f"Method {plugin.name!r} has no preset {TUNED!r} for {ref.full}.{there} {again}")
    for what, made, now in (
        ("method", preset.method_version, plugin.version),
        ("split", preset.split_version, ref.plugin.version),
    ):
        if made != now:
            raise SpurbenchError(
                f"Expected the preset {TUNED!r} of {plugin.name!r} for {ref.full} to be of {what} v{now}, found v{made}."
                f" {again}"
            )
    return preset


def keep(plugin: Plugin, home: Home, split: str, preset: TunedPreset, *, only_home: bool = False) -> Path:
    """Keep a preset, in the place of an older one for the same split.

    Args:
        plugin: the method's.
        home: where it is kept if not beside the method.
        split: what it is kept under; see :func:`split_key`.
        preset: to keep.
        only_home: leave the method's folder alone.

    Returns:
        The file.
    """
    from filelock import FileLock

    path, home_file = place_of(plugin, home, only_home=only_home), in_home(plugin, home)
    home_file.parent.mkdir(parents=True, exist_ok=True)
    # two searches on two splits may end at once, and both files are of all splits
    with FileLock(home_file.with_suffix(".lock")):
        _write(path, plugin.name, {**read_presets(path), split: preset})
        older = read_presets(home_file)
        if path != home_file and split in older:  # it would go before the new one
            _write(home_file, plugin.name, {name: one for name, one in older.items() if name != split})
    return path


def _write(path: Path, method: str, presets: dict[str, TunedPreset]) -> None:
    content = PresetFile(method=method, presets=dict(sorted(presets.items()))).model_dump(mode="json")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
