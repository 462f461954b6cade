"""Fetches archives over HTTP: what came is kept and continued, and only a file with the right hash gets its name.

The hash is the identity (``identity``), an address only a place to look (``mirrors``); ``transfer`` asks one address, ``part``
is the file that is not whole yet.
"""

from robustbench_spur.download.guard import alone, require_space
from robustbench_spur.download.identity import Seen, check_file, forget, seen_in
from robustbench_spur.download.mirrors import check_url, fetch

__all__ = ["Seen", "alone", "check_file", "check_url", "fetch", "forget", "require_space", "seen_in"]
