"""Methods that wrap another one: an ensemble of its models, say."""

from __future__ import annotations

from robustbench_spur.method import Method
from robustbench_spur.parameters import Training
from robustbench_spur.registry import Registry
from robustbench_spur.types import SpurbenchError


def wrap_base(method: Method, registry: Registry, training: Training) -> None:
    """Give a method the one that its settings name, with that one's default settings; nothing for a method of its own.

    Args:
        method: to complete.
        registry: where the other is looked up.
        training: the budget that defaults may be shares of.

    Raises:
        SpurbenchError: unknown method, or one that wraps another itself.
    """
    if not method.wraps:
        return
    name = getattr(method.hyper, method.wraps)
    base = registry.find("method", name).load()
    if base.wraps:
        raise SpurbenchError(f"Expected a method of its own as {method.wraps} of {method.name}, found {name!r}.")
    method.wrap(base(base.Hyperparameters().resolved(training)))
