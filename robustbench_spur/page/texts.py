"""Numbers, names and sentences as a reader of the page sees them."""

from __future__ import annotations

from typing import Any

from robustbench_spur.types import Estimate

LONGEST = 20
"""Letters of a name that a plot shows; the tables have it in full."""


def percent(value: float) -> str:
    """A share in per cent with one decimal and a true minus sign.

    >>> percent(0.4312), percent(-0.05)
    ('43.1', '−5.0')
    """
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def in_words(estimate: Estimate) -> str:
    """An estimate with its interval, or the reason why there is none.

    >>> in_words(Estimate(0.5, 0.4, 0.6)), in_words(Estimate(None, reason="not evaluated"))
    ('50.0 (40.0 to 60.0)', 'none: not evaluated')
    """
    if estimate.value is None:
        return f"none: {estimate.reason or 'undefined'}"
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value) + (f" ({estimate.reason})" if estimate.reason else "")
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name cut to ``longest`` letters.

    >>> shortened("groupdro", 6), shortened("erm", 6)
    ('group…', 'erm')
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end.

    >>> sentence("the loss, averaged"), sentence("Why?"), sentence("")
    ('The loss, averaged.', 'Why?', '')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


LEVELS = 32
"""Grey levels of 255 up to which a number is taken for a radius; above, it may be a round share, such as 0.2."""


def setting(value: Any) -> str:
    """A setting as people write it; the radii of attacks as fractions of 255.

    >>> setting(2 / 255), setting(0.2), setting(1.0), setting("l1")
    ('2/255', '0.2', '1', 'l1')
    """
    if not isinstance(value, float):
        return str(value)
    level = round(value * 255)
    return f"{level}/255" if 0 < level <= LEVELS and abs(value - level / 255) < 1e-9 else f"{value:.4g}"
