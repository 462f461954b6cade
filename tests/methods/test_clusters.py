"""George and SPARE: the number of clusters, the splitting of clusters, and what is drawn, on points laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from robustbench_spur.methods._clusters import best_clusters, overclustered, silhouettes, split
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.george import George, GeorgeHyperparameters, reduced
from robustbench_spur.methods.spare import SPARE, SPAREHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.toy import partition, task_of, universe, view_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def heaps(sizes: list[int], *, apart: float = 10.0, spread: float = 0.3, seed: int = 0) -> tuple[Floats, Ints]:
    """Round heaps of points in the plane, ``apart`` from each other on a circle, and which heap each is of."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, len(sizes), endpoint=False)
    centres = apart * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return centres[owner] + spread * rng.normal(size=(len(owner), 2)), owner


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


# clusters


@pytest.mark.parametrize("sizes", [[30, 30], [60, 8, 30], [20, 20, 20, 20]])
def test_as_many_clusters_as_there_are_heaps(sizes: list[int]) -> None:
    points, owner = heaps(sizes)
    codes, score = best_clusters(points, range(2, 8), generator())
    assert adjusted_rand_score(owner, codes) == 1.0
    assert score == pytest.approx(silhouette_score(points, owner))


def test_too_few_points_are_one_cluster() -> None:
    for points in (np.ones((5, 2)), np.array([[0.0, 1.0]]), np.array([[0.0], [1.0]])):
        codes, score = best_clusters(points, range(2, 5), generator())
        assert not codes.any() and np.isnan(score)


def test_silhouettes_by_hand() -> None:
    """(b - a) / max(a, b), with a the mean distance within the cluster and b that to the nearest other one."""
    points, codes = np.array([[0.0], [1.0], [5.0], [7.0]]), np.array([0, 0, 1, 1])
    found = silhouettes(points, codes, np.array([3, 0, 1, 2]))
    assert found.tolist() == pytest.approx([(6.5 - 2) / 6.5, (6 - 1) / 6, (5 - 1) / 5, (4.5 - 2) / 4.5])
    assert silhouettes(points, np.zeros(4, np.int64), np.arange(4)).tolist() == [0.0] * 4
    assert silhouettes(points, np.arange(4), np.arange(4)).tolist() == [0.0] * 4


def test_no_more_clusters_than_different_points() -> None:
    assert len(np.unique(split(np.array([[1.0], [1.0], [2.0]]), 3, 0))) == 2


# sub-clusters


def tight_pair() -> tuple[Floats, Ints, Ints]:
    """Two clusters, of which the second is two heaps, 40 and 30 points."""
    points, owner = heaps([50, 40, 30])
    return points, np.minimum(owner, 1), owner


def test_a_harder_heap_is_taken_out_of_its_cluster() -> None:
    points, codes, owner = tight_pair()
    losses = np.where(owner == 2, 2.0, 0.1)
    found = overclustered(points, codes, losses, factor=2, smallest=25, rng=generator())
    assert adjusted_rand_score(owner, found) == 1.0
    assert (found[owner < 2] == codes[owner < 2]).all()


def test_an_easier_heap_or_a_small_one_stays() -> None:
    points, codes, owner = tight_pair()
    easy = np.where(owner == 2, 0.1, 2.0)
    found = overclustered(points, codes, easy, factor=2, smallest=25, rng=generator())
    assert (found[owner == 2] == 1).all() and (found[owner == 1] > 1).all()
    hard = np.where(owner == 2, 2.0, 0.1)
    assert (overclustered(points, codes, hard, factor=2, smallest=31, rng=generator()) == codes).all()


def test_a_round_cluster_is_not_split() -> None:
    points, owner = heaps([80, 80])
    losses = np.random.default_rng(1).random(160)
    assert (overclustered(points, owner, losses, factor=5, smallest=5, rng=generator()) == owner).all()


def test_factor_one_splits_nothing() -> None:
    points, codes, owner = tight_pair()
    losses = (owner == 2).astype(float)
    assert (overclustered(points, codes, losses, factor=1, smallest=1, rng=generator()) == codes).all()


# George


def test_components_are_those_of_pca() -> None:
    features = np.random.default_rng(2).normal(size=(30, 5)) @ np.random.default_rng(3).normal(size=(5, 5))
    theirs = PCA(3).fit_transform((features - features.mean(axis=0)) / features.std(axis=0))
    ours = reduced(features.astype(np.float32), 3)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    assert reduced(np.ones((1, 5), np.float32), 2).tolist() == [[0.0, 0.0]]


def test_george_finds_the_hidden_parts_of_each_class() -> None:
    """Class 0 has three parts, class 2 one example, and class 1 none."""
    points, owner = heaps([40, 30, 12])
    features = np.concatenate([points, [[3.0, 3.0]]]).astype(np.float32)
    labels = np.array([0] * 82 + [2])
    view = view_of(George(), partition(labels, [0] * 83), universe(3))
    arrays, notes = George().subclasses(view, {"features": features, "logits": np.zeros((83, 3), np.float32)})
    assert adjusted_rand_score([*owner, 3], arrays["groups"]) == 1.0
    assert sorted(notes["inferred_group_sizes"]["class 0"]) == [12, 30, 40]
    assert notes["inferred_group_sizes"]["class 2"] == [1]


def test_george_takes_the_losses_of_the_labels() -> None:
    """Two heaps in a cluster that is far from another: which of them is hard says which one is taken out."""
    rng = np.random.default_rng(5)
    owner = np.repeat([0, 1, 2], [60, 40, 100])
    across = np.array([-3.0, 3.0, 0.0])[owner] + 0.2 * rng.normal(size=200)
    # told by nine features, so that its distance is the larger one
    along = np.repeat(10.0 * (owner == 2) + 0.2 * rng.normal(size=200), 9).reshape(200, 9)
    features = np.column_stack([across, along]).astype(np.float32)
    labels, wrong = np.zeros(200, np.int64), owner == 1
    logits = np.where(wrong, -3.0, 3.0)[:, None] * np.array([[1.0, -1.0]])
    method = George(GeorgeHyperparameters(factor=2, most_clusters=2))
    view = view_of(method, partition(labels, [0] * 200))
    groups = method.subclasses(view, {"features": features, "logits": logits})[0]["groups"]
    assert adjusted_rand_score(owner, groups) == 1.0
    spared = George(GeorgeHyperparameters(factor=1, most_clusters=2))
    groups = spared.subclasses(view, {"features": features, "logits": logits})[0]["groups"]
    assert adjusted_rand_score(owner == 2, groups) == 1.0


def test_georges_stages() -> None:
    method = George(GeorgeHyperparameters())
    model = method.fit(task_of(method))
    outputs = model.parents[2].parents[0]
    assert outputs.spec["features"] and outputs.spec["partition"] == "train"
    assert outputs.parents[0].key == ERM().fit(task_of(ERM())).key


# SPARE


def spare_of(logits: Floats, labels: Ints, classes: int = 2, **hyper: float) -> tuple[Floats, dict[str, object]]:
    method = SPARE(SPAREHyperparameters(id_epochs=1, **hyper))
    view = view_of(method, partition(labels, [0] * len(labels)), universe(classes))
    arrays, notes = method.importance(view, {"logits": logits})
    method.given = arrays
    weights = method.sampling(view).weights
    assert weights is not None
    return weights, notes


def two_levels(counts: list[int], levels: list[float]) -> Floats:
    """Logits of two classes by which the second has so probable levels, with a little noise."""
    p = np.repeat(levels, counts) + np.random.default_rng(4).uniform(-0.004, 0.004, sum(counts))
    return np.stack([np.zeros(len(p)), np.log(p / (1 - p))], axis=1)


def test_distinct_clusters_are_drawn_equally_often() -> None:
    weights, notes = spare_of(two_levels([90, 10], [0.2, 0.8]), np.zeros(100, np.int64))
    assert weights[:90].sum() == pytest.approx(0.5) and np.ptp(weights[:90]) == 0
    assert notes["inferred_group_sizes"] in ({"class 0": [90, 10]}, {"class 0": [10, 90]})


def test_clusters_that_are_not_distinct_take_the_power() -> None:
    """With exponent 2 the shares of clusters of 90 and of 10 are as 10 to 90."""
    weights, _ = spare_of(two_levels([90, 10], [0.2, 0.8]), np.zeros(100, np.int64), threshold=1.0)
    assert weights[:90].sum() == pytest.approx(0.1)
    weights, _ = spare_of(two_levels([90, 10], [0.2, 0.8]), np.zeros(100, np.int64), threshold=1.0, power=0.0)
    np.testing.assert_allclose(weights, 0.01)


def test_every_class_is_drawn_as_often() -> None:
    labels = np.array([0] * 60 + [2] * 40 + [1])
    logits = np.concatenate([two_levels([50, 10, 30, 10], [0.1, 0.6, 0.9, 0.3]), [[0.0, 1.0]]])
    weights, notes = spare_of(logits, labels, classes=3)
    assert [weights[labels == label].sum() for label in (0, 1, 2)] == pytest.approx([1.0, 1.0, 1.0])
    silhouette = notes["silhouettes"]
    assert isinstance(silhouette, dict) and np.isnan(silhouette["class 1"])


def test_its_first_model_is_an_early_one() -> None:
    training = Training(epochs=12)
    method = SPARE(SPAREHyperparameters().resolved(training))
    model = method.fit(task_of(method, training=training))
    outputs = model.parents[2].parents[0]
    assert outputs.spec["partition"] == "train" and outputs.parents[0].spec["epochs"] == 1
