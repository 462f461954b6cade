"""Whether predictions are another entry's: to the bit, or but for noise, scale, shift, or whatever else keeps their order.

Two cells on the same examples are compared by the rank correlation of their logits, class by class, once the mean over classes
is taken away. A constant added to all logits of an example or of a class, a common factor, a recalibration that keeps the order
of the examples: none of them changes it, and no single example decides it. Trainings of the project's methods from one seed,
where they are not the same, correlate by 0.9991 and less on the embedded data; noise of a thousandth of the logits' spread
leaves 0.999998. A threshold of its own for each group of examples is not seen.

Source: M. Charikar, K. Chen and M. Farach-Colton, Finding Frequent Items in Data Streams, Theoretical Computer Science 312,
2004 (the sketch of many examples, which keeps distances).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.submission.entry import ENTRY
from robustbench_spur.submission.remarks import Remark

ALIKE = 1 - 1e-5
"""Correlation from which on predictions count as another's."""
SKETCHED = 4096
"""Numbers that are kept of a cell at most, so that memory does not grow with the examples."""


@dataclass(frozen=True, eq=False)
class Said:
    """What an entry says of the examples of one cell, to be held against others.

    Args:
        entry: id of the entry.
        split: of the cell.
        seed: of the cell.
        examples: hash of the ids: splits may share their test set.
        digest: hash of the logits.
        direction: ranks of the centred logits, class by class, centred, of length 1, float32, at most :data:`SKETCHED`
            numbers; 0 where all are alike.
    """

    entry: str
    split: str
    seed: int
    examples: str
    digest: str
    direction: NDArray[np.float32]

    @classmethod
    def of(cls, entry: str, split: str, seed: int, rows: Predictions) -> Said:
        """What a cell says.

        >>> from robustbench_spur.types import Groups
        >>> ids, zero = np.array(["a", "b", "c"]), np.zeros(3, int)
        >>> said = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.5]], np.float32)
        >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
        >>> one, other = (
        ...     Said.of(name, "s", 0, Predictions(ids, zero, zero, ids, logits, groups))
        ...     for name, logits in (("x", said), ("y", 3 * said + [5, 0]))
        ... )
        >>> one.digest == other.digest, round(float(one.direction @ other.direction), 6)
        (False, 1.0)
        """
        centred = rows.logits.astype(np.float64)
        centred -= centred.mean(axis=1, keepdims=True)
        ranked = np.array([_ranks(column) for column in centred.T]).ravel()
        found = _sketch(ranked)
        length = np.linalg.norm(found)
        return cls(
            entry,
            split,
            seed,
            hashlib.sha256("\n".join(rows.ids.tolist()).encode()).hexdigest(),
            hashlib.sha256(rows.logits.tobytes()).hexdigest(),
            np.asarray(found / length if length else found, np.float32),
        )

    @property
    def cell(self) -> str:
        """The cell in words."""
        return f"{self.split}, seed {self.seed}"


@dataclass(frozen=True)
class Likeness:
    """A cell that says what an earlier one says.

    Args:
        own: the later one.
        other: the earlier one.
        correlation: of their ranks.
    """

    own: Said
    other: Said
    correlation: float

    @property
    def words(self) -> str:
        """What was found, for a remark."""
        whose = "" if self.own.entry == self.other.entry else f" of entry {self.other.entry}"
        told = f"on {self.own.cell}, the logits{whose}"
        told += "" if self.own.cell == self.other.cell and whose else f" on {self.other.cell}"
        if self.own.digest == self.other.digest:
            return told
        return f"{told}, but for noise, scale or shift (ranks correlate by {self.correlation:.6f})"


def copied(one: Likeness) -> Remark:
    """The remark on predictions that are another cell's."""
    expected = "predictions of its own" if one.own.entry != one.other.entry else "a run per cell"
    remedy = "Say why they are equal, or withdraw one; a person decides."
    return Remark("flag", ENTRY, one.words, expected, remedy)


def _ranks(values: Floats) -> Floats:
    """Ranks less their mean, tied ones shared.

    >>> _ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [0.5, -1.0, 0.5]
    """
    _, place, size = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(size) - (size - 1) / 2)[place] - (len(values) + 1) / 2)


def _sketch(values: Floats) -> Floats:
    """Sums of the values with random signs in random parts; the values themselves where they are few."""
    if len(values) <= SKETCHED:
        return values
    rng = np.random.default_rng(len(values))
    signs, parts = rng.choice([-1.0, 1.0], len(values)), rng.integers(0, SKETCHED, len(values))
    return np.asarray(np.bincount(parts, signs * values, minlength=SKETCHED), np.float64)


def likenesses(cells: Sequence[Said], *, within: bool = False) -> Iterator[Likeness]:
    """Each cell that says what an earlier one says of the same examples, with the first such one.

    Args:
        cells: oldest first.
        within: whether cells of one entry are held against each other, in place of those of different ones.
    """
    alike = defaultdict(list)
    for cell in cells:
        alike[cell.examples, len(cell.direction)].append(cell)
    for some in alike.values():
        directions = np.stack([cell.direction for cell in some]).astype(np.float64)
        digests, entries = (np.array([getattr(cell, name) for cell in some]) for name in ("digest", "entry"))
        for place, cell in enumerate(some):
            correlation = directions[:place] @ directions[place]
            same = (correlation >= ALIKE) | (digests[:place] == cell.digest)
            first = np.flatnonzero(same & ((entries[:place] == cell.entry) == within))[:1]
            for earlier in first.tolist():
                yield Likeness(cell, some[earlier], float(correlation[earlier]))
