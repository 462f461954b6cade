"""The engine against torchattacks, plain loops and closed forms; its checks on networks that hide their gradients."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.attack import Ball, attackable, noise_seed, parts, sanity, seeded, unsaturated
from robustbench_spur.attack.engine import Target, climb, ensemble, strike, survivors
from robustbench_spur.attack.parts import Effort
from robustbench_spur.attack.pursuit import NEVER, pursue
from robustbench_spur.attack.subset import balanced_subset
from robustbench_spur.evaluators import attacks
from robustbench_spur.evaluators.attack_names import NAMES, PARTS, members
from robustbench_spur.evaluators.attacks import Attacks
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.pgd import PGD
from robustbench_spur.literals import read_plugins
from robustbench_spur.networks import Classifier
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Estimate, SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe
from tests.evaluators.test_pgd import (
    Images,
    Ints,
    brightness,
    convolutional,
    linear,
    logits_of,
    mostly_right,
    noise_images,
    plain_images,
    predict,
    unit,
    worst_margin,
)

CPU = torch.device("cpu")
WHITE = ("fgsm", "mim", "pgd", "apgd_ce", "fab")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Setting:
    """A network and images that it is right about."""

    def __init__(
        self, seed: int = 1, *, classes: int = 2, channels: int = 1, count: int = 60, size: int = 16, scale: float = 1.0
    ) -> None:
        self.images = noise_images(seed, count, channels=channels, size=size)
        # its logits are standardised over these images: of a single one they have no spread
        many = noise_images(seed, max(count, 40), channels=channels, size=size)
        self.model = convolutional(seed, many, classes=classes, scale=scale)
        self.labels = np.asarray(logits_of(self.model, self.images).argmax(axis=1), np.int64)
        self.clean, self.true = unit(self.images), torch.from_numpy(self.labels)
        self.target = Target(self.model, self.clean, self.labels, seed)
        self.classes = classes


def run(part: parts.Part, target: Target, ball: Ball, alive: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    with attackable(target.model, CPU):
        return survivors(part, target, ball, alive)


def evaluate(
    model: nn.Module, images: Images, predictions: Predictions, **parameters: Any
) -> tuple[Attacks, Predictions]:
    evaluator = Attacks(Attacks.Parameters(**parameters))
    arrays = evaluator.collect(Subject(predictions, images, lambda: model))
    assert set(arrays) == set(evaluator.collects)
    return evaluator, dataclasses.replace(predictions, arrays=arrays)


def numbers(evaluator: Attacks, predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in evaluator.measure(predictions, once(predictions)).items()}


# The protocols


@pytest.mark.parametrize(("norm", "radius"), [("linf", 2 / 255), ("l2", 0.2)])
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 3)])
def test_the_loop_is_torchattacks_to_the_bit(norm: Any, radius: float, classes: int, channels: int) -> None:
    at = Setting(classes=classes, channels=channels)
    ball, network = Ball(norm, radius), unsaturated(at.model, at.true)
    clean = at.clean.contiguous()
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "steps": (torchattacks.PGD if norm == "linf" else torchattacks.PGDL2, {}),
        "momentum": (torchattacks.MIFGSM, {"random_start": False, "decay": 1.0}),
    }
    if norm == "l2":
        del kinds["momentum"]  # torchattacks has it in L-infinity only
    for attack_class, ours in kinds.values():
        with attackable(at.model, CPU), seeded(5, CPU):
            theirs = attack_class(network, eps=radius, alpha=radius / 4, steps=7)(clean, at.true)
        with attackable(at.model, CPU), seeded(5, CPU):
            found = pursue(at.model, clean, at.true, ball, length=radius / 4, steps=7, drop=False, **ours)
        assert torch.equal(found.images, theirs)
        fallen = at.model(theirs).argmax(1) != at.true
        assert torch.equal(found.fell >= 0, fallen)
        assert 5 < fallen.sum() < 60


@pytest.mark.parametrize("name", ["fgsm", "mim", "pgd"])
def test_final_is_torchattacks_own_decision(name: str) -> None:
    at, ball = Setting(2), Ball("linf", 2 / 255)
    effort = Effort(2, "final", steps=5, relative_step=2.0)
    own: dict[str, Any] = {
        "fgsm": lambda model: torchattacks.FGSM(model, eps=2 / 255),
        "mim": lambda model: torchattacks.MIFGSM(model, eps=2 / 255, alpha=2.0 * (2 / 255) / 5, steps=5),
        "pgd": lambda model: torchattacks.PGD(model, eps=2 / 255, alpha=2.0 * (2 / 255) / 5, steps=5),
    }
    with attackable(at.model, CPU), seeded(noise_seed(2, 2 / 255, 0), CPU):
        adversarial = own[name](unsaturated(at.model, at.true))(at.clean, at.true)
        expected = at.model(adversarial).argmax(1) == at.true
    assert run(PARTS[name](effort), at.target, ball).tolist() == expected.tolist()
    assert 5 < expected.sum() < 55


def test_final_is_evaluator_pgd() -> None:
    images = noise_images(5, 120, size=16)
    model = convolutional(5, images)
    predictions = predict(model, images, mostly_right(model, images))
    shared: dict[str, Any] = {"radii": ("1/255", "2/255"), "examples": 90, "batch_size": 32, "steps": 6}
    known = PGD(PGD.Parameters(**shared)).collect(Subject(predictions, images, lambda: model))
    found = evaluate(model, images, predictions, attacks=("pgd",), protocol="final", checks=False, **shared)[1].arrays
    assert (found["attacks_rows"] == known["pgd_rows"]).all()
    assert (found["attacks_robust"][:, 0] == known["pgd_robust"]).all()
    assert 0 < known["pgd_robust"].mean() < 1


def plain_any(at: Setting, ball: Ball, length: float, steps: int, seed: int) -> Ints:
    """After how many steps each image is first wrong; the whole batch goes on throughout."""
    with seeded(seed, CPU):
        here = ball.start(at.clean)
    fell = np.full(len(at.labels), NEVER)
    for taken in range(steps + 1):
        here = here.detach().requires_grad_(True)
        logits = at.model(here)
        wrong = (logits.argmax(1) != at.true).numpy()
        fell[wrong & (fell == NEVER)] = taken
        loss = torch.nn.functional.cross_entropy(logits, at.true, reduction="sum")
        gradient = torch.autograd.grad(loss, here)[0]
        if ball.norm == "linf":
            moved = here + length * gradient.sign()
            here = torch.minimum(torch.maximum(moved, at.clean - ball.radius), at.clean + ball.radius).clamp(0, 1)
        else:
            moved = here + length * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
            away = (moved - at.clean).flatten(1).norm(dim=1)[:, None, None, None]
            here = (at.clean + (moved - at.clean) * (ball.radius / away).clamp(max=1)).clamp(0, 1)
    return fell


@pytest.mark.parametrize(("norm", "radius"), [("linf", 1.5 / 255), ("l2", 0.12)])
def test_any_is_a_plain_loop_over_the_whole_batch(norm: Any, radius: float) -> None:
    at, ball = Setting(3, classes=3, count=90), Ball(norm, radius)
    with attackable(at.model, CPU):
        fell, images = strike(parts.projected(Effort(3, steps=8)), at.target, ball)
        expected = plain_any(at, ball, 2.5 * radius / 8, 8, noise_seed(3, radius, 0))
        wrong = (at.model(images).argmax(1) != at.true).numpy()
    assert (fell == expected).mean() > 0.97  # at most two, by rounding
    assert len(set(fell.tolist())) > 3
    assert (wrong == (fell != NEVER)).all()
    assert bool(ball.holds(images, at.clean).all())


def test_any_fells_what_final_does_and_more() -> None:
    at, ball = Setting(5, count=120), Ball("linf", 1 / 255)
    long_steps = {"steps": 4, "relative_step": 12.0}  # so long that images rise again
    final = run(parts.projected(Effort(2, "final", **long_steps)), at.target, ball)
    anywhere = run(parts.projected(Effort(2, "any", **long_steps)), at.target, ball)
    assert (anywhere <= final).all()
    assert anywhere.sum() < final.sum()


def test_step_counts_share_a_trajectory_at_a_fixed_step_size() -> None:
    at, ball = Setting(6), Ball("linf", 1.5 / 255)
    with attackable(at.model, CPU):
        fell, _ = strike(parts.projected(Effort(2, steps=8, relative_step=2.0)), at.target, ball)
    for steps in (1, 2, 4):
        alone = run(parts.projected(Effort(2, steps=steps, relative_step=0.25 * steps)), at.target, ball)
        assert (alone == ((fell > steps) | (fell == NEVER))).all()


def test_radii_carry_over_what_fell_and_have_their_own_trajectories() -> None:
    at, balls = Setting(7), [Ball("linf", level / 255) for level in (0.5, 1, 2)]
    part, alive = parts.projected(Effort(2, steps=1, relative_step=6.0)), np.arange(60) != 3
    with attackable(at.model, CPU):
        alone = np.stack([survivors(part, at.target, ball, alive) for ball in balls], axis=1)
        met: list[int] = []

        def attack(ball: Ball, who: NDArray[np.bool_]) -> NDArray[np.bool_]:
            met.append(int(who.sum()))
            return survivors(part, at.target, ball, who)

        carried = climb(at.target, balls, alive, True, attack)
        fresh = climb(at.target, balls, alive, False, attack)
    assert (fresh == alone).all()
    assert met[3:] == [59] * 3
    assert met[:3] == [59, *carried[:, :2].sum(axis=0).tolist()]
    assert carried[:, 0].tolist() == alone[:, 0].tolist()
    assert not carried[3].any()
    assert (np.diff(carried.astype(int), axis=1) <= 0).all()


def test_the_worst_of_the_restarts_counts_for_each_image() -> None:
    at, ball = Setting(11, count=120), Ball("linf", 1 / 255)
    effort = Effort(2, "final", steps=1, relative_step=0.3)
    worst = run(parts.projected(dataclasses.replace(effort, restarts=6)), at.target, ball)
    singles = []
    for restart in range(6):
        with attackable(at.model, CPU), seeded(noise_seed(11, 1 / 255, 0, restart), CPU):
            adversarial = torchattacks.PGD(unsaturated(at.model, at.true), 1 / 255, 0.3 / 255, 1)(at.clean, at.true)
            singles.append((at.model(adversarial).argmax(1) == at.true).numpy())
    assert worst.sum() < singles[0].sum()
    # from the second on, only the survivors are in the batch, and draw other noise
    assert worst.sum() == pytest.approx(np.all(singles, axis=0).sum(), abs=4)
    assert (worst <= singles[0]).all()


# Closed forms


@settings(deadline=None, max_examples=8)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1 / 255, 3 / 255, 0.1]),
    st.sampled_from([0.01, 1.0, 1000.0]),
    st.sampled_from([1, 3]),
)
def test_of_a_linear_model_every_white_box_attack_is_exact(
    seed: int, radius: float, scale: float, channels: int
) -> None:
    rng, images = np.random.default_rng(seed), noise_images(seed, 40, channels=channels)
    weight = scale * rng.normal(0, 1, (2, channels * 64))
    model = linear(weight, -np.median((images.reshape(40, -1) / 255) @ weight.T, axis=0), channels=channels)
    labels = np.asarray(logits_of(model, images).argmax(axis=1), np.int64)
    margin, target = worst_margin(model, images, labels, radius), Target(model, unit(images), labels, seed)
    clear = abs(margin) > 1e-3 * scale
    for name in WHITE:
        found = run(PARTS[name](Effort(2, steps=15)), target, Ball("linf", radius))
        assert found[clear & (margin > 0)].all(), name
        # FAB overshoots the boundary, and what then lies outside the ball is no attack: a tenth of the radius is left to it
        fooled = worst_margin(model, images, labels, 0.9 * radius) < 0 if name == "fab" else margin < 0
        assert not found[clear & fooled].any(), name
    black = run(parts.square(Effort(2, queries=50)), target, Ball("linf", radius))
    assert black[clear & (margin > 0)].all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_in_l2_the_margin_falls_by_the_l2_norm(scale: float) -> None:
    images = noise_images(0, 120, low=80, high=170)
    weight = scale * np.random.default_rng(0).normal(0, 1, (2, 64))
    model = linear(weight, -0.49 * weight.sum(axis=1))
    logits = logits_of(model, images).astype(np.float64)
    labels = np.asarray(logits.argmax(axis=1), np.int64)
    distance = abs(logits[:, 1] - logits[:, 0]) / np.linalg.norm(weight[1] - weight[0])
    target = Target(model, unit(images), labels, 0)
    for radius in (0.05, 0.2):
        clear = abs(distance - radius) > 1e-3
        for name in WHITE:
            found = run(PARTS[name](Effort(2, steps=20)), target, Ball("l2", radius))
            assert (found == (distance > radius))[clear].all(), name
        assert run(parts.square(Effort(2, queries=60)), target, Ball("l2", radius))[clear & (distance > radius)].all()
        assert 0 < (distance > radius).mean() < 1


def test_the_ensemble_of_four_classes_is_autoattack() -> None:
    images = noise_images(5, 80)
    weight = np.random.default_rng(5).normal(0, 1, (4, 64))
    model = linear(weight, -0.5 * weight.sum(axis=1))
    labels = np.asarray(logits_of(model, images).argmax(axis=1), np.int64)
    true, radius = torch.from_numpy(labels), 4 / 255
    margin = worst_margin(model, images, labels, radius)
    effort = Effort(4, steps=10, queries=200)
    target = Target(model, unit(images), labels, 0)
    with attackable(model, CPU):
        with seeded(0, CPU):
            theirs = torchattacks.AutoAttack(model, eps=radius, n_classes=4, seed=0)(unit(images), true)
        expected = (model(theirs).argmax(1) == true).numpy()
        its = {name: PARTS[name](effort) for name in members(4)}
        right, felled = ensemble(its, target, [Ball("linf", radius)], np.ones(80, bool), True, {})
    assert (right[:, 0] == expected).all()
    assert (right[:, 0] == (margin > 0))[abs(margin) > 1e-3].all()
    assert ((felled[:, 0] == -1) == right[:, 0]).all()
    assert 0 < right.mean() < 1


def test_torchattacks_own_ensemble_cannot_do_two_classes() -> None:
    at = Setting()
    with attackable(at.model, CPU), seeded(0, CPU), pytest.raises(IndexError):
        torchattacks.AutoAttack(at.model, eps=1e-4, n_classes=2, seed=0)(at.clean, at.true)
    assert members(2) == ("apgd_ce", "fab", "square")
    assert members(3) == ("apgd_ce", "apgd_dlr", "fab", "square")


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("classes", "count"), [(2, 1), (3, 12), (4, 1), (10, 6)])
def test_every_part_runs_for_any_number_of_classes_and_images(norm: Any, classes: int, count: int) -> None:
    at = Setting(classes=classes, channels=3, count=count, size=8)
    effort, ball = Effort(classes, steps=3, queries=5, restarts=2), Ball(norm, 0.02)
    for name in {*members(classes), "fgsm", "mim", "pgd"}:
        with attackable(at.model, CPU):
            fell, images = strike(PARTS[name](effort), at.target, ball)
            wrong = (at.model(images).argmax(1) != at.true).numpy()
        assert (wrong == (fell != NEVER)).all(), name


def test_a_confident_network_is_no_more_robust_under_any_part() -> None:
    plain, sure = Setting(9), Setting(9, scale=1e4)
    for name in ("fgsm", "mim", "pgd", "apgd_ce", "fab"):
        part = PARTS[name](Effort(2, steps=10))
        left = [run(part, at.target, Ball("linf", 2 / 255)) for at in (plain, sure)]
        assert abs(left[0].sum() - left[1].sum()) <= 2, name
        assert 2 < left[0].sum() < 50


def test_the_ball_is_checked_in_l2() -> None:
    clean, ball = torch.full((2, 1, 4, 4), 0.5), Ball("l2", 0.4)
    ball.check(clean + 0.1, clean)
    for wrong in (clean + 0.101, clean - 0.6, clean * math.nan):
        with pytest.raises(SpurbenchError, match=r"within 0.4 in L2, found 2 images outside or NaN"):
            ball.check(wrong, clean)
    with pytest.raises(SpurbenchError, match="5 pixels or more"):
        run(parts.square(Effort(2)), Target(brightness(1.0), torch.rand(1, 1, 4, 4), np.zeros(1, np.int64), 0), ball)


# Checks


class Coarse(nn.Module):
    """Features of an image in coarse grey levels: no gradient passes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ((images * 8).round() / 8).flatten(1)


class Noisy(nn.Module):
    """Features with noise, drawn anew each time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) + 0.05 * torch.randn_like(images.flatten(1))


def masked(features: nn.Module, count: int = 80) -> tuple[Classifier, Images]:
    """A linear head on features that hide the gradient."""
    rng, images = np.random.default_rng(0), noise_images(0, count)
    model = Classifier(features, 64, 2, [0.0], [1.0]).eval().requires_grad_(False)
    weight = rng.normal(0, 1, (2, 64))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(-0.5 * weight.sum(axis=1)))
    return model, images


def checks_of(model: nn.Module, images: Images, predictions: Predictions, **parameters: Any) -> dict[str, Any]:
    own = {"attacks": ("fgsm", "pgd", "square"), "examples": 80, "queries": 200, "steps": 10, **parameters}
    evaluator, given_arrays = evaluate(model, images, predictions, **own)
    details = evaluator.details(given_arrays)
    rows = {row["check"]: row for row in details["checks"]}
    assert details["failed"] == [f"{name}: {row['said']}" for name, row in rows.items() if row["passed"] is False]
    failed = numbers(evaluator, given_arrays)["attacked_failed_checks"]
    assert failed == len(details["failed"])
    (finding,) = evaluator.findings(given_arrays, {"attacked_failed_checks": Estimate(failed)})
    assert finding.verdict == ("problem" if failed else "no sign")
    assert all(sentence in finding.sentence for sentence in details["failed"])
    return rows


@pytest.mark.parametrize("protocol", ["any", "final"])
def test_hidden_gradients_are_caught(protocol: str) -> None:
    model, images = masked(Coarse())
    predictions = predict(model, images, mostly_right(model, images))
    rows = checks_of(model, images, predictions, protocol=protocol, radii=("4/255", "0.05"), headline_radius="4/255")
    nothing, handicap = rows["falls to nothing"], rows["seeing is no handicap"]
    assert nothing["passed"] is False
    assert 0.2 < nothing["number"] < 0.8
    assert f"{nothing['number']:.4g} of the examples are right at radius 1" in nothing["said"]
    assert handicap["passed"] is False
    assert handicap["number"] < -0.05
    assert f"{handicap['number']:+.4g}" in handicap["said"]


def test_an_honest_network_passes() -> None:
    at = Setting(3, count=80)
    predictions = predict(at.model, at.images, mostly_right(at.model, at.images))
    for norm, radii in (("linf", ("1/255", "2/255")), ("l2", (0.05, 0.1))):
        rows = checks_of(at.model, at.images, predictions, norm=norm, radii=radii, headline_radius=radii[0])
        assert [row["passed"] for row in rows.values()] == [True] * 5
        assert rows["falls to nothing"]["number"] == 0
        assert rows["more never help"]["number"] == 0


@pytest.mark.parametrize(("features", "steady"), [(Noisy, False), (nn.Flatten, True)])
def test_a_network_that_draws_noise_breaks_the_order_of_steps(features: Any, steady: bool) -> None:
    model, images = masked(features(), 300)
    with seeded(1, CPU):
        labels = np.asarray(logits_of(model, images).argmax(axis=1), np.int64)
    with attackable(model, CPU):
        found = sanity.gather(
            Target(model, unit(images), labels, 0),
            [Ball("linf", 1e-4)],
            np.ones(300, bool),
            Effort(2, steps=1, queries=1),
        )
    check = sanity.more_never_help(found.short, found.fell.astype(np.int64), 1)
    assert check.passed is steady
    assert (check.number == 0) is steady


def test_more_never_help_by_hand() -> None:
    flipped = sanity.more_never_help(np.array([[False], [True]]), np.array([[NEVER], [NEVER]]), 4)
    assert (flipped.passed, flipped.number) == (False, 1)
    assert flipped.said.startswith("1 examples fall within 4 steps and survive 8")


def test_checks_that_say_nothing_say_so() -> None:
    images, labels = noise_images(0, 40), np.arange(40) // 2 % 2
    model = linear(np.zeros((2, 64)), np.array([0.0, 1.0]))
    rows = checks_of(model, images, predict(model, images, labels), attacks=("pgd",), radii=("1/255",))
    assert rows["falls to nothing"]["passed"] is None
    assert "one class to all images" in rows["falls to nothing"]["said"]
    assert rows["larger is no safer"]["said"].startswith("says nothing: one radius")
    assert rows["steps are no handicap"]["said"] == "says nothing: fgsm was not made"


def test_checks_by_hand() -> None:
    right = np.array([[1, 1], [1, 0], [0, 1], [0, 1]], bool)
    rise = sanity.larger_is_no_safer({"pgd": right, "fgsm": right[:, ::-1]})
    assert (rise.passed, rise.number) == (False, 0.25)
    assert rise.said == "accuracy under pgd rises by 0.25 from a radius to the next; expected 0"
    less = sanity.weaker_is_no_better("x", ("square", right), ("pgd", np.ones_like(right)))
    assert (less.passed, less.number) == (False, -0.5)
    assert less.said.endswith("the former fells 3 that the latter does not; expected 0 or more")
    assert sanity.weaker_is_no_better("x", ("square", right), ("pgd", right)).passed is True
    assert sanity.falls_to_nothing(np.array([[True], [False]]), "1", 2).number == 0.5


# Predictors that are known


def test_constant() -> None:
    images, labels = noise_images(0, 40), np.arange(40) // 2 % 2
    model = linear(np.zeros((2, 64)), np.array([0.0, 1.0]))
    found = numbers(*evaluate(model, images, predict(model, images, labels), attacks=NAMES, steps=3, queries=10))
    for name in (*WHITE, "square", "auto"):
        assert found[f"attacked_accuracy:{name}:2/255"] == 0.5
        assert found[f"attacked_group_accuracy:{name}:1/255:c1@v1"] == 1
    assert found["autoattack_worst_group_accuracy"] == 0
    assert found["attacked_failed_checks"] == 0


def test_perfect() -> None:
    labels = np.arange(40) // 2 % 2
    images, model = plain_images(labels), brightness(1.0)
    own: dict[str, Any] = {"radii": ("1/255", "0.2", "0.4"), "headline_radius": "0.2", "queries": 50}
    found = numbers(*evaluate(model, images, predict(model, images, labels), **own))
    for name in ("fgsm", "pgd", "auto"):
        assert [found[f"attacked_accuracy:{name}:{label}"] for label in ("1/255", "51/255", "102/255")] == [1, 1, 0]
    assert found["autoattack_worst_group_accuracy"] == 1
    assert found["attacked_failed_checks"] == 0


def test_shortcut_only() -> None:
    """The attribute, written in the image, decides; half of the examples are wrong, and only the others fall."""
    predictions = reference.shortcut_only()
    images, model = plain_images(predictions.attributes), brightness(1.0)
    predictions = dataclasses.replace(predictions, logits=logits_of(model, images))
    own: dict[str, Any] = {"radii": ("0.2", "0.4"), "headline_radius": "0.2", "queries": 20, "checks": False}
    found = numbers(*evaluate(model, images, predictions, **own))
    assert found["attacked_accuracy:auto:51/255"] == 0.5
    assert [found[f"attacked_group_accuracy:auto:51/255:{name}"] for name in predictions.groups.names] == [1, 0, 0, 1]
    assert found["attacked_accuracy:auto:102/255"] == 0


def test_random() -> None:
    at = Setting(2, count=200)
    labels = np.random.default_rng(1).integers(0, 2, 200)
    found = numbers(
        *evaluate(at.model, at.images, predict(at.model, at.images, labels), steps=5, queries=20, checks=False)
    )
    assert found["attacked_accuracy:fgsm:1/255"] >= found["attacked_accuracy:auto:1/255"]
    assert 0.5 > found["attacked_accuracy:pgd:1/255"] > found["attacked_accuracy:pgd:2/255"] > 0


# What collecting leaves behind


def test_repeats_and_gives_back_what_it_borrowed() -> None:
    at = Setting(8, count=40)
    predictions = predict(at.model, at.images, mostly_right(at.model, at.images))
    at.model.train().requires_grad_(True)
    before = torch.get_rng_state()
    own: dict[str, Any] = {"attacks": NAMES, "steps": 4, "queries": 10, "examples": 40, "batch_size": 17, "restarts": 2}
    calls: list[tuple[int, int]] = []
    evaluator = Attacks(Attacks.Parameters(**own))
    subject = Subject(predictions, at.images, lambda: at.model, progress=lambda *call: calls.append(call))
    first = evaluator.collect(subject)
    assert calls == [(1, 2), (2, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in at.model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in at.model.parameters())
    torch.manual_seed(99)
    with torch.inference_mode():
        second = evaluator.collect(subject)
    assert all((first[name] == second[name]).all() for name in first)


def test_other_inputs_are_refused() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = brightness(1.0)
    with pytest.raises(SpurbenchError, match="found float64"):
        evaluate(model, images / 255, predict(model, images, labels))
    single = predictions_of(0 * labels, labels, labels, np.zeros((8, 1)), universe(1))
    with pytest.raises(SpurbenchError, match="Leave out evaluator 'attacks'"):
        evaluate(model, images, single)


@pytest.mark.parametrize(
    ("given_settings", "said_of_it"),
    [
        ({"attacks": ()}, "each once"),
        ({"attacks": ("pgd", "pgd")}, "each once"),
        ({"attacks": ("apgd_dlr",)}, "some of fgsm, mim"),
        ({"norm": "l1"}, "norm"),
        ({"radii": (0.5, 2.0)}, "at most 1"),
        ({"radii": (2 / 255, 1 / 255)}, "ascending"),
        ({"norm": "l2", "radii": (0.5, 2.0)}, "expected one of the radii"),
        ({"radii": ("wide",)}, "found 'wide'"),
        ({"protocol": "best"}, "protocol"),
        ({"restarts": 0}, "restarts"),
        ({"queries": 0}, "queries"),
    ],
)
def test_settings_out_of_range_are_refused(given_settings: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        Attacks.Parameters(**given_settings)


def test_listing_reads_it_without_running_it() -> None:
    (source,) = read_plugins(Path(str(attacks.__file__)))
    assert source.literals["collects"] == Attacks.collects
    assert source.literals["metrics"] == Attacks.metrics
    assert Attacks.Parameters(**{setting.name: setting.default for setting in source.settings}) == Attacks.Parameters()
    assert Attacks.Parameters(norm="l2", radii=(0.5, 2), headline_radius=2).radii == (0.5, 2.0)
    script = "import robustbench_spur.evaluators.attacks, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# The numbers


def eight_rows(**parameters: Any) -> tuple[Attacks, Predictions]:
    """Patients p0 to p3; seven of eight rows attacked, of which the fourth is wrong without attack."""
    labels, attributes = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 0, 0, 1])
    predicted, clusters = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    predictions = predictions_of(labels, attributes, clusters, said(predicted, 2), universe())
    robust = np.array([[1, 1], [0, 0], [1, 1], [0, 0], [1, 0], [1, 0], [1, 1]], np.uint8)
    evaluator = Attacks(Attacks.Parameters(examples=8, attacks=("apgd_t", "auto"), checks=False, **parameters))
    arrays: dict[str, NDArray[Any]] = {
        "attacks_rows": np.array([0, 1, 3, 4, 5, 6, 7]),
        "attacks_robust": np.stack([np.full_like(robust, 2), robust], axis=1),
        "attacks_felled": np.array([[-1, -1], [0, 0], [-1, -1], [-1, -1], [-1, 2], [-1, 0], [-1, -1]], np.int8),
        **{f"attacks_{name}": np.zeros((7, 0), np.uint8) for name in ("wide", "short", "fell", "black")},
    }
    return evaluator, dataclasses.replace(predictions, arrays=arrays)


def test_by_hand() -> None:
    evaluator, predictions = eight_rows()
    found = numbers(evaluator, predictions)
    groups = {"c0@v0": (1 / 2, 1 / 2), "c0@v1": (1 / 2, 1 / 2), "c1@v0": (1, 0), "c1@v1": (1, 1)}
    expected = {"autoattack_worst_group_accuracy": 1 / 2, "attacked_failed_checks": math.nan}
    for r, (label, mean, worst) in enumerate((("1/255", 5 / 7, 1 / 2), ("2/255", 3 / 7, 0))):
        expected[f"attacked_accuracy:auto:{label}"] = mean
        expected[f"attacked_worst_group_accuracy:auto:{label}"] = worst
        expected |= {f"attacked_group_accuracy:auto:{label}:{name}": pair[r] for name, pair in groups.items()}
        undefined = ("attacked_accuracy:apgd_t", "attacked_worst_group_accuracy:apgd_t")
        expected |= {f"{name}:{label}": math.nan for name in undefined}
        expected |= {f"attacked_group_accuracy:apgd_t:{label}:{name}": math.nan for name in groups}
    assert found == pytest.approx(expected, nan_ok=True)
    assert numbers(*eight_rows(headline_radius="2/255"))["autoattack_worst_group_accuracy"] == 0
    behind = evaluator.support(predictions)
    assert behind["autoattack_worst_group_accuracy"] == 1
    assert behind["attacked_worst_group_accuracy:auto:2/255"] == 2
    assert set(behind) == {name for name, value in found.items() if not math.isnan(value)}


def test_details_by_hand() -> None:
    evaluator, predictions = eight_rows(steps=5)
    details = evaluator.details(predictions)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert [(row["part"], row["felled"]) for row in details["ensemble"]] == [
        ("apgd_ce", [1, 2]),
        ("fab", [0, 0]),
        ("square", [0, 1]),
    ]
    assert details["ensemble"][0]["settings"] == "5 steps, 1 random starts"
    assert details["left_out"] == [{"part": "apgd_t", "why": "the targeted DLR loss needs 4 classes"}]
    assert [row["accuracy"] for row in details["curves"]["auto"]] == pytest.approx([6 / 7, 5 / 7, 3 / 7])
    assert list(details["curves"]) == ["auto"]
    assert details["undefined"]["attacked_accuracy:apgd_t:1/255"] == "the targeted DLR loss needs 4 classes"
    assert details["undefined"]["attacked_failed_checks"] == "the checks were not asked for"
    unknown = {"attacked_failed_checks": Estimate(None, reason="the checks were not asked for")}
    assert evaluator.findings(predictions, unknown)[0].sentence == "Cannot be told: the checks were not asked for."
    alone = Attacks(Attacks.Parameters(examples=8, attacks=("pgd",), checks=False))
    arrays = {**predictions.arrays, "attacks_robust": predictions.arrays["attacks_robust"][:, 1:]}
    reasons = alone.details(dataclasses.replace(predictions, arrays=arrays))["undefined"]
    assert reasons["autoattack_worst_group_accuracy"] == "auto is not among the attacks"


@pytest.mark.parametrize("kept", [range(20), range(0)])
def test_an_empty_group_leaves_the_worst_undefined_and_says_so(kept: range) -> None:
    predictions = reference.rearranged(reference.perfect(), np.array(kept, dtype=np.int64))
    images = np.zeros((len(kept), 1, 8, 8), np.uint8)
    model = linear(np.zeros((2, 64)), np.array([40.0, 0.0]))
    evaluator, found = evaluate(model, images, predictions, steps=2, queries=3, attacks=("pgd", "auto"))
    details = evaluator.details(found)
    values = numbers(evaluator, found)
    assert set(details["undefined"]) == {name for name, value in values.items() if math.isnan(value)}
    empty = ("c1@v0", "c1@v1") if kept else predictions.groups.names
    reason = f"{len(empty)} of 4 declared groups have no examples: {', '.join(empty)}"
    assert details["undefined"]["autoattack_worst_group_accuracy"] == reason
    assert details["undefined"]["attacked_group_accuracy:pgd:2/255:c1@v1"] == "no examples"
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def made_up(predictions: Predictions, examples: int, seed: int, own: Attacks) -> Predictions:
    """Arrays drawn at random that fit the predictions."""
    rng = np.random.default_rng(seed)
    rows = np.sort(balanced_subset(predictions, examples, 2025))
    right = predictions.correct[rows]
    flags = (right[:, None, None] & (rng.random((len(rows), 2, 2)) < 0.6)).astype(np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "attacks_rows": rows,
        "attacks_robust": flags,
        "attacks_felled": np.where(flags[:, 1] == 1, -1, 0).astype(np.int8),
        **{f"attacks_{name}": np.zeros((len(rows), 0), np.uint8) for name in ("wide", "short", "fell", "black")},
    }
    assert set(arrays) == set(own.collects)
    return dataclasses.replace(predictions, arrays=arrays)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (10, 2), (2, 3)]), st.integers(0, 60))
def test_resampling_is_weighting_the_rows(seed: int, shape: tuple[int, int], size: int) -> None:
    evaluator = Attacks(Attacks.Parameters(examples=40, attacks=("pgd", "auto"), checks=False))
    predictions = reference.random(seed, rows=size, patients=6, classes=shape[0], values=shape[1])
    predictions = made_up(predictions, 40, seed, evaluator)
    rows, robust = predictions.arrays["attacks_rows"], predictions.arrays["attacks_robust"]
    counts = resample_counts(len(predictions.patients), 3, seed)
    found = evaluator.measure(predictions, counts)
    for row, times in enumerate(counts):
        drawn = np.repeat(np.arange(len(rows)), times[predictions.patient[rows]].astype(int))
        group = predictions.group[rows[drawn]]
        for a, name in enumerate(("pgd", "auto")):
            for r, label in enumerate(("1/255", "2/255")):
                right = robust[drawn, a, r]
                expected = {f"attacked_accuracy:{name}:{label}": right}
                for g, known in enumerate(predictions.groups.names):
                    expected[f"attacked_group_accuracy:{name}:{label}:{known}"] = right[group == g]
                for key, values in expected.items():
                    mean = values.mean() if len(values) else math.nan
                    assert found[key][row] == pytest.approx(mean, nan_ok=True)


def test_many_rows() -> None:
    evaluator = Attacks(Attacks.Parameters(attacks=("pgd", "auto"), checks=False))
    predictions = made_up(reference.random(0, rows=200_000, patients=2000), 200, 0, evaluator)
    found = evaluator.measure(predictions, resample_counts(len(predictions.patients), 200, 0))
    assert {len(values) for values in found.values()} == {200}
    assert found["attacked_accuracy:auto:1/255"].mean() == pytest.approx(0.3, abs=0.1)


def test_arrays_that_do_not_fit_are_refused() -> None:
    evaluator, predictions = eight_rows()
    arrays = predictions.arrays
    wrong = arrays["attacks_robust"].copy()
    wrong[3, 1] = 1  # wrong without attack
    cases: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"attacks_rows": arrays["attacks_rows"]}, "needs the arrays"),
        ({**arrays, "attacks_robust": arrays["attacks_robust"][:, :1]}, r"of shape \(7, 2, 2\)"),
        ({**arrays, "attacks_rows": arrays["attacks_rows"].astype(float)}, "whole numbers"),
        ({**arrays, "attacks_rows": arrays["attacks_rows"][::-1]}, "ascending"),
        ({**arrays, "attacks_robust": wrong}, "0 where the clean image is wrong"),
        ({**arrays, "attacks_wide": np.zeros((7, 1), np.uint8)}, r"attacks_wide of shape \(7, 0\)"),
    ]
    for other, said_of_it in cases:
        with pytest.raises(SpurbenchError, match=said_of_it):
            evaluator.measure(dataclasses.replace(predictions, arrays=other), once(predictions))
