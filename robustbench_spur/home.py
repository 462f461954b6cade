"""Where everything that is not code lives: records, predictions, artifacts, cached pixels."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KINDS = ("pixels", "artifacts", "trajectories", "scores")
"""Folders that can be freed and are made again on demand. Records and their predictions are not among them."""
KEPT = ("records", "predictions", "tuning", "presets", "leaderboards", "data")
"""Folders that are not freed: results, and what the user gave."""


@dataclass(frozen=True)
class Home:
    """The user's folder of results.

    Args:
        root: its place; made when first written to.
    """

    root: Path

    @classmethod
    def default(cls) -> Home:
        """``$SPURBENCH_HOME``, or the platform's folder for user data."""
        given = os.environ.get("SPURBENCH_HOME")
        if given:
            return cls(Path(given).expanduser().resolve())
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("spurbench", appauthor=False)))

    @property
    def records(self) -> Path:
        """One JSON file per record."""
        return self.root / "records"

    @property
    def predictions(self) -> Path:
        """One npz file per record."""
        return self.root / "predictions"

    @property
    def data(self) -> Path:
        """Data sets that were downloaded or unpacked, one folder each; found there without ``--data``."""
        return self.root / "data"

    def places(self, given: Mapping[str, Path]) -> dict[str, Path]:
        """Where each dataset's files lie: what was given, else a folder of that name among :attr:`data`."""
        there = sorted(self.data.iterdir()) if self.data.is_dir() else []
        return {folder.name: folder for folder in there if folder.is_dir() and folder.name[0] != "."} | dict(given)

    @property
    def pages(self) -> Path:
        """Generated leaderboard pages."""
        return self.root / "leaderboards"

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of every folder, by name."""
        return {name: _size(self.root / name) for name in (*KINDS, *KEPT)}

    def clean(self, kinds: tuple[str, ...] = KINDS) -> int:
        """Remove folders that can be made again; returns the bytes freed."""
        freed = sum(size for name, (_, size) in self.sizes().items() if name in kinds)
        for kind in kinds:
            shutil.rmtree(self.root / kind, ignore_errors=True)
        return freed


def _size(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder."""
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a run in another process has just renamed it
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                sizes.append(status.st_size)
    return len(sizes), sum(sizes)
