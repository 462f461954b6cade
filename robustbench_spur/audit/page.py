"""An audit as one page that works offline: what was found, for whom, how sure it is, and what was not looked at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robustbench_spur.audit.beside import Beside
from robustbench_spur.audit.report import Audit
from robustbench_spur.evaluators.base import Picture
from robustbench_spur.manifest import Manifest
from robustbench_spur.page.charts import dots, reliability
from robustbench_spur.page.geometry import Chart, Series
from robustbench_spur.page.render import templates
from robustbench_spur.page.texts import percent, sentence
from robustbench_spur.store import replacing
from robustbench_spur.types import Estimate

SAID = {"problem": "problem", "doubt": "in doubt", "no sign": "no sign of it", "unknown": "cannot be told"}
"""Verdicts as the page writes them."""


def write_page(one: Audit, manifest: Manifest, path: Path, beside: Sequence[Beside] = ()) -> Path:
    """Write the page, at once.

    Args:
        one: what was found.
        manifest: of the board whose column names the plot of groups.
        path: of the file.
        beside: rows of the leaderboard under the same protocol.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(render_page(one, manifest, beside), encoding="utf-8")
        temporary.chmod(0o644)
    return path


def render_page(one: Audit, manifest: Manifest, beside: Sequence[Beside] = ()) -> str:
    """The page as HTML; the same audit gives the same bytes."""
    return (
        templates()
        .get_template("audit.html.j2")
        .render(
            audit=one,
            said=SAID,
            headline=headline(one),
            charts=charts_of(one, manifest),
            beside=sorted(beside, key=lambda row: -(row.estimate.value or 0)),
            column=next(c.title for c in manifest.columns if c.name == manifest.rank_by),
            mine=_ranked(one, manifest),
            pictures=[(m, [(p.caption, _png(p)) for p in m.pictures]) for m in one.measured if m.pictures],
            number=_number,
            percent=percent,
            sentence=sentence,
            version=version("robustbench-spur"),
        )
    )


def headline(one: Audit) -> str:
    """The audit in one sentence, from its counts of verdicts."""
    problems, doubts = one.counts["problem"], one.counts["doubt"]
    count = len(one.findings)
    asked = f"{count} {'question was' if count == 1 else 'questions were'} asked"
    if problems:
        return f"{asked}; {problems} found a problem" + (f", {doubts} more gave rise to doubt." if doubts else ".")
    if doubts:
        return f"{asked}; none found a problem, {doubts} gave rise to doubt."
    return f"{asked}; none found a problem. That is no proof that there is none: see what each does not establish."


def charts_of(one: Audit, manifest: Manifest) -> list[tuple[Chart, str]]:
    """Accuracy of every group, and reliability diagrams, where an evaluator noted them; each with an id."""
    charts: list[tuple[Chart, str]] = []
    groups = one.predictions.groups
    family = next((c for c in manifest.columns if c.family), None)
    source = next((m for m in one.measured if family is not None and m.name == family.evaluator), None)
    if family is not None and source is not None:
        by = {name: source.estimates[f"{family.family}{name}"] for name in groups.names}
        values = len(groups.values) if groups.members is None else 1
        charts.append((dots([(Series("model", 1), by)], groups.names, values, "accuracy by group"), "groups"))
    noted = [(m.name, bins) for m in one.measured if (bins := m.details.get("reliability"))]
    return charts + [
        (reliability(Series("model", 1), bins, len(groups.classes), name), f"reliability-{name}")
        for name, bins in noted
    ]


def _ranked(one: Audit, manifest: Manifest) -> Estimate | None:
    """The model's own value of the column that ranks; None where it was not measured."""
    column = manifest.column(manifest.rank_by)
    source = next((m for m in one.measured if m.name == column.evaluator), None)
    return source.estimates.get(str(column.metric)) if source is not None else None


def _number(estimate: Estimate, metric: str) -> dict[str, Any]:
    """A metric as the page shows it: in per cent where it is a share, else as it is."""
    if estimate.value is None:
        return {"metric": metric, "value": "–", "interval": "", "why": estimate.reason}
    show = _plain if abs(estimate.value) > 1 else percent
    ends = "" if estimate.low is None or estimate.high is None else f"{show(estimate.low)} to {show(estimate.high)}"
    unit = "" if show is _plain else " %"
    why = "" if ends else estimate.reason
    return {"metric": metric, "value": f"{show(estimate.value)}{unit}", "interval": ends, "why": why}


def _plain(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _png(picture: Picture) -> str:
    """A picture as the address of its own bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture.image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
