"""DICOM volumes to labelled slices, as SpurBreast has them: 8-bit grey PNG files of one size, in stored orientation.

Nothing is turned: how a scanner stores its images is a shortcut that is there to be found. One slice is in memory at a time,
one patient is written at a time, and a run that was killed goes on with the patients that are not done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.curation.boxes import Box, as_row
from robustbench_spur.curation.labelled import Settings, stems, write_slices
from robustbench_spur.curation.rendered import VERSION, claimed, is_done, publish, room, write_lists
from robustbench_spur.curation.series import Choice, Series, find_series
from robustbench_spur.curation.volumes import open_volume
from robustbench_spur.types import SpurbenchError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What is to be rendered.

    Args:
        root: top of the folders of series.
        out: folder that is written to.
        boxes: by patient.
        choice: which series of a patient is meant.
        settings: of the pictures and labels.
        excluded: patients that are left out.
        patients: the only ones that are rendered; all, if empty.
        counts: of slices that patients' volumes must have.
    """

    root: Path
    out: Path
    boxes: Mapping[str, Box]
    choice: Choice
    settings: Settings = field(default_factory=Settings)
    excluded: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What all patients of a folder must share, as JSON has it."""
        options = {
            "version": VERSION,
            **asdict(self.settings),
            "series": str(self.choice),
            "excluded": sorted(self.excluded),
            "counts": bool(self.counts),
        }
        found: dict[str, Any] = json.loads(json.dumps(options))
        return found


@dataclass(frozen=True)
class Failure:
    """A patient that could not be rendered, and why."""

    patient: str
    reason: str


@dataclass
class Outcome:
    """What a run did.

    Args:
        made: patients rendered now.
        present: patients that were there already.
        slices: of all patients in the folder, by label.
        failures: patients that could not be rendered.
        left_out: numbers of patients that were not asked for or cannot be labelled, by the reason.
    """

    made: int = 0
    present: int = 0
    slices: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def render(job: Job, progress: Progress = lambda title, done, total: None) -> Outcome:
    """Render a collection, patient by patient, and list what is there.

    Leaves in ``job.out`` the folder ``images`` with one of each patient, ``slices.csv`` (a row per image), ``volumes.csv`` (a
    row per patient), ``failures.csv`` where there are any, ``render.json``, and the folder ``patients`` with a record of each
    patient that is done. Such a patient is not done again. What one patient has wrong is recorded, and the others go on.

    Args:
        job: what to render, and where to.
        progress: called with a title, patients done, and patients in all.

    Raises:
        SpurbenchError: nothing can be rendered, or the folder holds something else.
    """
    names = stems(job.boxes)
    series, left_out = find_patients(job)
    outcome = Outcome(left_out=left_out)
    with claimed(job.out, job.identity):
        for done, patient in enumerate(sorted(series)):
            progress(patient, done, len(series))
            try:
                made = _render_patient(job, patient, names.get(patient, ""), series[patient])
            except SpurbenchError as error:
                outcome.failures.append(Failure(patient, str(error)))
            else:
                outcome.made += made
                outcome.present += not made
        progress("lists", len(series), len(series))
        manifest = {"options": job.identity, "left_out": left_out}
        outcome.slices = write_lists(job.out, manifest, [asdict(failure) for failure in outcome.failures])
    return outcome


def find_patients(job: Job) -> tuple[dict[str, list[Series]], dict[str, int]]:
    """The series of each patient that is to be rendered, and how many patients are left out, by the reason.

    Raises:
        SpurbenchError: there is no series at all, or none that is meant; or a patient was asked for who is not there.
    """
    found: dict[str, list[Series]] = {}
    for one in find_series(job.root, job.boxes):
        found.setdefault(one.patient, []).append(one)
    if not found:
        raise SpurbenchError(f"Expected DICOM series of MR below {job.root}, found none. Check the path.")
    for patient in sorted(job.patients):
        if patient not in found or patient not in job.boxes:
            what = "a box" if patient in found else f"series below {job.root}"
            raise SpurbenchError(f"Expected {what} of {patient!r}, found none. Check the id.")
    reasons = {patient: _left_out(job, patient, several) for patient, several in found.items()}
    series = {patient: several for patient, several in found.items() if not reasons[patient]}
    left_out = Counter(reason for reason in reasons.values() if reason)
    if not series:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise SpurbenchError(f"Expected patients to render below {job.root}, found none: {why}.")
    if not any(job.choice.picks(one) for several in series.values() for one in several):
        patient, several = next(iter(series.items()))
        job.choice.choose(patient, several)  # says what there is
    left_out["with a box, but without series"] = len(job.boxes.keys() - found.keys())
    return series, {reason: count for reason, count in left_out.items() if count}


def _left_out(job: Job, patient: str, several: Sequence[Series]) -> str:
    """Why a patient is left out, or ""; a damaged series that is meant is no reason, but a failure."""
    if patient in job.excluded:
        return "excluded"
    if job.patients and patient not in job.patients:
        return "not asked for"
    damaged = any(one.fault and job.choice.picks(one) for one in several)
    return "" if patient in job.boxes or damaged else "without a box"


def _render_patient(job: Job, patient: str, stem: str, several: Sequence[Series]) -> bool:
    """Render a patient and publish the images; False where that was done before."""
    series = job.choice.choose(patient, several)
    box = job.boxes[patient]
    source = {"patient": patient, "series": series.uid, "files": len(series.files), "annotated": as_row(box)}
    if is_done(job.out, stem, source):
        return False
    volume = open_volume(series, job.settings.order, job.counts.get(patient))
    made = write_slices(volume, box, job.settings, stem, room(job.out, stem))
    folder = Path(os.path.relpath(series.folder, job.root)).as_posix()
    publish(job.out, stem, {**source, "stem": stem, "folder": folder, **made, "attributes": dict(volume.attributes)})
    return True
