"""Whether predictions are another entry's: to the bit, or but for noise, scale and shift.

Two cells are compared by the correlation of their logits over examples and classes, once the mean over classes and the mean
over examples are taken away: adding a constant to all logits of an example or of a class, or a common factor, changes it by
nothing. Trainings of the project's methods from one seed, where they are not the same, correlate by 0.9992 and less on the
embedded data; noise of a thousandth of the logits' spread leaves 0.9999995.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions

ALIKE = 1 - 1e-5
"""Correlation from which on predictions count as another's."""


@dataclass(frozen=True, eq=False)
class Said:
    """What an entry says of the examples of one cell, to be held against others.

    Args:
        entry: id of the entry.
        split: of the cell.
        seed: of the cell.
        digest: hash of the ids and the logits.
        direction: centred logits of length 1, float32, shape (examples times classes,); of length 0 where all are alike.
    """

    entry: str
    split: str
    seed: int
    digest: str
    direction: NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """A cell that says what an earlier one of another entry says.

    Args:
        own: the later one.
        other: the earlier one.
        correlation: of their logits.
    """

    own: Said
    other: Said
    correlation: float

    @property
    def words(self) -> str:
        """What was found, for a remark."""
        whose = f"entry {self.other.entry} on {self.own.split}, seed {self.own.seed}"
        if self.own.digest == self.other.digest:
            return f"the logits of {whose}"
        seed = "" if self.own.seed == self.other.seed else f" (there seed {self.other.seed})"
        return f"the logits of {whose}{seed}, but for noise, scale or shift (they correlate by {self.correlation:.7f})"


def said_of(entry: str, split: str, seed: int, rows: Predictions) -> Said:
    """What a cell says.

    >>> from robustbench_spur.types import Groups
    >>> ids, zero = np.array(["a", "b"]), np.zeros(2, int)
    >>> said = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> one, other = (
    ...     said_of(name, "s", 0, Predictions(ids, zero, zero, ids, logits, groups))
    ...     for name, logits in (("x", said), ("y", 3 * said + [5, 0]))
    ... )
    >>> one.digest == other.digest, round(float(one.direction @ other.direction), 6)
    (False, 1.0)
    """
    digest = hashlib.sha256("\n".join(rows.ids.tolist()).encode())
    digest.update(rows.logits.tobytes())
    centred = rows.logits.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    centred -= centred.mean(axis=0) if len(centred) else 0
    length = np.linalg.norm(centred)
    direction = centred.ravel() / length if length else centred.ravel()
    return Said(entry, split, seed, digest.hexdigest(), direction.astype(np.float32))


def likenesses(cells: Sequence[Said]) -> Iterator[Likeness]:
    """Each cell that says what an earlier one of another entry says, on the same split, with the first such one.

    Args:
        cells: oldest first.
    """
    alike = defaultdict(list)
    for cell in cells:
        alike[cell.split, len(cell.direction)].append(cell)
    for some in alike.values():
        directions = np.stack([cell.direction for cell in some]).astype(np.float64)
        digests, entries = (np.array([getattr(cell, name) for cell in some]) for name in ("digest", "entry"))
        for place, cell in enumerate(some):
            correlation = directions[:place] @ directions[place]
            same = (correlation >= ALIKE) | (digests[:place] == cell.digest)
            first = np.flatnonzero(same & (entries[:place] != cell.entry))[:1]
            for earlier in first.tolist():
                yield Likeness(cell, some[earlier], float(correlation[earlier]))
