"""Columns of a file of predictions, a table or an npz file, as texts and numbers; what they mean is another matter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.arraysfile import read_npz
from robustbench_spur.evaluators.subject import Features
from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError, nearest

TEXTS = ("id", "patient", "label", "attribute")
HEAD = ("head_weight", "head_bias")
NUMBERED = re.compile(r"(logit|prob|feature)_(0|[1-9]\d{0,3})")
MAX_CSV_BYTES = 256 * 2**20
SEPARATORS = ("\t", ";", ",")


@dataclass(frozen=True)
class Columns:
    """What a file holds: texts by column, scores of shape (n, classes), which kind they are, and how a row is called.

    ``features`` are those of the last layer's input, None where the file has none.
    """

    place: Path
    texts: Mapping[str, list[str]]
    scores: NDArray[np.float64]
    kind: str
    row: Callable[[int], str]
    features: Features | None = None


def csv_columns(path: Path) -> Columns:
    """Columns of a table: UTF-8 with a header line, separated by tabs, semicolons or commas.

    Raises:
        SpurbenchError: missing, damaged or too large, or columns that are not those of predictions.
    """
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise SpurbenchError(f"Expected predictions in a .csv, .tsv or .npz file, found {path}.")
    header, cells = _csv_cells(path)
    names = [name.strip() for name in header]
    kind, width, features = _check_names(names, path)
    columns = Columns(path, {}, np.empty((0, 0)), kind, lambda number: f"row {number + 2} of {path}")

    def together(kind: str, width: int) -> NDArray[np.float64]:
        found = np.empty((len(cells), width))
        for code in range(width):
            name = f"{kind}_{code}"
            found[:, code] = _numbers(cells[:, names.index(name)], name, columns)
        return found

    columns = replace(columns, scores=together(kind, width))
    if features:
        columns = replace(columns, features=Features(_points(together("feature", features), columns)))
    texts = {name: [cell.strip() for cell in cells[:, names.index(name)].tolist()] for name in TEXTS if name in names}
    return replace(columns, texts=texts)


def _csv_cells(path: Path) -> tuple[list[str], NDArray[Any]]:
    """Header and body of a table, every cell a text; a row with too few cells has empty ones."""
    import pandas as pd

    with reading(path, "a table of predictions in UTF-8"):
        size = path.stat().st_size
        if size > MAX_CSV_BYTES:
            raise SpurbenchError(
                f"Expected a table of at most {MAX_CSV_BYTES // 2**20} MiB, found {path} with {size // 2**20} MiB."
                " Save it as npz."
            )
        with path.open(encoding="utf-8-sig") as stream:
            first = stream.readline(2**16)
        separator = next((one for one in SEPARATORS if one in first and (one != ";" or "," not in first)), ",")
        frame = pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            header=None,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            low_memory=False,
        )
    cells = frame.to_numpy(dtype=object)
    blank = (cells == "").all(axis=1)
    kept = len(cells) - int(np.argmin(blank[::-1]))  # empty lines may stand at the end
    if kept < 2 or blank.all():
        raise SpurbenchError(f"Expected a header line and then examples in {path}, found none.")
    return cells[0].tolist(), cells[1:kept]


def _numbers(cells: NDArray[Any], name: str, columns: Columns) -> NDArray[np.float64]:
    import pandas as pd

    found = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        cell = str(cells[bad[0]])
        hint = " Write decimals with a point." if "," in cell else ""
        raise SpurbenchError(
            f"Expected finite numbers in {name!r}, found {cell!r} ({columns.row(bad[0])}, and {len(bad) - 1} more).{hint}"
        )
    return found


def npz_columns(path: Path) -> Columns:
    """Columns of an npz file; ``logits``, ``probs`` and ``features`` may be one array of shape (examples, columns).

    With features there may be the last layer, ``head_weight`` of shape (classes, features) and ``head_bias``.

    Raises:
        SpurbenchError: as :func:`csv_columns`.
    """
    arrays = read_npz(path)
    head = {name: arrays.pop(name) for name in HEAD if name in arrays}
    for kind in ("logit", "prob", "feature"):
        many = arrays.get(f"{kind}s")
        if many is not None:
            if many.ndim != 2:
                raise SpurbenchError(
                    f"Expected {kind}s of shape (examples, {'width' if kind == 'feature' else 'classes'}) in {path}, found"
                    f" shape {many.shape}."
                )
            del arrays[f"{kind}s"]
            arrays |= {f"{kind}_{code}": many[:, code] for code in range(many.shape[1])}
    names = list(arrays)
    kind, width, features = _check_names(names, path)
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in lengths.values()) or len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in list(lengths.items())[:12])
        raise SpurbenchError(f"Expected arrays of one length in {path}, found {told}.")
    count = len(arrays[f"{kind}_0"])
    if not count:
        raise SpurbenchError(f"Expected examples in {path}, found none.")
    columns = Columns(path, {}, np.empty((0, 0)), kind, lambda number: f"entry {number} of {path}")

    def together(kind: str, width: int) -> NDArray[np.float64]:
        found = np.empty((count, width))
        for code in range(width):
            found[:, code] = _finite(arrays[f"{kind}_{code}"], f"{kind}_{code}", columns)
        return found

    columns = replace(columns, scores=together(kind, width))
    if features:
        points = _points(together("feature", features), columns)
        columns = replace(columns, features=Features(points, *_head(head, (width, features), path)))
    elif head:
        raise SpurbenchError(
            f"Expected features beside {', '.join(head)} in {path}, found none. Save them as 'features'."
        )
    return replace(columns, texts={name: _as_texts(arrays[name], name, path) for name in TEXTS if name in arrays})


def _head(
    arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int], path: Path
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Weight and bias of the last layer, None twice where they were not given; no bias is one of 0."""
    if not arrays:
        return None, None
    weight, bias = arrays.get(HEAD[0]), arrays.get(HEAD[1], np.zeros(shape[0]))
    if weight is None:
        raise SpurbenchError(f"Expected {HEAD[0]} beside {HEAD[1]} in {path}, found none. Save both, or neither.")
    for name, array, expected in ((HEAD[0], weight, shape), (HEAD[1], bias, shape[:1])):
        if array.shape != expected or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise SpurbenchError(
                f"Expected {name} as finite numbers of shape {expected} in {path}, found {array.dtype} of shape {array.shape}"
                f"{'' if array.shape != expected else ' with others'}. Rows are classes, as in torch."
            )
    return weight.astype(np.float64), bias.astype(np.float64)


def _points(values: NDArray[np.float64], columns: Columns) -> NDArray[np.float32]:
    """Features as float32, shape (n, width), refused where it cannot hold one."""
    with np.errstate(over="ignore"):  # refused in the next line
        points = values.astype(np.float32)
    beyond = np.argwhere(~np.isfinite(points))
    if len(beyond):
        row, column = beyond[0]
        raise SpurbenchError(
            f"Expected features that float32 holds, found {values[row, column]:g} in 'feature_{column}' ({columns.row(row)})."
        )
    return points


def _finite(array: NDArray[Any], name: str, columns: Columns) -> NDArray[np.float64]:
    if array.dtype.kind not in "iuf":
        raise SpurbenchError(f"Expected numbers in {name!r} of {columns.place}, found {array.dtype}.")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise SpurbenchError(
            f"Expected finite numbers in {name!r}, found {array[bad[0]]} ({columns.row(bad[0])}, and {len(bad) - 1} more)."
        )
    return array.astype(np.float64)


def _as_texts(array: NDArray[Any], name: str, path: Path) -> list[str]:
    if array.dtype.kind == "U":
        return [cell.strip() for cell in array.tolist()]
    if array.dtype.kind in "iuf":
        return [str(cell) for cell in array.tolist()]
    if array.dtype.kind == "b":
        return [str(int(cell)) for cell in array.tolist()]
    raise SpurbenchError(f"Expected texts or numbers in {name!r} of {path}, found {array.dtype}. Save it so.")


def _check_names(names: Sequence[str], path: Path) -> tuple[str, int, int]:
    """Kind and number of the score columns and the number of features; refused unless each is there once, and nothing else."""
    matches = [match for match in map(NUMBERED.fullmatch, names) if match]
    found = {kind: sorted(int(m[2]) for m in matches if m[1] == kind) for kind in ("logit", "prob", "feature")}
    features = found.pop("feature")
    kinds = [kind for kind, codes in found.items() if codes]
    if len(kinds) != 1:
        what = "both" if kinds else f"columns {', '.join(names[:12])}"
        raise SpurbenchError(f"Expected columns logit_0, logit_1, ... or prob_0, prob_1, ... in {path}, found {what}.")
    codes = found[kinds[0]]
    if codes != list(range(len(codes))) or len(codes) < 2:
        told = ", ".join(f"{kinds[0]}_{code}" for code in codes)
        raise SpurbenchError(f"Expected {kinds[0]}_0, {kinds[0]}_1 and so on, one per class, in {path}, found {told}.")
    if features != list(range(len(features))):
        told = ", ".join(f"feature_{code}" for code in features[:12])
        raise SpurbenchError(f"Expected feature_0, feature_1 and so on in {path}, found {told}.")
    scores = [f"{kinds[0]}_{code}" for code in codes]
    known = {*TEXTS, *scores, *(f"feature_{code}" for code in features)}
    for name in names:
        if name not in known:
            hint = nearest(name, [*TEXTS, *scores, "feature_0"])
            raise SpurbenchError(f"Unknown column {name!r} in {path}. {hint} Rename it, or leave it out.")
        if names.count(name) > 1:
            raise SpurbenchError(f"Expected a column {name!r} in {path}, found it {names.count(name)} times.")
    for name in ("label", "attribute"):
        if name not in names:
            hint = " One value everywhere will do where there is none." if name == "attribute" else ""
            raise SpurbenchError(f"Expected a column {name!r} in {path}, found {', '.join(names[:12])}.{hint}")
    return kinds[0], len(codes), len(features)
