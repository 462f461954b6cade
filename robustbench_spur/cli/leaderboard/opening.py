"""From what a user calls a board (a name, a commit of it, a folder, a home) to its rows."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from robustbench_spur.cli.options import home_of
from robustbench_spur.repository import git
from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from robustbench_spur.board import Board

HELP = "a board (v1), one at a commit (v1@HEAD~5), a board's folder, or a home (a folder with records)"
PURPOSE = "read a board at a commit"


class Opened(NamedTuple):
    """A board that can be compared.

    Args:
        board: its rows.
        withdrawn: why entries no longer count, by their id; none of a home.
    """

    board: Board
    withdrawn: Mapping[str, str] = MappingProxyType({})


def resolve(text: str, board: str, stack: ExitStack, opener: Callable[[Path], Opened] | None = None) -> Opened:
    """Open what :data:`HELP` lists.

    Args:
        text: as the user gave it.
        board: version whose rules the records of a home are scored by.
        stack: closes what is unpacked for as long as the board is used.
        opener: reads the folder of a board; that of the published boards where None.

    Raises:
        SpurbenchError: there is no such board, commit or folder, or it cannot be read.
    """
    from robustbench_spur.board import build_board
    from robustbench_spur.home import Home
    from robustbench_spur.manifest import load_manifest

    boards = _boards()
    read, named = opener or _published, boards / text
    if text and text == named.name and (named / "board.json").is_file():
        _require_entries(named)
        return read(named)
    folder = Path(text).expanduser()
    if text and (folder / "board.json").is_file():
        return read(folder.resolve())
    if text and (folder / "records").is_dir():
        return Opened(build_board(Home(folder.resolve()), load_manifest(board)))
    name, at, ref = text.partition("@")
    if at and not folder.exists():
        return read(_of_commit(boards, name, ref, stack))
    known = [path.parent.name for path in boards.glob("*/board.json")]
    raise SpurbenchError(f"Expected {HELP}, found {text!r}. {nearest(text, known)}")


def _boards() -> Path:
    """The folder of the installation's boards; where it has their rules alone, that of the clone one stands in."""
    from robustbench_spur.manifest import boards_folder

    installed, here = boards_folder(), Path("leaderboards").resolve()
    with_entries = [place for place in (installed, here) if any(place.glob("*/entries"))]
    return with_entries[0] if with_entries else installed


def _require_entries(folder: Path) -> None:
    """Refuse a board that was installed as its rules alone.

    Raises:
        SpurbenchError: it was.
    """
    if not (folder / "entries").is_dir():
        raise SpurbenchError(
            f"Expected the entries of board {folder.name}, found its rules alone: entries come with a clone of the repository,"
            f" not with the package. Give their folder there, as leaderboards/{folder.name}."
        )


def _published(folder: Path) -> Opened:
    """The board whose entries lie in a folder; resampled values are kept in the user's home."""
    from robustbench_spur.published import open_published
    from robustbench_spur.store import Store

    published = open_published(folder)
    reasons = {name: f"{one.reason} ({one.day})" for name, one in published.withdrawn.items()}
    return Opened(published.board(Store(home_of().root / "scores")), reasons)


def _of_commit(boards: Path, name: str, ref: str, stack: ExitStack) -> Path:
    """Unpack the folder of a board as a commit has it.

    Raises:
        SpurbenchError: no such commit, no such board there, or the boards lie in no git repository.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):  # a name of a folder, never a path, an option or a pattern
        raise SpurbenchError(f"Expected the name of a board before @, such as v1@HEAD~5, found {name!r}.")
    if not ref or ref.startswith("-"):
        raise SpurbenchError(f"Expected a commit, branch or tag after {name}@, found {ref!r}.")
    if (boards / name / "board.json").is_file():
        _require_entries(boards / name)
    if git(boards, "rev-parse", "--is-inside-work-tree", purpose=PURPOSE) is None:
        raise SpurbenchError(f"Expected the boards in a git repository for {name}@{ref}, found none at {boards}.")
    found = git(boards, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", purpose=PURPOSE)
    if found is None:
        raise SpurbenchError(f"Expected a commit, branch or tag after {name}@, found {ref!r}. See: git log --oneline")
    archive = git(boards, "archive", "--format=zip", found.decode().strip(), "--", name, purpose=PURPOSE)
    if archive is None:
        raise SpurbenchError(f"Expected the board {name!r} in {ref}, found none: it is younger, or has another name.")
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="spurbench-")))
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        packed.extractall(folder)
    return folder / name
