"""What an entry is: a folder with a list of its files, a record and the predictions of every cell, and whose it is.

entry.json                             who, what, and every other file with its hash
records/phantom.field@0.95/seed0.json  the record of a cell
records/phantom.field@0.95/seed0.npz   its predictions, for the partitions that the board's columns are of
plugin.py                              the method's source, where it is not one of the project's own
weights/phantom.field@0.95/seed0.safetensors   if the team gives them
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from robustbench_spur.record import SCHEMA_VERSION, Part, Record
from robustbench_spur.registry import BUILT_IN
from robustbench_spur.store import content_hash
from robustbench_spur.submission.remarks import FaultError, quoted
from robustbench_spur.submission.safely import LIMITS, Limits, read_json

ENTRY_SCHEMA = 1
ENTRY, RECORDS, WEIGHTS, PLUGIN = "entry.json", "records", "weights", "plugin.py"
PATH = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*(/[A-Za-z0-9_][A-Za-z0-9_.@+-]*){0,3}$"
SHA256 = r"^[0-9a-f]{64}$"
SHORT = 200
LONG = 4000
CELLS = 2_000
"""Most cells of an entry: ten times what a board of twenty splits and ten seeds has."""


class File(Part):
    """A file of the entry."""

    file: str = Field(pattern=PATH, max_length=300, description="path in the entry's folder")
    sha256: str = Field(pattern=SHA256)
    bytes: int = Field(ge=0)


class Cell(Part):
    """A cell that was tried."""

    split: str = Field(max_length=SHORT, description="in full")
    seed: int = Field(ge=0)
    record: File
    predictions: File | None = Field(
        default=None, description="None where it is not done, or where numbers alone are given"
    )
    weights: File | None = None


class EntryMethod(Part):
    """The method that an entry is of."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    version: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256, description="of its source file")
    origin: str = Field(max_length=SHORT, description="'built-in', a distribution with its version, or 'file'")

    @field_validator("origin")
    @classmethod
    def _is_one_line(cls, text: str) -> str:
        return one_line(text)


def one_line(text: str) -> str:
    """The text, once it is known to be one line that can be printed.

    Raises:
        ValueError: it is empty, or has line breaks or control characters.
    """
    if not text.strip() or not text.isprintable():
        raise ValueError("should be one line, free of control characters")
    return text


class Entry(Part):
    """Whose entry it is, and what belongs to it."""

    entry_schema: int = Field(default=ENTRY_SCHEMA, ge=1)
    board: str = Field(max_length=SHORT)
    manifest_sha256: str = Field(pattern=SHA256, description="of the board's manifest as it was packed for")
    method: EntryMethod
    track: str = Field(max_length=SHORT)
    team: str = Field(min_length=1, max_length=SHORT)
    contact: str = Field(default="", max_length=SHORT, description="an address for questions; it is published")
    method_source: str = Field(
        default="", max_length=SHORT, description="address of the method's source; empty for one of the project's own"
    )
    training_data: str = Field(min_length=1, max_length=LONG, description="everything that was trained on")
    deviations: str = Field(min_length=1, max_length=LONG, description="from the method's paper; 'none known'")
    created: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="day")
    package: str = Field(max_length=SHORT, description="version of robustbench-spur that packed it")
    cells: tuple[Cell, ...] = Field(min_length=1)
    plugin: File | None = None

    @field_validator("created")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        date.fromisoformat(text)
        return text

    @field_validator("method_source")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        if text and (not re.fullmatch(r"https?://[^\s\"'<>\\]+", text) or not text.isprintable()):
            raise ValueError("should be an address that begins with https://")
        return text

    @field_validator("team", "contact", "track", "package")
    @classmethod
    def _is_one_line(cls, text: str) -> str:
        return one_line(text) if text else text  # a contact may be left empty, which the others' lengths refuse

    @field_validator("training_data", "deviations")
    @classmethod
    def _is_printable(cls, text: str) -> str:
        if not text.strip() or not all(letter.isprintable() or letter == "\n" for letter in text):
            raise ValueError("should be free of control characters, and not empty")
        return text

    @model_validator(mode="after")
    def _lists_each_once(self) -> Self:
        names = [one.file for one in self.files]
        for what, keys in (("file", names), ("cell", [(cell.split, cell.seed) for cell in self.cells])):
            seen: set[Any] = set()
            for key in keys:
                if key in seen:
                    raise ValueError(f"should list every {what} once, has {key} twice")
                seen.add(key)
        if ENTRY in names:
            raise ValueError(f"should not list {ENTRY} itself")
        return self

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not self.method_source and self.method.origin != BUILT_IN:
            raise ValueError("should have a method_source: the method is not one of the project's own")
        return self

    @property
    def files(self) -> list[File]:
        """All files that it lists."""
        own = [one for cell in self.cells for one in (cell.record, cell.predictions, cell.weights) if one]
        return [*own, *([self.plugin] if self.plugin else [])]

    @property
    def id(self) -> str:
        """Name of the entry: the team, and a hash of all that it states."""
        team = re.sub(r"[^a-z0-9]+", "-", self.team.casefold()).strip("-")[:40].strip("-") or "team"
        # without defaults, so that a field which a later version adds does not rename the entries that are there
        return f"{team}-{content_hash(self.model_dump(mode='json', exclude_defaults=True))[:12]}"


def slug(split: str) -> str:
    """The name of a split as a folder.

    >>> slug("phantom/field@0.95"), slug("spurbreast/field_strength+carve.0")
    ('phantom.field@0.95', 'spurbreast.field_strength+carve.0')
    """
    return re.sub(r"[^A-Za-z0-9_.@+-]", ".", split).rstrip(".")


def weights_path(folder: Path, split: str, seed: int) -> Path:
    """Where the weights of a cell lie in a folder of weights, an entry's own or one beside it."""
    return folder / slug(split) / f"seed{seed}.safetensors"


def load_entry(folder: Path, limits: Limits = LIMITS) -> Entry:
    """Read what an entry states of itself.

    Raises:
        FaultError: it is missing, or not what an entry must be.
    """
    path = folder / ENTRY
    if path.is_symlink() or not path.is_file():
        told = "a folder" if path.is_dir() else "no such file"
        raise FaultError(ENTRY, told, "an entry as spurbench submit packs it", "Give the folder that it made.")
    content = read_json(path, ENTRY, limits)
    _check_schema(content.get("entry_schema", 1), ENTRY, ENTRY_SCHEMA)
    cells = content.get("cells")
    if isinstance(cells, list) and len(cells) > CELLS:
        raise FaultError(ENTRY, f"{len(cells)} cells", f"at most {CELLS} cells", "Submit the board's cells alone.")
    try:
        return Entry.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise fault_of(ENTRY, error) from None


def _check_schema(schema: Any, name: str, newest: int) -> None:
    """Refuse a schema that is none, or newer than what this version reads."""
    if type(schema) is not int or schema < 1:
        raise FaultError(name, f"schema {quoted(schema, 60)}", f"a schema from 1 to {newest}", "Pack the entry again.")
    if schema > newest:
        raise FaultError(name, f"schema {schema}", f"a schema up to {newest}", "Upgrade robustbench-spur.")


def fault_of(name: str, error: ValidationError) -> FaultError:
    """The first thing that is wrong with a file that should hold a model."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    where = where if where.isprintable() and len(where) <= 120 else quoted(where, 120)  # keys are a stranger's too
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    found = f"nothing in {where}" if first["type"] == "missing" else f"{quoted(first['input'], 80)} in {where}"
    expected = first["msg"].rstrip(".")
    if first["type"] == "missing":
        expected = "a value"
    elif expected.startswith("Input should be "):
        expected = expected.removeprefix("Input should be ")
    else:
        expected = expected.removeprefix("Value error, ")
        expected = (
            f"that it {expected}" if expected.startswith("should") else f"that {expected[0].lower()}{expected[1:]}"
        )
    return FaultError(name, f"{found}{more}", expected, "Pack the entry again.")


def read_record(path: Path, name: str, limits: Limits = LIMITS) -> Record:
    """A record of an entry; one of an older schema is migrated.

    Raises:
        FaultError: it is no record.
    """
    content = read_json(path, name, limits)
    schema = content.get("schema_version", 1)
    _check_schema(schema, name, SCHEMA_VERSION)
    try:
        if schema == SCHEMA_VERSION:  # of the very types, while a migration may have reason to read some otherwise
            return Record.model_validate_json(json.dumps(content), strict=True)
        return Record.from_json(content)
    except ValidationError as error:
        raise fault_of(name, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a migration met what was no record of its day
        told = f"{type(error).__name__}: {quoted(error)}"
        raise FaultError(name, told, f"a record of schema {schema}", "Pack the entry again.") from None


def excerpt(
    record: Record, predictions: File | None, measured: Collection[tuple[str, str]], evaluators: Collection[str]
) -> Record:
    """A record with what the board's columns are of, and its predictions under their name in the entry.

    Args:
        record: of a home.
        predictions: file of the entry; None where it has none.
        measured: whose numbers are kept, as (partition, evaluator).
        evaluators: of the board.
    """

    def kept(by: Any) -> dict[str, Any]:
        return {
            partition: {name: found for name, found in inside.items() if (partition, name) in measured}
            for partition, inside in by.items()
            if any(one == partition for one, _ in measured)
        }

    file = {"file": Path(predictions.file).name, "sha256": predictions.sha256} if predictions else None
    error = record.error.model_copy(update={"traceback": ""}) if record.error else None  # it has a machine's paths
    content = record.model_dump(mode="json") | {
        "error": error.model_dump(mode="json") if error else None,
        "metrics": kept(record.metrics),
        "details": kept(record.details),
        "cross_checks": kept(record.cross_checks),
        "evaluators": {name: about for name, about in record.evaluators.items() if name in evaluators},
        "predictions": file,
    }
    return Record.model_validate(content)
