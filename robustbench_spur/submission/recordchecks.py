"""Whether a record says of itself what the board's manifest and the entry say of it; nothing of it is computed here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from robustbench_spur.coverage import departure
from robustbench_spur.manifest import Manifest, SplitPin
from robustbench_spur.protocols import PROTOCOLS
from robustbench_spur.record import Record
from robustbench_spur.stage import ENGINE_VERSION
from robustbench_spur.submission.entry import Cell, Entry
from robustbench_spur.submission.remarks import LONGEST, Remark, quoted

DRAFT = "file"
"""Origin of a method that is given by path."""
PACK = "Run the cell with this version, and pack the entry again with spurbench submit."


def check_record(record: Record, cell: Cell, entry: Entry, manifest: Manifest) -> Iterator[Remark]:
    """What is wrong with a record.

    Args:
        record: of the cell.
        cell: as the entry lists it.
        entry: that it is of.
        manifest: of the board.
    """
    name = cell.record.file

    def differs(what: str, found: Any, expected: Any, remedy: str = PACK) -> Iterator[Remark]:
        if found != expected:
            yield Remark("fault", name, f"{what} {quoted(found)}", f"{what} {quoted(expected)}", remedy)

    yield from differs("board", record.board, manifest.board)
    yield from differs(
        "a record of status", record.board_status, manifest.status, "Records of a draft never enter a board. Run again."
    )
    yield from differs("seed", record.seed, cell.seed)
    yield from differs("split", record.identity.split.get("name"), cell.split)
    yield from differs("method", record.method.name, entry.method.name)
    yield from differs("method version", record.method.version, entry.method.version)
    yield from differs("method file", record.method.sha256, entry.method.sha256)
    yield from differs("origin of the method", record.method.origin, entry.method.origin)
    yield from differs("track", record.track, entry.track)
    if record.track not in manifest.tracks:
        yield Remark("fault", name, f"track {quoted(record.track)}", f"one of {', '.join(manifest.tracks)}", PACK)
    yield from differs("configuration hash", record.config_hash, record.identity.sha256)
    yield from _agrees_with_itself(record, differs)
    pin = manifest.pin(cell.split)
    if pin is None:
        yield Remark(
            "fault",
            name,
            f"split {quoted(cell.split)}",
            f"a split of board {manifest.board}",
            "Submit splits of the board.",
        )
    else:
        yield from _check_split(record, pin, manifest.partitions, name)
    if record.status != "done":
        yield from _check_unfinished(record, cell, name)
    else:
        yield from _check_finished(record, manifest, name)
    if not isinstance(record.provenance.get("libraries") or {}, Mapping):
        told = f"libraries {quoted(record.provenance['libraries'], 60)}"
        yield Remark("fault", name, told, "their versions by name", PACK)


def _check_finished(record: Record, manifest: Manifest, name: str) -> Iterator[Remark]:
    """Whether a cell that is done keeps to the board's rules, or says in what it does not."""
    if record.off_board:
        told = ", ".join(record.off_board)
        yield Remark("warning", name, f"{quoted(told)}", "the board's settings", "It is shown, unranked.")
        return
    if why := _departure(record, manifest) or _undeclared(record, manifest):
        yield Remark("fault", name, why, "the board's rules, or a record that says it departs from them", PACK)
    elif record.method.given:
        told, remedy = f"settings {quoted(record.method.given)}", "Check that they are the defaults."
        yield Remark("flag", name, told, "the method's defaults", remedy)


def _undeclared(record: Record, manifest: Manifest) -> str:
    """What keeps a run off the board, and that a record states although it says that it follows the rules; empty for none."""
    ranking = manifest.column(manifest.rank_by)
    if record.degenerate:
        return "a cell that was forced where its method is not applicable"
    if record.network.weights_sha256 or record.identity.network.get("checkpoints"):
        return "a network that begins with weights of its own"
    if ranking.partition in record.training_partitions:
        return f"a model that was trained on {ranking.partition}, which ranks"
    return ""


def _departure(record: Record, manifest: Manifest) -> str:
    """In what a record departs from the board's rules, in words that can be printed."""
    try:
        why = departure(record, manifest)
    except (KeyError, TypeError, AttributeError) as error:  # what a record should say there, this one does not
        return f"an account of evaluators or of the split without {quoted(error, 60)}"
    return why if why.isprintable() and len(why) <= LONGEST else quoted(why)


def _check_unfinished(record: Record, cell: Cell, name: str) -> Iterator[Remark]:
    """Whether a cell that is not done brings what only one that is done can have."""
    brought = {
        "predictions": cell.predictions,
        "weights": cell.weights,
        "metrics": record.metrics,
        "details": record.details,
    }
    for what in (what for what, value in brought.items() if value):
        yield Remark("fault", name, f"{what} of a cell that is {record.status.replace('_', ' ')}", "none", PACK)


def _agrees_with_itself(record: Record, differs: Any) -> Iterator[Remark]:
    """Whether the parts of a record say what its identity, which is what rows are made of, says."""
    identity = record.identity
    own = {
        "method": {key: identity.method.get(key) for key in ("name", "version", "settings")},
        "network": {
            key: identity.network.get(key) for key in ("backbone", "image_size", "pretrained", "weights_sha256")
        },
    }
    part, network = record.method, record.network
    yield from differs(
        "identity of the method", own["method"], {"name": part.name, "version": part.version, "settings": part.settings}
    )
    stated = {key: getattr(network, key) for key in own["network"]}
    yield from differs("identity of the network", own["network"], stated)
    yield from differs("identity of the selection", identity.selection, record.selection)
    yield from differs("identity of the board", identity.board, record.board)
    if record.status == "done":
        yield from differs("identity of the training", identity.training, record.training)
    if part.origin == DRAFT or "sha256" in identity.method:
        yield from differs("identity of the method's file", identity.method.get("sha256"), part.sha256)
    if identity.engine > ENGINE_VERSION:
        yield from differs("engine", identity.engine, ENGINE_VERSION, "Upgrade robustbench-spur.")


def family_of(split: str) -> str | None:
    """The split that a fold of a protocol is of, in full; None for one that is no fold.

    >>> family_of("spurbreast/field_strength+carve.3"), family_of("phantom/field@0.95")
    ('spurbreast/field_strength+carve', None)
    """
    family = re.sub(rf"(\+(?:{'|'.join(PROTOCOLS)}))\.\d+", r"\1", split)
    return None if family == split else family


def _check_split(record: Record, pin: SplitPin, partitions: tuple[str, ...], name: str) -> Iterator[Remark]:
    """Whether a record met the board's data; ``partitions`` are those of the columns."""
    stated, part = record.identity.split, record.split
    remedy = f"Run on the board's data: spurbench describe {pin.name} says which."
    for what, found, expected in (
        ("version", stated.get("version"), pin.version),
        ("table", stated.get("sha256"), pin.sha256),
    ):
        if expected is not None and found != expected:
            yield Remark("fault", name, f"{what} {quoted(found)} of {pin.name}", f"{what} {quoted(expected)}", remedy)
    if stated.get("family") != family_of(pin.name):  # what the row is shown under, and averaged with
        told, expected = f"family {quoted(stated.get('family'))} of {pin.name}", f"family {quoted(family_of(pin.name))}"
        yield Remark("fault", name, told, expected, remedy)
    if part is None:
        if record.status == "done":
            yield Remark("fault", name, "no account of the data", "the split's classes, groups and counts", PACK)
        return
    if (part.name, part.version, part.sha256) != (stated.get("name"), stated.get("version"), stated.get("sha256")):
        yield Remark("fault", name, "another split in its account of the data", "the split of its identity", PACK)
    if not pin.partitions:
        told = "a split whose table the board does not pin"
        yield Remark("warning", name, told, "a pinned table", "Its rows are held against its own account alone.")
        for partition in (one for one in ("train", *partitions) if not part.counts.get(one)):
            yield Remark("fault", name, f"no counts of {partition}", "examples and patients of every group", PACK)
        return
    facts = (part.classes, part.attribute, part.values)
    if facts != (pin.classes, pin.attribute, pin.values):
        yield Remark(
            "fault",
            name,
            f"classes, attribute and values {quoted(facts)}",
            quoted((pin.classes, pin.attribute, pin.values)),
            remedy,
        )
    counts = {partition: one.groups for partition, one in pin.partitions.items()}
    for partition in counts.keys() | part.counts.keys():
        if part.counts.get(partition) != counts.get(partition):
            found = f"counts {quoted(part.counts.get(partition))} of {partition}"
            yield Remark("fault", name, found, quoted(counts.get(partition)), remedy)
