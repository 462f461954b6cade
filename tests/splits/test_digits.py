"""Colored MNIST on real and on small synthetic files."""

import gzip
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.splits.digits import Digits, DigitsParameters, Mnist, read_idx
from robustbench_spur.types import Partition, SplitTable, SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "mnist" / "mnist.npz"
SMALL = DigitsParameters(train_size=100, validation_size=40, adapt_per_group=10)
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
Arrays = dict[str, NDArray[np.uint8]]


def synthetic(train: int = 300, test: int = 61) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "y_train": (np.arange(train) % 10).astype(np.uint8),
        "x_test": rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "y_test": (np.arange(test) % 10).astype(np.uint8),
    }


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def write_idx(folder: Path, arrays: Arrays, *, packed: bool) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in zip(IDX, arrays.values(), strict=True):
        head = (0x800 + array.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape)
        data = head + array.tobytes()
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(data) if packed else data)
    return folder


def holding(arrays: Arrays, **parameters: int) -> Digits:
    """A dataset that has these arrays in memory."""
    dataset = Digits(SMALL.model_copy(update=parameters), Path("unused"))
    digits = {part: arrays[f"y_{part}"].astype(np.int64) for part in ("train", "test")}
    dataset.__dict__["mnist"] = Mnist({part: arrays[f"x_{part}"] for part in ("train", "test")}, digits)
    return dataset


def conflicts(partition: Partition, label: int) -> int:
    return int((partition.attributes[partition.labels == label] != label).sum())


def images(dataset: Digits, partition: Partition) -> NDArray[np.uint8]:
    return np.concatenate(list(dataset.pixels("colour", partition, 14)))


@pytest.fixture
def small(tmp_path: Path) -> Digits:
    return Digits(SMALL, write_npz(tmp_path / "digits.npz", synthetic()))


@pytest.fixture(scope="module")
def real() -> Digits:
    if not REAL.is_file():
        pytest.skip(f"no MNIST at {REAL}")
    return Digits(path=REAL)


def test_npz_idx_and_gzip_give_one_table_one_fingerprint_and_the_same_pixels(tmp_path: Path, small: Digits) -> None:
    table = small.table("colour", 0.9)
    for packed in (False, True):
        other = Digits(SMALL, write_idx(tmp_path / f"idx{packed}", synthetic(), packed=packed))
        assert other.table("colour", 0.9).sha256() == table.sha256()
        assert other.fingerprint() == small.fingerprint()
        assert np.array_equal(images(other, table.partitions["test"]), images(small, table.partitions["test"]))


def test_a_folder_with_one_npz_stands_for_it(tmp_path: Path, small: Digits) -> None:
    assert Digits(SMALL, tmp_path).table("colour", 0.9).sha256() == small.table("colour", 0.9).sha256()


def test_the_fingerprint_sees_one_changed_pixel(tmp_path: Path, small: Digits) -> None:
    arrays = synthetic()
    arrays["x_test"][3, 5, 7] ^= 1
    assert Digits(SMALL, write_npz(tmp_path / "other.npz", arrays)).fingerprint() != small.fingerprint()


def test_partitions_are_disjoint_and_as_large_as_asked(small: Digits) -> None:
    partitions = small.table("colour", 0.9).partitions
    assert {name: len(part) for name, part in partitions.items()} == {
        "train": 100,
        "validation": 40,
        "adapt": 40,
        "test": 61,
    }
    everyone = np.concatenate([part.ids for part in partitions.values()])
    assert len(set(everyone.tolist())) == len(everyone)
    assert all(np.array_equal(part.ids, part.clusters) for part in partitions.values())
    assert all(part.ids.tolist() == sorted(part.ids.tolist()) for part in partitions.values())


def test_labels_follow_the_digits(small: Digits) -> None:
    arrays = synthetic()
    for part in small.table("colour", 1.0).partitions.values():
        for published, row, label in zip(part.extra["published"], part.extra["row"], part.labels, strict=True):
            assert label == (arrays[f"y_{published}"][row] >= 5)


def test_the_digit_is_in_the_channel_of_its_colour_and_the_other_is_empty(small: Digits) -> None:
    arrays = synthetic()
    part = small.table("colour", 0.8).partitions["test"]
    pixels = images(small, part)
    assert pixels.shape == (61, 2, 14, 14)
    assert pixels.dtype == np.uint8
    for row, colour, image in zip(part.extra["row"], part.attributes, pixels, strict=True):
        assert np.array_equal(image[colour], arrays["x_test"][row][::2, ::2])
        assert not image[1 - colour].any()


def test_pixels_come_in_blocks_and_in_row_order_for_any_rows(small: Digits) -> None:
    part = small.table("colour", 0.8).partitions["test"]
    many = part.take(np.array([5, 60, 2]))
    assert np.array_equal(images(small, many), images(small, part)[[5, 60, 2]])
    big = holding(synthetic(train=700), train_size=600)
    train = big.table("colour", 0.9).partitions["train"]
    assert [len(block) for block in big.pixels("colour", train, 14)] == [256, 256, 88]


@settings(max_examples=25, deadline=None)
@given(rho=st.sampled_from([1.0, 0.99, 0.95, 0.9, 0.8, 0.5]), seed=st.integers(0, 1000))
def test_conflicts_are_counted_exactly_and_nested(rho: float, seed: int) -> None:
    dataset = holding(synthetic(), seed=seed)
    table, weakest = dataset.table("colour", rho), dataset.table("colour", 0.5)
    for name in ("train", "validation"):
        part, wide = table.partitions[name], weakest.partitions[name]
        assert np.array_equal(part.ids, wide.ids)
        assert not ((part.attributes != part.labels) & (wide.attributes == wide.labels)).any()
        for label in (0, 1):
            count = int((part.labels == label).sum())
            assert conflicts(part, label) == int((100 - round(100 * rho)) * count / 100 + 0.5)
    for name in ("adapt", "test"):
        assert table.partitions[name].digest() == weakest.partitions[name].digest()


def test_adapt_has_equal_groups_and_test_is_balanced_within_each_class(small: Digits) -> None:
    counts = small.table("colour", 1.0).counts()
    assert [group["examples"] for group in counts["adapt"].values()] == [10, 10, 10, 10]
    green0, red0, green1, red1 = (group["examples"] for group in counts["test"].values())
    assert (green0 + red0, green1 + red1) == (31, 30)
    assert abs(green0 - red0) <= 1
    assert abs(green1 - red1) <= 1


def test_a_larger_training_set_contains_the_smaller_one(small: Digits) -> None:
    larger = Digits(SMALL.model_copy(update={"train_size": 150}), small.path).table("colour", 0.9).partitions
    smaller = small.table("colour", 0.9).partitions
    assert set(smaller["train"].ids.tolist()) < set(larger["train"].ids.tolist())
    assert larger["validation"].digest() == smaller["validation"].digest()
    assert larger["adapt"].digest() == smaller["adapt"].digest()


def test_another_seed_draws_other_digits(small: Digits) -> None:
    other = Digits(SMALL.model_copy(update={"seed": 1}), small.path)
    assert other.table("colour", 0.9).sha256() != small.table("colour", 0.9).sha256()


def test_real_conflicts_at_095_and_1(real: Digits) -> None:
    for rho in (0.95, 1.0):
        part = real.table("colour", rho).partitions
        assert {name: len(p) for name, p in part.items()} == {
            "train": 5000,
            "validation": 1000,
            "adapt": 2000,
            "test": 10000,
        }
        for name in ("train", "validation"):
            for label in (0, 1):
                count = int((part[name].labels == label).sum())
                expected = 0 if rho == 1.0 else (count + 10) // 20  # 5 %, rounded half up
                assert conflicts(part[name], label) == expected
    counts = real.table("colour", 0.95).counts()
    assert [group["examples"] for group in counts["adapt"].values()] == [500] * 4
    # 5,139 of MNIST's test digits are 0 to 4: 980 + 1,135 + 1,032 + 1,010 + 982.
    assert sorted(group["examples"] for group in counts["test"].values()) == [2430, 2431, 2569, 2570]


def test_real_label_noise_flips_its_share_before_the_colour(real: Digits) -> None:
    noisy = Digits(DigitsParameters(label_noise=0.25), REAL)
    noisy.__dict__["mnist"] = real.mnist
    clean, table = real.table("colour", 0.95), noisy.table("colour", 0.95)
    for name, part in table.partitions.items():
        assert np.array_equal(part.ids, clean.partitions[name].ids)
        share = (part.labels != clean.partitions[name].labels).mean()
        error = 4 * (0.25 * 0.75 / len(part)) ** 0.5  # four standard errors
        assert abs(share - (0.25 if name in ("train", "validation") else 0.0)) < error
    train = table.partitions["train"]
    for label in (0, 1):
        assert conflicts(train, label) == ((train.labels == label).sum() + 10) // 20
    assert any("noise 0.25" in note for note in table.notes)
    assert clean.notes == ("Each image is its own cluster: the files do not say who wrote a digit.",)


def test_files_of_another_size_are_noted(small: Digits) -> None:
    assert any("300 training and 61 test digits" in note for note in small.table("colour", 0.9).notes)


def broken(arrays: Arrays, **changed: object) -> Arrays:
    return {**arrays, **changed}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.zeros((300, 32, 32), np.uint8)}, "x_train, found uint8 .300, 32, 32."),
        ({"x_train": np.zeros((300, 28, 28), np.float32)}, "x_train, found float32"),
        ({"x_test": np.zeros((0, 28, 28), np.uint8)}, "x_test, found uint8 .0, 28, 28."),
        ({"y_train": np.zeros(299, np.uint8)}, "300 integer labels.*y_train, found uint8 .299,."),
        ({"y_test": np.zeros(61)}, "61 integer labels.*y_test, found float64"),
        ({"y_test": np.full(61, 10, np.uint8)}, "labels 0 to 9 in .*y_test, found 10 to 10"),
        ({"y_test": np.array([{}] * 61, object)}, "allow_pickle=False"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    path = write_npz(tmp_path / "bad.npz", broken(synthetic(), **changed))
    with pytest.raises(SpurbenchError, match=message) as caught:
        Digits(SMALL, path).table("colour", 0.9)
    assert str(path) in str(caught.value)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x_train": [1]}))


def _single(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def _missing_key(path: Path) -> None:
    write_npz(path, {name: array for name, array in synthetic().items() if name != "y_test"})


@pytest.mark.parametrize("damage", [_truncate, _flip, _pickle, _single, _missing_key, Path.unlink])
def test_a_damaged_npz_is_named(small: Digits, damage: object) -> None:
    assert callable(damage)
    damage(small.path)
    with pytest.raises(SpurbenchError, match="Expected") as caught:
        small.table("colour", 0.9)
    assert str(small.path) in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", IDX)
@pytest.mark.parametrize("damage", ["magic", "short", "long", "header", "garbage", "gone"])
def test_a_damaged_idx_is_named(tmp_path: Path, name: str, packed: bool, damage: str) -> None:
    folder = write_idx(tmp_path / "idx", synthetic(), packed=packed)
    path = folder / f"{name}{'.gz' if packed else ''}"
    data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    changed = {
        "magic": b"\x00\x00\x0d" + data[3:],
        "short": data[:-1],
        "long": data + b"\x00",
        "header": data[:5],
        "garbage": b"<html>404</html>" * 9,
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(gzip.compress(changed[damage]) if packed else changed[damage])
    with pytest.raises(SpurbenchError, match="Expected") as caught:
        Digits(SMALL, folder).table("colour", 0.9)
    assert str(folder) in str(caught.value)
    assert name in str(caught.value)


def test_a_truncated_gzip_and_a_file_that_is_none_are_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "idx", synthetic(), packed=True) / f"{IDX[0]}.gz"
    whole = path.read_bytes()
    for data in (whole[:-9], whole[: len(whole) // 2], b"not gzip at all"):
        path.write_bytes(data)
        with pytest.raises(SpurbenchError, match=r"idx3-ubyte\.gz unreadable"):
            read_idx(path, 3)


def test_paths_that_mean_nothing_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SpurbenchError, match=r"one npz file in .*empty, found none.*--data digits="):
        Digits(SMALL, empty).fingerprint()
    for name in ("a.npz", "b.npz"):
        write_npz(empty / name, synthetic())
    with pytest.raises(SpurbenchError, match=r"found a\.npz, b\.npz"):
        Digits(SMALL, empty).fingerprint()
    with pytest.raises(SpurbenchError, match=r"nowhere, found nothing"):
        Digits(SMALL, tmp_path / "nowhere").table("colour", 0.9)
    with pytest.raises(SpurbenchError, match="--data digits=PATH"):
        Digits()


def test_wrong_requests_are_refused(small: Digits) -> None:
    for rho in (None, 0.4, 1.1, float("nan")):
        with pytest.raises(SpurbenchError, match=r"rho from 0\.5 to 1"):
            small.table("colour", rho)
    with pytest.raises(SpurbenchError, match="Did you mean 'colour'"):
        small.table("color", 0.9)
    table: SplitTable = small.table("colour", 0.9)
    with pytest.raises(SpurbenchError, match="image size 14 for digits, found 28"):
        list(small.pixels("colour", table.partitions["test"], 28))
    with pytest.raises(SpurbenchError, match="Lower train_size"):
        Digits(DigitsParameters(), small.path).table("colour", 0.9)


def test_the_counterfactual_is_the_digit_in_the_other_colour(small: Digits) -> None:
    part = small.table("colour", 0.95).partitions["test"]
    other = replace(part, attributes=1 - part.attributes)
    plain = images(small, part)
    assert list(small.scenes("colour")) == ["counterfactual"]
    swapped = np.concatenate(list(small.scene("counterfactual", "colour", part, 14)))
    assert (swapped == images(small, other)).all() and (swapped == plain[:, ::-1]).all()
    assert (np.concatenate(list(small.scene("counterfactual", "colour", other, 14))) == plain).all()
    with pytest.raises(SpurbenchError, match="'digits' offers no 'body' for colour"):
        small.scene("body", "colour", part, 14)
