"""What the kit found."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was asked of a method.

    Args:
        name: what.
        status: ``"failed"`` is a fault, ``"warning"`` is not.
        message: what was expected, what was found, what to do; why it was skipped; empty where all is well.
        seconds: that it took, of the processor.
    """

    name: str
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All that was asked of a method.

    Args:
        method: its name.
        where: file and line of its class.
        checks: in order.
    """

    method: str
    where: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def seconds(self) -> float:
        """What it took in all, of the processor."""
        return sum(check.seconds for check in self.checks)

    def __str__(self) -> str:
        lines = [f"{check.name}: {check.status} {check.message}".rstrip() for check in self.checks]
        return "\n".join([f"{self.method} ({self.where})", *(f"  {line}" for line in lines)])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = [vars(check) for check in self.checks]
        return {"method": self.method, "where": self.where, "passed": self.passed, "checks": checks}


@dataclass
class Ledger:
    """Collects checks, each with the processor time since the last one.

    Args:
        checks: so far.
    """

    checks: list[Check] = field(default_factory=list)
    _since: float = field(default_factory=time.process_time, repr=False)

    def lap(self) -> float:
        """Seconds of the processor since this or :meth:`note` was called last."""
        since, self._since = self._since, time.process_time()
        return self._since - since

    def note(self, name: str, fault: str = "", status: Status = "failed", *, seconds: float = 0.0) -> None:
        """Add a check: in order without a fault, else of the given status.

        Args:
            name: of the check.
            fault: what is wrong; empty where nothing is.
            status: where something is.
            seconds: that it took beside those since the last one.
        """
        self.checks.append(Check(name, status if fault else "ok", fault, round(self.lap() + seconds, 3)))
