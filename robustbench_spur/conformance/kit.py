"""The kit itself: from a name or a file to reports."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from robustbench_spur.conformance import stated
from robustbench_spur.conformance.behaviour import examine
from robustbench_spur.conformance.report import Check, Ledger, Report
from robustbench_spur.conformance.runs import Lab
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.types import SpurbenchError


def check(what: str | Path) -> Report:
    """Check one method.

    Args:
        what: name of an installed method, or path of a file with one.

    Returns:
        What was found; ``report.passed`` says whether nothing failed.

    Raises:
        SpurbenchError: no such method, or a file with none or with several.
    """
    reports = check_all([what])
    if len(reports) != 1:
        raise SpurbenchError(f"Expected one method in {what}, found {len(reports)}. Use check_all.")
    return reports[0]


def check_all(what: Sequence[str | Path]) -> list[Report]:
    """Check several methods, by name or by file.

    Raises:
        SpurbenchError: no such method, or a file without any.
    """
    files = tuple(Path(one).expanduser() for one in what if _is_file(one))
    for file in files:
        if not file.is_file():
            raise SpurbenchError(f"Expected a file with a method at {file}, found none.")
    registry = Registry(files)
    plugins: list[Plugin] = []
    for one in what:
        plugins += _in_file(Path(one).expanduser(), registry) if _is_file(one) else [registry.find("method", str(one))]
    return [_report(plugin, files) for plugin in plugins]


def _is_file(what: str | Path) -> bool:
    return isinstance(what, Path) or what.endswith(".py") or "/" in what


def _in_file(path: Path, registry: Registry) -> list[Plugin]:
    found = [one for one in registry.entries("method") if one.path is not None and one.path.resolve() == path.resolve()]
    if not found:
        others = [k for k in ("evaluator", "dataset") if any(one.path == path for one in registry.entries(k))]
        hint = f" Only methods can be checked, and it has {' and '.join(others)}." if others else ""
        raise SpurbenchError(f"Expected a method in {path}, found none.{hint}")
    return found


def _report(plugin: Plugin, files: tuple[Path, ...]) -> Report:
    ledger = Ledger()
    try:
        method = plugin.load()
    except SpurbenchError as error:
        return Report(plugin.name, plugin.where, (Check("it can be loaded", "failed", str(error)),))
    ledger.note("it can be loaded")
    ledger.each(
        {
            "docstring": partial(stated.docstring, plugin),
            "name, version, summary, source and needs": partial(stated.literals, plugin, method),
            "settings": partial(stated.settings, plugin, method),
            "bad values of settings": partial(stated.bad_values, plugin, method),
        }
    )
    with tempfile.TemporaryDirectory(prefix="spurbench-check-") as folder:
        examine(Lab(plugin, files, Path(folder)), ledger)
    return Report(plugin.name, plugin.where, tuple(ledger.checks))
