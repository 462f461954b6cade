"""Which files a method's results follow from, beside its settings."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from functools import lru_cache
from pathlib import Path

from robustbench_spur.method import Method
from robustbench_spur.store import content_hash, file_sha256

METHODS = "robustbench_spur.methods"


def code_of(method: type[Method]) -> str:
    """Hash of the files that define a method's class, the methods that it builds on, and what these import of ``methods/``."""
    files = [inspect.getsourcefile(one) for one in method.__mro__ if issubclass(one, Method) and one is not Method]
    own = [Path(path) for path in files if path]
    return content_hash([file_sha256(path) for path in (*own, *_imported(own))])


def _imported(files: list[Path]) -> list[Path]:
    """Files of the folder of methods that some files import, directly or not, beside themselves; in order of their names."""
    seen, waiting = {path.resolve() for path in files}, list(files)
    found = []
    while waiting:
        file = waiting.pop()
        for name in _names(file, file.stat().st_mtime_ns):
            spec = importlib.util.find_spec(name)
            path = Path(spec.origin).resolve() if spec is not None and spec.origin else None
            if path is not None and path not in seen:
                seen.add(path)
                found.append(path)
                waiting.append(path)
    return sorted(found)


@lru_cache(maxsize=512)
def _names(path: Path, changed: int) -> list[str]:
    """Modules of the folder of methods that a file imports as it is now; every stage of a run asks for the same few."""
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names if node.module == METHODS)]
    return [name for name in names if name.startswith(f"{METHODS}.")]
