"""The mean of several models' probabilities, against scipy, torch's own ensemble, and members that do not belong together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.ensembling import ensemble, members
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.selective import disagreement
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference


def models(seed: int, count: int, *, classes: int = 2, rows: int = 60) -> list[Predictions]:
    """Models that differ in their logits only."""
    first = reference.random(seed, rows=rows, patients=9, classes=classes)
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, rows, classes)).astype(np.float32)
    return [dataclasses.replace(first, logits=one, arrays={"a": one}, conflict=(1,)) for one in logits]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([2, 10]))
def test_as_scipy(seed: int, count: int, classes: int) -> None:
    several = models(seed, count, classes=classes)
    found = ensemble(several)
    expected = np.mean([scipy.special.softmax(one.logits.astype(np.float64), axis=1) for one in several], axis=0)
    assert found.probabilities == pytest.approx(expected, abs=1e-6)
    assert np.exp(found.logits) == pytest.approx(expected, abs=1e-6)
    assert members(several).mean(axis=0) == pytest.approx(expected)
    assert (found.ids == several[0].ids).all() and (found.labels == several[0].labels).all()
    assert (found.conflict, dict(found.arrays), found.groups) == ((1,), {}, several[0].groups)


def test_as_the_network_of_several_members() -> None:
    import torch

    from robustbench_spur.heads import mean_of_softmaxes

    several = models(3, 4, classes=3)
    theirs = mean_of_softmaxes(torch.from_numpy(np.stack([one.logits for one in several], axis=1)))
    assert ensemble(several).logits == pytest.approx(theirs.numpy(), abs=1e-5)


def test_equal_members_are_one_and_do_not_disagree() -> None:
    one = models(0, 1)[0]
    assert ensemble([one, one, one]).probabilities == pytest.approx(one.probabilities, abs=1e-6)
    mutual, expected = disagreement(members([one, one, one]))
    assert mutual == pytest.approx(np.zeros(60), abs=1e-12)
    assert expected == pytest.approx(-scipy.special.xlogy(one.probabilities, one.probabilities).sum(axis=1))


def test_members_that_are_opposite_and_sure_disagree_as_far_as_they_can() -> None:
    right, wrong = reference.perfect(), reference.perfect()
    wrong = dataclasses.replace(wrong, logits=wrong.logits[:, ::-1])
    assert ensemble([right, wrong]).probabilities == pytest.approx(np.full((40, 2), 0.5))
    mutual, expected = disagreement(members([right, wrong]))
    assert mutual == pytest.approx(np.full(40, np.log(2)))
    assert expected == pytest.approx(np.zeros(40), abs=1e-12)


def test_the_surest_members_stay_finite() -> None:
    one = models(0, 1)[0]
    extreme = np.tile(np.array([[-3e38, 3e38]], np.float32), (60, 1))
    found = ensemble([dataclasses.replace(one, logits=extreme)] * 2)
    assert np.isfinite(found.logits).all()
    assert (found.predicted == 1).all()


def test_members_that_do_not_belong_together_are_refused() -> None:
    first, second = models(0, 2)
    with pytest.raises(SpurbenchError, match="at least one member"):
        ensemble([])
    for column in ("ids", "labels", "attributes", "clusters"):
        other = dataclasses.replace(second, **{column: np.roll(getattr(second, column), 1)})
        with pytest.raises(SpurbenchError, match=f"other {column} in member 2"):
            ensemble([first, other])
        with pytest.raises(SpurbenchError, match=f"other {column} in member 3"):
            members([first, second, other])
    fewer = reference.rearranged(second, np.arange(30))
    with pytest.raises(SpurbenchError, match="other ids"):
        ensemble([first, fewer])
    renamed = dataclasses.replace(second, groups=dataclasses.replace(second.groups, attribute="vendor"))
    for other in (renamed, dataclasses.replace(second, conflict=(2,))):
        with pytest.raises(SpurbenchError, match="other groups in member 2"):
            ensemble([first, other])


def test_no_examples_and_many() -> None:
    assert len(ensemble(models(0, 2, rows=0))) == 0
    assert ensemble(models(0, 2, rows=200_000)).probabilities.sum(axis=1) == pytest.approx(np.ones(200_000))
