"""What a feature costs a model that is trained where it is tied to the label: a split is drawn, a model trained, and tested.

The test has every pair of level and class alike. The fall is the accuracy on validation, which is tied like the training
set, less that on the test. It holds for one draw, one seed and one network.

Source of the fall's interval: G. Zou and A. Donner, Statistics in Medicine 27, 2008 (MOVER, for a difference of
independent estimates; validation and test share no patient).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_spur.curation.collection import Slices
from robustbench_spur.curation.pool import Choice, Pool, UndrawableError, choose
from robustbench_spur.curation.pool import pool_of as pool_of
from robustbench_spur.curation.pool import worth_measuring as worth_measuring
from robustbench_spur.curation.split import contents, draw, full_name, reader, write
from robustbench_spur.registry import Registry
from robustbench_spur.types import Estimate, Groups, SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.manifest import Manifest
    from robustbench_spur.record import Record
    from robustbench_spur.request import Request
    from robustbench_spur.runner import Watcher

LONGEST = 60
"""Letters of a column's name in the name of its folder."""
UNMEASURED = Estimate(None)


@dataclass(frozen=True)
class Damage:
    """How a model falls that is trained where a column is tied to the label.

    Args:
        column: its name.
        values: its two levels; the first is tied to the first class.
        patients: in train, validation and test.
        validation: accuracy, tied as in training.
        test: accuracy where nothing is tied.
        fall: validation less test.
        worst: accuracy of the worst group of the test.
        worst_group: its name.
        reason: why there are no numbers; empty where there are.
        split: name of the split, as it can be run.
        folder: where the split lies.
    """

    column: str
    values: tuple[str, ...] = ()
    patients: Mapping[str, int] | None = None
    validation: Estimate = UNMEASURED
    test: Estimate = UNMEASURED
    fall: Estimate = UNMEASURED
    worst: Estimate = UNMEASURED
    worst_group: str = ""
    reason: str = ""
    split: str = ""
    folder: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        estimates = {name: getattr(self, name).as_dict() for name in ("validation", "test", "fall", "worst")}
        place = None if self.folder is None else self.folder.name
        counts = None if self.patients is None else dict(self.patients)
        return {**self.__dict__, **estimates, "values": list(self.values), "patients": counts, "folder": place}


def measure(pool: Pool, name: str, folder: Path, request: Request, manifest: Manifest, watcher: Watcher) -> Damage:
    """Draw the split of a column, train the board's baseline on it, and say how it falls.

    Args:
        pool: of patients and images.
        name: of the column.
        folder: where the folder of the split is made.
        request: what to train with; methods, splits, evaluators and data are filled in here. Of its seeds the first counts.
        manifest: of the board: its baseline and its columns.
        watcher: of the run.

    Returns:
        The damage, or a reason where no split can be drawn or the training failed.

    Raises:
        SpurbenchError: no such column, another split lies in the folder, or the request cannot be carried out.
    """
    from robustbench_spur.plan import make_plan
    from robustbench_spur.runner import carry_out

    try:
        chosen = choose(pool, name)
    except UndrawableError as error:
        return Damage(name, reason=str(error))
    split, place = _draw(pool, name, chosen, folder, Registry(request.plugin_files))
    data = {**request.data, split.partition("/")[0]: place}
    evaluators = (manifest.column(manifest.rank_by).evaluator,)
    asked = replace(request, methods=(manifest.baseline,), splits=(split,), seeds=request.seeds[:1])
    plan = make_plan(replace(asked, evaluators=evaluators, data=data))
    (finished,) = carry_out(plan, watcher)
    record = finished.record
    found = Damage(name, chosen.values, split=split, folder=place)
    if record.status != "done":
        return replace(found, reason=f"the training ended as {record.status.replace('_', ' ')}: {record.reason}")
    return _measured(found, record, manifest)


def _draw(pool: Pool, name: str, chosen: Choice, folder: Path, registry: Registry) -> tuple[str, Path]:
    """Draw a split and write it; its name as it can be run, and its folder."""
    listed = [(patient, path.absolute()) for patient, path in pool.images.items if patient in pool.labels]
    items = [(patient, Path(os.path.normpath(path))) for patient, path in listed]
    try:
        root = Path(os.path.commonpath([path.parent for _, path in items]))
    except ValueError as error:  # two drives on Windows
        raise SpurbenchError(f"Expected all images on one drive: {error}. Copy them to one place.") from error
    slices = Slices(
        files=np.array([path.relative_to(root).as_posix() for _, path in items], np.str_),
        patients=np.array([patient for patient, _ in items], np.str_),
        labels=np.array([pool.labels[patient] for patient, _ in items], np.int64),
        positions=np.full(len(items), np.nan),
    )
    drawn = draw(slices, chosen.codes, Groups(pool.classes, name, chosen.values), chosen.recipe)
    place = folder / folder_name(name)
    write(place, contents(place, drawn, root, pool.sources, {"scanned": True}, channels=pool.channels))
    return full_name(reader(registry), chosen.recipe.rhos[0]), place


def folder_name(column: str) -> str:
    """Name of a column's folder; a hash tells apart those whose names differ in other signs, or in capitals, alone.

    >>> folder_name("field_strength"), folder_name("TE (ms)"), folder_name("TE/ms")
    ('field_strength', 'te-ms-3281c5ed', 'te-ms-ce8dc42b')
    """
    plain = re.sub(r"\W+", "-", column).strip("-").lower()[:LONGEST]
    digest = hashlib.sha256(column.encode()).hexdigest()[:8]
    return plain if plain == column else f"{plain or 'column'}-{digest}"


def _measured(found: Damage, record: Record, manifest: Manifest) -> Damage:
    """The numbers of a record, found by the board's columns."""
    ranking = manifest.column(manifest.rank_by)
    alike = [c for c in manifest.columns if c.evaluator == ranking.evaluator and c is not ranking]
    average = next((c for c in alike if c.metric and c.better == "higher" and c.partition == ranking.partition), None)
    family = next((c.lowest for c in alike if c.lowest), None)
    if average is None or record.split is None:
        raise SpurbenchError(f"Expected an average beside {ranking.name!r} on board {manifest.board}, found none.")
    metrics = {name: values[ranking.evaluator] for name, values in record.metrics.items()}
    tested = metrics[ranking.partition]
    test, validation = (Estimate(**values[str(average.metric)]) for values in (tested, metrics["validation"]))
    groups = {name: value["value"] for name, value in tested.items() if family and name.startswith(family)}
    known = {name: value for name, value in groups.items() if value is not None}
    counts = record.split.counts
    patients = {name: sum(group["patients"] for group in by.values()) for name, by in counts.items()}
    return replace(
        found,
        patients=patients,
        validation=validation,
        test=test,
        fall=difference(validation, test),
        worst=Estimate(**tested[str(ranking.metric)]),
        worst_group=min(known, key=lambda name: known[name]).removeprefix(str(family)) if known else "",
    )


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The difference of two independent estimates with its interval (MOVER).

    >>> found = difference(Estimate(0.9, 0.8, 0.95), Estimate(0.5, 0.42, 0.56))
    >>> [round(x, 3) for x in (found.value, found.low, found.high)]
    [0.4, 0.283, 0.494]
    """
    if a.value is None or b.value is None:
        return Estimate(None, reason=a.reason or b.reason)
    value = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(value, reason=a.reason or b.reason)
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low))
