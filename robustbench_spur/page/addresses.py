"""Addresses of a site's files, from names that are hostile, and of what other people's names may lead to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

PLAIN = re.compile(r"[a-z0-9_][a-z0-9_+-]{0,79}(/[a-z0-9_][a-z0-9_+@.-]{0,79})?")
"""Names that are their own addresses: only their slash becomes a full stop, and no other stop comes before it."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
"""Names that Windows keeps for devices, whatever follows the first full stop."""


def slug(name: str) -> str:
    """A file name for a name: safe ASCII, and never the same for two names, not even where case does not count.

    A name that is more than plain is cut down to its safe letters, and the hash of all of it tells it from others.

    >>> slug("phantom/field@0.95"), slug("groupdro"), slug("<b>/../x")
    ('phantom.field@0.95', 'groupdro', 'b-x~0bc26a3348')
    """
    plain = name.replace("/", ".")
    if PLAIN.fullmatch(name) and not plain.endswith(".") and plain.partition(".")[0] not in RESERVED:
        return plain
    safe = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return f"{safe}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def web_address(text: str) -> str:
    """An address that a page may lead to: http or https with a host; empty for everything else.

    >>> web_address("https://example.org/a"), web_address("javascript:alert(1)"), web_address("//example.org")
    ('https://example.org/a', '', '')
    """
    if not re.fullmatch(r"[!-~]+", text):  # no spaces, control characters or letters that look like others
        return ""
    try:
        parts = urlsplit(text)
        return text if parts.scheme.lower() in ("http", "https") and parts.hostname else ""
    except ValueError:
        return ""


@dataclass(frozen=True)
class Links:
    """Addresses of the site's pages, seen from one of them.

    Args:
        root: from the page to the site's folder: empty or ``"../"``.
    """

    root: str = ""

    @property
    def index(self) -> str:
        """Of the first page."""
        return f"{self.root}index.html"

    def method(self, name: str) -> str:
        """Of a method's page."""
        return f"{self.root}methods/{quote(slug(name), safe='@+~')}.html"

    def split(self, name: str) -> str:
        """Of a split's page."""
        return f"{self.root}splits/{quote(slug(name), safe='@+~')}.html"
