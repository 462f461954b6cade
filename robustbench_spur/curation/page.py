"""A study as one page that works offline: ranking, plot, associations and costs. Texts of the table are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from robustbench_spur.curation.damage import Damage
from robustbench_spur.curation.findings import PAGE
from robustbench_spur.curation.plots import associations, chart_of
from robustbench_spur.curation.study import Study
from robustbench_spur.page.render import templates
from robustbench_spur.page.texts import percent, shortened
from robustbench_spur.store import replacing

READINGS = {
    True: "One marker per column, pale where chance would do as well. Bars are intervals. Upper right is dangerous: the"
    " dashed lines join columns of one risk.",
    False: "One row per column, the most dangerous first. Bars are intervals. Without images nothing is known of"
    " detectability.",
}
"""What the plot shows, with images and without."""


def write_page(study: Study, damages: Sequence[Damage], folder: Path) -> Path:
    """Write ``index.html``, at once.

    Args:
        study: what was scanned.
        damages: what was measured of its first columns.
        folder: is made where it is not there.
    """
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(render_page(study, damages), encoding="utf-8")
        temporary.chmod(0o644)
    return folder / PAGE


def render_page(study: Study, damages: Sequence[Damage]) -> str:
    """The page as HTML; the same study gives the same bytes."""
    return (
        templates()
        .get_template("scan.html.j2")
        .render(
            study=study,
            scan=study.scan,
            damages=damages,
            chart=chart_of(study.scan),
            reading=READINGS[bool(study.scan.settings["images"])],
            pairs=associations(study.scan),
            percent=percent,
            shortened=shortened,
            version=version("robustbench-spur"),
        )
    )
