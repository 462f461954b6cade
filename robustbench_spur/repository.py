"""Asking git about the repository that holds a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from robustbench_spur.types import SpurbenchError


def git(folder: Path, *arguments: str, purpose: str) -> bytes | None:
    """What git prints; None where it ends with an error.

    Args:
        folder: in which it runs, whatever the environment says.
        arguments: of the command.
        purpose: what it is needed for, for the message where it is not installed.

    Raises:
        SpurbenchError: git is not installed.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, env=kept, check=False)
    except FileNotFoundError as error:
        raise SpurbenchError(f"Expected git to {purpose}, found none. Install it.") from error
    return done.stdout if done.returncode == 0 else None
