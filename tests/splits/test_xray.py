"""Chest X-rays with a tag, on the real file and on small synthetic ones."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur.splits.xray import XRay, XRayParameters
from robustbench_spur.types import Partition, SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "pneumoniamnist" / "pneumoniamnist_union.npz"
SMALL = XRayParameters(adapt_per_group=5)
SIZES = {"train": 120, "val": 40, "test": 31}
OURS = {"train": "train", "val": "validation", "test": "test"}
Arrays = dict[str, NDArray[np.uint8]]


def synthetic() -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for name, count in SIZES.items():
        arrays[f"{name}_images"] = rng.integers(0, 240, (count, 28, 28), dtype=np.uint8)
        arrays[f"{name}_labels"] = (np.arange(count) % 3 > 0).astype(np.uint8)[:, None]
    return arrays


def write(path: Path, arrays: Arrays) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def shuffled(arrays: Arrays, seed: int) -> Arrays:
    rng, out = np.random.default_rng(seed), dict(arrays)
    for name in SIZES:
        order = rng.permutation(len(arrays[f"{name}_images"]))
        out |= {f"{name}_{what}": arrays[f"{name}_{what}"][order] for what in ("images", "labels")}
    return out


def images(dataset: XRay, partition: Partition) -> NDArray[np.uint8]:
    return np.concatenate(list(dataset.pixels("tag", partition, 28)))


@pytest.fixture
def small(tmp_path: Path) -> XRay:
    return XRay(SMALL, write(tmp_path / "xray.npz", synthetic()))


@pytest.fixture(scope="module")
def real() -> XRay:
    if not REAL.is_file():
        pytest.skip(f"no PneumoniaMNIST at {REAL}")
    return XRay(path=REAL)


def test_ids_are_content_and_published_sets_are_kept(small: XRay) -> None:
    arrays, partitions = synthetic(), small.table("tag", 0.9).partitions
    for name, ours in OURS.items():
        keys = {hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in arrays[f"{name}_images"]}
        found = set(partitions[ours].ids.tolist())
        if ours == "train":
            assert not found & set(partitions["adapt"].ids.tolist())
            found |= set(partitions["adapt"].ids.tolist())
        assert found == keys
    for part in partitions.values():
        assert part.ids.tolist() == sorted(part.ids.tolist())
        assert np.array_equal(part.ids, part.clusters)


def test_labels_stay_with_their_images(small: XRay) -> None:
    arrays, partitions = synthetic(), small.table("tag", 0.9).partitions
    truth = {
        hashlib.sha256(image.tobytes()).hexdigest()[:16]: int(label)
        for name in SIZES
        for image, label in zip(arrays[f"{name}_images"], arrays[f"{name}_labels"].ravel(), strict=True)
    }
    for part in partitions.values():
        assert part.labels.tolist() == [truth[key] for key in part.ids.tolist()]


def test_the_order_of_the_file_does_not_matter(tmp_path: Path, small: XRay) -> None:
    other = XRay(SMALL, write(tmp_path / "shuffled.npz", shuffled(synthetic(), 7)))
    assert other.table("tag", 0.8).sha256() == small.table("tag", 0.8).sha256()
    assert other.fingerprint() == small.fingerprint()
    part = small.table("tag", 0.8).partitions["train"]
    assert np.array_equal(images(other, part), images(small, part))


def test_the_fingerprint_sees_a_pixel_and_a_label(tmp_path: Path, small: XRay) -> None:
    for name, where in (("test_images", (2, 3, 4)), ("val_labels", (0, 0))):
        arrays = synthetic()
        arrays[name][where] ^= 1
        assert XRay(SMALL, write(tmp_path / f"{name}.npz", arrays)).fingerprint() != small.fingerprint()


@pytest.mark.parametrize(("size", "value"), [(3, 255), (1, 7), (8, 200)])
def test_the_tag_is_in_the_pixels_exactly_where_the_attribute_is_1(small: XRay, size: int, value: int) -> None:
    dataset = XRay(SMALL.model_copy(update={"tag_size": size, "tag_value": value}), small.path)
    raw = {
        hashlib.sha256(image.tobytes()).hexdigest()[:16]: image
        for name in SIZES
        for image in synthetic()[f"{name}_images"]
    }
    for part in dataset.table("tag", 0.8).partitions.values():
        pixels = images(dataset, part)
        assert pixels.shape == (len(part), 1, 28, 28)
        for key, tagged, image in zip(part.ids.tolist(), part.attributes.tolist(), pixels[:, 0], strict=True):
            expected = raw[key].copy()
            if tagged:
                expected[1 : 1 + size, 1 : 1 + size] = value
            assert np.array_equal(image, expected)


def test_the_tag_follows_the_attribute_that_is_given_and_leaves_the_source_alone(small: XRay) -> None:
    part = small.table("tag", 0.8).partitions["test"]
    flipped = Partition(part.ids, part.labels, 1 - part.attributes, part.clusters)
    changed = (images(small, part) != images(small, flipped)).any(axis=0)[0]
    assert changed[1:4, 1:4].all()
    assert changed.sum() == 9
    assert np.array_equal(images(small, part), images(small, part))


def test_conflicts_are_exact_nested_and_absent_from_adapt_and_test(small: XRay) -> None:
    previous: dict[str, NDArray[np.bool_]] = {}
    for rho in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5):
        table = small.table("tag", rho)
        for name in ("train", "validation"):
            part = table.partitions[name]
            conflict = part.attributes != part.labels
            for label in (0, 1):
                count = int((part.labels == label).sum())
                assert conflict[part.labels == label].sum() == int((100 - round(100 * rho)) * count / 100 + 0.5)
            assert not (previous.get(name, conflict) & ~conflict).any()
            previous[name] = conflict
        counts = table.counts()
        assert [group["examples"] for group in counts["adapt"].values()] == [5] * 4
        absent0, present0, absent1, present1 = (group["examples"] for group in counts["test"].values())
        assert abs(absent0 - present0) <= 1
        assert abs(absent1 - present1) <= 1


def test_byte_equal_images_are_one_and_stay_in_the_later_set(tmp_path: Path, small: XRay) -> None:
    arrays = synthetic()
    for name, pick in (("train", [0, 0, 1]), ("val", [0, 4])):  # two inside train, and one of each in a later set
        for what in ("images", "labels"):
            arrays[f"{name}_{what}"] = np.concatenate([arrays[f"{name}_{what}"], arrays[f"{name}_{what}"][pick]])
    for source, target, row in (("train", "val", 9), ("train", "test", 10), ("val", "test", 11)):
        for what in ("images", "labels"):
            key = f"{target}_{what}"
            arrays[key] = np.concatenate([arrays[key], arrays[f"{source}_{what}"][row : row + 1]])
    table = XRay(SMALL, write(tmp_path / "repeated.npz", arrays)).table("tag", 0.9)
    sizes = {name: len(part) for name, part in table.partitions.items()}
    assert sizes == {"train": 120 - 20 - 2, "validation": 40 + 1 - 1, "adapt": 20, "test": 31 + 2}
    assert table.notes == (
        "No patient ids are published: each image is its own cluster.",
        "5 byte-equal duplicates inside a published set were merged.",
        "3 images of train or validation that recur in a later published set were taken out of the earlier.",
    )


@pytest.mark.parametrize("target", ["train", "test"])
def test_byte_equal_images_with_two_labels_are_refused(tmp_path: Path, target: str) -> None:
    arrays = synthetic()
    arrays[f"{target}_images"][-1] = arrays["train_images"][0]
    arrays[f"{target}_labels"][-1] = 1 - arrays["train_labels"][0]
    with pytest.raises(SpurbenchError, match=r"two for [0-9a-f]{16} in .*twice\.npz"):
        XRay(SMALL, write(tmp_path / "twice.npz", arrays)).table("tag", 0.9)


def test_a_set_that_only_repeats_a_later_one_is_refused(tmp_path: Path) -> None:
    arrays = synthetic()
    arrays |= {f"val_{what}": arrays[f"test_{what}"] for what in ("images", "labels")}
    with pytest.raises(SpurbenchError, match=r"val_images of its own in .*same\.npz"):
        XRay(SMALL, write(tmp_path / "same.npz", arrays)).fingerprint()


def test_real_groups_at_095_and_1(real: XRay) -> None:
    """5,855 rows hold 5,827 distinct images (counted apart from the loader); test and validation are official."""
    for rho in (0.95, 1.0):
        table = real.table("tag", rho)
        assert sum(len(part) for part in table.partitions.values()) == 5827
        for name in ("train", "validation"):
            part = table.partitions[name]
            for label in (0, 1):
                mine = part.labels == label
                expected = 0 if rho == 1.0 else (mine.sum() + 10) // 20
                assert (part.attributes[mine] != label).sum() == expected
        assert [group["examples"] for group in table.counts()["adapt"].values()] == [60] * 4
        assert table.notes[0] == "No patient ids are published: each image is its own cluster."
    assert len(table.partitions["validation"]) == 524
    assert len(table.partitions["test"]) == 621  # 624 rows, three of them byte-equal to others


def test_no_real_radiograph_has_a_tag_of_its_own(real: XRay) -> None:
    for part in real.table("tag", 0.95).partitions.values():
        tagged = (images(real, part)[:, 0, 1:4, 1:4] == 255).all(axis=(1, 2))
        assert np.array_equal(tagged, part.attributes == 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_images": np.zeros((40, 64, 64), np.uint8)}, "val_images, found uint8 .40, 64, 64."),
        ({"val_images": np.zeros((40, 28, 28, 3), np.uint8)}, "val_images, found uint8 .40, 28, 28, 3."),
        ({"train_images": np.zeros((120, 28, 28), np.int16)}, "train_images, found int16"),
        ({"test_labels": np.zeros((31, 2), np.uint8)}, "31 integer labels.*test_labels"),
        ({"test_labels": np.full(31, 2, np.uint8)}, "labels 0 to 1 in .*test_labels, found 2 to 2"),
        ({"test_labels": np.array([None] * 31, object)}, "allow_pickle=False"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, changed: Arrays, message: str) -> None:
    path = write(tmp_path / "bad.npz", {**synthetic(), **changed})
    with pytest.raises(SpurbenchError, match=message) as caught:
        XRay(SMALL, path).table("tag", 0.9)
    assert str(path) in str(caught.value)


def test_damaged_and_missing_files_are_named(tmp_path: Path, small: XRay) -> None:
    assert small.path is not None
    whole = small.path.read_bytes()
    for data in (whole[:-500], whole[: len(whole) // 2], b"", b"\x80\x04]."):
        small.path.write_bytes(data)
        with pytest.raises(SpurbenchError, match=r"xray\.npz unreadable"):
            XRay(SMALL, small.path).fingerprint()
    write(small.path, {name: array for name, array in synthetic().items() if name != "val_labels"})
    with pytest.raises(SpurbenchError, match=r"val_labels.* in .*xray\.npz, found train_images"):
        XRay(SMALL, small.path).fingerprint()
    with pytest.raises(SpurbenchError, match=r"nowhere\.npz, found nothing"):
        XRay(SMALL, tmp_path / "nowhere.npz").fingerprint()


def test_wrong_requests_are_refused(small: XRay) -> None:
    with pytest.raises(SpurbenchError, match=r"rho from 0\.5 to 1"):
        small.table("tag", None)
    with pytest.raises(SpurbenchError, match="Unknown split 'tags'"):
        small.table("tags", 0.9)
    with pytest.raises(SpurbenchError, match="image size 28 for xray, found 64"):
        list(small.pixels("tag", small.table("tag", 0.9).partitions["test"], 64))
    with pytest.raises(SpurbenchError, match="Lower adapt_per_group"):
        XRay(XRayParameters(adapt_per_group=60), small.path).table("tag", 0.9)


def test_the_counterfactual_is_the_radiograph_with_the_tag_put_in_or_left_out(small: XRay) -> None:
    part = small.table("tag", 0.95).partitions["test"]
    other = replace(part, attributes=1 - part.attributes)
    plain, swapped = images(small, part), images(small, other)
    assert list(small.scenes("tag")) == ["counterfactual"]
    assert (np.concatenate(list(small.scene("counterfactual", "tag", part, 28))) == swapped).all()
    assert (np.concatenate(list(small.scene("counterfactual", "tag", other, 28))) == plain).all()
    changed = (plain != swapped).any(axis=1)
    assert changed.any(axis=(1, 2)).all() and not changed[:, 4:].any() and not changed[:, :, 4:].any()
    with pytest.raises(SpurbenchError, match="'xray' offers no 'lesion' for tag"):
        small.scene("lesion", "tag", part, 28)
