"""A file that is not whole yet: ``NAME.part``, and a note beside it about where its bytes come from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from robustbench_spur.store import replacing


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a partial file come from: address, what the server calls this version of the file, its size."""

    url: str
    version: str
    total: int | None


class Part:
    """The unfinished file ``NAME.part``, and a note beside it about its origin."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.part")
        self.note = final.with_name(f"{final.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def origin(self) -> Origin:
        """As noted; one that fits nothing where there is no note or a damaged one."""
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(Origin).validate_json(self.note.read_bytes())
        except (OSError, ValueError):
            return Origin("", "", None)

    def begin(self, origin: Origin) -> None:
        """Empty the file, then note what is about to be written to it."""
        self.clear()
        self.path.touch()
        with replacing(self.note) as temporary:
            temporary.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def clear(self) -> None:
        """Drop it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def publish(self) -> None:
        """Give it its name."""
        self.path.replace(self.final)
        self.note.unlink(missing_ok=True)
