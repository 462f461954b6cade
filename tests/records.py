"""Makers of small boards: a manifest, predictions whose group accuracies are known, and records in a home."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import (
    Identity,
    MethodPart,
    NetworkPart,
    Record,
    RecordStore,
    SplitPart,
    predictions_arrays,
)
from robustbench_spur.registry import Registry
from robustbench_spur.types import Groups

Mask = NDArray[np.bool_]
GROUPS = Groups(("no", "yes"), "site", ("a", "b"))
SPLIT = "phantom/field@0.95"
TABLE = "0123456789abcdef" * 4
TRAINING = {
    "epochs": 2,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "weight_decay": 0.001,
    "momentum": 0.9,
    "warmup_epochs": 1.0,
    "schedule": "constant",
    "averaging": 0.0,
}
COUNTS = {
    partition: {group: {"examples": 48, "patients": 12} for group in GROUPS.names}
    for partition in ("train", "validation", "test")
}
EVALUATORS = {
    name: {"version": Registry().find("evaluator", name).version, "parameters": parameters}
    for name, parameters in {"worst_group": {"minimum_patients": 5}, "ece": {"bins": 15}}.items()
}


def make_manifest(**changes: Any) -> Manifest:
    """A board of one split, two seeds and 200 resamplings, ranked by the worst group on test."""
    one = {"evaluator": "worst_group", "partition": "test"}
    content: dict[str, Any] = {
        "board": "t1",
        "status": "draft",
        "schema_version": 1,
        "seeds": [0, 1],
        "selection": "last",
        "bootstrap": {"replicates": 200, "seed": 7, "confidence": 0.95},
        "minimum_patients": 3,
        "rank_by": "worst",
        "baseline": "plain",
        "alpha": 0.05,
        "tracks": ["none", "selection", "train", "reweight", "targeted"],
        "setups": {"phantom": {"backbone": "smallcnn", "image_size": 64, "pretrained": False, "training": TRAINING}},
        "splits": [{"name": SPLIT, "version": 1, "sha256": None}],
        "evaluators": [{"name": name, **about} for name, about in EVALUATORS.items()],
        "columns": [
            {**one, "name": "worst", "title": "worst group", "metric": "worst_group_accuracy", "better": "higher"},
            {**one, "name": "which", "title": "group", "lowest": "group_accuracy:"},
            {**one, "name": "groups", "title": "groups", "family": "group_accuracy:", "shown": False},
            {**one, "name": "micro", "title": "avg.", "metric": "micro_accuracy", "better": "higher"},
            {**one, "name": "valid", "title": "valid.", "metric": "micro_accuracy", "partition": "validation"},
            {"name": "ece", "title": "ECE", "evaluator": "ece", "partition": "test", "metric": "ece"},
            {**one, "name": "least", "title": "least", "parameter": "minimum_patients", "shown": False},
        ],
        "tolerances": {},
    }
    return Manifest.model_validate({**content, **changes})


def right(*by_group: str) -> Mask:
    """Which slices are right, shape (groups, patients, slices): one text per group, one word per patient.

    ``right("11 01", "00 00")`` has two groups of two patients with two slices each.
    """
    return np.array([[[slice_ == "1" for slice_ in patient] for patient in group.split()] for group in by_group])


def drawn(accuracy: tuple[float, ...], patients: int = 12, slices: int = 4, seed: int = 0) -> Mask:
    """Random slices that are right with a given probability in each group, shape (groups, patients, slices)."""
    uniform = np.random.default_rng(seed).random((len(accuracy), patients, slices))
    return uniform < np.array(accuracy)[:, None, None]


def make_predictions(which: Mask, groups: Groups = GROUPS) -> Predictions:
    """Predictions that are right where ``which`` says so; patients of a group are named in their order."""
    group, patient, slice_ = (axis.ravel() for axis in np.indices(which.shape))
    labels = group // len(groups.values)
    said = np.where(which.ravel(), labels, 1 - labels)
    clusters = np.array([f"p{g}{p:02}" for g, p in zip(group, patient, strict=True)], np.str_)
    ids = np.array([f"{whom}s{s}" for whom, s in zip(clusters, slice_, strict=True)], np.str_)
    logits = 2.0 * np.eye(len(groups.classes), dtype=np.float32)[said]
    return Predictions(ids, labels, group % len(groups.values), clusters, logits.astype(np.float32), groups)


def make_identity(name: str = "plain", /, **changes: Any) -> Identity:
    """What all seeds of a method share."""
    content: dict[str, Any] = {
        "method": {"name": name, "version": 1, "settings": {}},
        "split": {"name": SPLIT, "version": 1, "sha256": TABLE},
        "network": {"backbone": "smallcnn", "image_size": 64, "pretrained": False, "weights_sha256": None},
        "training": TRAINING,
        "selection": "last",
        "board": "t1",
    }
    return Identity.model_validate({part: _merged(value, changes.pop(part, {})) for part, value in content.items()})


def _merged(value: Any, change: Any) -> Any:
    return {**value, **change} if isinstance(value, dict) else change or value


def make_record(name: str = "plain", /, seed: int = 0, *, identity: Identity | None = None, **changes: Any) -> Record:
    """A record that follows the rules of :func:`make_manifest`, without predictions."""
    own = identity or make_identity(name)
    split = SplitPart(
        name=own.split["name"],
        version=own.split["version"],
        sha256=own.split["sha256"],
        fingerprint="",
        classes=GROUPS.classes,
        attribute=GROUPS.attribute,
        values=GROUPS.values,
        counts=COUNTS,
        pixel_means={},
        notes=(),
    )
    part = MethodPart(
        name=own.method["name"], version=own.method["version"], origin="built-in", sha256="", given={}, settings={}
    )
    content: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "board": "t1",
        "board_status": "draft",
        "cell": f"{own.sha256[:32]}{seed:032}",
        "config_hash": own.sha256,
        "identity": own,
        "method": part,
        "split": split,
        "network": NetworkPart(**own.network, parameters=100),
        "training": own.training,
        "selection": own.selection,
        "seed": seed,
        "track": "none",
        "off_board": (),
        "training_partitions": ("train",),
        "evaluators": EVALUATORS,
        "provenance": {},
        "started": "2026-01-01T00:00:00.000+00:00",
        "finished": "2026-01-01T00:00:01.000+00:00",
    }
    return Record(**{**content, **changes})


@dataclass
class Laboratory:
    """Adds records to a home, each finished later than the one before.

    Args:
        home: folder of results.
        records: that were added.
    """

    home: Home
    records: list[Record] = field(default_factory=list)

    @property
    def store(self) -> RecordStore:
        """Of the home."""
        return RecordStore(self.home.records, self.home.predictions)

    def add(
        self,
        name: str = "plain",
        /,
        seed: int = 0,
        test: Mask | None = None,
        *,
        valid: Mask | None = None,
        **changes: Any,
    ) -> Record:
        """Write a record, with predictions where ``test`` says which are right (and ``valid``, the same unless given)."""
        finished = f"2026-01-01T01:{len(self.records) // 60:02}:{len(self.records) % 60:02}.000+00:00"
        draft = make_record(name, seed, **{"finished": finished, **changes})
        if test is not None:
            arrays = predictions_arrays("test", make_predictions(test))
            arrays |= predictions_arrays("validation", make_predictions(test if valid is None else valid))
            draft = draft.model_copy(update={"predictions": self.store.add_predictions(draft.cell, arrays)})
        self.store.add(draft)
        self.records.append(draft)
        return draft
