"""Shortcut testing: its parts against other implementations, its whole on features whose shortcut is known."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.nn import functional

import robustbench_spur.evaluators.shortcut_testing as module
from robustbench_spur.evaluators.answers import Answers
from robustbench_spur.evaluators.base import Part, Predictions
from robustbench_spur.evaluators.shortcut_testing import ShortcutTesting
from robustbench_spur.literals import read_plugins
from robustbench_spur.probing import Scale, features_of, pair_weights
from robustbench_spur.shortcut import (
    Recipe,
    best_threshold,
    equalised_odds,
    initial,
    spearman,
    train_grid,
)
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Estimate, Groups, SpurbenchError
from tests.evaluators import reference
from tests.evaluators.gaussian import classifier, drawn, part, subject, two_class
from tests.evaluators.reference import once

Floats = NDArray[np.float64]
SMALL: dict[str, Any] = {
    "seeds": 2,
    "steps": 250,
    "scalings": (-10.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0),
    "batch_size": 128,
}


def quiet(done: int, total: int) -> None:
    pass


def parts(seed: int, *, rho: float, test_rho: float = 0.5, **more: Any) -> tuple[Any, dict[str, Part]]:
    """A model and the partitions train, validation and test."""
    model = two_class([1.0, 1.0, *([0.0] * more.get("noise", 0))])
    rhos = {"train": rho, "validation": rho, "test": test_rho}
    return model, {
        name: part(model, *drawn(seed + k, rho=rhos[name], patients=500 if name == "train" else 200, **more))
        for k, name in enumerate(rhos)
    }


def collected(model: Any, found: dict[str, Part], **settings: Any) -> Predictions:
    evaluator = ShortcutTesting(ShortcutTesting.Parameters(**{**SMALL, **settings}))
    looked = subject(model, found["test"], train=found["train"], validation=found["validation"])
    return dataclasses.replace(found["test"].predictions, arrays=evaluator.collect(looked))


def point(predictions: Predictions, **settings: Any) -> dict[str, float]:
    numbers = ShortcutTesting(ShortcutTesting.Parameters(**settings)).measure(predictions, once(predictions))
    return {name: float(value[0]) for name, value in numbers.items()}


def made(predictions: Predictions, predicted: Any, odds: Any, performance: Any = 1.0) -> Predictions:
    """Predictions with networks that say this, shapes (n, networks); the last was trained for the attribute alone."""
    networks = np.shape(predicted)[1]
    odds = np.asarray(odds, np.float64)
    tested = Answers(
        np.array([""]),
        predictions.patient % 2,
        np.append(np.linspace(-1, 1, networks - 1), math.nan),
        np.zeros(networks, np.int64),
        np.broadcast_to(performance, (networks,)),
        np.asarray(predicted),
        np.stack([-odds, odds], axis=2),
    )
    return dataclasses.replace(predictions, arrays=tested.arrays(ShortcutTesting.collects))


# Rank correlation


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 30), st.booleans())
def test_spearman_is_scipys(seed: int, networks: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    encoding, unfairness = rng.normal(size=(2, 4, networks))
    if ties:
        encoding, unfairness = np.round(encoding), np.round(unfairness)
    rho, p = spearman(encoding=encoding, unfairness=unfairness)
    for row in range(4):
        if np.ptp(encoding[row]) == 0 or np.ptp(unfairness[row]) == 0:
            assert math.isnan(rho[row]) and math.isnan(p[row])
            continue
        expected = spearmanr(encoding[row], unfairness[row])
        assert (rho[row], p[row]) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


def test_the_two_are_paired_by_network_and_named_by_keyword() -> None:
    rng = np.random.default_rng(0)
    encoding = rng.normal(size=(1, 20))
    unfairness = encoding + rng.normal(size=(1, 20)) / 4
    rho, _ = spearman(encoding=encoding, unfairness=unfairness)
    order = rng.permutation(20)
    assert spearman(encoding=encoding[:, order], unfairness=unfairness[:, order])[0] == pytest.approx(rho)
    assert spearman(encoding=encoding, unfairness=unfairness[:, order])[0] < 0.6 < rho
    with pytest.raises(TypeError):
        spearman(encoding, unfairness)  # type: ignore[misc]
    with pytest.raises(SpurbenchError, match="same networks"):
        spearman(encoding=encoding, unfairness=unfairness[:, :-1])


def test_spearman_without_an_answer() -> None:
    for encoding in ([[1.0, 2.0]], [[1.0, math.nan, 2.0]], [[1.0, 1.0, 1.0]]):
        rho, p = spearman(encoding=np.array(encoding), unfairness=np.arange(len(encoding[0]), dtype=float)[None])
        assert math.isnan(rho[0]) and math.isnan(p[0])
    rho, p = spearman(encoding=np.arange(4.0)[None], unfairness=-np.arange(4.0)[None])
    assert (rho.item(), p.item()) == (-1, 0)


# Threshold and unfairness


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5]))
def test_the_threshold_has_the_largest_f1(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    scores, positive = rng.normal(size=25), rng.random(25) < 0.4
    scores = np.round(scores / step) * step if step else scores
    positive[0] = True
    found = f1_score(positive, scores >= best_threshold(scores, positive))
    assert found == pytest.approx(max(f1_score(positive, scores >= cut) for cut in scores))


def test_a_threshold_needs_a_positive() -> None:
    with pytest.raises(SpurbenchError, match="positive example"):
        best_threshold(np.zeros(3), np.zeros(3, bool))


def test_equalised_odds_by_hand() -> None:
    # false positive rates 0.1 and 0.4, true positive rates 0.9, 0.5: half of 0.3 and half of 0.4
    assert equalised_odds(np.array([[0.1, 0.4], [0.9, 0.5]])) == pytest.approx(0.35)
    assert equalised_odds(np.array([[0.1, 0.4, 0.9], [1.0, 1.0, 1.0]])) == pytest.approx(0.4)
    assert np.isnan(equalised_odds(np.array([[0.1, math.nan], [1.0, 1.0]])))


# Networks


class Reversed(torch.autograd.Function):
    """Identity forward, the gradient times a factor backward."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None


def trained_alone(
    points: Floats, labels: Any, attributes: Any, scaling: float, recipe: Recipe, seed: int
) -> nn.ModuleDict:
    """One network of the grid, written with torch's modules."""
    weights = initial(recipe, points.shape[1], 2, 1)
    net = nn.ModuleDict(
        {
            name: nn.Linear(weights[f"{name}.weight"].shape[1], weights[f"{name}.weight"].shape[2])
            for name in ("trunk", "code", "label", "branch", "attribute")
        }
    )
    with torch.no_grad():
        for name, linear in net.items():
            linear.weight.copy_(weights[f"{name}.weight"][seed].T)  # type: ignore[operator, union-attr]
            linear.bias.zero_()  # type: ignore[operator, union-attr]
    slow = [w for name in ("trunk", "code", "label") for w in net[name].parameters()]
    fast = [w for name in ("branch", "attribute") for w in net[name].parameters()]
    optimizer = torch.optim.Adam(
        [{"params": slow}, {"params": fast, "lr": recipe.rate * recipe.branch}], lr=recipe.rate
    )
    rng, inputs, pair = (
        np.random.default_rng([seed, 1]),
        torch.from_numpy(points).float(),
        pair_weights(attributes, labels),
    )
    for _ in range(recipe.steps):
        rows = rng.integers(0, len(points), recipe.batch)
        z = net["code"](net["trunk"](inputs[rows]).relu())
        loss = functional.cross_entropy(net["label"](z), torch.from_numpy(labels[rows]))
        said_of = net["attribute"](net["branch"](Reversed.apply(z, scaling)).relu())  # type: ignore[no-untyped-call]
        beside = functional.cross_entropy(said_of, torch.from_numpy(attributes[rows]), reduction="none")
        loss = loss + (scaling != 0) * recipe.weight * (torch.from_numpy(pair[rows]).float() * beside).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


@pytest.mark.parametrize("scaling", [-2.0, 0.0, 0.5])
def test_a_network_of_the_grid_is_the_one_that_is_trained_alone(scaling: float) -> None:
    points, labels, attributes, _, _ = drawn(0, patients=60, rho=0.8)
    recipe = Recipe(hidden=5, width=3, steps=12, batch=16, seeds=2)
    grid = train_grid(points, labels, attributes, (-2.0, 0.0, 0.5), recipe, quiet)
    for seed in (0, 1):
        (place,) = np.flatnonzero((grid.scalings == scaling) & (grid.seeds == seed))
        net = trained_alone(points, labels, attributes, scaling, recipe, seed)
        with torch.no_grad():
            code = net["code"](net["trunk"](torch.from_numpy(points).float()).relu())
            logits = net["label"](code).numpy()
        assert grid.codes(points)[place] == pytest.approx(code.numpy(), abs=1e-4)
        assert grid.margins(grid.codes(points))[place] == pytest.approx(logits[:, 1] - logits[:, 0], abs=1e-4)


def test_the_main_task_is_the_label_and_the_other_one_the_attribute() -> None:
    points, labels, attributes, _, _ = drawn(1, patients=400, label_shift=2, attribute_shift=2)
    recipe = Recipe(width=4, steps=200, seeds=1)
    grid = train_grid(points, labels, attributes, (0.0, 1.0), recipe, quiet)
    for margins in grid.margins(grid.codes(points))[:2]:
        assert roc_auc_score(labels, margins) > 0.98
        assert abs(roc_auc_score(attributes, margins) - 0.5) < 0.1
    assert np.isnan(grid.scalings[2]), "the last is the one that was trained for the attribute alone"
    untaught = initial(recipe, 2, 2, 1)["label.weight"][0]
    assert (grid.weights["label.weight"][2] == untaught).all() and (grid.weights["label.weight"][0] != untaught).all()


def test_without_a_scaling_the_branch_counts_for_nothing() -> None:
    points, labels, attributes, _, _ = drawn(2, patients=60)
    recipe = Recipe(steps=20, batch=16, seeds=1)
    grids = [
        train_grid(points, labels, attributes, (0.0,), dataclasses.replace(recipe, weight=weight), quiet)
        for weight in (0.1, 5.0)
    ]
    one, other = (grid.margins(grid.codes(points))[0] for grid in grids)
    assert (one == other).all()


def test_the_grid_moves_the_encoding() -> None:
    points, labels, attributes, _, _ = drawn(3, patients=500, label_shift=2, attribute_shift=2, rho=0.8)
    grid = train_grid(points, labels, attributes, (-3.0, 1.0), Recipe(steps=300, seeds=3), quiet)
    told = np.abs(
        [roc_auc_score(attributes[labels == 0], code[labels == 0] @ [1.0, 1.0]) - 0.5 for code in grid.codes(points)]
    )
    assert told[grid.scalings == -3].mean() < told[grid.scalings == 1].mean()


def test_training_says_how_far_it_is_and_leaves_the_random_state() -> None:
    seen: list[tuple[int, int]] = []
    before = torch.random.get_rng_state()
    train_grid(*drawn(4, patients=20)[:3], (0.0,), Recipe(steps=3, batch=4, seeds=1), lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (torch.random.get_rng_state() == before).all()


# The whole


def test_a_shortcut_is_found() -> None:
    predictions = collected(*parts(10, rho=0.95, label_shift=1.0, attribute_shift=2.5, noise=4))
    numbers, details = point(predictions), ShortcutTesting().details(predictions)
    assert numbers["shortcut_rho"] > 0.6 and numbers["shortcut_p"] < 0.05
    bounds = details["encoding_bounds"]
    assert bounds["lower"] == 0.5 and bounds["upper"] > 0.99
    assert details["encoding_range"][0] < 0.95 < details["encoding_range"][1] <= bounds["upper"] + 0.01
    assert 10 <= details["counted"] <= 14 and len(details["networks"]) == 14 and details["undefined"] == {}
    assert {(one["scaling"], one["seed"]) for one in details["networks"]} == {
        (s, k) for s in SMALL["scalings"] for k in (0, 1)
    }
    json.dumps(details, allow_nan=False)


def test_what_is_encoded_and_not_a_shortcut() -> None:
    found = parts(20, rho=0.5, label_shift=1.5, attribute_shift=2.5, noise=4)
    predictions = collected(*found)
    details = ShortcutTesting().details(predictions)
    assert details["encoding_range"][0] < 0.8 and details["encoding_range"][1] > 0.95
    assert max(one["unfairness"] for one in details["networks"]) < 0.2
    assert ShortcutTesting().cross_check(predictions)["scipy/shortcut_rho"] == pytest.approx(
        point(predictions)["shortcut_rho"]
    )
    assert abs(point(predictions)["shortcut_rho"]) < 0.6


def test_thresholds_are_validations_and_predictions_the_partitions() -> None:
    model, found = parts(30, rho=0.8, noise=1)
    predictions = collected(model, found, steps=30)
    looked = subject(model, found["test"])
    taught = features_of(looked, found["train"]).astype(np.float64)
    scale, train = Scale.of(taught), found["train"].predictions
    recipe = ShortcutTesting.Parameters(**{**SMALL, "steps": 30}).recipe()
    grid = train_grid(scale(taught), train.labels, train.attributes, SMALL["scalings"], recipe, quiet)
    of = {
        name: grid.margins(grid.codes(scale(features_of(looked, found[name]).astype(np.float64))))
        for name in ("validation", "test")
    }
    positive = found["validation"].predictions.labels == 1
    cuts = np.array([best_threshold(margin, positive) for margin in of["validation"]])
    assert (predictions.arrays["shortcut_testing_predicted"] == (of["test"] >= cuts[:, None]).T).all()
    expected = [roc_auc_score(positive, margin) for margin in of["validation"]]
    assert predictions.arrays["shortcut_testing_performance"] == pytest.approx(expected)


def test_of_many_examples_as_many_of_each_group_are_asked_about() -> None:
    model, found = parts(30, rho=0.8, noise=1)
    asked = collected(model, found, steps=10, examples=80)
    there = np.isfinite(asked.arrays["shortcut_testing_odds"][:, 0]).all(axis=1)
    assert np.bincount(asked.group[there]).tolist() == [20] * 4
    assert ((asked.arrays["shortcut_testing_predicted"] == 255) == ~there[:, None]).all()
    rows = np.flatnonzero(there)
    arrays = {name: array[rows] if len(array) == len(asked) else array for name, array in asked.arrays.items()}
    alone = dataclasses.replace(asked.take(rows), arrays=arrays)
    for name, value in point(asked, floor=0.0, least_range=0.0).items():
        assert value == pytest.approx(point(alone, floor=0.0, least_range=0.0)[name], nan_ok=True), name
    whole = collected(model, found, steps=10)
    assert (whole.arrays["shortcut_testing_predicted"][rows] == asked.arrays["shortcut_testing_predicted"][rows]).all()


def test_the_same_twice() -> None:
    found = parts(40, rho=0.8)
    one, other = (collected(*found, steps=10, seeds=1).arrays for _ in range(2))
    for name in ShortcutTesting.collects:
        np.testing.assert_array_equal(one[name], other[name])


# By hand


def grown(networks: int = 12) -> tuple[Predictions, NDArray[np.bool_], Floats]:
    """Networks that are wrong about more and more of the conflict groups, and whose probes are right about more and more."""
    predictions = reference.shortcut_only()
    rows = np.arange(len(predictions))
    conflict = predictions.labels != predictions.attributes
    late = rows[:, None] % 10 < np.append(np.linspace(0, 9, networks), 0)
    predicted = np.where(late & conflict[:, None], predictions.attributes[:, None], predictions.labels[:, None])
    odds = np.where(
        rows[:, None] % 10 < np.append(np.linspace(1, 10, networks), 10), predictions.attributes[:, None], 0.5
    )
    return predictions, predicted, odds


def test_by_hand() -> None:
    predictions, predicted, odds = grown()
    numbers = point(made(predictions, predicted, odds))
    assert numbers["shortcut_rho"] > 0.95
    assert point(made(predictions, predicted, odds[:, [*range(11, -1, -1), 12]]))["shortcut_rho"] < -0.95
    details = ShortcutTesting().details(made(predictions, predicted, odds))
    last = details["networks"][-1]
    # group by group nine or ten of ten are wrong where the attribute says otherwise
    wrong = predicted[:, 11] != predictions.labels
    rates = [wrong[(predictions.labels == y) & (predictions.attributes != y)].mean() for y in (0, 1)]
    assert last["unfairness"] == pytest.approx(np.mean(rates))
    assert details["networks"][0]["unfairness"] < 0.15


def test_under_resampling_is_that_of_repeated_patients() -> None:
    predictions = made(*grown())
    counts = resample_counts(len(predictions.patients), 6, seed=1)
    found = ShortcutTesting().measure(predictions, counts)
    for row, times in enumerate(counts):
        rows = np.repeat(np.arange(len(predictions)), times[predictions.patient].astype(int))
        own = ("reason", "scalings", "seeds", "performance")
        arrays = {name: array if name.endswith(own) else array[rows] for name, array in predictions.arrays.items()}
        again = dataclasses.replace(reference.rearranged(predictions, rows), arrays=arrays)
        if not ShortcutTesting().details(again)["undefined"]:
            assert found["shortcut_rho"][row] == pytest.approx(point(again)["shortcut_rho"])


def test_known_predictors() -> None:
    """Networks that are all alike have no correlation; how unfair they are is known."""
    predictions, _, odds = grown()
    cases = {
        "constant": (0 * predictions.labels, 0.0),
        "perfect": (predictions.labels, 0.0),
        "shortcut": (predictions.attributes, 1.0),
    }
    for predicted, unfair in cases.values():
        one = made(predictions, np.tile(predicted[:, None], 13), odds)
        details = ShortcutTesting().details(one)
        assert details["unfairness_range"] == [unfair, unfair]
        assert math.isnan(point(one)["shortcut_rho"])
        assert set(details["undefined"].values()) == {"all networks have the same unfairness"}
    rng = np.random.default_rng(0)
    random = made(reference.random(0), rng.random((400, 41)) < 0.5, rng.normal(size=(400, 41)))
    assert abs(point(random)["shortcut_rho"]) < 0.5


def test_networks_below_the_floor_do_not_count() -> None:
    predictions, predicted, odds = grown()
    low = np.where(np.arange(13) < 2, 0.6, 0.9)
    assert ShortcutTesting().details(made(predictions, predicted, odds, low))["counted"] == 10
    lower = made(predictions, predicted, odds, np.where(np.arange(13) < 3, 0.6, 0.9))
    reason = ShortcutTesting().details(lower)["undefined"]["shortcut_rho"]
    assert reason == "9 networks reach an AUROC of 0.7 for the label on validation, 10 are needed"
    assert math.isfinite(point(lower, floor=0.5)["shortcut_rho"])


def test_a_grid_that_moves_nothing_says_so() -> None:
    predictions, predicted, odds = grown()
    still = made(predictions, predicted, odds[:, [11] * 13])
    reason = ShortcutTesting().details(still)["undefined"]["shortcut_rho"]
    assert reason == "the grid did not move the encoding: all networks have one from 1.000 to 1.000"
    assert math.isnan(point(still)["shortcut_p"])


def test_findings() -> None:
    def found(rho: Estimate) -> Any:
        (one,) = ShortcutTesting().findings(predictions, {"shortcut_rho": rho, "shortcut_p": Estimate(0.5)})
        return one

    predictions = reference.perfect()
    assert found(Estimate(0.9, 0.8, 0.95)).verdict == "problem"
    assert found(Estimate(0.9, 0.8, 0.95)).sentence.endswith("correlate with 0.90 (0.80 to 0.95).")
    assert found(Estimate(0.3, -0.2, 0.6)).verdict == "doubt"
    assert found(Estimate(0.0)).verdict == "no sign" and found(Estimate(0.0)).sentence.endswith("correlate with 0.00.")
    assert found(Estimate(None, reason="why")).sentence == "Cannot be told: why."


# What is undefined, and why


def reason_of(model: Any, found: dict[str, Part], **settings: Any) -> str:
    predictions = collected(model, found, **{"steps": 5, "seeds": 2, **settings})
    details = ShortcutTesting().details(predictions)
    assert math.isnan(point(predictions)["shortcut_rho"]) and set(details["undefined"]) == {
        "shortcut_rho",
        "shortcut_p",
    }
    json.dumps(details, allow_nan=False)
    assert ShortcutTesting().cross_check(predictions) == {"scipy/shortcut_rho": None, "scipy/shortcut_p": None}
    return str(details["undefined"]["shortcut_rho"])


def test_attribute_tied_to_the_label() -> None:
    tied = "no class has examples at two values of site in {}: what tells one tells the other"
    assert reason_of(*parts(50, rho=1.0)) == tied.format("training")
    assert reason_of(*parts(50, rho=0.9, test_rho=1.0)) == tied.format("the partition")


def chosen(one: Part, rows: Any) -> Part:
    return Part(reference.rearranged(one.predictions, np.flatnonzero(rows)), one.images[rows])


def test_too_little_to_go_by() -> None:
    model, found = parts(60, rho=0.8)
    test, validation = found["test"].predictions, found["validation"].predictions
    only = {**found, "validation": chosen(found["validation"], validation.labels == 0)}
    assert reason_of(model, only).startswith("validation has examples of one class alone")
    some = {**found, "test": chosen(found["test"], (test.labels == 0) | (test.attributes == 1))}
    assert reason_of(model, some).endswith("10 are needed")
    one = {**found, "test": chosen(found["test"], test.patient == 0)}
    assert reason_of(model, one).startswith("no class has examples at two values")
    constant = two_class([0.0, 0.0])
    still = {name: part_of(constant, p) for name, p in found.items()}
    assert reason_of(constant, still) == "the model's features are the same for all training examples"


def part_of(model: Any, one: Part) -> Part:
    """The same examples, all images grey."""
    predictions = one.predictions
    points = np.zeros((len(predictions), 2))
    return part(model, points, predictions.labels, predictions.attributes, predictions.patient, predictions.groups)


def test_an_empty_group_among_the_declared() -> None:
    predictions, predicted, odds = grown()
    rows = ~((predictions.labels == 1) & (predictions.attributes == 0))
    some = made(reference.rearranged(predictions, np.flatnonzero(rows)), predicted[rows], odds[rows])
    reason = ShortcutTesting().details(some)["undefined"]["shortcut_rho"]
    assert reason == "1 of 4 declared groups have no examples: c1@v0"


def test_three_classes() -> None:
    model = classifier(np.eye(3)[:, :2])
    groups = Groups(("a", "b", "c"), "site", ("v0", "v1"))
    points, labels, attributes, clusters, _ = drawn(70, patients=40)
    one = part(model, points, labels, attributes, clusters, groups)
    assert (
        reason_of(model, dict.fromkeys(("train", "validation", "test"), one))
        == "defined for two classes, the split has 3"
    )


def test_three_values() -> None:
    model, groups = two_class([1.0, 1.0, 1.0]), Groups(("a", "b"), "site", ("v0", "v1", "v2"))
    rng = np.random.default_rng(80)
    labels, attributes = np.arange(300) % 2, np.arange(300) // 2 % 3
    points = np.column_stack([2.0 * labels, 2.0 * (attributes == 1), 2.0 * (attributes == 2)]) + rng.normal(
        size=(300, 3)
    )
    one = part(model, points, labels, attributes, np.arange(300), groups)
    predictions = collected(model, dict.fromkeys(("train", "validation", "test"), one))
    assert math.isfinite(point(predictions)["shortcut_rho"])


def test_200_000_rows() -> None:
    rng = np.random.default_rng(0)
    predictions = reference.random(1, rows=200_000, patients=20_000)
    networks = 11
    wrong = rng.random((200_000, networks)) < np.linspace(0, 0.4, networks)
    predicted = np.where(wrong, predictions.attributes[:, None], predictions.labels[:, None])
    odds = predictions.attributes[:, None] * np.linspace(0.1, 3, networks) + rng.normal(size=(200_000, networks))
    assert point(made(predictions, predicted, odds))["shortcut_rho"] > 0.99


def test_arrays_that_do_not_fit_are_refused() -> None:
    predictions = made(*grown())
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        point(dataclasses.replace(predictions, arrays={}))
    wrong = {**predictions.arrays, "shortcut_testing_seeds": np.zeros(3)}
    with pytest.raises(SpurbenchError, match=r"shortcut_testing_seeds of shape \(13,\)"):
        point(dataclasses.replace(predictions, arrays=wrong))


def test_literals_are_read_without_running_the_file() -> None:
    (plugin,) = read_plugins(Path(str(module.__file__)))
    assert (
        plugin.literals["collects"] == ShortcutTesting.collects
        and plugin.literals["metrics"] == ShortcutTesting.metrics
    )
    assert plugin.literals["reads"] == ("train", "validation") and plugin.literals["costly"] is True
    defaults = {setting.name: setting.default for setting in plugin.settings}
    assert defaults == ShortcutTesting.Parameters().model_dump()
