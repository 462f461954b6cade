"""Where a number comes from: code, libraries, machine. Noted with every record, since it cannot be added later."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "torchattacks",
    "torchmetrics",
    "netcal",
    "numpy",
    "scikit-learn",
    "pandas",
)


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@lru_cache
def _static() -> dict[str, Any]:
    status = _git("status", "--porcelain")
    return {
        "package": _version("robustbench-spur"),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def provenance(device: str, precision: str) -> dict[str, Any]:
    """Code, libraries, machine and device of a run. Holds no path and no user name.

    Args:
        device: such as ``"cpu"`` or ``"cuda:0"``.
        precision: of training.
    """
    import torch

    out = {**_static(), "device": device, "precision": precision, "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        out["accelerator"] = torch.cuda.get_device_name(device)
        out["cuda"] = torch.version.cuda
        out["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        out["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return out
