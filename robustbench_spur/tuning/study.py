"""A search for a method's settings on one split: what is tried, by what it is judged, and where its results lie.

The cells of a trial are those of an ordinary plan, but for their predictions: on validation alone, and on the ``selection`` set
where there is one. No stage of a trial reads the test partition.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from robustbench_spur.cell import CellSpec, Stages, build_stages
from robustbench_spur.code import code_of
from robustbench_spur.plan import ALL, Plan, PlannedCell, make_plan
from robustbench_spur.registry import Plugin
from robustbench_spur.request import Request, configure, make_method, preset_of
from robustbench_spur.store import content_hash
from robustbench_spur.tuning.presets import TUNED, split_key
from robustbench_spur.tuning.results import SCHEMA_VERSION, StudyStore, TrialResult
from robustbench_spur.tuning.rules import DEFAULT, VERSION, Rule, find_rule
from robustbench_spur.tuning.samplers import RANDOM, Tried, check_sampler, propose
from robustbench_spur.tuning.shortening import can_be_cut, last_trainings, shorten
from robustbench_spur.tuning.space import Space, space_of
from robustbench_spur.types import SpurbenchError

CHOOSING = ("validation", "selection")
"""Partitions that a trial is predicted on."""
LEAST_TO_PRUNE = 3
"""Trials below which the better half is no smaller than all."""


@dataclass(frozen=True)
class Options:
    """How to search.

    Args:
        trials: how many, the one with the defaults included.
        select: rule that chooses, and that prunes.
        sampler: ``"random"`` or ``"tpe"``.
        tuning_seed: that the draws follow from.
        training: search the training budget's own settings too.
        prune: run all to a third of their epochs, and the better half to the end.
        regret: score all trials on test, apart, after the choice; none is pruned then.
        retry: run trials again that failed.
    """

    trials: int = 20
    select: str = DEFAULT
    sampler: str = RANDOM
    tuning_seed: int = 0
    training: bool = False
    prune: bool = True
    regret: bool = False
    retry: bool = False

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            SpurbenchError: no trial, a negative seed, an unknown rule or sampler, or one that is not installed.
        """
        if self.trials < 1:
            raise SpurbenchError(f"Expected at least one trial, found {self.trials}. Give --trials N.")
        if self.tuning_seed < 0:
            raise SpurbenchError(f"Expected a tuning seed of 0 or more, found {self.tuning_seed}.")
        find_rule(self.select)
        check_sampler(self.sampler)


@dataclass(frozen=True, eq=False)
class Study:
    """A search that has been checked.

    Args:
        request: of one method on one split, or on all folds of a protocol.
        options: how to search.
        base: its plan with the default settings: the cells of trial 0.
        space: what is searched.
    """

    request: Request
    options: Options
    base: Plan
    space: Space

    @property
    def plugin(self) -> Plugin:
        """Of the method."""
        return self.base.cells[0].spec.plugin

    @property
    def rule(self) -> Rule:
        """That chooses."""
        return find_rule(self.options.select)

    @property
    def split(self) -> str:
        """The split in full, without the number of the fold where there are several."""
        return split_key(list({cell.spec.split.ref.full: cell.spec.split.ref for cell in self.base.cells}.values()))

    @property
    def folds(self) -> int:
        """Number of folds of the split; 1 for a split as it is."""
        return len({cell.spec.split.ref.full for cell in self.base.cells})

    @cached_property
    def preset(self) -> Mapping[str, Any]:
        """Settings that every trial starts from, of the preset that the user named."""
        return preset_of(self.request, self.plugin, self.base.cells[0].spec.split.ref)[0]

    @property
    def given(self) -> dict[str, Any]:
        """What every trial has of the method's settings: the preset's, and those that the user gave."""
        fields = self.plugin.load().Hyperparameters.model_fields
        return {**self.preset, **{name: value for name, value in self.request.settings.items() if name in fields}}

    @cached_property
    def references(self) -> list[CellSpec]:
        """For each cell, the board's baseline on the same data with the same seed."""
        found = []
        for cell in self.base.cells:
            plugin = cell.spec.registry.find("method", cell.spec.manifest.baseline)
            method, _ = make_method(plugin, {}, cell.spec.training)
            found.append(replace(cell.spec, plugin=plugin, method=method, given={}, preset=None))
        return found

    def spec(self) -> dict[str, Any]:
        """What determines the results of its trials, as JSON values."""
        options, cells = self.options, [cell.spec for cell in self.base.cells]
        codes = [code_of(type(spec.method)) for spec in (cells[0], self.references[0])]
        # the random search asks neither what chooses nor how many trials there are: they may change, and the trials stay
        guided = {"select": options.select, "prune": self.cuts} if options.sampler != RANDOM else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "rules": VERSION,
            "cells": [[spec.identity.sha256, spec.seed] for spec in cells],
            "references": [spec.identity.sha256 for spec in self.references],
            "code": codes,
            "search": self.space.spec(),
            "sampler": options.sampler,
            "tuning_seed": options.tuning_seed,
            **guided,
        }

    @cached_property
    def store(self) -> StudyStore:
        """Where its results are kept."""
        return StudyStore(self.request.home.root / "tuning" / content_hash(self.spec())[:24])

    # what is tried

    def draw(self, number: int, done: Sequence[TrialResult]) -> dict[str, Any]:
        """The settings of a trial, in the place of defaults.

        Args:
            number: of the trial.
            done: results of those before it.
        """
        history: list[Tried] = []
        for result in done:
            value = result.measured(self.options.select).value
            if result.status == "done" and value is not None:
                history.append((self.all_settings(result.settings), value))
        options, maximise = self.options, self.rule.sign > 0
        return propose(self.space, options.sampler, options.tuning_seed, number, history, maximise=maximise)

    def all_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with their defaults, of method and budget."""
        training, method, _ = self._configure(settings)
        return {**training.model_dump(), **method.hyper.model_dump()}

    def _configure(self, settings: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        request = replace(self.request, settings={**self.request.settings, **settings})
        return configure(request, self.plugin, self.base.cells[0].spec.training, self.preset)

    def cells(self, number: int, settings: Mapping[str, Any], on: tuple[str, ...] = CHOOSING) -> list[PlannedCell]:
        """The cells of a trial, with predictions on some partitions alone.

        Args:
            number: of the trial.
            settings: as :meth:`draw` gives them.
            on: partitions; those that the split has not are left out.

        Raises:
            SpurbenchError: the method refuses the settings.
        """
        training, method, given = self._configure(settings)
        specs = [replace(cell.spec, training=training, method=method, given=given) for cell in self.base.cells]
        return planned(f"trial {number}", specs, on)

    # what is cut

    @cached_property
    def _drawn(self) -> list[list[PlannedCell]]:
        """Cells of the trials that are drawn by hash, of those that the method takes."""
        found = []
        for number in range(self.options.trials):
            # what the method refuses is told by the trial itself
            with contextlib.suppress(Exception, SystemExit):
                found.append(self.cells(number, self.space.draw(self.options.tuning_seed, number)))
        return found

    @cached_property
    def shared(self) -> set[str]:
        """Keys of trainings that all trials need, or that the references are: these are never cut."""
        of_trials = [trainings(cells) for cells in self._drawn]
        references = trainings(planned("reference", self.references, CHOOSING))
        return references | (set.intersection(*of_trials) if of_trials else set())

    @property
    def cuts(self) -> bool:
        """Whether trials are pruned."""
        return not self.why_whole

    @cached_property
    def why_whole(self) -> str:
        """Why no trial is pruned; empty where the worse half is."""
        if not self.options.prune:
            return "--no-prune"
        if self.options.regret:
            return "--regret asks for the end of every trial"
        if self.options.trials < LEAST_TO_PRUNE:
            return f"fewer than {LEAST_TO_PRUNE} trials"
        cells = [cell for trial in self._drawn[:2] for cell in trial]
        last = [stage for cell in cells if cell.stages for stage in last_trainings(cell.stages.model)]
        if any(can_be_cut(stage, self.shared) for stage in last):
            return ""
        if all(stage.key in self.shared for stage in last):
            return "the trials share their trainings"
        return "no training has a shorter one that is its beginning (one epoch, or a schedule with a horizon)"

    def cut(self, cells: list[PlannedCell]) -> list[PlannedCell]:
        """Cells whose last trainings go to a third of their epochs; others stay as they are."""
        found = []
        for cell in cells:
            stages = cell.stages
            if stages is not None:
                keys = {one.key for one in last_trainings(stages.model) if can_be_cut(one, self.shared)}
                made: dict[str, Any] = {}
                outputs = {name: shorten(stage, keys, made) for name, stage in stages.outputs.items()}
                stages = replace(stages, model=shorten(stages.model, keys, made), outputs=outputs)
            found.append(replace(cell, key=f"{cell.key}, third", stages=stages))
        return found


def planned(what: str, specs: Sequence[CellSpec], on: tuple[str, ...]) -> list[PlannedCell]:
    """Cells with predictions on some partitions, and nothing that evaluators collect."""
    cells = []
    for place, spec in enumerate(specs):
        whole = build_stages(spec)
        outputs = {name: stage for name, stage in whole.outputs.items() if name in on}
        stages = Stages(whole.model, whole.pixels, outputs, {})
        cells.append(PlannedCell(spec, f"{what}, {place}", "", False, None, stages))
    return cells


def trainings(cells: Sequence[PlannedCell]) -> set[str]:
    """Keys of all trainings of some cells."""
    stages = [stage for cell in cells if cell.stages for stage in cell.stages.model.ancestry()]
    return {stage.key for stage in stages if stage.kind == "train"}


def open_study(request: Request, options: Options) -> Study:
    """Check a request and plan its trial 0; nothing is computed.

    Raises:
        SpurbenchError: anything that cannot be done, a method that is not applicable, or one without settings to search.
    """
    options.check()
    if len(request.methods) != 1 or ALL in request.methods:
        raise SpurbenchError(f"Expected one method to tune, found {' '.join(request.methods)}. Give --method NAME.")
    if len(request.splits) != 1 or ALL in request.splits:
        raise SpurbenchError(f"Expected one split to tune on, found {' '.join(request.splits)}. Give --split NAME.")
    if request.preset == TUNED:
        raise SpurbenchError(f"Expected another preset to start from: {TUNED!r} is what a search makes.")
    base = make_plan(replace(request, again=True))
    for cell in base.cells:
        if cell.reason:
            raise SpurbenchError(
                f"{cell.spec.plugin.name} is not applicable to {cell.spec.split.ref.full}: {cell.reason}. Use --force, or"
                " another split."
            )
    plugin = base.cells[0].spec.plugin
    space = space_of(plugin, {*request.settings}, training=options.training)
    return Study(request, options, base, space)
