"""What evaluator ``fragility`` says of what it collected: ratios, accuracies under universal changes, and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.ball import radius_label
from robustbench_spur.attack.subset import check_subset, once
from robustbench_spur.evaluators.base import Finding, Floats, Predictions
from robustbench_spur.evaluators.finding import Verdict, beyond, in_percent
from robustbench_spur.statistics import group_means, patient_sums, ratio
from robustbench_spur.types import Estimate, SpurbenchError, finite

NOT_MADE = 2
"""What is written where no universal change could be made, where 1 is right and 0 wrong."""
RATIOS = {"fragility_ratio": "change", "fragility_gradient_ratio": "gradient"}
GAP = "fragility_transfer_gap"
NOTABLE = 0.1
"""A gap from which changes are said to be of a value's own."""
PLACE_LIMITS: Mapping[Verdict, str] = {
    "problem": "What it is misled by instead; a change beside the lesion may act on its surroundings.",
    "doubt": "That it is misled elsewhere: chance could do it.",
    "no sign": "That it decides by the lesion: the rest of the change lies elsewhere, and any bright spot draws some.",
}
GAP_LIMITS: Mapping[Verdict, str] = {
    "problem": "What it looks at at either value; a network may read lesions in two ways.",
    "doubt": "That it looks at different things: the gap is small, or chance could make it.",
    "no sign": "That it looks at the lesion: it may look at one other thing throughout.",
}
"""What the findings leave open."""


@dataclass(frozen=True)
class Report:
    """The collected arrays with the settings that they were collected with.

    Args:
        own: the evaluator's settings.
        predictions: of the partition.
        arrays: by name without the evaluator's.

    Raises:
        SpurbenchError: arrays that do not fit the predictions and the settings.
    """

    own: Any
    predictions: Predictions
    arrays: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        rows, values = self.arrays["rows"], len(self.predictions.groups.values)
        for name, array in self.arrays.items():
            shape = (len(rows), values) if name == "transferred" else (len(rows),)
            if array.shape != shape or rows.dtype.kind not in "iu":
                raise SpurbenchError(
                    f"Expected whole numbers in fragility_rows, and fragility_{name} of shape {shape}, found {rows.dtype}"
                    f" and {array.shape}. Collect again."
                )
        check_subset(rows, self.predictions, self.own.examples, "fragility_rows")
        shares = np.stack([self.arrays[name] for name in ("area", "change", "gradient")])
        if ((shares < 0) | (shares > 1 + 1e-6)).any():  # NaN is neither
            raise SpurbenchError("Expected shares from 0 to 1 in fragility_area, _change and _gradient, found others.")
        clean = self.predictions.correct[rows]
        flags = np.column_stack([self.arrays["transferred"], self.arrays["random"]])
        if not np.isin(flags, (0, 1, NOT_MADE)).all() or (flags[~clean] == 1).any():
            raise SpurbenchError(
                "Expected 0, 1 or 2 in fragility_transferred and fragility_random, and no 1 where the clean image is wrong,"
                " found otherwise."
            )

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The subset's rows in the partition."""
        return self.arrays["rows"].astype(np.int64)

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Group of each example of the subset."""
        return np.asarray(self.predictions.group[self.rows])

    @cached_property
    def patient(self) -> NDArray[np.int64]:
        """Patient of each example of the subset."""
        return np.asarray(self.predictions.patient[self.rows])

    def known(self, of: str) -> NDArray[np.bool_]:
        """Examples that show a lesion and whose energy is known, shape (m,)."""
        return np.asarray(np.isfinite(self.arrays[of]) & np.isfinite(self.arrays["area"]))

    def ratios(self, of: str, counts: Floats) -> tuple[Floats, Floats]:
        """Ratio over all examples, shape (resamples,), and over each group's, shape (resamples, groups)."""
        known, groups = self.known(of), len(self.predictions.groups)
        sums = [
            counts @ patient_sums(self.patient[known], counts.shape[1], self.group[known], groups, values[known])
            for values in (self.arrays[of], self.arrays["area"])
        ]
        return ratio(sums[0].sum(axis=1), sums[1].sum(axis=1)), ratio(*sums)

    def shares(self, counts: Floats) -> tuple[Floats, Floats]:
        """Mean share of the change over all examples, shape (resamples,), and over each group's, (resamples, groups)."""
        known, groups = self.known("change"), len(self.predictions.groups)
        patient, values, group = self.patient[known], self.arrays["change"][known], self.group[known]
        whole = group_means(values, patient, np.zeros_like(patient), 1, counts)[:, 0]
        return whole, group_means(values, patient, group, groups, counts)

    def accuracies(self, right: NDArray[Any], counts: Floats, made_at: int | None = None) -> Floats:
        """Mean over classes of the share of right examples at each value, shape (resamples, values).

        Args:
            right: 1 or 0, or :data:`NOT_MADE`, shape (m,).
            counts: draws of each patient, shape (resamples, patients).
            made_at: the value at which the change was made: classes without a declared group there do not count, nor do
                examples for which none was made; a class without any is undefined.
        """
        groups, values = self.predictions.groups, len(self.predictions.groups.values)
        made = np.asarray(right) != NOT_MADE
        by_group = group_means(right[made] == 1, self.patient[made], self.group[made], len(groups), counts)
        declared = set(groups.codes)
        out = np.full((len(counts), values), np.nan)
        for value in range(values):
            counted = [
                g
                for g, code in enumerate(groups.codes)
                if code % values == value and (made_at is None or code - value + made_at in declared)
            ]
            if counted:
                out[:, value] = by_group[:, counted].mean(axis=1)
        return out

    def matrix(self, counts: Floats) -> Floats:
        """Accuracies by value made at and met at, shape (resamples, values, values)."""
        columns = self.arrays["transferred"].T
        return np.stack([self.accuracies(column, counts, a) for a, column in enumerate(columns)], axis=1)

    def measure(self, counts: Floats) -> dict[str, Floats]:
        """Every metric under every resampling."""
        groups, out = self.predictions.groups, dict[str, Floats]()
        of_change = {"fragility_share": self.shares(counts)}
        for metric, (whole, by_group) in (of_change | {m: self.ratios(of, counts) for m, of in RATIOS.items()}).items():
            out |= {metric: whole, **{f"{metric}_in:{name}": by_group[:, g] for g, name in enumerate(groups.names)}}
        matrix = self.matrix(counts)
        for a, made in enumerate(groups.values):
            out |= {f"fragility_transfer:{made}:{met}": matrix[:, a, b] for b, met in enumerate(groups.values)}
        own = np.diagonal(matrix, axis1=1, axis2=2)
        apart = ~np.eye(len(groups.values), dtype=bool)
        differences = (matrix - own[:, None, :])[:, apart]
        out[GAP] = differences.mean(axis=1) if apart.any() else np.full(len(counts), np.nan)
        return out

    def support(self) -> dict[str, int]:
        """Patients behind the shares and the accuracies."""
        groups, known = self.predictions.groups, self.known("change")
        out = {"fragility_share": len(np.unique(self.patient[known]))}
        for g, name in enumerate(groups.names):
            out[f"fragility_share_in:{name}"] = len(np.unique(self.patient[known & (self.group == g)]))
        codes = np.asarray(groups.codes)[self.group] if len(self.group) else self.group
        for a, made in enumerate(groups.values):
            for b, met in enumerate(groups.values):
                rows = (self.arrays["transferred"][:, a] != NOT_MADE) & (codes % len(groups.values) == b)
                out[f"fragility_transfer:{made}:{met}"] = len(np.unique(self.patient[rows]))
        return out

    def details(self) -> dict[str, Any]:
        """See :meth:`robustbench_spur.evaluators.fragility.Fragility.details`."""
        own, counts, groups = self.own, once(self.predictions), self.predictions.groups
        clean = self.accuracies(self.predictions.correct[self.rows], counts)[0]
        random, matrix = self.accuracies(self.arrays["random"], counts)[0], self.matrix(counts)[0]
        masks = {"all": np.ones(len(self.rows), bool), **{n: self.group == g for g, n in enumerate(groups.names)}}
        universal = radius_label(own.universal_radius)
        return {
            "definition": (
                f"energy: squared change by {own.steps} steps of PGD from the clean image within {own.radius:.4g} in"
                f" {own.norm}, last iterate, and squared gradient of the cross-entropy, of examples that show a lesion and are"
                f" right; transfer: universal changes of at most {universal} per pixel, {own.universal_steps} steps, for each"
                " class and attribute value, made on one half of the patients and met by the other; clean errors count as"
                " errors"
            ),
            "examples": len(self.rows),
            "lesions": int(self.known("change").sum()),
            "shares": [{"group": name, **self._shares(mask)} for name, mask in masks.items()],
            "transfer": [
                {
                    "met_at": value,
                    "clean": finite(clean[b]),
                    "random": finite(random[b]),
                    "made_at": {made: finite(matrix[a, b]) for a, made in enumerate(groups.values)},
                }
                for b, value in enumerate(groups.values)
            ],
            "undefined": self._undefined(),
        }

    def _shares(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Number of examples and mean shares of some, None where there are none."""
        known = mask & self.known("change") & self.known("gradient")
        means = {n: finite(self.arrays[n][known].mean()) if known.any() else None for n in ("area", *RATIOS.values())}
        return {"examples": int(known.sum()), **means}

    def _undefined(self) -> dict[str, str]:
        """Why a metric is NaN on all patients, by metric."""
        out = {}
        for metric, value in self.measure(once(self.predictions)).items():
            if not np.isnan(value[0]):
                continue
            if metric.partition(":")[0].removesuffix("_in") in ("fragility_share", *RATIOS):
                shown = np.isfinite(self.arrays["area"]).any()
                still = "no right example that shows a lesion has a gradient" if shown else "no example shows a lesion"
                out[metric] = f"{still} in this group" if ":" in metric else still
            elif len(self.predictions.groups.values) < 2 and metric == GAP:
                out[metric] = "one attribute value: there is no other to transfer to"
            else:
                out[metric] = "a class has no right examples to make the change on, or none that meet it"
        return out

    def findings(self, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """See :meth:`robustbench_spur.evaluators.fragility.Fragility.findings`."""
        return [self._place(estimates), self._transfers(estimates[GAP])]

    def _place(self, estimates: Mapping[str, Estimate]) -> Finding:
        """Whether the change lies in the lesion."""
        question, names = "Where can it be misled?", ("fragility_share", "fragility_ratio")
        share, chance = (estimates[name] for name in names)
        if share.value is None or chance.value is None:
            return Finding(question, "unknown", f"Cannot be told: {share.reason}.", names, "Where it is misled.")
        verdict = beyond(chance, 1.0, above=False)
        text = (
            f"Of the energy of the small change that harms it most, {in_percent(share)} lies in the lesion,"
            f" {chance.value:.3g} times as much as if the lesion were any other place"
        )
        return Finding(question, verdict, f"{text}.", names, PLACE_LIMITS[verdict])

    def _transfers(self, gap: Estimate) -> Finding:
        """Whether the same change misleads it at all attribute values."""
        attribute = self.predictions.groups.attribute
        question, names = f"Is it misled by the same thing whatever the {attribute}?", (GAP,)
        if gap.value is None:
            return Finding(question, "unknown", f"Cannot be told: {gap.reason}.", names, "That it is.")
        verdict = beyond(gap, NOTABLE)
        more = "more" if gap.value >= 0 else "less"
        spread = "" if gap.low is None or gap.high is None else f" ({gap.low:.3f} to {gap.high:.3f})"
        text = (
            f"A universal change made at one value of {attribute} leaves {abs(gap.value):.3f} {more}{spread} of the examples"
            " right at another than that value's own"
        )
        return Finding(question, verdict, f"{text}.", names, GAP_LIMITS[verdict])
