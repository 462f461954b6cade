"""Boards for the tests of the page: four methods on the phantom, and what can go wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Identity, MethodPart, NetworkPart, Record, SplitPart
from robustbench_spur.types import Estimate

GROUPS = ("clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T")
HOSTILE = '<img src=x onerror="alert(1)">&"\''
TRACK = {"erm": "none", "jtt": "none", "groupdro": "train", "dfr": "reweight"}
LEVEL = {"erm": 0.14, "jtt": 0.41, "groupdro": 0.66, "dfr": 0.71}


def make_manifest(**changes: Any) -> Manifest:
    one = {"evaluator": "worst_group", "partition": "test"}
    columns = [
        {
            **one,
            "name": "worst_group_accuracy",
            "title": "worst group",
            "metric": "worst_group_accuracy",
            "better": "higher",
        },
        {**one, "name": "which", "title": "which", "lowest": "group_accuracy:"},
        {**one, "name": "groups", "title": "groups", "family": "group_accuracy:", "shown": False},
        {**one, "name": "micro_accuracy", "title": "avg.", "metric": "micro_accuracy", "better": "higher"},
        {
            **one,
            "name": "validation_accuracy",
            "title": "valid.",
            "metric": "micro_accuracy",
            "partition": "validation",
        },
        {"name": "ece", "title": "ECE", "evaluator": "ece", "partition": "test", "metric": "ece", "better": "lower"},
        {
            "name": "pgd_worst_group_accuracy",
            "title": "PGD worst",
            "evaluator": "pgd",
            "partition": "test",
            "metric": "pgd_worst_group_accuracy",
            "better": "higher",
        },
        {
            "name": "radius",
            "title": "radius",
            "evaluator": "pgd",
            "partition": "test",
            "parameter": "headline_radius",
            "shown": False,
        },
    ]
    content: dict[str, Any] = {
        "board": "v1",
        "status": "draft",
        "schema_version": 1,
        "seeds": [0, 1, 2],
        "selection": "last",
        "bootstrap": {"replicates": 2000, "seed": 2025, "confidence": 0.95},
        "minimum_patients": 5,
        "rank_by": "worst_group_accuracy",
        "baseline": "erm",
        "alpha": 0.05,
        "tracks": ["none", "selection", "train", "reweight", "targeted"],
        "setups": {},
        "splits": [{"name": "phantom/field@0.95", "version": 1, "sha256": None}],
        "evaluators": [{"name": name, "version": 1, "parameters": {}} for name in ("worst_group", "ece", "pgd")],
        "columns": columns,
        "tolerances": {},
    }
    return Manifest.model_validate({**content, **changes})


def make_counts(empty: tuple[str, ...] = ()) -> dict[str, dict[str, dict[str, int]]]:
    sizes = {"train": (1140, 60, 60, 1140), "validation": (285, 15, 15, 285), "adapt": (180,) * 4, "test": (450,) * 4}
    counts = {}
    for partition, examples in sizes.items():
        held = {
            g: 0 if g in empty and partition in ("train", "validation") else n
            for g, n in zip(GROUPS, examples, strict=True)
        }
        counts[partition] = {group: {"examples": n, "patients": -(-n // 6)} for group, n in held.items()}
    return counts


def make_bins(level: float) -> list[dict[str, Any]]:
    bins: list[dict[str, Any]] = []
    for k in range(15):
        low, high = k / 15, (k + 1) / 15
        count = 0 if high <= 0.5 else 20 + 8 * k**2 // 3
        middle = max(0.5, low + 0.4 / 15)
        known = {"confidence": middle, "accuracy": min(1.0, 0.35 + 0.5 * middle * (0.5 + level))} if count else {}
        bins.append({"low": low, "high": high, "count": count, "confidence": None, "accuracy": None, **known})
    return bins


def estimate(value: float, width: float = 0.08) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - width), "high": min(1.0, value + 0.8 * width)}


def make_record(method: str, full: str, seed: int, level: float, **changes: Any) -> Record:
    identity = {
        "method": {"name": method},
        "split": {"name": full},
        "network": {},
        "training": {},
        "selection": "last",
        "board": "v1",
    }
    robust = {f"pgd_worst_group_accuracy:{k}/255": estimate(level * (1 - 0.35 * k)) for k in (1, 2)}
    curve = [{"radius": k / 255, "label": f"{k}/255" if k else "0", "worst_group_accuracy": level} for k in range(3)]
    fields: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "board": "v1",
        "board_status": "draft",
        "cell": f"{method}{full}{seed}",
        "config_hash": f"{method}{full}",
        "identity": Identity(**identity),
        "method": MethodPart(name=method, version=1, origin="built-in", sha256="0" * 64, given={}, settings={}),
        "split": SplitPart(
            name=full,
            version=1,
            sha256="0" * 64,
            fingerprint="",
            classes=("clear", "tumour"),
            attribute="field strength",
            values=("3T", "1.5T"),
            counts=make_counts(("clear@1.5T", "tumour@3T") if "@1.0" in full else ()),
            pixel_means={},
            notes=("Test and adapt hold half of each patient's slices of either label.",),
        ),
        "network": NetworkPart(backbone="smallcnn", image_size=64, pretrained=False, weights_sha256=None, parameters=1),
        "training": {"epochs": 12},
        "selection": "last",
        "seed": seed,
        "track": TRACK.get(method, "none"),
        "off_board": (),
        "training_partitions": ("train",),
        "evaluators": {},
        "metrics": {"test": {"pgd": robust}},
        "details": {"test": {"ece": {"reliability": make_bins(level)}, "pgd": {"curve": curve}}},
        "provenance": {
            "package": "0.1.0",
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "python": "3.11.2",
            "platform": "Linux-6.1-x86_64",
            "processor": "AMD EPYC",
            "cpus": 2,
            "libraries": {"torch": "2.9.0", "timm": "1.0.22"},
            "device": "cpu",
            "precision": "float32",
        },
        "started": f"2026-11-2{seed % 3}T10:00:00.000+00:00",
        "finished": f"2026-11-2{seed % 3}T10:05:00.000+00:00",
    }
    return Record.model_validate({**fields, **changes})


def make_row(
    method: str,
    full: str = "phantom/field@0.95",
    level: float | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    **changes: Any,
) -> Row:
    level = LEVEL.get(method, 0.5) if level is None else level
    by_group = dict(zip(GROUPS, (0.97 - level / 20, level + 0.03, level, 0.98 - level / 20), strict=True))
    values = {
        "worst_group_accuracy": Estimate(**estimate(level)),
        "which": "tumour@3T",
        "groups": {name: estimate(value, 0.05) for name, value in by_group.items()},
        "micro_accuracy": Estimate(**estimate(sum(by_group.values()) / 4, 0.04)),
        "validation_accuracy": Estimate(**estimate(0.953 - level / 30, 0.02)),
        "ece": Estimate(**estimate(0.31 - level / 4, 0.03)),
        "pgd_worst_group_accuracy": Estimate(**estimate(0.65 * level)),
        "radius": 1 / 255,
    }
    records = [make_record(method, full, seed, level, **changes) for seed in seeds]
    row = Row(records, "ranked", "", values, ranking=(level, np.full(2, level)))
    row.rank = row.rank_high = 1
    row.difference = Estimate(level - 0.14, level - 0.25, level - 0.03)
    return row


def not_applicable(method: str, split: str, reason: str) -> Row:
    bare = {"status": "not_applicable", "reason": reason, "metrics": {}, "details": {}}
    return Row([make_record(method, split, seed, 0.5, **bare) for seed in (0, 1, 2)], "not_applicable", reason)


def make_board(rows: list[Row] | None = None) -> Board:
    if rows is None:
        rows = [make_row(method) for method in ("erm", "jtt", "groupdro", "dfr")]
        rows[0].rank, rows[0].rank_high, rows[1].rank, rows[1].rank_high = 1, 2, 1, 2
        rows[0].difference = Estimate(None, reason="the baseline itself")
    return Board(make_manifest(), rows)


MORE = {
    "name": "aurc",
    "title": "AURC",
    "evaluator": "uncertainty",
    "partition": "test",
    "metric": "aurc:max_probability",
    "better": "lower",
    "shown": False,
}


def with_more(board: Board, error: float = 0.4) -> Board:
    """The board with a column that the terminal has no room for, whose evaluator noted risk against coverage."""
    columns = [column.model_dump() for column in board.manifest.columns]
    for row in (row for row in board.rows if row.values):
        row.values["aurc"] = Estimate(**estimate(0.123, 0.01))
        curve = [{"coverage": k / 10, "risk": error * k / 10, "threshold": 1 - k / 20} for k in range(1, 11)]
        row.records = [with_details(record, {"uncertainty": {"curve": curve}}) for record in row.records]
    return Board(make_manifest(columns=[*columns, MORE]), board.rows)


def with_details(record: Record, noted: dict[str, Any]) -> Record:
    """A record whose evaluators noted something more of the test."""
    details = {**record.details, "test": {**record.details.get("test", {}), **noted}}
    return record.model_copy(update={"details": details})
