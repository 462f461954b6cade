"""What a cell leaves behind: one JSON file and one file of predictions, append-only, its hash in its name."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.stage import ENGINE_VERSION
from robustbench_spur.store import content_hash, file_sha256, read_arrays, replacing, write_arrays
from robustbench_spur.types import Groups, SpurbenchError, conflict_groups

ROWS = ("ids", "labels", "attributes", "clusters", "logits")
SCHEMA_VERSION = 1
"""Shape of a record. Raised when a field changes its meaning; older records are migrated on reading."""


class Part(BaseModel):
    """Base of a record's parts: unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MethodPart(Part):
    """The method that ran."""

    name: str
    version: int
    origin: str = Field(description="'built-in', a distribution with its version, or 'file'")
    sha256: str = Field(description="of its source file")
    given: dict[str, Any] = Field(description="settings as the user gave them")
    settings: dict[str, Any] = Field(description="what they came to")
    preset: str | None = None


class SplitPart(Part):
    """The data that it met."""

    name: str = Field(description="in full, as dataset/split@rho")
    version: int
    sha256: str = Field(description="of the id/label/group/patient table")
    fingerprint: str = Field(description="of the user's source files; empty for an embedded dataset")
    classes: tuple[str, ...]
    attribute: str
    values: tuple[str, ...]
    counts: dict[str, dict[str, dict[str, int]]] = Field(
        description="examples and patients by partition and group; designed = 0 where the partition's design has it not"
    )
    pixel_means: dict[str, list[list[float]]] = Field(description="mean 8 x 8 table of the images, by partition")
    notes: tuple[str, ...]

    def groups_in(self, partition: str) -> Groups:
        """The universe of a partition: the groups that the split's design has there, all unless it declares some."""
        whole, counts = Groups(self.classes, self.attribute, self.values), self.counts.get(partition, {})
        left_out = {name for name, n in counts.items() if n.get("designed") == 0}
        if left_out.isdisjoint(whole.names):
            return whole
        return whole.only(code for code, name in enumerate(whole.names) if name not in left_out)


class NetworkPart(Part):
    """The network that was trained."""

    backbone: str
    image_size: int
    pretrained: bool
    weights_sha256: str | None = Field(description="of the file of initial weights")
    parameters: int | None = Field(description="number of trained numbers")


class StagePart(Part):
    """One stage that the cell needed."""

    key: str
    kind: str
    title: str
    cached: bool = Field(description="whether it was there already when the cell ran")
    cost: dict[str, float] = Field(description="wall_seconds, cpu_seconds, peak_memory_bytes of when it was computed")


class ErrorPart(Part):
    """Why a cell failed."""

    type: str
    message: str
    traceback: str


class PredictionsPart(Part):
    """The file of per-example predictions."""

    file: str = Field(pattern=r"^\w[\w.-]*$", description="its name, without a folder")
    sha256: str


def read_predictions(arrays: Mapping[str, NDArray[Any]], split: SplitPart, partition: str) -> Predictions:
    """The predictions of one partition, from the arrays of a record's file; no data set is needed."""
    prefix = f"{partition}/"
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    groups = split.groups_in(partition)
    missing = [name for name in ROWS if name not in own]
    if missing:
        raise SpurbenchError(f"Expected predictions on {partition!r} of {split.name}, found no {missing[0]}.")
    rows = [own.pop(name) for name in ROWS]
    conflict = conflict_groups(split.counts["train"], groups)
    return Predictions(rows[0], rows[1], rows[2], rows[3], rows[4], groups, own, conflict)


def read_partitions(
    record: Record, arrays: Mapping[str, NDArray[Any]], partitions: Iterable[str]
) -> dict[str, Predictions]:
    """The predictions of those of these partitions that a record's file has.

    Args:
        record: that they are of; none where it has no account of the data.
        arrays: of the file.
        partitions: names.
    """
    split = record.split
    if split is None:
        return {}
    return {one: read_predictions(arrays, split, one) for one in partitions if f"{one}/logits" in arrays}


def predictions_arrays(partition: str, predictions: Predictions) -> dict[str, NDArray[Any]]:
    """The predictions of one partition as arrays for the file, under names that begin with the partition's."""
    rows = {name: getattr(predictions, name) for name in ROWS}
    return {f"{partition}/{name}": array for name, array in {**rows, **predictions.arrays}.items()}


class Identity(Part):
    """All that makes two cells comparable but for the seed: the hash of this is ``config_hash``."""

    method: dict[str, Any]
    split: dict[str, Any]
    network: dict[str, Any]
    training: dict[str, Any]
    selection: str
    board: str
    numerics: dict[str, Any] = Field(default_factory=dict, description="kind of device, precision of training")
    engine: int = Field(default=ENGINE_VERSION, description="version of the training loop")

    @property
    def sha256(self) -> str:
        """Hash of the identity."""
        return content_hash(self.model_dump(mode="json"))

    @property
    def family(self) -> str:
        """The split in full, without the number of the fold where it is a fold of a protocol."""
        return str(self.split.get("family", self.split["name"]))

    @property
    def configuration(self) -> str:
        """Hash of what is equal for all seeds and for all folds of a protocol."""
        if "family" not in self.split:
            return self.sha256
        of_fold = {
            "name": self.family,
            **{k: v for k, v in self.split.items() if k not in ("name", "sha256", "family")},
        }
        return content_hash(self.model_copy(update={"split": of_fold}).model_dump(mode="json"))


class Record(Part):
    """One cell: (method with its settings, split, network, seed), measured."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["done", "failed", "not_applicable"]
    reason: str = Field(description="why it is not done; empty where it is")
    board: str
    board_status: str
    cell: str = Field(description="hash of identity, seed and evaluators: a cell with this hash need not run again")
    config_hash: str = Field(description="hash of the identity; the same for all seeds")
    identity: Identity
    method: MethodPart
    split: SplitPart | None = Field(description="None where the data could not be read")
    network: NetworkPart
    training: dict[str, Any] = Field(description="the budget as the last training of the cell used it")
    selection: str
    selected_epoch: int | None = None
    seed: int
    track: str
    off_board: tuple[str, ...] = Field(description="what of it is not the board's: such a record is not ranked")
    degenerate: bool = Field(default=False, description="forced to run where it is not applicable")
    training_partitions: tuple[str, ...] = Field(
        description="partitions it trained on: their metrics are training metrics"
    )
    evaluators: dict[str, dict[str, Any]] = Field(description="version and parameters, by name")
    metrics: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="{partition: {evaluator: {metric: {value, low, high}}}}"
    )
    details: dict[str, dict[str, Any]] = Field(default_factory=dict, description="{partition: {evaluator: ...}}")
    cross_checks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="the same quantities by other libraries: {partition: {evaluator: ...}}"
    )
    history: list[dict[str, Any]] = Field(default_factory=list, description="of the last training, one entry per epoch")
    notes: dict[str, Any] = Field(default_factory=dict, description="what the method's stages noted, by stage title")
    stages: list[StagePart] = Field(default_factory=list)
    cost: dict[str, float] = Field(default_factory=dict, description="sums over all stages, shared ones included")
    error: ErrorPart | None = None
    predictions: PredictionsPart | None = None
    model: str | None = Field(default=None, description="key of the stage that is the model")
    provenance: dict[str, Any]
    started: str = Field(description="when the plan was made")
    finished: str

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """A record from JSON values, those of an older schema migrated.

        Raises:
            NewerSchemaError: of a schema that this version does not know.
            ValidationError: no record.
        """
        schema = content.get("schema_version") if isinstance(content, dict) else None
        if type(schema) is int:
            if schema > SCHEMA_VERSION:
                raise NewerSchemaError(f"schema {schema}, this version reads up to {SCHEMA_VERSION}")
            for older in range(max(schema, 0), SCHEMA_VERSION):
                if older in MIGRATIONS:
                    content = MIGRATIONS[older](content) | {"schema_version": older + 1}
        return cls.model_validate(content)


class NewerSchemaError(ValueError):
    """A record of a schema that this version does not know."""


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a schema to the next: a copy of the content with what changed. ``tests/stored`` holds a record of each schema."""


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


class RecordStore:
    """The records of a home.

    Args:
        records: folder of JSON files.
        predictions: folder of npz files.
    """

    def __init__(self, records: Path, predictions: Path) -> None:
        self.records, self.predictions = records, predictions

    def add(self, record: Record) -> Path:
        """Write a record at once. Its name holds its hash, so that only an equal record can be there already.

        NaN and infinity among what methods and evaluators noted become null: JSON has no word for them.

        Returns:
            The record's file.

        Raises:
            SpurbenchError: it holds an array, or anything else that is not of JSON.
        """
        try:
            text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
        except (ValueError, TypeError) as error:
            raise SpurbenchError(
                f"Expected numbers, texts, lists and None in the record of {record.method.name}, found otherwise: {error}"
            ) from error
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self.records / f"{record.method.name}-{digest[:24]}.json"
        with replacing(path) as temporary:
            temporary.write_bytes(text.encode())
        return path

    def add_predictions(self, cell: str, arrays: Mapping[str, NDArray[Any]]) -> PredictionsPart:
        """Write the predictions of a cell, before its record."""
        draft = self.predictions / f".{cell}.{secrets.token_hex(8)}.npz"
        try:
            write_arrays(draft, arrays)
            digest = file_sha256(draft)
            name = f"{cell[:24]}-{digest[:16]}.npz"
            draft.replace(self.predictions / name)
        finally:
            draft.unlink(missing_ok=True)
        return PredictionsPart(file=name, sha256=digest)

    def __iter__(self) -> Iterator[Record]:
        """All records, oldest first.

        Raises:
            SpurbenchError: a file does not hold a record; it is named.
        """
        loaded = [self.read(path) for path in sorted(self.records.glob("*.json"))]
        yield from sorted(loaded, key=lambda record: record.finished)

    def read(self, path: Path) -> Record:
        """Read one record and check the hash in its name.

        Raises:
            SpurbenchError: not a record, changed after it was written, or of a newer schema.
        """
        raw = path.read_bytes()
        if not path.stem.endswith(f"-{hashlib.sha256(raw).hexdigest()[:24]}"):
            raise SpurbenchError(
                f"{path} was changed after it was written: its name does not match its content. Remove it."
            )
        try:
            return Record.from_json(json.loads(raw, parse_constant=_refuse))
        except NewerSchemaError as error:
            raise SpurbenchError(f"{path} has {error}. Upgrade robustbench-spur.") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise SpurbenchError(f"Expected a record in {path}, found in {where}: {first['msg']}.") from error
        except ValueError as error:
            raise SpurbenchError(f"Expected a record in {path}, found no JSON: {error}.") from error

    def arrays(self, record: Record) -> dict[str, NDArray[Any]]:
        """The predictions of a record.

        Raises:
            SpurbenchError: the file is missing or was changed.
        """
        if record.predictions is None:
            raise SpurbenchError(
                f"The record of {record.method.name} on {record.identity.split['name']} has no predictions."
            )
        path = self.predictions / record.predictions.file
        if not path.is_file():
            raise SpurbenchError(f"Expected predictions at {path}, found none. Run the cell again with --again.")
        if file_sha256(path) != record.predictions.sha256:
            raise SpurbenchError(f"{path} was changed after it was written. Run the cell again with --again.")
        return read_arrays(path)
