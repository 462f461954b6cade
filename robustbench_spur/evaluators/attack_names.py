"""Names of the attacks that can be asked for, and which of them make up the ensemble for a number of classes."""

from __future__ import annotations

from robustbench_spur.attack import parts

PARTS = {
    "fgsm": parts.single_step,
    "mim": parts.momentum,
    "pgd": parts.projected,
    "apgd_ce": parts.auto_steps,
    "apgd_dlr": parts.auto_steps_dlr,
    "apgd_t": parts.auto_steps_targeted,
    "fab": parts.boundary,
    "square": parts.square,
}
"""How each is made, from an :class:`~robustbench_spur.attack.parts.Effort`."""
AUTO = "auto"
NAMES = ("fgsm", "mim", "pgd", "apgd_ce", "apgd_t", "fab", "square", AUTO)
"""What may be asked for."""
STANDARD = ("apgd_ce", "apgd_t", "fab", "square")
"""AutoAttack's standard version."""
BLACK_BOX = "square"
LEAST_CLASSES = {"apgd_dlr": 3, "apgd_t": 4}
"""Number of classes from which a loss is defined."""
NOT_MADE = 2
"""What is written for an attack that is not defined, where 1 is right and 0 wrong."""


def defined(name: str, classes: int) -> bool:
    """Whether an attack exists for a number of classes.

    >>> [defined("apgd_t", classes) for classes in (2, 3, 4)]
    [False, False, True]
    """
    return classes >= LEAST_CLASSES.get(name, 2)


def members(classes: int) -> tuple[str, ...]:
    """What the ensemble is made of, in the order in which its parts are made.

    >>> members(2), members(10)
    (('apgd_ce', 'fab', 'square'), ('apgd_ce', 'apgd_t', 'fab', 'square'))
    """
    wanted = STANDARD if defined("apgd_t", classes) else ("apgd_ce", "apgd_dlr", "fab", "square")
    return tuple(name for name in wanted if defined(name, classes))


def why_not(name: str) -> str:
    """Why an attack is not defined, in words."""
    loss = "DLR loss" if name == "apgd_dlr" else "targeted DLR loss"
    return f"the {loss} needs {LEAST_CLASSES[name]} classes"
