import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur.phantom.render import Slices, render
from robustbench_spur.phantom.workers import blocks
from robustbench_spur.types import SpurbenchError

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import hashlib
from functools import partial
import numpy as np
from robustbench_spur.phantom.render import Slices, render
from robustbench_spur.phantom.workers import blocks
n = 300
slices = Slices(np.arange(n) // 4, (np.arange(n) % 40) - 20.0, np.full(n, 1.5), np.zeros(n, bool))
images = np.concatenate(list(blocks(partial(render, 5, size=64), slices, 64, workers=2)))
print(hashlib.sha256(images.tobytes()).hexdigest())
"""


def make_slices(count: int) -> Slices:
    z = np.asarray(np.arange(count) % 40 - 20.0, np.float64)
    return Slices(np.arange(count) // 4, z, np.full(count, 1.5), np.zeros(count, bool))


JOB = partial(render, 5, size=64)


def test_processes_do_not_change_the_images() -> None:
    slices = make_slices(300)
    whole = render(5, slices, 64)
    for workers in (1, 2):
        made = list(blocks(JOB, slices, 64, workers))
        assert [len(block) for block in made] == [128, 128, 44]
        assert (np.concatenate(made) == whole).all()


@pytest.mark.parametrize("how", ["script", "command"])
def test_a_script_without_guard_starts_workers_that_import_no_torch(how: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)] if how == "script" else [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    expected = hashlib.sha256(render(5, make_slices(300), 64).tobytes()).hexdigest()
    assert result.stdout.split() == [expected]


def test_blocks_can_be_left_early() -> None:
    images = blocks(JOB, make_slices(600), 64, workers=2)
    assert len(next(iter(images))) == 128
    images.close()  # type: ignore[attr-defined]


class Fatal:
    """A job whose arrival ends the process that unpickles it."""

    def __call__(self, slices: Slices) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(SpurbenchError, match="one that died"):
        list(blocks(Fatal(), make_slices(300), 64, workers=2))


def test_an_error_in_a_process_comes_through() -> None:
    wrong = Slices(
        *(np.asarray(column) for column in (np.arange(300), np.zeros(300), np.full(300, 2.0), np.zeros(300)))
    )
    with pytest.raises(SpurbenchError, match="tesla"):
        list(blocks(JOB, wrong, 64, workers=2))


def test_no_slices_give_no_blocks() -> None:
    assert list(blocks(JOB, make_slices(0), 64)) == []
