"""The correlation between predicted and true class, which a constant or a random answer does not raise.

With s examples, c of them right, t_k of class k and p_k predicted as class k:
(c s - sum_k t_k p_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)). From -1 to 1; 1 only where every answer is right, about 0
for an answer that has nothing to do with the class. Undefined where one class only is present or predicted.

Source: Matthews 1975, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme"; for several classes
    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import Evaluator, Metric, Predictions

Floats = NDArray[np.float64]


def matthews(tables: Floats) -> Floats:
    """The coefficient of confusion tables.

    Args:
        tables: examples by true class (rows) and predicted class (columns), shape (tables, classes, classes).

    Returns:
        Shape (tables,), in [-1, 1]; NaN where one class only is present or predicted.

    >>> matthews(np.array([[[45.0, 5.0], [15.0, 35.0]], [[50.0, 0.0], [50.0, 0.0]]])).round(4).tolist()
    [0.6124, nan]
    """
    right, total = np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2))
    true, predicted = tables.sum(axis=2), tables.sum(axis=1)
    covariance = right * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    defined = spread > 0
    return np.where(defined, covariance / np.sqrt(np.where(defined, spread, 1)), np.nan)


class Matthews(Evaluator):
    """The Matthews correlation coefficient of the predicted class."""

    name = "matthews"
    version = 1
    summary = "correlation between predicted and true class"
    source = "Matthews 1975; Gorodkin 2004"
    metrics: ClassVar[dict[str, Metric]] = {
        "mcc": Metric("Matthews correlation coefficient between predicted and true class", low=-1.0)
    }

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """The coefficient under every resampling of the patients, shape (resamples,)."""
        classes = len(predictions.groups.classes)
        tables = np.zeros((len(predictions.patients), classes, classes))
        np.add.at(tables, (predictions.patient, predictions.labels, predictions.predicted), 1)
        return {"mcc": matthews(np.tensordot(counts, tables, axes=1))}
