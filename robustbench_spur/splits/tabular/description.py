"""How the user's own table is to be read: the TOML beside it, and the settings, which count more."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.reading import reading
from robustbench_spur.types import PARTITIONS, SpurbenchError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "adapt": ("adapt", "adaptation"),
    "selection": ("selection",),
    "test": ("test", "testing"),
}
"""What a split column may say without being asked, in any case."""
IGNORE = "ignore"
NO_PATIENTS = "-"


class Columns(BaseModel):
    """Names of the columns; empty for the usual one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str = "path"
    label: str = "label"
    attribute: str = "attribute"
    split: str = "split"
    patient: str = Field("", description="'patient' where there is such a column; '-' for none")


class Description(BaseModel):
    """What the TOML says, or may be said in its place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(min_length=1, description="file, from the description's folder")
    images: str = Field("", description="folder, from the table's")
    attribute: str = Field("", description="name of the attribute")
    classes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    columns: Columns = Columns()
    split: Mapping[str, str | int | tuple[str | int, ...]] = Field({}, description="what the split column says")
    channels: Literal[0, 1, 3] = 0
    full_scale: int = Field(0, ge=0, le=1 << 32)
    allow_outside: bool = Field(False, description="whether images may lie outside the folder of images")
    name: str = ""
    licence: str = ""
    citation: str = ""


def describe(place: Path, given: Any) -> Description:
    """What the TOML says, or nothing, with the settings that were given put over it.

    Args:
        place: of the table or of its TOML.
        given: settings of the data set, those of the columns named ``path_column`` and so on.

    Raises:
        SpurbenchError: no file, or a TOML that is damaged or says what is not known.
    """
    if not place.is_file():
        found = "a folder; name the table in it" if place.is_dir() else "nothing"
        raise SpurbenchError(f"Expected a CSV, TSV, Parquet or TOML file at {place}, found {found}. Check --data.")
    said = _read_toml(place) if place.suffix.lower() == ".toml" else Description(table=place.name)
    columns = {name: getattr(given, f"{name}_column", "") for name in Columns.model_fields}
    update = {
        "columns": said.columns.model_copy(update={name: column for name, column in columns.items() if column}),
        "images": given.image_root,
        "split": _split_names(given.split_names),
        "classes": listed(given.classes),
        "values": listed(getattr(given, "values", "")),
        "channels": given.channels,
        "full_scale": given.full_scale,
    }
    return said.model_copy(update={name: value for name, value in update.items() if value})


def _read_toml(place: Path) -> Description:
    try:
        with reading(place, "a TOML file"):
            content = place.read_bytes()
        return Description.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise SpurbenchError(
            f"Expected the description of a table in {place}, found {where}: {first['msg']}."
        ) from None
    except ValueError as error:
        raise SpurbenchError(f"Expected TOML in UTF-8, found {place} unreadable ({error}). Correct it.") from None


def listed(text: str) -> tuple[str, ...]:
    """The names between commas.

    >>> listed("clear, tumour"), listed("")
    (('clear', 'tumour'), ())
    """
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _split_names(text: str) -> dict[str, tuple[str, ...]]:
    """Our names of what the split column says.

    >>> _split_names("0:train,1:validation,2:test,3:test")
    {'train': ('0',), 'validation': ('1',), 'test': ('2', '3')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for pair in listed(text):
        cell, colon, name = pair.rpartition(":")
        if not colon:
            raise SpurbenchError(f"Expected split_names such as 0:train,1:validation, found {pair!r}.")
        found[name.strip()] = (*found.get(name.strip(), ()), cell.strip())
    return found


def meanings(said: Description, place: Path) -> dict[str, str]:
    """Our name of each cell of the split column, ``ignore`` included; in lower case where nothing was said.

    Args:
        said: with or without names of its own.
        place: of the table, for messages.

    Raises:
        SpurbenchError: a name that is no partition's, or a cell with two meanings.
    """
    found: dict[str, str] = {}
    for name, cells in (said.split or SPLIT_NAMES).items():
        if name not in (*PARTITIONS, IGNORE):
            known = ", ".join((*PARTITIONS, IGNORE))
            raise SpurbenchError(f"Expected partitions among {known}, found {name!r} for {place}.")
        for cell in cells if isinstance(cells, tuple) else (cells,):
            if found.setdefault(str(cell), name) != name:
                raise SpurbenchError(f"Expected one meaning of split {cell!r}, found {found[str(cell)]} and {name}.")
    return found
