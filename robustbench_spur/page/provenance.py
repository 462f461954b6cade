"""Where a board's records come from: how many, from when, by which code, on which machines, with which libraries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from robustbench_spur.record import Record


def origins(records: list[Record]) -> list[tuple[str, list[str]]]:
    """Which code and machines the records are from, each with the number of records."""
    return [
        ("Code", counted(code_of(record) for record in records)),
        ("Machines", counted(machine_of(record) for record in records)),
        ("Libraries", counted(libraries_of(record) for record in records)),
    ]


def number_and_days(records: list[Record]) -> str:
    """How many records there are, and from when."""
    days = sorted({record.finished[:10] for record in records})
    when = f", finished {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else ""
    return f"{len(records)} record{'s' if len(records) != 1 else ''}{when}"


def counted(texts: Iterable[str]) -> list[str]:
    """Distinct texts, the most frequent first, with their number where there are several.

    >>> counted(["a", "b", "a", "b", "b"]), counted(["a", "a"])
    (['b (3 records)', 'a (2 records)'], ['a'])
    """
    found = Counter(texts)
    ordered = sorted(found, key=lambda text: (-found[text], text))
    if len(ordered) < 2:
        return ordered
    return [f"{text} ({found[text]} record{'s' if found[text] > 1 else ''})" for text in ordered]


def code_of(record: Record) -> str:
    """Version and commit of the code that made a record."""
    about = record.provenance
    version = f"robustbench-spur {about.get('package') or 'not installed'}"
    commit = f", commit {str(about['git_commit'])[:12]}" if about.get("git_commit") else ""
    return version + commit + (" with uncommitted changes" if about.get("git_dirty") else "")


def machine_of(record: Record) -> str:
    """Where a record was made: accelerator or processor, number of CPUs, system."""
    about = record.provenance
    parts = [about.get("accelerator"), about.get("processor"), f"{about['cpus']} CPUs" if about.get("cpus") else None]
    return ", ".join(str(part) for part in (*parts, about.get("platform"), about.get("precision")) if part) or "unknown"


def libraries_of(record: Record) -> str:
    """Versions of Python and of the libraries that a record was made with."""
    about = record.provenance
    libraries = {"python": about.get("python"), **(about.get("libraries") or {})}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version) or "unknown"
