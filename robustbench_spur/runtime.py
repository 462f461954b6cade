"""What a stage needs beside its spec: where things lie on this machine and what computes. Never part of a result's name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.protocols import parse_protocol
from robustbench_spur.registry import Registry
from robustbench_spur.sidebyside import processors
from robustbench_spur.splitref import OpenSplit, SplitRef
from robustbench_spur.stage import IMAGE_KINDS
from robustbench_spur.store import Store, canonical
from robustbench_spur.types import SpurbenchError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(asked: str) -> str:
    """The device to compute on: as asked, or the best there is (cuda, mps, cpu).

    Raises:
        SpurbenchError: the device asked for is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind = asked.split(":", maxsplit=1)[0]
    if kind not in there:
        raise SpurbenchError(f"Expected a device among {', '.join(DEVICES)} (or cuda:N), found {asked!r}.")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there[kind] or (":" in asked and not (asked.split(":")[1].isdigit() and int(asked.split(":")[1]) < count)):
        raise SpurbenchError(f"Device {asked!r} is not available here. Leave --device out to use what there is.")
    return asked


def numerics(device: str) -> dict[str, str]:
    """What of the device changes the bits of a result: its kind and the precision of training."""
    kind = device.split(":", maxsplit=1)[0]
    return {"device": kind, "precision": "bfloat16" if kind == "cuda" else "float32"}


def default_threads() -> int:
    """Threads of one stage on the CPU: as many processors as this process may use, or fewer by ``OMP_NUM_THREADS``."""
    there = processors()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(asked)) if asked.isdigit() and int(asked) > 0 else there


def require_writable(home: Home) -> None:
    """Make the folder of results, so that nothing is computed whose result could not be kept.

    Raises:
        SpurbenchError: it cannot be made or written to.
    """
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home.root):
            pass
    except OSError as error:
        raise SpurbenchError(
            f"Expected a folder that can be written to at {home.root}, found none ({error.strerror})."
            " Set SPURBENCH_HOME to another place."
        ) from error


@dataclass(frozen=True)
class Runtime:
    """Where a plan is carried out.

    Args:
        home: folder of results.
        device: such as ``"cpu"`` or ``"cuda:0"``.
        threads: of one stage on the CPU; all processors that this process may use unless ``OMP_NUM_THREADS`` is set.
        plugin_files: drafts given by path.
        data: place of the user's files, by dataset.
        weights: file of initial backbone weights, if the plan names one.
    """

    home: Home
    device: str = "cpu"
    threads: int = field(default_factory=default_threads)
    plugin_files: tuple[Path, ...] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    weights: Path | None = None
    _open: dict[str, OpenSplit] = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, spec: Mapping[str, Any]) -> OpenSplit:
        """The split that a stage names; its table is kept as long as this runtime, and no longer: files change.

        Args:
            spec: as :meth:`~robustbench_spur.splitref.SplitRef.spec` gives it, with the ``sha256`` of the table.

        Raises:
            SpurbenchError: the split that is here now is not the one that was planned.
        """
        key = canonical(spec)
        if key not in self._open:
            plugin = Registry(self.plugin_files).find("dataset", spec["dataset"])
            protocol = parse_protocol(spec["protocol"], plugin.name)[0] if "protocol" in spec else None
            ref = SplitRef(plugin, spec["split"], spec["rho"], spec["parameters"], protocol)
            split = ref.open(self.data.get(plugin.name))
            if plugin.version != spec["version"] or split.sha256 != spec["sha256"]:
                raise SpurbenchError(
                    f"Expected {ref.full} v{spec['version']} with the table {spec['sha256'][:12]}, found"
                    f" v{plugin.version} with {split.sha256[:12]}: the data changed since the plan was made. Run again."
                )
            self._open[key] = split
        return self._open[key]

    @property
    def artifacts(self) -> Store:
        """Results of stages."""
        return Store(self.home.root / "artifacts")

    @property
    def pixels(self) -> Store:
        """Images, ready to be read."""
        return Store(self.home.root / "pixels")

    @property
    def scores(self) -> Store:
        """Resampled values of every metric."""
        return Store(self.home.root / "scores")

    def store_of(self, kind: str) -> Store:
        """Where results of a kind of stage are kept."""
        return self.pixels if kind in IMAGE_KINDS else self.artifacts
