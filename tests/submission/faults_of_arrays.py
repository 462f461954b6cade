"""Faults of predictions and weights: archives that are bombs or broken, arrays of another kind, other rows."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.submission.faults import ARRAYS, CELL, Copy, Fault, npy, zipped
from tests.submission.makers import Arrays

LOGITS = "test/logits.npy"
SHAPE = (64, 2)
"""Of 512 bytes of float32: not that of the board, which is for later checks to notice."""
WEIGHTS = f"weights/{CELL.removeprefix('records/')}.safetensors"
GIGABYTES = 10


def raw(change: Callable[[bytes], bytes]) -> Callable[[Copy], object]:
    """An archive of other bytes."""
    return lambda copy: copy.write(ARRAYS, change(copy.path(ARRAYS).read_bytes()))


def member(content: bytes, name: str = LOGITS) -> Callable[[Copy], object]:
    """An archive with another member."""
    return lambda copy: zipped(copy, {name: content})


def added(name: str, **options: Any) -> Callable[[Copy], object]:
    """An archive with one more member."""

    def write(archive: zipfile.ZipFile) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that is there already
            archive.writestr(name, npy(np.zeros(2)), **options)

    return lambda copy: zipped(copy, {}, write)


def header(
    descr: Any = "<f4", shape: Any = SHAPE, *, fortran: bool = False, size: int = 512
) -> Callable[[Copy], object]:
    """Logits with a header of one's own."""
    about = repr({"descr": descr, "fortran_order": fortran, "shape": shape})
    return member(npy(header=about, data=bytes(size)))


def bomb(copy: Copy) -> None:
    """Ten gigabytes of zeros in ten megabytes."""
    start = npy(header=repr({"descr": "<f4", "fortran_order": False, "shape": (GIGABYTES * 2**28,)}))
    block = bytes(2**20)

    def write(archive: zipfile.ZipFile) -> None:
        about = zipfile.ZipInfo("test/bomb.npy")
        about.compress_type = zipfile.ZIP_STORED
        with archive.open(about, "w") as stream:
            stream.write(start)
            stream.write(block)

    zipped(copy, {}, write)
    # stated by the archive, which is what is looked at before anything is read
    content = bytearray(copy.path(ARRAYS).read_bytes())
    place = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, 2**32 - 2)
    copy.write(ARRAYS, bytes(content))


def real_bomb(copy: Copy) -> None:
    """Members that inflate to more than two gigabytes in all, each deflated from zeros."""
    start = npy(header=repr({"descr": "|u1", "fortran_order": False, "shape": (2**27,)}))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(2**22)
    digest, packed = zlib.crc32(start), packer.compress(start)
    for _ in range(32):
        digest, packed = zlib.crc32(block, digest), packed + packer.compress(block)
    packed += packer.flush()
    size = len(start) + 2**27
    local, central = b"", b""
    for number in range(80):  # 80 members of 128 MiB are ten gigabytes
        name = f"test/zeros{number}.npy".encode()
        facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, digest, len(packed), size, len(name), 0)
        central += b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, len(local)) + name
        local += b"PK\x03\x04" + facts + name + packed
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 80, 80, len(central), len(local), 0)
    copy.write(ARRAYS, local + central + end)


def many_members(copy: Copy) -> None:
    content = npy(np.zeros(1))
    zipped(copy, {}, lambda archive: [archive.writestr(f"test/a{n}.npy", content) for n in range(400)])


def large_directory(content: bytes) -> bytes:
    """An archive that says that its directory is of a gigabyte."""
    end = bytearray(content[-22:])
    struct.pack_into("<I", end, 12, 2**30)
    return content[:-22] + bytes(end)


def encrypted(content: bytes) -> bytes:
    changed, place = bytearray(content), content.index(b"PK\x01\x02")
    changed[place + 8] |= 1
    return bytes(changed)


def corrupt(content: bytes) -> bytes:
    """A byte of the last member changed, so that its checksum is another."""
    changed = bytearray(content)
    changed[content.index(b"PK\x01\x02") - 10] ^= 255
    return bytes(changed)


ARCHIVES = [
    Fault("an archive cut short", raw(lambda old: old[: len(old) // 2]), ARRAYS, "bytes, no end)"),
    Fault("an archive without its beginning", raw(lambda old: old[1000:]), ARRAYS, "found a damaged archive"),
    Fault("an empty file", raw(lambda old: b""), ARRAYS, "found a damaged archive (0 bytes, no end)"),
    Fault("a pickle", raw(lambda old: pickle.dumps([1])), ARRAYS, "found a damaged archive"),
    Fault("a lone array", raw(lambda old: npy(np.zeros(3))), ARRAYS, "found a damaged archive"),
    Fault("a comment after the archive", raw(lambda old: old[:-2] + b"\x05\0hello"), ARRAYS, "found a damaged archive"),
    Fault("a byte changed", raw(corrupt), ARRAYS, "found a damaged archive ("),
    Fault("a bomb by its statement", bomb, ARRAYS, "bytes unpacked"),
    Fault("a bomb of ten gigabytes", real_bomb, ARRAYS, "bytes unpacked"),
    Fault("four hundred arrays", many_members, ARRAYS, "expected at most 200, found 414 arrays"),
    Fault("a large directory", raw(large_directory), ARRAYS, "found an archive with a directory of 1073741824 bytes"),
    Fault("an encrypted member", raw(encrypted), ARRAYS, "encrypted or packed in another way"),
    Fault(
        "packed otherwise",
        added("test/x.npy", compress_type=zipfile.ZIP_LZMA),
        ARRAYS,
        "encrypted or packed in another way",
    ),
    Fault("a member that leaves", added("../../x.npy"), ARRAYS, "found the member '../../x.npy'"),
    Fault("a member of an absolute path", added("/etc/x.npy"), ARRAYS, "found the member '/etc/x.npy'"),
    Fault("a member of another system", added("test\\x.npy"), ARRAYS, r"found the member 'test\\x.npy'"),
    Fault("a member that is no array", added("run.py"), ARRAYS, "found the member 'run.py'"),
    Fault("a member twice", added(LOGITS), ARRAYS, f"found the member {LOGITS} twice"),
    Fault("another magic", member(npy(header="{}", magic=b"\x93NUMBY\x01\x00")), ARRAYS, "that begins with b"),
    Fault("another format", member(npy(header="{}", magic=b"\x93NUMPY\x02\x00")), ARRAYS, "that begins with b"),
    Fault("an empty member", member(b""), ARRAYS, "that begins with b"),
    Fault("a header of 60 kB", member(npy(header=" " * 60_000)), ARRAYS, "found a header of 60001 bytes"),
    Fault("a header that is code", member(npy(header="__import__('os').system('x')")), ARRAYS, "that cannot be read"),
    Fault("a header of signs", member(npy(header="-" * 4000 + "1")), ARRAYS, "that cannot be read"),
    Fault(
        "a header that says more", header(shape=(99, 2)), ARRAYS, "of 792 bytes by its header and 512 in the archive"
    ),
    Fault("a header of a huge shape", header(shape=(10**18, 10**18)), ARRAYS, "by its header and 512 in the archive"),
    Fault("a negative shape", header(shape=(-64, -2)), ARRAYS, "of shape '(-64, -2)'"),
    Fault("a shape of truths", header(shape=(True, 128)), ARRAYS, "of shape '(True, 128)'"),
    Fault("a shape of many axes", header(shape=(64, 2, 1)), ARRAYS, "of shape '(64, 2, 1)'"),
    Fault("an array of objects", member(npy(np.array([print], object))), ARRAYS, "of type '|O'"),
    Fault("an array of records", header([("a", "<f4")], (128,)), ARRAYS, "expected numbers or texts, never objects"),
    Fault("an array of days", header("<M8[D]", (64,)), ARRAYS, "of type '<M8[D]'"),
    Fault("an array of nothing", header("<U0", (64, 2), size=0), ARRAYS, "of type '<U0'"),
    Fault("an array of bytes", header("|V8", (64,)), ARRAYS, "of type '|V8'"),
    Fault("columns first", header(fortran=True), ARRAYS, "in Fortran order"),
    Fault("bytes the other way round", header(">f4"), ARRAYS, "expected float32, found test/logits.npy of type '>f4'"),
]


def arrays(change: Callable[[Arrays], object]) -> Callable[[Copy], object]:
    """Other arrays, in a sound archive that is listed as it is."""
    return lambda copy: copy.arrays(change)


def column(name: str, change: Callable[[Any], Any], partition: str = "test") -> Callable[[Copy], object]:
    """One array, changed."""
    return arrays(lambda all_: all_.update({f"{partition}/{name}": change(all_[f"{partition}/{name}"])}))


def all_rows(change: Callable[[Any], Any]) -> Callable[[Copy], object]:
    """Every row array of test, changed alike."""

    def changed(content: Arrays) -> None:
        for name in ("ids", "labels", "attributes", "clusters", "logits"):
            content[f"test/{name}"] = change(content[f"test/{name}"])

    return arrays(changed)


def one(value: Any) -> Callable[[Any], Any]:
    """An array with one value changed."""

    def change(array: Any) -> Any:
        array = array.copy()
        array[(3, *([0] * (array.ndim - 1)))] = value
        return array

    return change


def without(name: str) -> Callable[[Copy], object]:
    return arrays(lambda content: content.pop(name))


def without_partition(content: Arrays) -> None:
    for name in [name for name in content if name.startswith("validation/")]:
        del content[name]


def with_partition(content: Arrays) -> None:
    content |= {name.replace("test/", "train/"): array for name, array in content.items() if name.startswith("test/")}


COLUMNS = [
    Fault("logits of float64", column("logits", lambda a: a.astype(np.float64)), ARRAYS, "test/logits of type float64"),
    Fault("logits of float16", column("logits", lambda a: a.astype(np.float16)), ARRAYS, "test/logits of type float16"),
    Fault(
        "logits of whole numbers", column("logits", lambda a: a.astype(np.int64)), ARRAYS, "test/logits of type int64"
    ),
    Fault("logits as text", column("logits", lambda a: a.astype(str)), ARRAYS, "test/logits of type <U"),
    Fault(
        "logits of three classes",
        column("logits", lambda a: np.c_[a, a[:, :1]]),
        ARRAYS,
        "test/logits of shape (32, 3)",
    ),
    Fault("logits of one class", column("logits", lambda a: a[:, 0]), ARRAYS, "test/logits of shape (32,)"),
    Fault("a logit of NaN", column("logits", one(np.nan)), ARRAYS, "found [nan, "),
    Fault("a logit of infinity", column("logits", one(np.inf)), ARRAYS, "found [inf, "),
    Fault("a logit of minus infinity", column("logits", one(-np.inf), "validation"), ARRAYS, "found [-inf, "),
    Fault("labels of int32", column("labels", lambda a: a.astype(np.int32)), ARRAYS, "test/labels of type int32"),
    Fault("labels of floats", column("labels", lambda a: a.astype(float)), ARRAYS, "test/labels of type float64"),
    Fault("ids of bytes", column("ids", lambda a: a.astype("S")), ARRAYS, "test/ids.npy of type '|S"),
    Fault("ids of numbers", column("ids", lambda a: np.arange(len(a))), ARRAYS, "test/ids of type int64"),
    Fault("fewer labels", column("labels", lambda a: a[:-1]), ARRAYS, "test/labels of type int64 and shape (31,)"),
    Fault("ids in another order", column("ids", lambda a: a[::-1]), ARRAYS, "found rows of test with the hash"),
    Fault("rows in another order", all_rows(lambda a: a[::-1]), ARRAYS, "found rows of test with the hash"),
    Fault("an id twice", column("ids", lambda a: np.r_[a[:1], a[:1], a[2:]]), ARRAYS, "more than once in test"),
    Fault("another id", column("ids", one("other")), ARRAYS, "found rows of test with the hash"),
    Fault("a tab in an id", column("ids", one("a\tb")), ARRAYS, "without tabs and line breaks"),
    Fault("labels flipped", column("labels", lambda a: 1 - a), ARRAYS, "found rows of test with the hash"),
    Fault("a label of another class", column("labels", one(7)), ARRAYS, "found rows of test with the hash"),
    Fault("attributes flipped", column("attributes", lambda a: 1 - a), ARRAYS, "found rows of test with the hash"),
    Fault(
        "patients merged",
        column("clusters", lambda a: np.full_like(a, a[0])),
        ARRAYS,
        "found rows of test with the hash",
    ),
    Fault("fewer rows", all_rows(lambda a: a[:-1]), ARRAYS, "found 31 rows of test"),
    Fault("no rows", all_rows(lambda a: a[:0]), ARRAYS, "found 0 rows of test"),
    Fault("rows twice", all_rows(lambda a: np.concatenate([a, a])), ARRAYS, "more than once in test"),
    Fault("no logits", without("test/logits"), ARRAYS, "found no test/logits"),
    Fault("a partition missing", arrays(without_partition), ARRAYS, "found no validation/ids"),
    Fault("a partition too many", arrays(with_partition), ARRAYS, "an array of another partition, 'train/"),
    Fault("an array too many", arrays(lambda a: a.update({"test/secret": np.zeros(3)})), ARRAYS, "'test/secret'"),
    Fault("no attack", without("test/pgd_robust"), f"{CELL}.json", "found no pgd_robust for pgd on test"),
    Fault("an attack on other rows", column("pgd_rows", lambda a: a + 1000), f"{CELL}.json", "in pgd on test"),
    Fault(
        "an attack that all survive",
        column("pgd_robust", np.ones_like),
        f"{CELL}.json",
        "and 0 where the clean image is wrong",
    ),
    Fault("other logits", column("logits", lambda a: a[:, ::-1].copy()), f"{CELL}.json", "as its predictions give"),
    Fault(
        "other slices", column("counterfactual_logits", lambda a: a[:5]), f"{CELL}.json", "in counterfactual on test"
    ),
    Fault(
        "other slices of NaN", column("counterfactual_logits", one(np.nan)), f"{CELL}.json", "in counterfactual on test"
    ),
]


def weights(content: bytes) -> Callable[[Copy], object]:
    """An entry with a file of weights."""

    def damage(copy: Copy) -> None:
        copy.listing(lambda cell: cell.update(weights={"file": WEIGHTS, "sha256": "0" * 64, "bytes": 0}))
        copy.write(WEIGHTS, content)

    return damage


def tensors(about: Any, data: int = 4) -> bytes:
    """A safetensors file of a header and zeros."""
    text = json.dumps(about).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


GOOD = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
WEIGHTS_FAULTS = [
    Fault("weights that are a pickle", weights(pickle.dumps({"w": 1})), WEIGHTS, "found no header of tensors"),
    Fault("weights that are empty", weights(b""), WEIGHTS, "found no header of tensors"),
    Fault(
        "weights of no JSON", weights((4).to_bytes(8, "little") + b"abcd"), f"the header of {WEIGHTS}", "found no JSON"
    ),
    Fault("weights without a place", weights(tensors({"w": {}})), WEIGHTS, "found a tensor without its place"),
    Fault("weights cut short", weights(tensors(GOOD, 2)), WEIGHTS, "found tensors of 4 bytes in a file that has 2"),
    Fault(
        "weights with more behind",
        weights(tensors(GOOD, 99)),
        WEIGHTS,
        "found tensors of 4 bytes in a file that has 99",
    ),
]
FAULTS = [*ARCHIVES, *COLUMNS, *WEIGHTS_FAULTS]
