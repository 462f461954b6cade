"""``spurbench tune``: search a method's settings on validation, and run what was chosen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_cells, add_json, request_of

if TYPE_CHECKING:
    from robustbench_spur.tuning.results import TrialResult
    from robustbench_spur.tuning.search import Search
    from robustbench_spur.tuning.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from robustbench_spur.tuning.rules import DEFAULT, RULES

    add_cells(parser)
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="that with the defaults included (default: %(default)s)"
    )
    parser.add_argument(
        "--select",
        default=DEFAULT,
        metavar="RULE",
        help=f"rule that chooses: {', '.join(RULES)} (default: %(default)s)",
    )
    parser.add_argument("--sampler", default="random", help="random, or tpe (needs Optuna) (default: %(default)s)")
    parser.add_argument(
        "--tuning-seed", type=int, default=0, metavar="N", help="that the draws follow from (default: %(default)s)"
    )
    parser.add_argument("--training", action="store_true", help="search the training budget's own settings too")
    parser.add_argument("--no-prune", action="store_true", help="run every trial to its end")
    parser.add_argument(
        "--regret",
        action="store_true",
        help="after the choice, score all trials on test, apart, and tell what each rule missed",
    )
    parser.add_argument("--retry", action="store_true", help="run trials that failed once more")
    parser.add_argument(
        "--keep",
        choices=("method", "home"),
        default="method",
        help="keep the preset beside the method's file, or in the home (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the trials and compute nothing")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the trials to a table as well")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Search, choose, keep the preset, and run it."""
    from rich.console import Console

    from robustbench_spur.cli import trials
    from robustbench_spur.cli.progress import Terminal
    from robustbench_spur.tuning.choice import choose, preset_from
    from robustbench_spur.tuning.presets import keep

    study, terminal = _open(options), Terminal()
    for text, full in study.base.resolved.items():
        terminal.say(f"{text} means {full}")
    if options.dry_run:
        trials.print_plan(study)
        return 0
    with Watching(study, terminal) as watching:
        results = watching.search.run()
    choices = choose(study, results, {})
    if not options.json:
        trials.print_trials(study, results, choices, Console(highlight=False))
    preset = preset_from(study, results, choices)
    path = keep(study.plugin, study.request.home, study.split, preset, only_home=options.keep == "home")
    terminal.say(f"Preset tuned of {study.plugin.name} for {study.split}: {path}")
    code = _run_chosen(study, terminal, quiet=options.json)
    oracle: dict[int, Any] = {}
    if options.regret:
        with Watching(study, terminal) as watching:
            oracle = watching.search.oracle(results)
        choices = choose(study, results, oracle)
        if not options.json:
            trials.print_regret(results, choices, oracle, Console(highlight=False))
    if options.csv:
        trials.write_csv(options.csv, study, results, choices, oracle)
    if options.json:
        trials.print_study(study, results, choices, oracle, path)
    return code


def _open(options: argparse.Namespace) -> Study:
    """The study that the options ask for."""
    from robustbench_spur.tuning.study import Options, open_study

    how = Options(
        trials=options.trials,
        select=options.select,
        sampler=options.sampler,
        tuning_seed=options.tuning_seed,
        training=options.training,
        prune=not options.no_prune,
        regret=options.regret,
        retry=options.retry,
    )
    return open_study(request_of(options), how)


def _run_chosen(study: Study, terminal: Any, *, quiet: bool) -> int:
    """Run the preset as ordinary cells: the one time that the test set is read.

    Returns:
        1 where a cell failed, else 0.
    """
    from dataclasses import replace

    from robustbench_spur.plan import make_plan
    from robustbench_spur.runner import carry_out
    from robustbench_spur.tuning.presets import TUNED

    plan = make_plan(replace(study.request, preset=TUNED))
    if not quiet:
        code: int = terminal.run(plan)
        return code
    return int(any(one.record.status == "failed" for one in carry_out(plan, terminal)))


class Watching:
    """Shows how a search goes on: a bar or lines for its stages, and a line for each trial that ends."""

    def __init__(self, study: Study, terminal: Any) -> None:
        from robustbench_spur.cli.bar import Bar
        from robustbench_spur.tuning.search import Search

        self._study, self._terminal, self._bar = study, terminal, Bar(terminal.console)
        self._total = self._done = 0
        self.search: Search = Search(study, self, self._ended)

    def __enter__(self) -> Watching:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def planned(self, plan: Any) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        self._total, self._done = len(plan.stages()), 0

    def progress(self, stage: Any, done: int, total: int) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        self._bar(f"[{self._done + 1}/{self._total}] {stage.title}", done, total)

    def finished_stage(self, outcome: Any) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        self._done += 1

    def finished_cell(self, cell: Any, record: Any) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`; a search leaves no records."""

    def _ended(self, result: TrialResult, there: bool) -> None:
        from robustbench_spur.cli.trials import percent, settings_text

        rule, already = self._study.rule.name, " already" if there else ""
        told = f"failed: {result.reason}"
        if result.status == "done":
            told = f"{rule} {percent(result.measured(rule).value)} after {result.epochs} epochs"
        self._terminal.say(f"trial {result.number}{already} ({settings_text(result.settings)}): {told}")
