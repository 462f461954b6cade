"""The command line's work from Python, in a few lines."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import DEFAULT_BOARD, load_manifest
from robustbench_spur.registry import Registry
from robustbench_spur.types import Groups, SpurbenchError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_spur.record import Record


class Quiet:
    """A watcher that shows nothing."""

    def planned(self, plan: Any) -> None:
        """Do nothing."""

    def progress(self, stage: Any, done: int, total: int) -> None:
        """Do nothing."""

    def finished_stage(self, outcome: Any) -> None:
        """Do nothing."""

    def finished_cell(self, cell: Any, record: Any) -> None:
        """Do nothing."""


def _many(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _place(home: str | Path | None) -> Home:
    return Home.default() if home is None else Home(Path(home).expanduser().resolve())


def run(
    method: str | Sequence[str],
    split: str | Sequence[str],
    seed: SupportsIndex | Iterable[SupportsIndex] = 0,
    *,
    settings: Mapping[str, Any] | None = None,
    data: Mapping[str, str | Path] | None = None,
    plugin: str | Path | Sequence[str | Path] = (),
    home: str | Path | None = None,
    quiet: bool = True,
    **options: Any,
) -> list[Record]:
    """Run every method against every split with every seed; what is done already is not done again.

    Args:
        method: names, or ``"all"``.
        split: ``[dataset/]split[@rho]``, or ``"all"``.
        seed: of training.
        settings: of the method or of the training budget.
        data: where a dataset's files lie, by its name.
        plugin: files of drafts.
        home: folder of results; ``$SPURBENCH_HOME`` or the platform's folder unless given.
        quiet: show no progress.
        options: further fields of :class:`robustbench_spur.plan.Request`, such as ``device="cpu"``.

    Returns:
        One record per cell. A cell that failed has ``status == "failed"`` and says why; it raises nothing.

    Raises:
        SpurbenchError: the request cannot be carried out.
    """
    from robustbench_spur.plan import Request, make_plan
    from robustbench_spur.runner import carry_out

    request = Request(
        methods=_many(method),
        splits=_many(split),
        seeds=tuple(map(_whole, _many(seed))),
        settings=dict(settings or {}),
        data={name: Path(path).expanduser() for name, path in (data or {}).items()},
        plugin_files=tuple(Path(path).expanduser() for path in _many(plugin)),
        home=_place(home),
        **_further(options),
    )
    plan = make_plan(request)
    if quiet:
        watcher: Any = Quiet()
    else:
        from robustbench_spur.cli.progress import Terminal

        watcher = Terminal()
    order = {cell.key: number for number, cell in enumerate(plan.cells)}
    finished = sorted(carry_out(plan, watcher), key=lambda one: order[one.cell.key])
    return [one.record for one in finished]


def _whole(seed: Any) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise SpurbenchError(f"Expected whole numbers as seeds, found {seed!r}.") from None


def _further(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a request that ``run`` does not name, with texts in the place of paths and lists made what they mean."""
    from robustbench_spur.plan import Request

    own = {"methods", "splits", "seeds", "settings", "data", "plugin_files", "home"}
    known = sorted({field.name for field in fields(Request)} - own)
    for name in options:
        if name not in known:
            raise SpurbenchError(f"Unknown option {name!r} of run. {nearest(name, known)}")
    made = dict(options)
    if "evaluators" in made:
        made["evaluators"] = _many(made["evaluators"])
    if made.get("weights") is not None:
        made["weights"] = Path(made["weights"]).expanduser()
    if "checkpoints" in made:
        made["checkpoints"] = {name: Path(path).expanduser() for name, path in made["checkpoints"].items()}
    return made


def leaderboard(
    split: str | Sequence[str] = (),
    *,
    board: str = DEFAULT_BOARD,
    plugin: str | Path | Sequence[str | Path] = (),
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The ranked table of the records of a home.

    Args:
        split: reduce it to these splits.
        board: board version.
        plugin: files of drafts.
        home: folder of results; ``$SPURBENCH_HOME`` or the platform's folder unless given.

    Returns:
        One row per configuration, best first. A metric ``m`` has the columns ``m``, ``m_low`` and ``m_high``; an undefined
        value is NaN. Without records the frame is empty but for the column ``method``.

    Raises:
        SpurbenchError: unknown board or split, or a damaged record.
    """
    import pandas as pd

    from robustbench_spur.board import build_board
    from robustbench_spur.splitref import parse_splits

    files = tuple(Path(path).expanduser() for path in _many(plugin))
    registry = Registry(files)
    names = [ref.family for text in _many(split) if text != "all" for ref in parse_splits(text, registry)]
    rows = []
    for row in build_board(_place(home), load_manifest(board), files).only(names).as_list():
        flat: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
                numbers = {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
                flat |= {column: np.nan if number is None else number for column, number in numbers.items()}
            else:
                flat[name] = value
        rows.append(flat)
    frame = pd.DataFrame(rows, columns=None if rows else ["method"])
    return frame.astype({name: "Int64" for name in ("rank", "rank_high") if name in frame})


def evaluate(
    labels: ArrayLike,
    attributes: ArrayLike,
    logits: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    ids: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    attribute: str = "attribute",
    evaluators: Sequence[str] = (),
    board: str = DEFAULT_BOARD,
) -> dict[str, dict[str, Any]]:
    """Measure anybody's predictions as a board would. Imports no torch.

    Args:
        labels: class codes, shape (n,).
        attributes: attribute codes, shape (n,).
        logits: shape (n, classes), finite.
        patients: whom each example is of, shape (n,); every example its own where None.
        ids: unique names of the examples, shape (n,).
        classes: names of the classes; ``"0"``, ``"1"``, ... where None.
        values: names of the attribute's values, all that are declared; ``"0"``, ``"1"``, ... up to the largest where None.
        attribute: its name.
        evaluators: names of evaluators that need predictions alone; all that are installed where empty.
        board: whose parameters, for evaluators that are on it, and whose bootstrap are used.

    Returns:
        ``{evaluator: {metric: {"value": v, "low": l, "high": h}}}``; an undefined value is None and has a reason.

    Raises:
        SpurbenchError: shapes that do not agree, logits that are not finite, codes out of range, unknown evaluator.
    """
    from robustbench_spur.evaluators.base import check_rows
    from robustbench_spur.measuring import NEEDS_MODEL, available
    from robustbench_spur.scoring import Scorer, as_json

    with np.errstate(over="ignore"):  # a logit that float32 cannot hold is refused below as infinite
        scores = _numbers("logits", logits).astype(np.float32)
    y, a = _numbers("labels", labels), _numbers("attributes", attributes)
    if scores.ndim != 2:
        raise SpurbenchError(f"Expected logits of shape (examples, classes), found {scores.shape}.")
    class_names = tuple(classes) if classes is not None else tuple(map(str, range(scores.shape[1])))
    value_names = tuple(values) if values is not None else tuple(map(str, range(int(a.max(initial=0)) + 1)))
    names = np.asarray(ids, np.str_) if ids is not None else np.arange(len(scores)).astype(np.str_)
    whom = np.asarray(patients).astype(np.str_) if patients is not None else names
    groups = Groups(class_names, attribute, value_names)
    check_rows(y, a, whom, names, groups, len(scores))
    predictions = Predictions(names, y.astype(np.int64), a.astype(np.int64), whom, scores, groups)
    manifest, names_given = load_manifest(board), _many(evaluators) if evaluators else ()
    loaded, _ = available(Registry(), manifest, names_given)
    for evaluator in loaded if names_given else ():
        if evaluator.collects:
            raise SpurbenchError(f"Evaluator {evaluator.name!r} {NEEDS_MODEL}, not predictions alone. Use run.")
    scorer = Scorer(None, manifest.bootstrap)
    alone = [evaluator for evaluator in loaded if not evaluator.collects]
    return {evaluator.name: as_json(scorer.score(evaluator, predictions, "")) for evaluator in alone}


def _numbers(what: str, given: ArrayLike) -> NDArray[Any]:
    """An array of finite numbers from a user."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise SpurbenchError(f"Expected {what} as an array of numbers: {error}") from error
    if array.dtype.kind not in "iubf":
        raise SpurbenchError(f"Expected {what} as an array of numbers, found {array.dtype}.")
    if not np.isfinite(array).all():
        raise SpurbenchError(f"Expected finite {what}, found {array[~np.isfinite(array)][0]}.")
    return array
