"""Typed, frozen, documented settings: of methods, and of the training they share.

A field is written ``eta: float = parameter(0.01, "step size of ...", above=0, search=LogUniform(1e-3, 1e-1))``. The same
literals are validated at run time and shown by ``describe`` without running the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.types import SpurbenchError, nearest


@dataclass(frozen=True)
class LogUniform:
    """Search range: uniform in the logarithm between ``low`` and ``high``."""

    low: float
    high: float


@dataclass(frozen=True)
class Uniform:
    """Search range: uniform between ``low`` and ``high``; whole numbers where the field is an integer."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """Search range: one of ``options``."""

    options: tuple[Any, ...]


@dataclass(frozen=True)
class Share:
    """Default that is a share of a field of the training budget, rounded half up, at least 1 for whole numbers.

    >>> Share(0.25, "epochs").of(8)
    2
    """

    share: float
    field: str

    def of(self, amount: float) -> float | int:
        """The share of ``amount``: whole where ``amount`` is."""
        if isinstance(amount, int):
            return max(1, int(self.share * amount + 0.5))
        return self.share * amount


def parameter(
    default: Any,
    doc: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    search: LogUniform | Uniform | Choice | None = None,
) -> Any:
    """Declare a field of a settings class.

    Args:
        default: a value, or a :class:`Share` of the training budget.
        doc: meaning and unit, one line.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        at_most: inclusive upper bound.
        search: what a tuner may try.

    Returns:
        A pydantic field.
    """
    share = default if isinstance(default, Share) else None
    return Field(
        default=None if share else default,
        description=doc,
        gt=above,
        ge=at_least,
        lt=below,
        le=at_most,
        json_schema_extra={
            "search": repr(search) if search else None,
            "share": [share.share, share.field] if share else None,
        },
    )


class Settings(BaseModel):
    """Base of all settings: unknown names, NaN and infinity are refused; instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, given: Mapping[str, Any], owner: str) -> Self:
        """Validate values that come as text or as JSON.

        Args:
            given: by field name; texts are converted ("20" to 20).
            owner: whom the settings belong to, for messages; one word is a plugin that ``describe`` knows.

        Raises:
            SpurbenchError: unknown name, or a value that is out of range or of the wrong type.
        """
        for name in given:
            if name not in cls.model_fields:
                raise SpurbenchError(f"{owner} has no setting {name!r}. {nearest(name, list(cls.model_fields))}")
            if isinstance(given[name], bool) and cls.model_fields[name].annotation in (int, float):
                raise SpurbenchError(f"Setting {name}={given[name]} of {owner}: input should be a number.")
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            hint = f" Run: spurbench describe {owner}" if " " not in owner else ""
            raise SpurbenchError(
                f"Setting {name}={first['input']!r} of {owner}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"
            ) from None


BUDGET = ("epochs", "batch_size")
"""Fields of :class:`Training` that say how much work a method may do. Its own settings may change the others (a weight decay
that it needs, say) and still be ranked; these only off the board."""


class Hyperparameters(Settings):
    """Base of a method's own settings. A field named like one of :class:`Training` overrides that one for the method."""

    def resolved(self, training: Training) -> Self:
        """The same settings with every default that is a share of the budget worked out.

        Args:
            training: the budget that the shares are of.
        """
        update = {}
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            share = extra.get("share") if isinstance(extra, dict) else None
            if getattr(self, name) is None and isinstance(share, list):
                update[name] = Share(float(str(share[0])), str(share[1])).of(getattr(training, str(share[1])))
        return self.model_copy(update=update)


class Training(Settings):
    """The training budget, the same for all methods of a board.

    Only the schedule ``cosine`` has a horizon: with the others a shorter run is a prefix of a longer one.
    """

    epochs: int = parameter(8, "passes over as many examples as the training set has", at_least=1)
    batch_size: int = parameter(64, "examples per step", at_least=2)
    optimizer: Literal["adamw", "adam", "sgd"] = parameter("adamw", "update rule")
    learning_rate: float = parameter(2e-3, "step size after the warm-up", above=0, search=LogUniform(1e-5, 1e-2))
    weight_decay: float = parameter(1e-3, "decay of all weights", at_least=0, search=LogUniform(1e-6, 1e-1))
    momentum: float = parameter(0.9, "momentum of sgd; unused by the others", at_least=0, below=1)
    warmup_epochs: float = parameter(1.0, "epochs of linear warm-up from zero", at_least=0)
    schedule: Literal["constant", "inverse_sqrt", "cosine"] = parameter("constant", "learning rate after the warm-up")
    averaging: float = parameter(
        0.0,
        "decay per step of the exponential moving average of the weights, which is then the model; 0 for none",
        at_least=0,
        below=1,
    )

    def overridden(self, hyper: Settings) -> Training:
        """This budget with the fields that ``hyper`` shares by name replaced by its values."""
        shared = {name: getattr(hyper, name) for name in type(hyper).model_fields if name in type(self).model_fields}
        return self.model_copy(update={name: value for name, value in shared.items() if value is not None})

    def trajectory(self) -> dict[str, Any]:
        """What determines every step of the run, whatever its length: all fields, less ``epochs`` if there is no horizon."""
        return self.model_dump(exclude=None if self.schedule == "cosine" else {"epochs"})
