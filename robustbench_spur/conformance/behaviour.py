"""How a method behaves: repeatable, blind to what it did not declare, and whole on data that are hard on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from robustbench_spur.cell import Stages
from robustbench_spur.conformance.report import Ledger
from robustbench_spur.conformance.runs import FaultError, Lab, Logits, global_state, place_of, reseeded
from robustbench_spur.feeding import Feed
from robustbench_spur.models import load_model
from robustbench_spur.passes import predict
from robustbench_spur.pixels import images_of
from robustbench_spur.plan import Plan
from robustbench_spur.request import in_a_line
from robustbench_spur.stage import Stage

RUNS = "it runs from start to end"
REACH = "group labels are out of reach unless declared"
DECLARED = "what it declares it reads"
HARD = "a group of one, and batches of one class"
SAVED = "save and load"
SAME = "same seed, same predictions"
GLOBAL = "global random state neither matters nor moves"
POISON = "poisoned test labels change nothing"
RESUMED = "a killed run goes on to the same end"
SEEDS = "another seed, other predictions"
WIDE = "three classes and five attribute values"
EMPTY = "empty groups"

READ_IN = {"train_attributes": "train", "validation_attributes": "validation", "adapt": "adapt"}
"""Partition whose attributes a declared need is about."""
AGAIN: dict[str, tuple[dict[str, Any], str]] = {
    GLOBAL: (
        {"state": 2},
        "Expected the same logits whatever the state of the global generators, found {}. Draw from view.generator(),"
        " or from torch inside loss.",
    ),
    POISON: (
        {"poisoned": True},
        "Expected the labels and attributes of the test partition to be without effect, found {}. Leave them alone.",
    ),
    RESUMED: (
        {"killed": True},
        "Expected the logits of a run that was not killed, found {}. Keep what changes from batch to batch in self.state.",
    ),
}
"""What a second run may change without effect, and what to say where it has one."""


@dataclass(frozen=True)
class First:
    """The run that others are compared with.

    Args:
        split: of the bench.
        plan: of the run.
        stages: of its cell.
        logits: that it gave.
        moved: whether it left the global generators in another state.
    """

    split: str
    plan: Plan
    stages: Stages
    logits: Logits
    moved: bool


def examine(lab: Lab, ledger: Ledger) -> None:
    """Carry out all checks; one that makes no sense after an earlier failure is skipped, with the reason."""
    plain, took = _attempt(lab, "plain", 2), ledger.lap()
    wide, took_too = _attempt(lab, "wide", 3), ledger.lap()
    first = next((one for one in (plain, wide) if isinstance(one, First)), None)
    _note_runs(ledger, plain, wide, (took, took_too))
    _note_reach(lab, ledger, plain, first)
    if first is None:
        for name in (SAVED, SAME, *AGAIN, SEEDS):
            ledger.note(name, "no run came to its end", "skipped")
    else:
        try:
            ledger.note(SAVED, saved(first.plan, first.stages, first.logits))
        except Exception as failure:  # the method's prepare is other people's code
            ledger.note(SAVED, f"{in_a_line(failure)} ({place_of(failure, lab.plugin)})")
        _repeat(lab, ledger, first)
        ledger.note(SEEDS, _seeds(lab, first))
    _note(ledger, EMPTY, lambda: _empty(lab), unless=plain)


def _attempt(lab: Lab, split: str, classes: int) -> First | FaultError:
    """A run on a split of the bench, or what went wrong in it."""
    try:
        plan, cell = lab.plan(split)
        with reseeded(1):
            before = global_state()
            logits = lab.run(plan, cell)
            moved = global_state() != before
        if cell.stages is None or (fault := whole(logits, classes)):
            return FaultError(fault, "")
    except FaultError as failure:
        return failure
    return First(split, plan, cell.stages, logits, moved)


def _note_runs(ledger: Ledger, plain: First | FaultError, wide: First | FaultError, took: tuple[float, float]) -> None:
    """What fails on both splits alike is no matter of the data."""
    both = isinstance(plain, FaultError) and isinstance(wide, FaultError) and plain.place == wide.place
    everywhere = plain if both and isinstance(plain, FaultError) else None
    if everywhere is not None and everywhere.hidden:
        ledger.note(RUNS, "it reads what it did not declare", "skipped", seconds=took[0])
    else:
        ledger.note(RUNS, _text(everywhere), seconds=took[0])
    for name, found, seconds in ((HARD, plain, 0.0), (WIDE, wide, took[1])):
        if everywhere is not None:
            ledger.note(name, "it does not run", "skipped", seconds=seconds)
        else:
            ledger.note(name, _text(found), seconds=seconds)


def _text(found: First | FaultError | None) -> str:
    return str(found) if isinstance(found, FaultError) else ""


def _note_reach(lab: Lab, ledger: Ledger, plain: First | FaultError, first: First | None) -> None:
    """Whether it read what it did not declare, and declared what it did not read."""
    fault = _text(plain) if isinstance(plain, FaultError) and plain.hidden else ""
    if lab.refused and not fault:
        where = " and ".join(sorted(lab.refused))
        fault = (
            f"Expected no reading of undeclared group labels, found those of {where} asked for. Declare them in needs."
        )
    ledger.note(REACH, fault)
    if first is None:
        ledger.note(DECLARED, "no run came to its end", "skipped")
        return
    read = set(lab.read)
    # images and labels of adapt are out of reach of others as well
    if any(stage.spec.get("partition") == "adapt" for stage in first.stages.model.ancestry()):
        read.add("adapt")
    needs = lab.plugin.literal("needs", ())
    unread = " and ".join(need for need in needs if need in READ_IN and READ_IN[need] not in read)
    ledger.note(DECLARED, f"It declares {unread} and reads none: remove it from needs." if unread else "", "warning")


def whole(logits: Logits, classes: int) -> str:
    """Logits of the right shape, all finite."""
    for name, array in logits.items():
        if array.ndim != 2 or array.shape[1] != classes:
            return f"Expected logits of {classes} classes on {name}, found shape {array.shape}."
        if not np.isfinite(array).all():
            return f"Expected finite logits on {name}, found {int((~np.isfinite(array)).sum())} that are not."
    return ""


def same(one: Logits, other: Logits) -> bool:
    """Whether all are equal bit by bit."""
    return all(np.array_equal(one[name], other[name]) for name in one)


def saved(plan: Plan, stages: Stages, logits: Logits) -> str:
    """The weights, loaded into networks built anew, say what was said at the end of training and by the cell."""

    def said(model: Stage, partition: str) -> torch.Tensor:
        feed = Feed(images_of(stages.pixels[partition], plan.runtime), torch.device("cpu"))
        return predict(load_model(model, plan.runtime), feed)[0]

    for stage in stages.model.ancestry():
        if stage.kind == "train":
            about = plan.runtime.artifacts.about(stage.key)
            expected = about["history"][about["selected_epoch"] - 1]["validation_nll"]
            labels = torch.from_numpy(plan.cells[0].spec.split.table.partitions["validation"].labels)
            found = float(torch.nn.functional.cross_entropy(said(stage, "validation"), labels))
            if found != expected:
                return (
                    f"Expected the saved model to have the loss on validation that it ended with, {expected:.6g}, found"
                    f" {found:.6g} ({stage.title}). Keep what it learns in parameters or buffers of the model."
                )
    if not np.array_equal(said(stages.model, "test").numpy(), logits["test"]):
        return (
            "Expected the loaded model to predict as before, found other logits. Let prepare follow from the settings."
        )
    return ""


def _differs(lab: Lab, first: First, *, state: int = 1, poisoned: bool = False, killed: bool = False) -> str:
    """What another run gives in place of the first one's logits; empty where they are equal."""
    try:
        with reseeded(state):
            found = lab.run(*lab.plan(first.split, poisoned=poisoned), killed=killed)
    except FaultError as fault:
        return f"an error: {fault}"
    return "" if same(first.logits, found) else "others"


def _repeat(lab: Lab, ledger: Ledger, first: First) -> None:
    """One run that is poisoned, killed, and under another global state; where it differs, one for each reason."""
    faults = dict.fromkeys(AGAIN, "")
    unequal = ""
    if _differs(lab, first, state=2, poisoned=True, killed=True):
        unequal = _differs(lab, first)
        if not unequal:
            faults = {name: _differs(lab, first, **options) for name, (options, _) in AGAIN.items()}
            unequal = "" if any(faults.values()) else "others now and then"
    advice = f"Expected equal logits, found {unequal}. Draw from view.generator(), or from torch inside loss."
    ledger.note(SAME, advice if unequal else "")
    for name, fault in faults.items():
        if unequal:
            ledger.note(name, "the same run twice differs already", "skipped")
        elif name == RESUMED and faults[GLOBAL]:
            ledger.note(name, "what it draws from the global generators is not resumed", "skipped")
        elif name == GLOBAL and first.moved and not fault:
            ledger.note(name, "Expected the global generators as they were, found them moved. Never draw from them.")
        else:
            ledger.note(name, AGAIN[name][1].format(fault) if fault else "")


def _seeds(lab: Lab, first: First) -> str:
    try:
        with reseeded(1):
            found = lab.run(*lab.plan(first.split, seed=1))
    except FaultError as fault:
        return str(fault)
    if same(first.logits, found):
        return (
            "Expected other predictions with another seed, found the same. Let the start or the order follow from it."
        )
    return ""


def _empty(lab: Lab) -> str:
    """The verdict that every_group_in asks for, and a run in spite of it."""
    plan, cell = lab.plan("tied")
    needs_all = bool({"train", "validation"} & set(cell.spec.method.every_group_in))
    if cell.degenerate != needs_all:
        verdicts = {True: "not applicable", False: "applicable"}
        return f"Expected the verdict {verdicts[needs_all]!r} of every_group_in, found {verdicts[cell.degenerate]!r}."
    if fault := whole(lab.run(plan, cell), 2):
        raise FaultError(fault, "")
    return ""


def _note(ledger: Ledger, name: str, find: Callable[[], str], *, unless: First | FaultError) -> None:
    """Note a check, or that it fails where another did."""
    try:
        ledger.note(name, find())
    except FaultError as fault:
        known = isinstance(unless, FaultError) and unless.place == fault.place
        ledger.note(name, "it fails as above" if known else str(fault), "skipped" if known else "failed")
