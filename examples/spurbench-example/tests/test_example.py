"""The method and the evaluator against values that were computed without them."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef
from spurbench_example.generalised_cross_entropy import GeneralisedCrossEntropy
from spurbench_example.matthews import Matthews

from robustbench_spur import Batch, Groups, Partition, Predictions, View

GROUPS = Groups(("clear", "tumour"), "site", ("a", "b"))


def loss_of(logits: torch.Tensor, labels: list[int], exponent: float) -> torch.Tensor:
    """The loss of a batch whose network gives these logits, shape (b, 2)."""
    codes = np.array(labels)
    ids = np.array([f"x{i}" for i in range(len(labels))])
    view = View(Partition(ids, codes, np.zeros_like(codes), ids), GROUPS, False, "the test")
    batch = Batch(torch.zeros(len(labels), 1, 2, 2), torch.from_numpy(codes), *2 * (torch.arange(len(labels)),), view)
    method: Any = GeneralisedCrossEntropy(GeneralisedCrossEntropy.Hyperparameters.parse({"exponent": exponent}, "test"))
    loss: torch.Tensor = method.loss(lambda images: logits, batch)
    return loss


def predictions_of(labels: Any, predicted: Any, patients: Any) -> Predictions:
    """Predictions with these classes and patients, all at the first value of the attribute."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    ids = np.array([f"x{i}" for i in range(len(labels))])
    return Predictions(
        ids, labels, np.zeros_like(labels), np.asarray(patients), np.eye(2, dtype=np.float32)[predicted], GROUPS
    )


def test_the_method_conforms() -> None:
    """The conformance kit finds nothing wrong."""
    from robustbench_spur.conformance import check

    report = check("generalised_cross_entropy")
    assert report.passed, report


def test_the_loss_is_the_one_computed_by_hand() -> None:
    """Probabilities 1/4 and 3/4 of the true class, q = 1/2: (1 - 1/2) / (1/2) = 1 and (1 - 0.866025) / (1/2) = 0.267949."""
    logits = torch.tensor([[np.log(3), 0.0], [0.0, np.log(3)]])
    assert float(loss_of(logits, [1, 1], 0.5)) == pytest.approx((1 + 0.267949) / 2, abs=1e-6)


def test_between_cross_entropy_and_one_minus_p() -> None:
    """The two ends of the exponent, by torch's own functions."""
    logits, labels = torch.tensor([[0.3, -1.2], [2.0, 0.5], [-0.7, 0.1]]), torch.tensor([0, 1, 1])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert float(loss_of(logits, labels.tolist(), 1e-4)) == pytest.approx(float(plain), rel=1e-3)
    share = logits.softmax(1)[torch.arange(3), labels]
    assert float(loss_of(logits, labels.tolist(), 1.0)) == pytest.approx(float((1 - share).mean()))


def test_a_hopeless_example_has_a_gradient() -> None:
    """A probability that is rounded to 0 gives a loss of 1 / q and gradients that are numbers."""
    logits = torch.tensor([[300.0, 0.0]], requires_grad=True)
    loss = loss_of(logits, [1], 0.5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == pytest.approx(2.0)
    assert bool(torch.isfinite(gradient).all())


def test_the_coefficient_is_that_of_scikit_learn() -> None:
    """On all patients, and on a resample of them as if its rows stood there as often as their patient was drawn."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    patients = np.array([f"p{i // 5}" for i in range(60)])
    rows = predictions_of(labels, predicted, patients)
    counts = np.stack([np.ones(12), rng.integers(0, 4, 12)]).astype(np.float64)
    drawn = np.repeat(np.arange(60), counts[1].astype(int)[rows.patient])
    expected = [matthews_corrcoef(labels, predicted), matthews_corrcoef(labels[drawn], predicted[drawn])]
    np.testing.assert_allclose(Matthews().measure(rows, counts)["mcc"], expected)


@pytest.mark.parametrize(("predicted", "expected"), [([0, 0, 1, 1], 1.0), ([1, 1, 0, 0], -1.0), ([0, 1, 0, 1], 0.0)])
def test_the_coefficient_of_known_answers(predicted: list[int], expected: float) -> None:
    """Right, wrong and unrelated answers."""
    rows = predictions_of([0, 0, 1, 1], predicted, ["p0", "p1", "p2", "p3"])
    assert Matthews().measure(rows, np.ones((1, 4)))["mcc"].tolist() == [expected]


def test_one_class_only_leaves_it_undefined() -> None:
    """A constant answer, and patients of one class."""
    rows = predictions_of([0, 0, 1, 1], [0, 0, 0, 0], ["p0", "p1", "p2", "p3"])
    assert np.isnan(Matthews().measure(rows, np.ones((1, 4)))["mcc"]).all()
    rows = predictions_of([0, 0, 1, 1], [0, 1, 0, 1], ["p0", "p1", "p2", "p3"])
    assert np.isnan(Matthews().measure(rows, np.array([[1.0, 1.0, 0.0, 0.0]]))["mcc"]).all()
