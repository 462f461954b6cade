from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from robustbench_spur.splits.base import RHOS
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.types import Partition, SpurbenchError

DEFAULT = Phantom()
SMALL = Phantom(
    Phantom.Parameters(
        train_patients=20, validation_patients=8, adapt_patients=8, adapt_slices=2, test_patients=12, test_slices=4
    )
)
SPLITS = (("field", 0.95), ("orientation", 0.95), ("clean", None))


def joined(blocks: Iterator[Any]) -> Any:
    return np.concatenate(list(blocks))


def conflicting(partition: Partition) -> dict[int, set[str]]:
    """Patients of each label whose attribute is not the label's."""
    rows = partition.labels != partition.attributes
    return {label: set(partition.clusters[rows & (partition.labels == label)].tolist()) for label in (0, 1)}


@pytest.mark.parametrize(
    ("rho", "train", "validation"),
    [(1.0, 0, 0), (0.99, 5, 1), (0.95, 25, 3), (0.9, 50, 6), (0.8, 100, 12), (0.5, 250, 30)],
)
@pytest.mark.parametrize("split", ["field", "orientation"])
def test_train_and_validation_have_the_stated_conflict_patients(
    split: str, rho: float, train: int, validation: int
) -> None:
    table = DEFAULT.table(split, rho)
    for name, count, slices in (("train", train, 4), ("validation", validation, 6)):
        partition = table.partitions[name]
        assert [len(patients) for patients in conflicting(partition).values()] == [count, count]
        for patient in np.unique(partition.clusters):
            rows = partition.clusters == patient
            assert rows.sum() == slices
            assert len(np.unique(partition.labels[rows])) == len(np.unique(partition.attributes[rows])) == 1
        assert partition.labels.mean() == 0.5


@pytest.mark.parametrize("split", ["field", "orientation"])
def test_conflict_patients_are_nested_in_rho(split: str) -> None:
    tables = [DEFAULT.table(split, rho) for rho in RHOS]
    for strong, weak in pairwise(tables):
        for name in ("train", "validation"):
            more, fewer = conflicting(weak.partitions[name]), conflicting(strong.partitions[name])
            assert all(fewer[label] <= more[label] for label in (0, 1))


@pytest.mark.parametrize(("split", "rho"), SPLITS)
def test_adapt_and_test_have_four_groups_of_one_size(split: str, rho: float | None) -> None:
    counts = DEFAULT.table(split, rho).counts()
    assert [group["examples"] for group in counts["test"].values()] == [400] * 4
    assert [group["patients"] for group in counts["test"].values()] == [100] * 4
    assert [group["examples"] for group in counts["adapt"].values()] == [180] * 4
    assert list(counts) == ["train", "validation", "adapt", "test"]


def test_rho_changes_attributes_only() -> None:
    strong, weak = DEFAULT.table("field", 1.0), DEFAULT.table("field", 0.5)
    for name in strong.partitions:
        a, b = strong.partitions[name], weak.partitions[name]
        assert (a.ids == b.ids).all() and (a.labels == b.labels).all() and (a.clusters == b.clusters).all()
        assert (a.attributes == b.attributes).all() == (name in ("adapt", "test"))


@pytest.mark.parametrize(("split", "rho"), SPLITS)
def test_partitions_share_no_patient(split: str, rho: float | None) -> None:
    patients = [set(p.clusters.tolist()) for p in DEFAULT.table(split, rho).partitions.values()]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 1000 + 120 + 120 + 200


def test_a_larger_train_begins_like_a_smaller_one_and_leaves_test_alone() -> None:
    small, large = SMALL.table("field", 1.0), DEFAULT.table("field", 1.0)
    count = len(small.partitions["train"])
    assert (large.partitions["train"].ids[:count] == small.partitions["train"].ids).all()
    assert (large.partitions["train"].labels[:count] == small.partitions["train"].labels).all()
    assert set(small.partitions["test"].clusters) <= set(large.partitions["test"].clusters)


def test_field_ties_tesla_and_keeps_slices_upright() -> None:
    table = DEFAULT.table("field", 0.95)
    assert table.groups.names == ("clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T")
    for partition in table.partitions.values():
        assert (partition.extra["field_strength"] == np.where(partition.attributes == 1, 1.5, 3.0)).all()
        assert not partition.extra["rotated"].any()


def test_orientation_ties_rotation_and_leaves_tesla_untied() -> None:
    table = DEFAULT.table("orientation", 0.95)
    assert table.groups.names == ("clear@rotated", "clear@upright", "tumour@rotated", "tumour@upright")
    for partition in table.partitions.values():
        assert (partition.extra["rotated"] == (partition.attributes == 0)).all()
        for label in (0, 1):
            assert (partition.extra["field_strength"][partition.labels == label] == 1.5).mean() == 0.5


def test_clean_is_untied() -> None:
    table = DEFAULT.table("clean", None)
    for partition in table.partitions.values():
        for label in (0, 1):
            assert partition.attributes[partition.labels == label].mean() == 0.5
    tied = DEFAULT.table("field", 0.5)
    assert (table.partitions["train"].attributes != tied.partitions["train"].attributes).any()
    assert table.partitions["test"].digest() == tied.partitions["test"].digest()


def test_ids_name_patient_and_position() -> None:
    partition = DEFAULT.table("field", 0.95).partitions["test"]
    for row in (0, 7, 1599):
        patient, z = partition.extra["patient"][row], partition.extra["z"][row]
        assert partition.ids[row] == f"{partition.clusters[row]}-z{round(z * 10):+05d}"
        assert partition.clusters[row] == f"P{patient:06d}"


def test_position_does_not_tell_the_label() -> None:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    table = DEFAULT.table("clean", None)
    train, test = table.partitions["train"], table.partitions["test"]
    for bins in (6, 12, 24):
        edges = np.linspace(-65, 65, bins + 1)
        counts = [np.histogram(train.extra["z"][train.labels == label], edges)[0] for label in (0, 1)]
        guess = (counts[1] > counts[0])[np.digitize(test.extra["z"], edges) - 1]
        assert (guess == test.labels).mean() <= 0.56
    features = [np.column_stack([p.extra["z"], np.abs(p.extra["z"])]) / 30 for p in (train, test)]
    assert LogisticRegression().fit(features[0], train.labels).score(features[1], test.labels) <= 0.56


def test_brightness_outside_the_lesion_does_not_tell_the_label() -> None:
    partition = DEFAULT.table("clean", None).partitions["test"]
    images = joined(DEFAULT.pixels("clean", partition, 64)).astype(float)
    outside = joined(DEFAULT.lesion_masks("clean", partition, 64)) == 0
    brightness = (images * outside).sum(axis=(1, 2, 3)) / outside.sum(axis=(1, 2, 3))
    half = partition.extra["patient"] % 2 == 0
    for fit in (half, ~half):
        threshold, sign = best_threshold(brightness[fit], partition.labels[fit])
        guess = (brightness[~fit] > threshold) == (sign > 0)
        assert (guess == partition.labels[~fit]).mean() <= 0.56


def best_threshold(values: Any, labels: Any) -> tuple[float, int]:
    candidates = [(t, sign) for t in np.quantile(values, np.linspace(0, 1, 101)) for sign in (1, -1)]
    return max(candidates, key=lambda c: float((((values > c[0]) == (c[1] > 0)) == labels).mean()))


def test_pixels_come_in_blocks_and_do_not_depend_on_them() -> None:
    partition = SMALL.table("field", 0.95).partitions["test"]
    blocks = list(SMALL.pixels("field", partition, 224))
    assert len(blocks) > 1 and all(b.dtype == np.uint8 and b.shape[1:] == (1, 224, 224) for b in blocks)
    assert sum(map(len, blocks)) == len(partition)
    rows = np.array([30, 3, 17])
    assert (joined(SMALL.pixels("field", partition.take(rows), 224)) == np.concatenate(blocks)[rows]).all()


def test_the_counterfactual_of_orientation_is_the_turned_image() -> None:
    partition = SMALL.table("orientation", 0.95).partitions["test"]
    images, other = (joined(make("orientation", partition, 64)) for make in (SMALL.pixels, SMALL.counterfactual))
    assert (other == images[..., ::-1, ::-1]).all()


@pytest.mark.parametrize(("split", "rho"), [("field", 0.95), ("clean", None)])
def test_the_counterfactual_of_field_is_the_slice_at_the_other_field(split: str, rho: float | None) -> None:
    partition = SMALL.table(split, rho).partitions["test"]
    images, other = (joined(make(split, partition, 64)) for make in (SMALL.pixels, SMALL.counterfactual))
    swapped = {**partition.extra, "field_strength": np.where(partition.extra["field_strength"] == 1.5, 3.0, 1.5)}
    again = Partition(partition.ids, partition.labels, partition.attributes, partition.clusters, swapped)
    assert (other == joined(SMALL.pixels(split, again, 64))).all()
    air = [batch[:, :, :6, :12].mean(axis=(1, 2, 3)) for batch in (images, other)]
    low = partition.attributes == 1
    assert (air[0][low] > air[1][low]).all() and (air[0][~low] < air[1][~low]).all()


def test_without_lesion_only_the_lesion_goes() -> None:
    partition = SMALL.table("field", 0.95).partitions["test"]
    images, erased, masks = (
        joined(make("field", partition, 64)) for make in (SMALL.pixels, SMALL.without_lesion, SMALL.lesion_masks)
    )
    assert masks.shape == images.shape and masks.dtype == np.float32
    assert (masks.max(axis=(1, 2, 3)) > 0).tolist() == (partition.labels == 1).tolist()
    assert (images[masks == 0] == erased[masks == 0]).all() and (
        images[masks > 0.5] != erased[masks > 0.5]
    ).mean() > 0.9


def test_the_seed_is_of_the_data() -> None:
    other = Phantom(SMALL.parameters.model_copy(update={"seed": 1}))
    a, b = (phantom.table("field", 0.95) for phantom in (SMALL, other))
    assert a.sha256() == SMALL.table("field", 0.95).sha256() != b.sha256()


def test_the_table_of_version_1() -> None:
    """Identity of a split; if this changes, raise the dataset's version."""
    assert SMALL.table("field", 0.95).sha256()[:16] == "16fa3a101939af0e"


def test_the_images_of_version_1() -> None:
    """Kept images are found by ``images_sha256``; if this changes, raise the version, and leave that out or renew it."""
    rows = Phantom().table("field", 0.95).partitions["test"].take(np.array([0, 400, 800, 1599]))
    images = np.concatenate(list(Phantom().pixels("field", rows, 64)))
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), [36.812, 24.263, 41.830, 21.238], atol=0.05)
    np.testing.assert_allclose(images.std(axis=(1, 2, 3)), [31.314, 26.356, 35.957, 24.309], atol=0.05)
    np.testing.assert_allclose(images[:, 0, 32, 16], [102, 14, 77, 30], atol=1)


def test_unknown_requests_are_told() -> None:
    partition = SMALL.table("field", 0.95).partitions["test"]
    for make in (SMALL.pixels, SMALL.counterfactual, SMALL.without_lesion, SMALL.lesion_masks, SMALL.body_masks):
        with pytest.raises(SpurbenchError, match="at least 16 pixels, found 8"):
            make("field", partition, 8)
        with pytest.raises(SpurbenchError, match="Did you mean 'field'"):
            make("fields", partition, 64)
    with pytest.raises(SpurbenchError, match="Did you mean 'orientation'"):
        SMALL.table("orientatoin", 0.95)
    for split, rho in (("field", 0.7), ("field", None), ("clean", 0.95)):
        with pytest.raises(SpurbenchError, match="Expected rho of phantom/"):
            SMALL.table(split, rho)
    stranger = Partition(partition.ids, partition.labels, partition.attributes, partition.clusters)
    with pytest.raises(SpurbenchError, match="found no columns"):
        SMALL.pixels("field", stranger, 64)


@pytest.mark.parametrize(
    "wrong",
    [{"train_patients": 5}, {"test_slices": 3}, {"test_slices": 0}, {"train_slices": 17}, {"seed": -1}, {"sizes": 3}],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Phantom.Parameters(**wrong)


@pytest.mark.parametrize("split", list(Phantom.splits))
def test_every_scene_that_is_offered_is_rendered(split: str) -> None:
    partition = SMALL.table(split, None if split == "clean" else 0.95).partitions["test"]
    images, offered = joined(SMALL.pixels(split, partition, 32)), SMALL.scenes(split)
    assert set(offered) == {"counterfactual", "without_lesion", "lesion", "body"} and all(offered.values())
    for name in offered:
        scene = joined(SMALL.scene(name, split, partition, 32))
        assert scene.shape == images.shape
        assert scene.dtype == (np.float32 if name in ("lesion", "body") else np.uint8)
        assert scene.min() >= 0 and (scene.dtype == np.uint8 or scene.max() <= 1)
    with pytest.raises(SpurbenchError, match="offers no 'lesoin' for"):
        SMALL.scene("lesoin", split, partition, 32)


@pytest.mark.parametrize(("split", "column"), [("field", "field_strength"), ("orientation", "rotated")])
def test_swapping_the_attribute_twice_gives_the_slice_back(split: str, column: str) -> None:
    """The counterfactual is what the row with the other attribute would be, whose own counterfactual is the slice."""
    partition = SMALL.table(split, 0.95).partitions["test"]
    mine = partition.extra[column]
    extra = {**partition.extra, column: ~mine if column == "rotated" else np.where(mine == 1.5, 3.0, 1.5)}
    other = Partition(partition.ids, partition.labels, 1 - partition.attributes, partition.clusters, extra)
    images, swapped = (joined(SMALL.pixels(split, rows, 64)) for rows in (partition, other))
    assert (joined(SMALL.scene("counterfactual", split, partition, 64)) == swapped).all()
    assert (joined(SMALL.scene("counterfactual", split, other, 64)) == images).all()


def test_the_body_is_where_no_air_is() -> None:
    """Outside it the image is the coil's noise: as bright as in the corners, and the same without the lesion."""
    partition = DEFAULT.table("field", 0.95).partitions["test"].take(np.arange(0, 1600, 20))
    images, masks, lesion = (
        joined(make("field", partition, 64)) for make in (DEFAULT.pixels, DEFAULT.body_masks, DEFAULT.lesion_masks)
    )
    air = masks == 0
    assert 0.3 < air.mean() < 0.7 and not air[:, :, 40:56, 20:44].any() and air[:, :, :3, :3].all()
    for image, outside in zip(images.astype(float), air, strict=True):
        corner = np.concatenate([image[:, :6, :12], image[:, :6, -12:]]).mean()
        # 144 pixels of Rayleigh noise: their mean has a standard error of 4 %
        assert image[outside].mean() == pytest.approx(corner, rel=0.2)
        assert image[~outside].mean() > 1.5 * corner
    assert (masks >= lesion - 1e-3).all()
    other = joined(DEFAULT.counterfactual("field", partition, 64)).astype(float)
    ratio = np.array([a[o].mean() / b[o].mean() for a, b, o in zip(images.astype(float), other, air, strict=True)])
    assert ((ratio > 1) == (partition.attributes == 1)).all()
