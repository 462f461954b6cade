"""What each rule chooses among the trials, how well it can be trusted, and what it missed."""

from __future__ import annotations

import importlib.metadata
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_spur.method import track_of
from robustbench_spur.tuning.presets import TunedPreset
from robustbench_spur.tuning.results import OracleResult, TrialResult
from robustbench_spur.tuning.rules import AVERAGE, RULES, Measured, Rule
from robustbench_spur.tuning.study import Study
from robustbench_spur.types import SpurbenchError


def order_of(rule: Rule, result: TrialResult) -> tuple[float, float, int]:
    """What sorts results from best to worst: the rule, then the average on validation, then the earlier trial."""
    value, average = result.measured(rule.name).value, result.measured(AVERAGE).value
    return (
        math.inf if value is None else -rule.sign * value,
        math.inf if average is None else -average,
        result.number,
    )


def state_of(result: TrialResult) -> str:
    """``done``, ``failed`` or ``pruned``."""
    return "pruned" if result.status == "done" and result.part == "third" else result.status


@dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Args:
        rule: which.
        trial: the chosen one; None where the rule is undefined, or nothing went to the end.
        measured: its value, with the part that it is of.
        track: of the method and the rule together.
        warning: why the value is not to be trusted; empty where there is no reason.
        test: worst group of the chosen trial on test; None where it was not looked at.
        regret: by how much the best trial's worst group on test is higher; None where that is not known.
    """

    rule: Rule
    trial: int | None
    measured: Measured
    track: str
    warning: str = ""
    test: float | None = None
    regret: float | None = None


def choose(study: Study, results: Sequence[TrialResult], oracle: Mapping[int, OracleResult]) -> list[Choice]:
    """The choice of every rule.

    Args:
        study: whose trials these are.
        results: the last of each trial.
        oracle: worst groups on test, of all trials, where they were asked for; else empty.
    """
    going = [one for one in results if state_of(one) == "done"]
    tests = {number: one.measured.value for number, one in oracle.items()}
    best = max((value for value in tests.values() if value is not None), default=None)
    found = []
    for rule in RULES.values():
        ranked = sorted(going, key=lambda one: order_of(rule, one))
        measured = ranked[0].measured(rule.name) if ranked else Measured(value=None, reason="no trial went to the end")
        trial = None if measured.value is None else ranked[0].number
        test = None if trial is None else tests.get(trial)
        regret = None if best is None or test is None else best - test
        found.append(Choice(rule, trial, measured, track(study, rule), _warning(study, measured), test, regret))
    return found


def track(study: Study, rule: Rule) -> str:
    """Which annotations the method, the choice of the epoch and the rule consume, all together."""
    spec = study.base.cells[0].spec
    return track_of((*spec.method.needs, *(("validation_attributes",) if spec.chooser else ()), *rule.needs))


def _warning(study: Study, measured: Measured) -> str:
    """What to say of a value that rests on few patients."""
    ends, least = measured.interval, study.base.manifest.minimum_patients
    if ends is None or not measured.part or measured.patients is None or measured.patients >= least:
        return ""
    return (
        f"{measured.part} has {measured.patients} patient{'s' if measured.patients > 1 else ''}: 95 % interval"
        f" {100 * ends[0]:.0f} to {100 * ends[1]:.0f} %, which tells little"
    )


# the preset


def preset_from(study: Study, results: Sequence[TrialResult], choices: Sequence[Choice]) -> TunedPreset:
    """What the rule that was asked for chose, with its evidence.

    Raises:
        SpurbenchError: no trial went to the end.
    """
    choice = next(one for one in choices if one.rule is study.rule)
    chosen = next((one for one in results if one.number == choice.trial), None)
    if chosen is None or choice.measured.value is None:
        reasons = "; ".join(sorted({one.reason for one in results if one.reason}))
        raise SpurbenchError(f"Expected a trial that goes to its end, found none: {reasons or choice.measured.reason}.")
    spec, plugin, options = study.base.cells[0].spec, study.plugin, study.options
    tables = {cell.spec.split.ref.full: cell.spec.split.sha256 for cell in study.base.cells}
    return TunedPreset(
        settings={**study.given, **chosen.settings},
        rule=study.rule.name,
        needs=study.rule.needs,
        track=choice.track,
        trial=chosen.number,
        value=choice.measured.value,
        part=choice.measured.part,
        patients=choice.measured.patients,
        trials=[_evidence(one) for one in results],
        search=study.space.spec(),
        sampler=options.sampler,
        tuning_seed=options.tuning_seed,
        seeds=tuple(dict.fromkeys(cell.spec.seed for cell in study.base.cells)),
        method_version=int(plugin.version or 0),
        method_sha256=plugin.sha256,
        split_version=int(spec.split.ref.plugin.version or 0),
        split_sha256=tuple(tables.values()),
        network={"backbone": spec.backbone, "image_size": spec.image_size, "pretrained": spec.pretrained},
        training=spec.training.model_dump(mode="json"),
        numerics=dict(spec.numerics),
        board=study.base.manifest.board,
        package=_version(),
        finished=max(one.finished for one in results),
        command=command_of(study),
    )


def _evidence(result: TrialResult) -> dict[str, Any]:
    """A trial in short: what was tried, and what every rule said on validation."""
    return {
        "trial": result.number,
        "settings": result.settings,
        "status": state_of(result),
        "reason": result.reason,
        "epochs": result.epochs,
        "validation": {name: result.measured(name).value for name in RULES},
    }


def _version() -> str | None:
    try:
        return importlib.metadata.version("robustbench-spur")
    except importlib.metadata.PackageNotFoundError:
        return None


def command_of(study: Study) -> str:
    """The command that makes the search again, without the places of files on this machine."""
    request, options = study.request, study.options
    seeds = dict.fromkeys(cell.spec.seed for cell in study.base.cells)
    words = ["--method", study.plugin.name, "--split", study.split, "--seed", *map(str, seeds)]
    words += ["--trials", str(options.trials), "--select", options.select, "--sampler", options.sampler]
    words += ["--tuning-seed", str(options.tuning_seed), *(["--training"] if options.training else [])]
    words += ["--no-prune"] if not options.prune else []
    words += ["--regret"] if options.regret else []
    words += ["--set", *(f"{name}={value}" for name, value in request.settings.items())] if request.settings else []
    words += ["--preset", request.preset] if request.preset else []
    words += ["--backbone", request.backbone] if request.backbone else []
    words += ["--image-size", str(request.image_size)] if request.image_size else []
    words += ["--selection", request.selection] if request.selection else []
    return f"spurbench tune {shlex.join(words)}"
