"""Whether predictions are of the board's examples, and whether they give the numbers that a record states."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, Predictions, check_rows
from robustbench_spur.manifest import Manifest, SplitPin
from robustbench_spur.record import ROWS, Record, read_predictions
from robustbench_spur.scoring import metric_of, point
from robustbench_spur.submission.remarks import FaultError, Remark, quoted
from robustbench_spur.types import Partition, SpurbenchError, finite

Arrays = Mapping[str, NDArray[Any]]
PACK = "Pack the entry again with spurbench submit."
TEXTS = ("ids", "clusters")
"""Columns of texts; the others beside the logits are whole numbers of 64 bits."""
REASON = 500
"""Most characters of why a number is missing."""


def measured_by(manifest: Manifest) -> set[tuple[str, str]]:
    """What a board's columns are of, as (partition, evaluator): the rest of a record is not on the board."""
    return {(column.partition, column.evaluator) for column in manifest.columns}


def predictions_of(
    record: Record, arrays: Arrays, manifest: Manifest, name: str, collected: Iterable[str] = ()
) -> dict[str, Predictions]:
    """The predictions of every partition that the columns are of, once their rows are known to be the board's.

    Args:
        record: that they are of.
        arrays: of the file.
        manifest: of the board.
        name: of the file, for messages.
        collected: names of arrays that the board's evaluators collect.

    Raises:
        FaultError: an array that is missing, of another type or shape, rows that are not the board's, or logits that are not
            finite.
    """
    if record.split is None:
        raise FaultError(name, "a record without an account of the data", "one that names classes and groups", PACK)
    pin = manifest.pin(record.split.name)
    wanted = [
        one for one in manifest.partitions if one in (pin.partitions if pin and pin.partitions else record.split.counts)
    ]
    known = {f"{partition}/{column}" for partition in wanted for column in (*ROWS, *collected)}
    for extra in (one for one in arrays if one not in known):
        if extra.partition("/")[0] in wanted:
            told = "rows, logits, and what the board's evaluators collect"
            raise FaultError(name, f"an array beyond those, {quoted(extra)}", told, PACK)
        raise FaultError(name, f"an array of another partition, {quoted(extra)}", f"those of {', '.join(wanted)}", PACK)
    found = {}
    for partition in wanted:
        _check_types(arrays, partition, len(record.split.classes), name)
        if pin is not None and pin.partitions:
            _check_rows(arrays, partition, pin, name)
        try:
            found[partition] = read_predictions(arrays, record.split, partition)
            if pin is None or not pin.partitions:
                _check_own(found[partition], record.split.counts[partition])
        except (SpurbenchError, ValueError, LookupError) as error:
            raise FaultError(
                name, f"in {partition}: {quoted(error)}", "predictions that can be measured", PACK
            ) from error
    return found


def _check_types(arrays: Arrays, partition: str, classes: int, name: str) -> None:
    """Refuse columns that are missing, of another kind, or of other lengths."""
    for column in ROWS:
        if f"{partition}/{column}" not in arrays:
            raise FaultError(name, f"no {partition}/{column}", f"the arrays {', '.join(ROWS)} of {partition}", PACK)
    logits = arrays[f"{partition}/logits"]
    if logits.dtype != np.float32:
        raise FaultError(name, f"{partition}/logits of type {logits.dtype}", "float32", PACK)
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise FaultError(name, f"{partition}/logits of shape {logits.shape}", f"(examples, {classes})", PACK)
    for column in (one for one in ROWS if one != "logits"):
        array = arrays[f"{partition}/{column}"]
        sound = array.dtype.kind == "U" if column in TEXTS else array.dtype == np.int64
        if not sound or array.shape != (len(logits),):
            found = f"{partition}/{column} of type {array.dtype} and shape {array.shape}"
            raise FaultError(name, found, f"{'texts' if column in TEXTS else 'int64'} of shape ({len(logits)},)", PACK)
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        found = f"{logits[row].tolist()} for {quoted(arrays[f'{partition}/ids'][row])} of {partition}"
        raise FaultError(name, found, "finite logits", "Correct the model, and run the cell again.")


def _check_rows(arrays: Arrays, partition: str, pin: SplitPin, name: str) -> None:
    """Refuse rows that are not the manifest's, in its order."""
    ids, labels, attributes, clusters = (arrays[f"{partition}/{column}"] for column in list(ROWS)[:4])
    expected = pin.partitions[partition]
    exact = tuple(
        (array.dtype.str, hashlib.sha256(array.tobytes()).hexdigest()) for array in (ids, labels, attributes, clusters)
    )
    if (expected.sha256, exact) in _SEEN:
        return
    if len(np.unique(ids)) != len(ids):
        values, counts = np.unique(ids, return_counts=True)
        told = f"{np.count_nonzero(counts > 1)} ids more than once in {partition}, the first {quoted(values[counts > 1][0])}"
        raise FaultError(name, told, "every id once", PACK)
    number = sum(one["examples"] for one in expected.groups.values())
    if len(ids) != number:
        raise FaultError(name, f"{len(ids)} rows of {partition}", f"{number}, as the board's table has", PACK)
    try:
        digest = Partition(ids, labels, attributes, clusters).digest()
    except SpurbenchError as error:
        raise FaultError(name, quoted(error), f"the rows of {partition}", PACK) from error
    if digest != expected.sha256:
        found = f"rows of {partition} with the hash {digest[:16]}"
        remedy = "Ids, labels, attributes and patients have to be the board's, in its order. Run the cell on the board's split."
        raise FaultError(name, found, f"{expected.sha256[:16]}, the board's", remedy)
    if len(_SEEN) < MOST_SEEN:
        _SEEN.add((expected.sha256, exact))


_SEEN: set[tuple[str, Any]] = set()
"""Rows, byte for byte, that were found to be a partition's: most cells of a board bring the same."""
MOST_SEEN = 1000


def _check_own(rows: Predictions, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Hold rows that the board does not pin against what their record says of the data.

    Raises:
        SpurbenchError: ids that repeat, codes out of range, or other counts.
    """
    check_rows(rows.labels, rows.attributes, rows.clusters, rows.ids, rows.groups, len(rows))
    for group, examples, patients in rows.group_sizes():
        stated = counts.get(group, {})
        if (stated.get("examples"), stated.get("patients")) != (examples, patients):
            raise SpurbenchError(
                f"Expected {stated.get('examples')} examples and {stated.get('patients')} patients of {group}, as the record"
                f" says, found {examples} and {patients}."
            )


def check_metrics(
    record: Record, predictions: Mapping[str, Predictions], evaluators: list[Evaluator], manifest: Manifest, name: str
) -> Iterator[Remark]:
    """What a record states otherwise than its predictions give.

    Args:
        record: that states.
        predictions: by partition.
        evaluators: of the board.
        manifest: of the board.
        name: of the record's file, for messages.
    """
    wanted, tolerance = measured_by(manifest), manifest.tolerances["metric"]
    stated = {(p, e) for by in (record.metrics, record.details) for p, inside in by.items() for e in inside}
    measured = set()
    for partition, rows in predictions.items():
        for evaluator in (one for one in evaluators if (partition, one.name) in wanted):
            measured.add((partition, evaluator.name))
            yield from _check_evaluator(record, partition, rows, evaluator, tolerance, name)
    for partition, evaluator_name in sorted(stated - measured):
        found = f"numbers of {quoted(evaluator_name)} on {quoted(partition)}"
        yield Remark("fault", name, found, "numbers that the predictions give", PACK)


def _check_evaluator(
    record: Record, partition: str, rows: Predictions, evaluator: Evaluator, tolerance: float, name: str
) -> Iterator[Remark]:
    metrics = record.metrics.get(partition, {}).get(evaluator.name)
    details = record.details.get(partition, {}).get(evaluator.name, {})
    place = f"{evaluator.name} on {partition}"
    absent = [array for array in evaluator.collects if array not in rows.arrays]
    if absent:
        if metrics or not _says_why(details):
            yield Remark("fault", name, f"no {absent[0]} for {place}", "what the evaluator collects of the model", PACK)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            numbers, again = point(evaluator, rows), evaluator.details(rows)
    except Exception as error:  # arrays of a stranger
        yield Remark(
            "fault", name, f"{type(error).__name__} in {place}: {quoted(error)}", "arrays that can be measured", PACK
        )
        return
    own = {metric: finite(value) for metric, value in numbers.items()}
    if metrics is None or metrics.keys() != own.keys():
        differing = sorted(own.keys() ^ (metrics or {}).keys())
        yield Remark(
            "fault", name, f"{place}: {quoted(differing[0])} on one side only", "every metric of the evaluator", PACK
        )
        return
    for metric, value in own.items():
        said = metrics[metric]
        if not isinstance(said, dict) or not said.keys() <= {"value", "low", "high", "reason"}:
            yield Remark(
                "fault", name, f"{quoted(said, 80)} as {metric} of {place}", "value, low, high and reason", PACK
            )
            return
        if not close(said.get("value"), value, tolerance):
            found = f"{quoted(said.get('value'), 80)} as {metric} of {place}"
            yield Remark("fault", name, found, f"{value}, as its predictions give", "State what is measured. " + PACK)
            return
        if fault := _no_interval(said):
            yield Remark("fault", name, f"{fault} as interval of {metric} of {place}", "low <= high, or neither", PACK)
            return
    if not details and again:
        yield Remark("fault", name, f"no details of {place}", "those that its predictions give", PACK)
    elif where := unlike(details, again, tolerance):
        yield Remark(
            "fault", name, f"details of {place} that differ in {quoted(where)}", "those that its predictions give", PACK
        )


def check_claims(record: Record, evaluators: list[Evaluator], manifest: Manifest, name: str) -> Iterator[Remark]:
    """Whether what a record states without predictions can be shown: of every column nothing, or a number in its range.

    Args:
        record: that states.
        evaluators: of the board.
        manifest: of the board.
        name: of the record's file, for messages.
    """
    by_name = {one.name: one for one in evaluators}
    for column in (one for one in manifest.columns if one.metric is not None):
        stated = record.metrics.get(column.partition, {}).get(column.evaluator, {})
        if column.metric not in stated:
            continue
        definition, said = metric_of(by_name[column.evaluator], column.metric), stated[column.metric]
        value = said.get("value") if isinstance(said, Mapping) else said
        if value is not None and not (type(value) in (int, float) and definition.low <= value <= definition.high):
            found = f"{quoted(value, 80)} as {column.metric} of {column.evaluator} on {column.partition}"
            yield Remark("fault", name, found, f"a number from {definition.low:g} to {definition.high:g}", PACK)


def _no_interval(stated: Mapping[str, Any]) -> str:
    """An interval that is none; empty where it is one, or absent. It need not hold the value: a bias is shown as it is."""
    low, high, reason = stated.get("low"), stated.get("high"), stated.get("reason", "")
    if not isinstance(reason, str) or len(reason) > REASON:
        return f"the reason {quoted(reason, 80)}"
    if low is None and high is None:
        return ""
    if isinstance(low, int | float) and isinstance(high, int | float) and bool not in (type(low), type(high)):
        return "" if low <= high else quoted([low, high], 80)
    return quoted([low, high], 80)


def _says_why(details: Any) -> bool:
    """Whether an evaluator's details say that it does not apply, and nothing else."""
    if not isinstance(details, dict) or details.keys() != {"not_applicable"}:
        return False
    return isinstance(details["not_applicable"], str) and len(details["not_applicable"]) <= REASON


def close(stated: Any, value: float | None, tolerance: float) -> bool:
    """Whether a stated number is another within a tolerance; both may be undefined.

    >>> close(0.5, 0.5 + 1e-9, 1e-6), close(None, None, 1e-6), close("0.5", 0.5, 1e-6)
    (True, True, False)
    """
    if stated is None or value is None:
        return stated is None and value is None
    return type(stated) in (int, float) and math.isclose(stated, value, rel_tol=tolerance, abs_tol=tolerance)


def unlike(stated: Any, found: Any, tolerance: float, where: str = "") -> str:
    """The place where two JSON values differ by more than a tolerance; empty where they do not.

    >>> unlike({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.1}]}, 1e-6)
    'a.1.b'
    """
    if type(stated) is type(found) and stated == found:
        return ""
    pairs = _pairs(stated, found)
    if pairs is None:
        number = isinstance(found, int | float) and not isinstance(found, bool)
        same = close(stated, finite(found), tolerance) if number else stated == found  # a record has no NaN
        return "" if same else where or "."
    places = (unlike(one, other, tolerance, f"{where}.{key}".lstrip(".")) for key, one, other in pairs)
    return next((place for place in places if place), "")


def _pairs(stated: Any, found: Any) -> list[tuple[str, Any, Any]] | None:
    """What two JSON values hold, pair by pair; None where they are no two objects of the same keys, or lists of a length."""
    if isinstance(found, Mapping) and isinstance(stated, Mapping):
        if {str(key) for key in found} == {str(key) for key in stated}:
            return [(str(key), stated[str(key)], value) for key, value in found.items()]
    elif isinstance(found, list | tuple) and isinstance(stated, list | tuple) and len(stated) == len(found):
        return [(str(place), one, found[place]) for place, one in enumerate(stated)]
    return None
