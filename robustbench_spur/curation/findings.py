"""What a scan leaves on disk: the ranked table as CSV, and everything as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_spur.curation.damage import Damage
from robustbench_spur.curation.scanned import ColumnScan
from robustbench_spur.curation.study import Study
from robustbench_spur.store import replacing
from robustbench_spur.types import Estimate

TABLE, EVERYTHING, PAGE, SPLITS = "scan.csv", "scan.json", "index.html", "splits"
ESTIMATES = ("risk", "utility", "detectability")
COLUMNS = (
    "rank", "column", "section", "kind", "levels", "missing",
    *(f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high")),
    "p", "q", "auroc", "collinear", "enough_for_split", "support", "why", "note",
)  # fmt: skip


def write_findings(study: Study, damages: Sequence[Damage], folder: Path) -> tuple[Path, Path]:
    """Write ``scan.csv``, a row per column, and ``scan.json``, with the associations and the settings too.

    Args:
        study: what was scanned.
        damages: what was measured of its first columns.
        folder: is made where it is not there.

    Returns:
        Both files.
    """
    with replacing(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(as_cells(rank, row) for rank, row in enumerate(study.scan.rows, start=1))
    with replacing(folder / EVERYTHING) as temporary:
        temporary.write_text(
            json.dumps(everything(study, damages), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
    return folder / TABLE, folder / EVERYTHING


def as_cells(rank: int, row: ColumnScan) -> dict[str, Any]:
    """A row of ``scan.csv``; what is undefined is empty."""
    numbers = {
        f"{name}{end}": _rounded(getattr(getattr(row, name), attribute))
        for name in ESTIMATES
        for end, attribute in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return {
        "rank": rank,
        "column": row.name,
        "section": row.section,
        "kind": row.kind,
        "levels": len(row.levels),
        "missing": row.missing,
        **numbers,
        "p": row.p,
        "q": _rounded(row.q),
        "auroc": _rounded(row.auroc),
        "collinear": row.collinear,
        "enough_for_split": row.enough,
        "support": "; ".join(f"{level}: {count}" for level, count in row.support.items()),
        "why": row.enough_why,
        "note": row.note,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def everything(study: Study, damages: Sequence[Damage]) -> dict[str, Any]:
    """All that a study found, for JSON; files by name only, so that it can be handed on."""
    asked = study.asked
    return {
        "schema_version": 1,
        "table": {"file": asked.table.name, "sha256": study.table_sha256, "patients": len(study.table)},
        "images": study.looked,
        "identity": dict(asked.identity),
        **study.scan.as_dict(),
        "damage": [damage.as_dict() for damage in damages],
    }


def in_percent(estimate: Estimate) -> str:
    """An estimate and its interval in per cent for a terminal; a dash where it is undefined.

    >>> in_percent(Estimate(0.512, 0.4, 0.6)), in_percent(Estimate(0.5)), in_percent(Estimate(None, reason="no images"))
    ('51.2 [40.0, 60.0]', '50.0', '-')
    """
    if estimate.value is None:
        return "-"
    value = f"{100 * estimate.value:.1f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
