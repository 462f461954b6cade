"""Carries out a search: the reference first, then the trials, the worse half of them to a third of their epochs only."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.engine import predictions_of
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.executor import Outcome, describe_error
from robustbench_spur.plan import Plan, PlannedCell
from robustbench_spur.runner import Watcher, carry_out_stages
from robustbench_spur.runtime import require_writable
from robustbench_spur.stage import in_order
from robustbench_spur.store import canonical
from robustbench_spur.tuning.choice import order_of
from robustbench_spur.tuning.environments import infer_environments
from robustbench_spur.tuning.results import CellResult, OracleResult, Part, TrialResult
from robustbench_spur.tuning.rules import Evidence, Measured, judge, worst_part
from robustbench_spur.tuning.shortening import last_trainings
from robustbench_spur.tuning.study import CHOOSING, Study, planned
from robustbench_spur.types import SpurbenchError

THIRD: Part = "third"
WHOLE: Part = "whole"
TEST = "test"


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class Search:
    """A study that is carried out.

    Args:
        study: what to do.
        watcher: is told how the stages go on.
        ended: is told of every result as it is there, and whether it was there already.
    """

    study: Study
    watcher: Watcher
    ended: Callable[[TrialResult, bool], None]

    def run(self) -> list[TrialResult]:
        """Run all trials; what is there already is not done again.

        Returns:
            The last result of each trial, in order: of the whole trial, or of a third of it where it was pruned.

        Raises:
            SpurbenchError: the home cannot be written to, the reference failed, or the rule is undefined on the split.
        """
        study = self.study
        require_writable(study.request.home)
        study.store.describe({**study.spec(), "split": study.split, "method": study.plugin.name})
        self._check_defined()
        numbers = range(study.options.trials)
        if not study.cuts:
            return self._guided(WHOLE)
        thirds = self._guided(THIRD)
        going = [one for one in thirds if one.status == "done"]
        better = sorted(going, key=lambda one: order_of(study.rule, one))[: -(-len(numbers) // 2)]
        kept = {one.number for one in better} | {one.number for one in going if one.number == 0}
        last = {one.number: one for one in thirds}
        last |= {one.number: one for one in self._run({n: last[n].settings for n in sorted(kept)}, WHOLE)}
        return [last[number] for number in numbers]

    def _guided(self, part: Part) -> list[TrialResult]:
        """All trials to some point: at once where they are drawn by hash, one after the other where each asks the earlier."""
        study, numbers = self.study, range(self.study.options.trials)
        if study.options.sampler == "random":
            return self._run({number: study.draw(number, []) for number in numbers}, part)
        done: list[TrialResult] = []
        for number in numbers:
            done += self._run({number: study.draw(number, done)}, part)
        return done

    # trials

    def _run(self, trials: Mapping[int, dict[str, Any]], part: Part) -> list[TrialResult]:
        """Run some trials to a third or to the end, those that are not there."""
        there = self.study.store.trials()
        results: dict[int, TrialResult] = {}
        cells: dict[str, tuple[int, PlannedCell]] = {}
        for number, settings in trials.items():
            old = there.get((number, part))
            tried = old is not None and canonical(old.settings) == canonical(settings)
            if old is not None and tried and not (self.study.options.retry and old.status == "failed"):
                results[number] = old
                self.ended(old, True)
                continue
            try:
                own = self.study.cells(number, settings)
                own = self.study.cut(own) if part == THIRD else own
            except (Exception, SystemExit) as error:  # the method refuses the settings, or its fit fails
                results[number] = self._failed(number, settings, part, error)
            else:
                cells |= {cell.key: (number, cell) for cell in own}
        results |= dict(self._compute(cells, trials, part))
        return [results[number] for number in trials]

    def _compute(
        self, cells: Mapping[str, tuple[int, PlannedCell]], trials: Mapping[int, dict[str, Any]], part: Part
    ) -> Iterable[tuple[int, TrialResult]]:
        """The results of trials as their last cell ends."""
        waiting: dict[int, list[PlannedCell]] = {}
        for number, cell in cells.values():
            waiting.setdefault(number, []).append(cell)
        ended: dict[int, set[str]] = {number: set() for number in waiting}
        for cell, outcomes in self._carried_out([cell for _, cell in cells.values()]):
            number = cells[cell.key][0]
            ended[number].add(cell.key)
            if len(ended[number]) == len(waiting[number]):
                yield number, self._measure(number, trials[number], part, waiting[number], outcomes)

    def _carried_out(self, cells: Sequence[PlannedCell]) -> Iterable[tuple[PlannedCell, Mapping[str, Outcome]]]:
        if not cells:
            return ()
        base = self.study.base
        plan = Plan(tuple(cells), base.runtime, base.manifest, {}, {})
        self.watcher.planned(plan)
        return carry_out_stages(plan, cells, self.watcher)

    def _outcomes(self, cells: Sequence[PlannedCell]) -> Mapping[str, Outcome]:
        """What became of all the stages of some cells."""
        outcomes: Mapping[str, Outcome] = {}
        for pair in self._carried_out(cells):
            outcomes = pair[1]
        return outcomes

    def _measure(
        self,
        number: int,
        settings: dict[str, Any],
        part: Part,
        cells: Sequence[PlannedCell],
        outcomes: Mapping[str, Outcome],
    ) -> TrialResult:
        """The result of a trial whose stages have ended; it is written."""
        try:
            check(cells, outcomes)
            measured = [
                CellResult(
                    split=cell.spec.split.ref.full, seed=cell.spec.seed, measured=judge(self._evidence(cell, place))
                )
                for place, cell in enumerate(cells)
            ]
        except (Exception, SystemExit) as error:  # a trial that diverged is a result
            return self._failed(number, settings, part, error)
        result = TrialResult(
            finished=now(),
            number=number,
            part=part,
            settings=settings,
            epochs=epochs_of(cells),
            status="done",
            reason="",
            cells=tuple(measured),
            seconds=self._seconds(cells, outcomes),
        )
        self.study.store.add(result)
        self.ended(result, False)
        return result

    def _failed(self, number: int, settings: dict[str, Any], part: Part, error: BaseException) -> TrialResult:
        told = describe_error(error, f"trial {number}", self.study.base.runtime)
        reason = told.message.removeprefix(f"trial {number}: ").splitlines()[0]
        result = TrialResult(
            finished=now(),
            number=number,
            part=part,
            settings=settings,
            epochs=0,
            status="failed",
            reason=reason,
            seconds=0.0,
        )
        self.study.store.add(result)
        self.ended(result, False)
        return result

    def _seconds(self, cells: Sequence[PlannedCell], outcomes: Mapping[str, Outcome]) -> float:
        """On the clock, of what was computed for a trial and was not there already."""
        runtime = self.study.base.runtime
        stages = in_order(tuple(stage for cell in cells if cell.stages for stage in cell.stages.all()))
        fresh = [stage for stage in stages if not outcomes[stage.key].cached]
        return round(sum(float(runtime.store_of(s.kind).about(s.key)["cost"]["wall_seconds"]) for s in fresh), 3)

    # what may be known

    @cached_property
    def _environments(self) -> list[NDArray[np.int64]]:
        """Of each cell, the environments that its reference's logits fall into."""
        said = [self._predictions(cell, "validation") for cell in self._reference_cells]
        return [infer_environments(one.logits, one.labels) for one in said]

    @cached_property
    def _reference_cells(self) -> list[PlannedCell]:
        cells = planned("reference", self.study.references, CHOOSING)
        check(cells, self._outcomes(cells))
        return cells

    def _check_defined(self) -> None:
        """The rule that chooses must be defined on the split: the reference's predictions tell."""
        rule = self.study.rule
        for place, cell in enumerate(self._reference_cells):
            found = judge(self._evidence(cell, place))
            if found[rule.name].value is None:
                defined = [name for name, measured in found.items() if measured.value is not None]
                raise SpurbenchError(
                    f"Rule {rule.name} is undefined on {cell.spec.split.ref.full}: {found[rule.name].reason}. Use --select"
                    f" {' or '.join(defined)}."
                )

    def _evidence(self, cell: PlannedCell, place: int) -> Evidence:
        """What may be known of a cell's model before the choice."""
        validation, chooser = self._predictions(cell, "validation"), cell.spec.split.table.partitions.get("selection")
        if chooser is None:
            return Evidence(validation, validation, self._environments[place])
        if self.study.folds > 1:
            why = "the set to choose by of one fold is tested in others: tune on a single fold"
            return Evidence(validation, why, self._environments[place])
        return Evidence(validation, self._predictions(cell, "selection"), self._environments[place])

    def _predictions(self, cell: PlannedCell, partition: str) -> Predictions:
        stages = cell.stages
        if stages is None:
            raise SpurbenchError(f"Expected stages of {cell.spec.title}, found none.")
        logits = self.study.base.runtime.artifacts.arrays(stages.outputs[partition].key)["logits"]
        return predictions_of(cell.spec.split, partition, logits, {})

    # after the choice

    def oracle(self, results: Sequence[TrialResult]) -> dict[int, OracleResult]:
        """The worst group on test of every trial that went to the end, kept apart. Call it after the choice, never before."""
        study, there = self.study, self.study.store.oracles()
        wanted = [one for one in results if one.status == "done" and one.part == WHOLE]
        found = {one.number: there[one.number] for one in wanted if self._is_of(there.get(one.number), one)}
        missing = {one.number: one.settings for one in wanted if one.number not in found}
        cells = {number: study.cells(number, settings, (TEST,)) for number, settings in missing.items()}
        outcomes = self._outcomes([cell for own in cells.values() for cell in own])
        for number, own in cells.items():
            check(own, outcomes)
            worst = tuple((cell.spec.split.ref.full, cell.spec.seed, self._worst_on_test(cell)) for cell in own)
            found[number] = OracleResult(finished=now(), number=number, settings=missing[number], cells=worst)
            study.store.add(found[number])
        return dict(sorted(found.items()))

    @staticmethod
    def _is_of(old: OracleResult | None, result: TrialResult) -> bool:
        return old is not None and canonical(old.settings) == canonical(result.settings)

    def _worst_on_test(self, cell: PlannedCell) -> Measured:
        said = self._predictions(cell, TEST)
        return worst_part(said, said.group, said.groups.names, TEST)


class StageError(SpurbenchError):
    """A stage of a trial failed, with its own message."""


def check(cells: Sequence[PlannedCell], outcomes: Mapping[str, Outcome]) -> None:
    """Raise the error of the first stage that failed.

    Raises:
        StageError: one did.
    """
    for stage in in_order(tuple(stage for cell in cells if cell.stages for stage in cell.stages.all())):
        if (error := outcomes[stage.key].error) is not None:
            raise StageError(error.message)


def epochs_of(cells: Sequence[PlannedCell]) -> int:
    """Epochs of the last trainings of some cells; 0 where nothing is trained."""
    last = [stage for cell in cells if cell.stages for stage in last_trainings(cell.stages.model)]
    return max((int(str(stage.spec["epochs"])) for stage in last), default=0)
