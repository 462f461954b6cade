"""How a method behaves: repeatable, blind to what it did not declare, and whole on data that are hard on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.conformance.report import Ledger
from robustbench_spur.conformance.runs import FaultError, Lab, global_state, reseeded
from robustbench_spur.models import load_model
from robustbench_spur.stage import Stage

Logits = dict[str, NDArray[Any]]
SAME = "same seed, same predictions"
RESUMED = "a killed run goes on to the same end"
POISON = "poisoned test labels change nothing"
GLOBAL = "global random state neither matters nor moves"
REACH = "group labels are out of reach unless declared"


def examine(lab: Lab, ledger: Ledger) -> None:
    """Carry out all checks; one that cannot be made since an earlier run failed is skipped."""
    try:
        plan, cell = lab.plan("plain", force=True)
        with reseeded(1):
            before = global_state()
            first = lab.run(plan, cell)
            moved = global_state() != before
    except FaultError as fault:
        reached = "that it did not declare" in str(fault)
        ledger.note(REACH if reached else "a group of one, and batches of one class", str(fault))
        ledger.note("everything else", "the first run failed", "skipped")
        return
    ledger.note("a group of one, and batches of one class", whole(first, 2))
    ledger.note(REACH)
    if "train_attributes" in lab.plugin.literal("needs", ()) and not lab.reads:
        ledger.note(
            "what it declares it reads", "it declares train_attributes and reads none: remove it from needs", "warning"
        )
    assert cell.stages is not None
    ledger.note("save and load", round_trip(plan, cell.stages.model, cell.stages.pixels["test"], first["test"]))
    _repeat(lab, ledger, first, moved)
    _seeds(lab, ledger, first)
    _hard(lab, ledger)


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


def round_trip(plan: Any, model: Stage, pixels: Stage, expected: NDArray[Any]) -> str:
    """The weights, loaded into a network built anew, say what the cell said."""
    import torch

    from robustbench_spur.feeding import Feed
    from robustbench_spur.passes import predict
    from robustbench_spur.pixels import images_of

    feed = Feed(images_of(pixels, plan.runtime), torch.device("cpu"))
    found = predict(load_model(model, plan.runtime), feed)[0].numpy()
    return (
        "" if np.array_equal(found, expected) else "Expected the loaded model to predict as before, found other logits."
    )


def _repeat(lab: Lab, ledger: Ledger, first: Logits, moved: bool) -> None:
    """One run that is poisoned, killed, and under another global state; where it differs, one for each reason."""

    def again(*, poisoned: bool = False, killed: bool = False, seed: int = 1) -> bool:
        with reseeded(seed):
            return same(first, lab.run(*lab.plan("plain", poisoned=poisoned, force=True), killed=killed))

    names = (SAME, GLOBAL, POISON, RESUMED)
    try:
        alike = again(poisoned=True, killed=True, seed=2)
        faults = dict.fromkeys(names, "") if alike else {}
        if not alike:
            faults[SAME] = (
                "" if again() else "Expected equal logits, found others. Draw from view.generator(), or torch in loss."
            )
            reasons = {GLOBAL: {"seed": 2}, POISON: {"poisoned": True}, RESUMED: {"killed": True}}
            told = {
                GLOBAL: "Expected the same logits whatever the global generators' state, found others.",
                POISON: "Expected the test labels to be without effect, found other logits.",
                RESUMED: "Expected the logits of a run without a kill, found others. Keep what changes in self.state.",
            }
            for name, options in reasons.items():
                faults[name] = "" if faults[SAME] or again(**options) else told[name]  # type: ignore[arg-type]
    except FaultError as fault:
        faults = {RESUMED: str(fault)}
    if moved and not faults.get(GLOBAL):
        faults[GLOBAL] = (
            "Expected the global generators as they were, found them moved. Never call np.random or random."
        )
    for name in names:
        ledger.note(name, faults.get(name, ""))


def _seeds(lab: Lab, ledger: Ledger, first: Logits) -> None:
    try:
        with reseeded(1):
            other = lab.run(*lab.plan("plain", seed=1, force=True))
        fault = "Expected other predictions with another seed, found the same." if same(first, other) else ""
    except FaultError as failure:
        fault = str(failure)
    ledger.note("another seed, other predictions", fault)


def _hard(lab: Lab, ledger: Ledger) -> None:
    """Three classes with five values; empty groups, as a verdict, and forced."""
    try:
        fault = whole(lab.run(*lab.plan("wide", force=True)), 3)
    except FaultError as failure:
        fault = str(failure)
    ledger.note("three classes and five attribute values", fault)
    try:
        declared = "train" in lab.plugin.literal("every_group_in", ())
        _, cell = lab.plan("tied")
        if bool(cell.reason) != declared and not lab.plugin.literal("wraps", ""):
            fault = f"Expected the verdict that every_group_in asks for, found {cell.reason or 'applicable'!r}."
        else:
            fault = whole(lab.run(*lab.plan("tied", force=True)), 2)
    except FaultError as failure:
        fault = str(failure)
    ledger.note("empty groups", fault)
