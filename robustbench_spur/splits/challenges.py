"""The six challenges of Spawrious: how many images of each breed at each location are trained on and tested on.

Source: Lynch, Dovonon, Kaddour and Silva 2023, "Spawrious" (arXiv 2303.05470); the combinations are those of the owners'
loader (github.com/aengusl/spawrious).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CLASSES = ("bulldog", "corgi", "dachshund", "labrador")
LOCATIONS = ("desert", "jungle", "dirt", "mountain", "snow", "beach")
SHARES = (0.97, 0.87)
"""Of a class's images, those at its own location, in environments 0 and 1 of the one-to-one challenges."""
TEST_ENVIRONMENT = 2


@dataclass(frozen=True)
class Challenge:
    """The locations of the classes, in the owners' order: bulldog, dachshund, labrador, corgi.

    Args:
        train: in environment 0.
        test: in one half of the test.
        filler: shared by all classes in training; empty for many-to-many, where instead the first two and the last two
            classes exchange their locations in environment 1 and in the other half of the test.
    """

    train: tuple[str, str, str, str]
    test: tuple[str, str, str, str]
    filler: str = ""


ORDER = ("bulldog", "dachshund", "labrador", "corgi")
CHALLENGES = {
    "o2o_easy": Challenge(("desert", "jungle", "dirt", "snow"), ("dirt", "snow", "desert", "jungle"), "beach"),
    "o2o_medium": Challenge(("mountain", "beach", "dirt", "jungle"), ("jungle", "dirt", "beach", "snow"), "desert"),
    "o2o_hard": Challenge(("jungle", "mountain", "snow", "desert"), ("mountain", "snow", "desert", "jungle"), "beach"),
    "m2m_easy": Challenge(("desert", "mountain", "dirt", "jungle"), ("dirt", "jungle", "mountain", "desert")),
    "m2m_medium": Challenge(("beach", "snow", "mountain", "desert"), ("desert", "mountain", "beach", "snow")),
    "m2m_hard": Challenge(("dirt", "jungle", "snow", "beach"), ("snow", "beach", "dirt", "jungle")),
}


class Share(NamedTuple):
    """Images that a partition takes from one folder.

    Args:
        environment: 0 or 1 in training, 2 in the test.
        folder: ``"0"`` or ``"1"``.
        location: one of :data:`LOCATIONS`.
        label: one of :data:`CLASSES`.
        images: number of them.
    """

    environment: int
    folder: str
    location: str
    label: str
    images: int


def shares(challenge: Challenge, total: int) -> tuple[list[Share], list[Share]]:
    """What training (validation included) and test take.

    Args:
        challenge: whose combinations.
        total: images that a folder holds.

    >>> train, test = shares(CHALLENGES["o2o_easy"], 3168)
    >>> train[0]
    Share(environment=0, folder='0', location='desert', label='bulldog', images=3072)
    >>> sum(share.images for share in train), sum(share.images for share in test)
    (25344, 25344)
    """
    if not challenge.filler:
        train = _paired(challenge.train, total)
        return train, [share._replace(environment=TEST_ENVIRONMENT) for share in _paired(challenge.test, total)]
    train, test = [], []
    for environment, part in enumerate(SHARES):
        folder, own = str(environment), int(part * total)
        for label, location, other in zip(ORDER, challenge.train, challenge.test, strict=True):
            train.append(Share(environment, folder, location, label, own))
            train.append(Share(environment, folder, challenge.filler, label, total - own))
            test.append(Share(TEST_ENVIRONMENT, folder, other, label, total))
    return train, test


def designed(of: Iterable[Share]) -> tuple[int, ...]:
    """The groups that shares are of, as ascending indices ``label * len(LOCATIONS) + location``.

    >>> train, test = shares(CHALLENGES["m2m_hard"], 3168)
    >>> designed(train), len(designed(test))
    ((1, 2, 10, 11, 13, 14, 22, 23), 8)
    """
    return tuple(sorted({CLASSES.index(s.label) * len(LOCATIONS) + LOCATIONS.index(s.location) for s in of}))


def _paired(locations: Sequence[str], total: int) -> list[Share]:
    first, second, third, fourth = locations
    orders = ((first, second, third, fourth), (second, first, fourth, third))
    return [
        Share(environment, "0", location, label, total)
        for environment, order in enumerate(orders)
        for label, location in zip(ORDER, order, strict=True)
    ]
