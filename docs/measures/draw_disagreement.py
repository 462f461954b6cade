"""Draw docs/measures/disagreement.svg: five simulated members that share a shortcut, and five that do not.

Run it with ``python docs/measures/draw_disagreement.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from simulated import COLOURS, GROUPS, predictions_from, rows, save, score

from robustbench_spur.ensembling import ensemble, members
from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.evaluators.selective import disagreement, risk_coverage

ENSEMBLES = {
    "all use the field strength": (1.0, 1.0, 1.0, 1.0, 1.0),
    "each to another degree": (0.0, 0.5, 1.0, 1.5, 2.0),
}
"""What each member weighs the field strength with; the mean is 1 in both."""


def answers(uses: tuple[float, ...]) -> tuple[Predictions, Floats]:
    """The mean of the members, and how far they disagree on each slice."""
    columns = rows()
    shared = score(0.0, *columns, seed=0)
    sign, rng = 2 * columns[1] - 1, np.random.default_rng(1)
    said = [predictions_from(shared + use * sign + rng.normal(0, 0.3, len(sign)), *columns) for use in uses]
    return ensemble(said), disagreement(members(said))[0]


def draw(path: Path) -> None:
    """Left, the disagreement by group; right, how well it finds the errors."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for number, (name, uses) in enumerate(ENSEMBLES.items()):
        mean, mutual = answers(uses)
        by_group = [mutual[mean.group == g].mean() for g in range(len(GROUPS))]
        left.bar(np.arange(4) + 0.4 * number, by_group, 0.36, color=list(COLOURS.values()), alpha=1 - 0.5 * number)
        curve = risk_coverage(-mutual, ~mean.correct, 50)
        right.plot(*zip(*[row[:2] for row in curve], strict=True), color=("black", "#999999")[number], label=name)
    left.set_xticks(np.arange(4) + 0.2, [name.replace("@", "\n@") for name in COLOURS])
    left.set(ylabel="mutual information, nats", title="Full: all use it. Pale: to different degrees")
    right.set(xlabel="coverage (least disagreement first)", ylabel="risk (share of errors)", ylim=(-0.01, 0.22))
    right.set_title("Accepting where members agree")
    right.legend(frameon=False)
    save(figure, path)


if __name__ == "__main__":
    draw(Path(__file__).with_name("disagreement.svg"))
