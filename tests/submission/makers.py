"""A small board and sound entries of it, made up: no model is trained, and every number is what its predictions give."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur import manifest as manifest_module
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, SplitPin, load_manifest, manifest_sha256
from robustbench_spur.record import (
    Identity,
    MethodPart,
    NetworkPart,
    Record,
    RecordStore,
    SplitPart,
    predictions_arrays,
)
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.scoring import load_evaluators, point
from robustbench_spur.splitref import OpenSplit, parse_split
from robustbench_spur.store import file_sha256
from robustbench_spur.submission.entry import ENTRY, load_entry, slug
from robustbench_spur.submission.packing import About, pack, write_json
from robustbench_spur.types import conflict_groups, finite

BOARD = "small"
SPLITS = tuple(
    f"phantom/{name}[test_patients=16,test_slices=2,train_patients=24,validation_patients=12]"
    for name in ("field@0.95", "field@0.8")
)
SPLIT = SPLITS[0]
SEEDS = (0, 1)
TEAM = "Lab <b>Nought</b>"
"""HTML in a name is text: it is allowed, and every page escapes it."""
SOURCE = "https://example.org/mine"
ABOUT = About(TEAM, SOURCE, "the split's training partition", "none known", "mine@example.org")
PLUGIN = '''"""A method that is made up."""

from robustbench_spur import Method

raise SystemExit("a submission was run")


class Mine(Method):
    """Nothing but a name."""

    name = "mine"
    version = 3
    summary = "made up"
'''
Arrays = dict[str, NDArray[Any]]


@contextmanager
def boards(folder: Path) -> Iterator[Path]:
    """The small board in a folder, installed while the context lasts; ``v1`` is there as well."""
    real = manifest_module.boards_folder()
    if not folder.exists():
        content = json.loads((real / "v1" / "board.json").read_text())
        pins = [SplitPin.of(name, 1, opened(name).table).model_dump(mode="json") for name in SPLITS]
        content |= {"board": BOARD, "seeds": list(SEEDS), "splits": pins}
        write_json(folder / BOARD / "board.json", content)
        shutil.copytree(real / "v1", folder / "v1", ignore=shutil.ignore_patterns("[!b]*"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest_module, "boards_folder", lambda: folder)
        forget()
        yield folder
    forget()


def forget() -> None:
    """Read manifests anew."""
    load_manifest.cache_clear()
    manifest_sha256.cache_clear()


@cache
def opened(split: str) -> OpenSplit:
    """A split with its table."""
    return parse_split(split, Registry()).open(None)


def made_up(split: str, partition: str, seed: int, accuracy: float) -> Predictions:
    """Predictions of a model that is right on a share of the examples, with all that the board's evaluators collect."""
    table = opened(split).table
    rows, groups = table.partitions[partition], table.groups
    random = np.random.default_rng([seed, zlib.crc32(split.encode()), len(rows), round(1000 * accuracy)])
    right = random.random(len(rows)) < accuracy
    said = np.where(right, rows.labels, 1 - rows.labels)
    logits = (np.eye(2)[said] * random.uniform(0.5, 3, (len(rows), 1)) + random.normal(0, 0.1, (len(rows), 2))).astype(
        np.float32
    )
    arrays: Arrays = {}
    if partition == "test":
        attacked = np.arange(len(rows))
        robust = right[:, None] & (random.random((len(rows), 2)) < 0.7)
        arrays = {
            "pgd_rows": attacked,
            "pgd_robust": robust.astype(np.uint8),
            "counterfactual_logits": (logits + random.normal(0, 0.5, logits.shape)).astype(np.float32),
            "lesion_removed_logits": (logits - random.normal(0, 0.5, logits.shape)).astype(np.float32),
        }
    conflict = conflict_groups(table.counts()["train"], groups)
    columns = (rows.ids, rows.labels, rows.attributes, rows.clusters)
    return Predictions(*columns, logits, groups, arrays, conflict)


def stated(predictions: dict[str, Predictions], manifest: Manifest) -> dict[str, Any]:
    """Metrics and details of a record, measured from predictions; every interval is a hundredth to either side."""
    metrics: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for evaluator in load_evaluators(Registry(), manifest.evaluators):
        for partition in (one for one in evaluator.partitions if one in predictions):
            rows = predictions[partition]
            numbers = {name: finite(value) for name, value in point(evaluator, rows).items()}
            metrics.setdefault(partition, {})[evaluator.name] = {
                name: {"value": value, "low": value and value - 0.01, "high": value and value + 0.01}
                for name, value in numbers.items()
            }
            details.setdefault(partition, {})[evaluator.name] = evaluator.details(rows)
    return {"metrics": metrics, "details": details}


def make_record(
    manifest: Manifest,
    plugin: Plugin,
    split: str = SPLIT,
    seed: int = 0,
    store: RecordStore | None = None,
    **about: Any,
) -> Record:
    """The record of a cell that follows the board's rules, with its predictions in the store.

    Args:
        manifest: of the board.
        plugin: of the method.
        split: in full.
        seed: of the cell.
        store: where the predictions are written; none are where None.
        about: ``accuracy`` of the made-up predictions; all else are fields of the record.
    """
    accuracy = about.pop("accuracy", 0.8)
    draft = {"sha256": plugin.sha256} if plugin.origin == "file" else {}
    there, setup = opened(split), manifest.setups["phantom"]
    network = {"backbone": setup.backbone, "image_size": setup.image_size, "pretrained": False, "weights_sha256": None}
    identity = Identity(
        method={"name": plugin.name, "version": plugin.version, "settings": {}, **draft},
        split={"name": split, "version": 1, "sha256": there.sha256},
        network=network,
        training=setup.training.model_dump(mode="json"),
        selection=manifest.selection,
        board=manifest.board,
        numerics={"device": "cpu", "precision": "float32"},
    )
    groups = there.table.groups
    content: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "board": manifest.board,
        "board_status": manifest.status,
        "cell": f"{identity.sha256[:32]}{seed:032}",
        "config_hash": identity.sha256,
        "identity": identity,
        "method": MethodPart(
            name=plugin.name,
            version=int(plugin.version or 0),
            origin=plugin.origin,
            sha256=plugin.sha256,
            given={},
            settings={},
        ),
        "split": SplitPart(
            name=split,
            version=1,
            sha256=there.sha256,
            fingerprint="",
            classes=groups.classes,
            attribute=groups.attribute,
            values=groups.values,
            counts=there.table.counts(),
            pixel_means={},
            notes=(),
        ),
        "network": NetworkPart(**network, parameters=100),
        "training": identity.training,
        "selection": manifest.selection,
        "seed": seed,
        "track": "none",
        "off_board": (),
        "training_partitions": ("train",),
        "evaluators": {pin.name: {"version": pin.version, "parameters": pin.parameters} for pin in manifest.evaluators},
        "provenance": {"package": "0"},
        "started": "2026-01-01T00:00:00.000+00:00",
        "finished": f"2026-01-01T00:00:0{seed}.000+00:00",
    }
    if store is not None:
        predictions = {name: made_up(split, name, seed, accuracy) for name in ("train", "validation", "test")}
        arrays = [predictions_arrays(name, rows) for name, rows in predictions.items()]
        part = store.add_predictions(content["cell"], {name: array for one in arrays for name, array in one.items()})
        content |= {"predictions": part, **stated(predictions, manifest)}
    return Record(**{**content, **about})


def plugin_file(folder: Path, text: str = PLUGIN) -> Path:
    """The file of the made-up method."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.py"
    path.write_text(text)
    return path


def plugin_of(folder: Path, name: str = "mine") -> Plugin:
    """The made-up method as the registry finds it, or one of the project's own."""
    return Registry((plugin_file(folder),)).find("method", name)


def fill(
    home: Home, manifest: Manifest, plugin: Plugin, splits: tuple[str, ...] = SPLITS[:1], **about: Any
) -> list[Record]:
    """Records of every seed in a home."""
    store = RecordStore(home.records, home.predictions)
    records = [
        make_record(manifest, plugin, split, seed, store, **about) for split in splits for seed in manifest.seeds
    ]
    for record in records:
        store.add(record)
    return records


def packed(folder: Path, name: str = "mine", about: About = ABOUT, **options: Any) -> Path:
    """An entry of the small board, as spurbench submit packs it.

    Args:
        folder: of the test: home, draft and entry are written there.
        name: of the method.
        about: what the team says.
        options: see :func:`fill`.
    """
    manifest, plugin, home = load_manifest(BOARD), plugin_of(folder / "drafts", name), Home(folder / "home")
    records = fill(home, manifest, plugin, **options)
    pack(records, home, manifest, plugin, about, folder / "entry")
    return folder / "entry"


@dataclass
class Copy:
    """A copy of an entry, to be damaged. What is changed is listed anew, so that the change itself is what is found.

    Args:
        folder: of the entry.
    """

    folder: Path

    @property
    def cell(self) -> str:
        """The files of the first cell, without their ending."""
        return f"records/{slug(SPLIT)}/seed0"

    def path(self, name: str) -> Path:
        """A file of the entry."""
        return self.folder / name

    def content(self, name: str = ENTRY) -> Any:
        """JSON of a file."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def entry(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what the entry states."""
        content = self.content()
        change(content)
        write_json(self.path(ENTRY), content)

    def listing(self, change: Callable[[dict[str, Any]], object], seed: int = 0) -> None:
        """Change how a cell is listed."""
        self.entry(lambda entry: change(entry["cells"][seed]))

    def list_anew(self) -> None:
        """State size and hash of every file as it is now; predictions in their records, too."""

        def state(entry: dict[str, Any]) -> None:
            for cell in entry["cells"]:
                self._record_of(cell)
            own = [cell[key] for cell in entry["cells"] for key in ("record", "predictions", "weights") if cell[key]]
            for file in [*own, *([entry["plugin"]] if entry["plugin"] else [])]:
                path = self.path(file["file"])
                if path.is_file():
                    file |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}

        self.entry(state)

    def _record_of(self, cell: dict[str, Any]) -> None:
        path, predictions = self.path(cell["record"]["file"]), cell["predictions"]
        if predictions is None or not self.path(predictions["file"]).is_file():
            return
        digest = file_sha256(self.path(predictions["file"]))
        if digest != predictions["sha256"]:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["predictions"]["sha256"] = digest
            write_json(path, content)

    def record(self, change: Callable[[dict[str, Any]], object], seeds: tuple[int, ...] = (0,)) -> None:
        """Change records."""
        for seed in seeds:
            name = self.cell.replace("seed0", f"seed{seed}.json")
            content = self.content(name)
            change(content)
            write_json(self.path(name), content)
        self.list_anew()

    def identity(self, change: Callable[[dict[str, Any]], object], seeds: tuple[int, ...] = (0,)) -> None:
        """Change records, with the configuration hash that they then have."""

        def changed(content: dict[str, Any]) -> None:
            change(content)
            content["config_hash"] = Identity.model_validate(content["identity"]).sha256

        self.record(changed, seeds)

    def arrays(self, change: Callable[[Arrays], object], seed: int = 0) -> None:
        """Change the arrays of a file of predictions."""
        path = self.path(self.cell.replace("seed0", f"seed{seed}.npz"))
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        change(arrays)
        np.savez_compressed(path, **dict[str, Any](arrays))
        self.list_anew()

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the entry, and list what is listed anew."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.list_anew()


def board_of(folder: Path, *entries: Path) -> Path:
    """A published board with copies of entries, each in its place."""
    board = folder / "leaderboards" / BOARD
    board.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest_module.boards_folder() / BOARD / "board.json", board / "board.json")
    for entry in entries:
        placed(board, entry)
    return board


def placed(board: Path, entry: Path) -> Path:
    """Copy an entry to its place on a board."""
    about = load_entry(entry)
    return Path(shutil.copytree(entry, board / "entries" / about.method.name / about.id))
