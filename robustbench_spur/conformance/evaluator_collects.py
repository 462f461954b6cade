"""How an evaluator collects: repeatable, of a model that it leaves as it was, and only from what it declares.

What it collects on the bench becomes the cases that its measuring is examined on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.conformance.evaluator_bench import SCENES, bench_of, cases
from robustbench_spur.conformance.evaluator_cases import SOUND
from robustbench_spur.conformance.report import Ledger
from robustbench_spur.conformance.runs import FaultError, global_state, place_of, reseeded
from robustbench_spur.evaluators.base import Evaluator, Predictions, Subject
from robustbench_spur.registry import Plugin
from robustbench_spur.request import in_a_line
from robustbench_spur.types import SpurbenchError

COLLECTS = "it collects what it promises, whatever the data"
QUIET = "it collects without warnings"
SAME = "the same model and images, the same arrays"
LEFT = "model, images and generators are left as they were"
LACKING = "without what it needs it says so"
DECLARED = "what it declares it uses"
MESSAGE = "Raise SpurbenchError, as subject.model, subject.other and subject.scene do."

Arrays = dict[str, NDArray[Any]]


def examine(plugin: Plugin, evaluator: Evaluator, ledger: Ledger) -> dict[str, Predictions]:
    """Carry out all checks of collecting.

    Args:
        plugin: the evaluator's.
        evaluator: with its defaults.
        ledger: what is found is noted there.

    Returns:
        The cases with what was collected, for measuring; those in which that failed are not there.
    """
    strange = [name for name in evaluator.requires if name not in SCENES]
    slow = evaluator.costly and not plugin.literal("quick", {})
    if strange or slow:
        why = (
            "it takes minutes: state quick settings to try it with"
            if slow
            else f"nothing here can render {strange[0]!r}"
        )
        ledger.note(COLLECTS, f"{why}; its own tests must do until then", "skipped")
        return {}
    torch.set_num_threads(1)  # a thread per processor makes networks of this size slower
    found: dict[str, Predictions] = {}
    faults, told = list[str](), list[str]()
    for name, predictions in cases().items():
        subject = declared(bench_of(predictions).subject, evaluator)
        try:
            arrays, warned = collected(evaluator, plugin, subject)
            found[name] = replace(subject.predictions, arrays=arrays)
            told += [f"{name}: {text}" for text in warned]
        except FaultError as error:
            faults.append(f"{name}: {error}")
    ledger.note(COLLECTS, faults[0] if faults else "")
    ledger.note(QUIET, f"Expected no warning, found {told[0]}." if told else "")
    if SOUND in found:
        different, moved = _again(evaluator, plugin, found[SOUND])
        ledger.note(SAME, different)
        ledger.note(LEFT, moved)
    else:
        for check in (SAME, LEFT):
            ledger.note(check, "it does not collect on sound data", "skipped")
    ledger.note(LACKING, _lacking(evaluator))
    ledger.note(DECLARED, _unused(evaluator), "warning")
    return found


def declared(subject: Subject, evaluator: Evaluator) -> Subject:
    """A subject with the partitions and scenes that an evaluator declares, and no other: the core gives no more."""
    return replace(
        subject,
        others={name: part for name, part in subject.others.items() if name in evaluator.reads},
        scenes={name: scene for name, scene in subject.scenes.items() if name in evaluator.requires},
    )


def collected(evaluator: Evaluator, plugin: Plugin, subject: Subject) -> tuple[Arrays, list[str]]:
    """The arrays that an evaluator collects, and the warnings that it gave.

    Raises:
        FaultError: its code raised something, or it gave other arrays than it promises.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            arrays = {name: np.asarray(array) for name, array in evaluator.collect(subject).items()}
        except (Exception, SystemExit) as error:
            raise FaultError(in_a_line(error), place_of(error, plugin)) from error
    if sorted(arrays) != sorted(evaluator.collects):
        raise FaultError(
            f"Expected the arrays {', '.join(evaluator.collects)}, found {', '.join(arrays) or 'none'}.", ""
        )
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise FaultError(f"Expected numbers or texts in {name}, found Python objects, which cannot be kept.", "")
    return arrays, [f"{one.category.__name__}: {one.message}" for one in caught]


def _again(evaluator: Evaluator, plugin: Plugin, first: Predictions) -> tuple[str, str]:
    """What is otherwise in a second run under another state of the generators, and what it left changed."""
    bench = bench_of(cases()[SOUND])
    subject = declared(bench.subject, evaluator)
    before, images, logits = state_of(bench.model), subject.images.copy(), subject.predictions.logits.copy()
    with reseeded(3), torch.enable_grad():
        generators = global_state()
        try:
            again, _ = collected(evaluator, plugin, subject)
        except FaultError as error:
            return f"Expected the same arrays, found an error: {error}", ""
        moved = global_state() != generators or not torch.is_grad_enabled()
    different = _difference(first.arrays, again)
    changed = [name for name, value in state_of(bench.model).items() if value != before[name]]
    if changed:
        return (
            different,
            f"Expected the model as it was, found its {changed[0]} changed. Put it back, in a finally block.",
        )
    if (subject.images != images).any() or (subject.predictions.logits != logits).any():
        return different, "Expected images and predictions as they were, found them changed. Work on a copy."
    hint = "Expected torch's switches and random generators as they were, found them moved. Use torch.random.fork_rng."
    return different, hint if moved else ""


def _difference(first: Mapping[str, NDArray[Any]], again: Arrays) -> str:
    for name, array in again.items():
        known = first[name]
        if known.shape != array.shape or known.dtype != array.dtype or known.tobytes() != array.tobytes():
            return f"Expected the same {name}, found others. Draw from a generator of the evaluator's own, with a fixed seed."
    return ""


def state_of(model: nn.Module) -> dict[str, Any]:
    """What of a model must be left as it was, each in a form that can be compared."""
    modules, parameters = list(model.modules()), list(model.parameters())
    return {
        "weights": [value.numpy().tobytes() for value in model.state_dict().values()],
        "modes": [module.training for module in modules],
        "gradient flags": [parameter.requires_grad for parameter in parameters],
        "gradients": [parameter.grad is not None for parameter in parameters],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
    }


def _lacking(evaluator: Evaluator) -> str:
    """A data set or a user that lacks what it needs is told so, in the words of the core."""
    whole = declared(bench_of(cases()[SOUND]).subject, evaluator)
    alone = replace(whole, images=None, load=None)
    poorer = {
        # where it reads others and asks for nothing rendered, it is tried on files of predictions
        "predictions alone": alone if evaluator.reads and not evaluator.requires else None,
        "no other partitions": replace(whole, others={}) if evaluator.reads else None,
        "nothing rendered": replace(whole, scenes={}) if evaluator.requires else None,
    }
    for name, subject in poorer.items():
        try:
            if subject is not None:
                evaluator.collect(subject)
        except SpurbenchError:
            continue
        except Exception as error:
            return f"Expected a message about what is missing with {name}, found {in_a_line(error)}. {MESSAGE}"
    return ""


def _unused(evaluator: Evaluator) -> str:
    """What is declared and not there, and is not missed."""
    whole = declared(bench_of(cases()[SOUND]).subject, evaluator)
    for name in (*evaluator.reads, *evaluator.requires):
        others = {key: part for key, part in whole.others.items() if key != name}
        scenes = {key: scene for key, scene in whole.scenes.items() if key != name}
        try:
            evaluator.collect(replace(whole, others=others, scenes=scenes))
        except Exception:
            continue
        return f"It declares {name!r} and does without: remove it from reads or requires."
    return ""
