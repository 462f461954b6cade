"""A cell whose settings a search chose: the rule of the search is part of what it is."""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_spur.cell import CellSpec
from robustbench_spur.method import track_of
from robustbench_spur.record import Identity


@dataclass(frozen=True, eq=False)
class TunedCell(CellSpec):
    """A cell with a tuned preset. It is no other than the same cell with the settings given by hand, but for its identity.

    Args:
        rule: that chose the settings.
        rule_needs: annotations that the rule consumed.
    """

    rule: str = ""
    rule_needs: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        """With the rule: by hand, the same settings may be on another track."""
        own = super().identity
        return own.model_copy(update={"method": {**own.method, "tuned_by": self.rule}})

    @property
    def track(self) -> str:
        """Which annotations the method, the selection of the epoch and the rule of the search consume, all together."""
        chooser = ("validation_attributes",) if self.chooser else ()
        return track_of((*self.method.needs, *chooser, *self.rule_needs))
