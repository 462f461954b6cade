"""Who is in which partition of a drawn split, at which rho: see :mod:`robustbench_spur.curation.split`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from robustbench_spur.curation.collection import Slices
from robustbench_spur.splits.base import RHOS
from robustbench_spur.types import Groups, SpurbenchError

PARTS = ("test", "adapt", "validation", "train")
"""Partitions, in the order in which they are drawn."""
TIED = PARTS[2:]


@dataclass(frozen=True)
class Recipe:
    """How much is drawn.

    Args:
        rhos: shares of aligned patients per class, each in [0.5, 1].
        seed: of all that is drawn, at least 0.
        train_patients: per class.
        validation_patients: per class.
        test_patients: in all, half of each attribute value.
        adapt_patients: in all, half of each attribute value; 0 for no such partition.
        slices_per_patient: exactly; half of each label where a patient of test or adapt gives both.
        match_position: draw the negative slices so that their positions are distributed as those of the positive ones.
    """

    rhos: tuple[float, ...] = RHOS
    seed: int = 0
    train_patients: int = 200
    validation_patients: int = 75
    test_patients: int = 150
    adapt_patients: int = 0
    slices_per_patient: int = 8
    match_position: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rhos", tuple(sorted(set(self.rhos), reverse=True)))
        outside = [rho for rho in self.rhos if not 0.5 <= rho <= 1]
        if outside or not self.rhos:
            raise SpurbenchError(f"Expected values of rho from 0.5 to 1, found {outside[0] if outside else 'none'}.")
        least = {"seed": 0, "adapt_patients": 0, "test_patients": 2}
        for name in ("seed", *(f"{name}_patients" for name in PARTS), "slices_per_patient"):
            if getattr(self, name) < least.get(name, 1):
                raise SpurbenchError(f"Expected {name} of at least {least.get(name, 1)}, found {getattr(self, name)}.")
        for name in ("test_patients", "adapt_patients"):
            if getattr(self, name) % 2:
                raise SpurbenchError(f"Expected an even number as {name}, found {getattr(self, name)}.")

    def conflicts(self, partition: str, rho: float) -> int:
        """Conflict patients per class, rounded half up.

        >>> [Recipe().conflicts("validation", rho) for rho in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5)]
        [0, 1, 4, 8, 15, 38]
        """
        return int(np.floor(round((1 - rho) * int(getattr(self, f"{partition}_patients")), 9) + 0.5))


class Seat(NamedTuple):
    """A place in a tied partition: who gives the label that the value is tied to, and who the other; None if never."""

    aligned: str | None
    conflict: str | None


class Gift(NamedTuple):
    """``slices`` slices of one label from a patient."""

    patient: str
    label: int
    attribute: int
    slices: int


class ShortageError(SpurbenchError):
    """There are not enough patients."""


class _Pool:
    """The patients of one attribute value who are still to be had, in seeded order."""

    def __init__(self, value: int, slices: Slices, codes: Mapping[str, int], groups: Groups, recipe: Recipe) -> None:
        names = sorted(patient for patient, code in codes.items() if code == value)
        order = generator(recipe.seed, f"patients {value}").permutation(len(names))
        self.left = [names[place] for place in order.tolist()]
        self.value, self.slices, self.groups, self.count = value, slices, groups, recipe.slices_per_patient
        self.every = tuple(self.left)

    def able(self, wanted: Mapping[int, int], among: Sequence[str] | None = None) -> list[str]:
        """Those with so many slices of each label wanted."""
        has = self.slices.has
        pool = self.left if among is None else among
        return [patient for patient in pool if all(has(patient, *want) for want in wanted.items())]

    def take(self, count: int, wanted: Mapping[int, int], partition: str, without: Sequence[str] = ()) -> list[str]:
        """The first ``count`` patients of whom this can be had; they are gone from the pool.

        Raises:
            ShortageError: there are fewer.
        """
        barred = set(without)
        found = [patient for patient in self.able(wanted) if patient not in barred][:count]
        if len(found) < count:
            raise ShortageError(self._told(count, len(found), wanted, partition))
        gone = set(found)
        self.left = [patient for patient in self.left if patient not in gone]
        return found

    def _told(self, count: int, found: int, wanted: Mapping[int, int], partition: str) -> str:
        classes = self.groups.classes
        slices = " and ".join(f"{number} slices of {classes[label]!r}" for label, number in wanted.items())
        there = " and ".join(
            f"{len(self.able({label: self.count}, self.every))} of {name!r}" for label, name in enumerate(classes)
        )
        return (
            f"Expected {count} patients with {self.groups.attribute} = {self.groups.values[self.value]} and {slices} for"
            f" {partition}, found {found} left of {len(self.every)} (with {self.count} slices: {there})."
        )

    def even(self, count: int, partition: str) -> list[Gift]:
        """Patients who together give as many slices of either label; each gives both where it has both."""
        if not count:
            return []
        half = dict.fromkeys((0, 1), self.count // 2)
        both = [] if self.count % 2 else self.able(half)
        twofold_too = set(both)
        single = min(len([p for p in self.able({label: self.count}) if p not in twofold_too]) for label in (0, 1))
        possible = [n for n in range(max(0, count - 2 * single), min(len(both), count) + 1) if (count - n) % 2 == 0]
        if not possible and len(both) + 2 * single >= count:
            raise ShortageError(
                f"Expected {partition} patients in fours, since some give slices of one label, found {2 * count}."
            )
        if not possible:
            raise ShortageError(self._told(count, len(both) + 2 * single, half, partition))
        share = count * len(both) / (len(both) + 2 * single)
        twofold = min(possible, key=lambda n: abs(n - share))
        gifts = [
            Gift(patient, label, self.value, self.count // 2)
            for patient in self.take(twofold, half, partition)
            for label in (0, 1)
        ]
        for label in sorted((0, 1), key=lambda label: len(self.able({label: self.count}))):
            taken = self.take((count - twofold) // 2, {label: self.count}, partition, without=both)
            gifts += [Gift(patient, label, self.value, self.count) for patient in taken]
        return gifts

    def seats(self, count: int, least: int, most: int, partition: str) -> list[Seat]:
        """``count`` places, of which the first ``least`` to ``most`` give the label that the value is not tied to.

        Those between change their label with rho: a patient with slices of both labels does so itself.
        """
        aligned, other = {self.value: self.count}, {1 - self.value: self.count}
        always = self.take(least, other, partition)
        turning = self.take(min(most - least, len(self.able(aligned | other))), aligned | other, partition)
        pairs = most - least - len(turning)
        conflict = self.take(pairs, other, partition)
        tied = self.take(count - most + pairs, aligned, partition)
        return [
            *(Seat(None, patient) for patient in always),
            *(Seat(patient, patient) for patient in turning),
            *(Seat(*pair) for pair in zip(tied[:pairs], conflict, strict=True)),
            *(Seat(patient, None) for patient in tied[pairs:]),
        ]


@dataclass(frozen=True)
class Seating:
    """Who sits where: the gifts of the unbiased partitions, and the seats of the tied ones by attribute value."""

    even: Mapping[str, list[Gift]]
    tied: Mapping[str, tuple[list[Seat], list[Seat]]]
    recipe: Recipe

    def gifts(self, partition: str, rho: float) -> list[Gift]:
        """What a partition is made of at a rho."""
        if partition in self.even:
            return self.even[partition]
        first, count = self.recipe.conflicts(partition, rho), self.recipe.slices_per_patient
        return [
            Gift(
                str(seat.conflict if place < first else seat.aligned),
                1 - value if place < first else value,
                value,
                count,
            )
            for value, seats in enumerate(self.tied[partition])
            for place, seat in enumerate(seats)
        ]

    def every(self, partition: str) -> list[Gift]:
        """What is needed at any rho; those of a value and label in the order in which they come in as rho changes."""
        if partition in self.even:
            return self.even[partition]
        most, fewest = self.gifts(partition, self.recipe.rhos[-1]), self.gifts(partition, self.recipe.rhos[0])
        conflict = [gift for gift in most if gift.label != gift.attribute]
        return conflict + [gift for gift in fewest[::-1] if gift.label == gift.attribute]


def _seat(slices: Slices, codes: Mapping[str, int], groups: Groups, recipe: Recipe) -> Seating:
    pools = [_Pool(value, slices, codes, groups, recipe) for value in (0, 1)]
    even = {
        name: [gift for pool in pools for gift in pool.even(int(getattr(recipe, f"{name}_patients")) // 2, name)]
        for name in ("test", "adapt")
        if name == "test" or recipe.adapt_patients
    }
    tied: dict[str, tuple[list[Seat], list[Seat]]] = {}
    for name in TIED:
        count = int(getattr(recipe, f"{name}_patients"))
        ends = recipe.conflicts(name, recipe.rhos[0]), recipe.conflicts(name, recipe.rhos[-1])
        tied[name] = (pools[0].seats(count, *ends, name), pools[1].seats(count, *ends, name))
    return Seating(even, tied, recipe)


def _smaller(recipe: Recipe, train: int) -> Recipe:
    """The recipe with ``train`` training patients, and the other partitions in proportion."""

    def scaled(count: int) -> int:
        return count * train // recipe.train_patients

    return replace(
        recipe,
        train_patients=train,
        validation_patients=max(1, scaled(recipe.validation_patients)),
        test_patients=max(min(4, recipe.test_patients), scaled(recipe.test_patients) // 4 * 4),
        adapt_patients=scaled(recipe.adapt_patients) // 4 * 4,
    )


def _largest(recipe: Recipe, works: Callable[[Recipe], bool]) -> str:
    """What to do about a shortage."""
    low, high = 0, recipe.train_patients
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(_smaller(recipe, middle)) else (low, middle)
    if not low:
        return "Not even the smallest draw in these proportions works: ask for fewer slices per patient, or less of one part."
    sizes = _smaller(recipe, low)
    names = ("train", "validation", "test", *(["adapt"] if recipe.adapt_patients else []))
    options = " ".join(f"--{name}-patients {getattr(sizes, f'{name}_patients')}" for name in names)
    return f"The largest draw in these proportions is {options}."


def seat_patients(slices: Slices, codes: Mapping[str, int], groups: Groups, recipe: Recipe) -> Seating:
    """The seating, or an error that names the largest draw that works."""

    def works(smaller: Recipe) -> bool:
        try:
            _seat(slices, codes, groups, smaller)
        except ShortageError:
            return False
        return True

    try:
        return _seat(slices, codes, groups, recipe)
    except ShortageError as error:
        raise SpurbenchError(f"{error}\n{_largest(recipe, works)}") from None


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A random stream of its own for each purpose."""
    return np.random.default_rng([seed, *purpose.encode()])
