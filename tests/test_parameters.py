"""Settings: what is accepted, what is refused and how it is said, shares of the budget, overriding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robustbench_spur.parameters import Choice, Hyperparameters, LogUniform, Share, Training, Uniform, parameter
from robustbench_spur.types import SpurbenchError


class Settings(Hyperparameters):
    """One field of each kind."""

    rate: float = parameter(0.1, "a rate", above=0, below=1, search=LogUniform(1e-3, 0.5))
    count: int = parameter(3, "a count", at_least=1, at_most=9, search=Choice((1, 3)))
    part: int = parameter(Share(0.25, "epochs"), "epochs of something", at_least=1)
    warm: float = parameter(Share(0.5, "warmup_epochs"), "a share that is no whole number", search=Uniform(0, 1))
    levels: tuple[float, ...] = parameter((1.0, 0.5), "some levels")
    fast: bool = parameter(False, "whether")


class Overriding(Hyperparameters):
    """A method's own learning rate and length."""

    learning_rate: float = parameter(0.5, "its own step size", above=0)
    epochs: int = parameter(Share(0.5, "epochs"), "half of the budget", at_least=1)
    other: int = parameter(7, "no field of the budget")


def test_texts_are_converted() -> None:
    parsed = Settings.parse({"rate": "0.2", "count": "4", "part": "2", "levels": ["1", 2], "fast": "true"}, "m")
    assert (parsed.rate, parsed.count, parsed.part, parsed.levels, parsed.fast) == (0.2, 4, 2, (1.0, 2.0), True)


def test_nothing_given_is_the_defaults() -> None:
    assert Settings.parse({}, "m") == Settings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rat": 1}, "m has no setting 'rat'. Did you mean 'rate'? Known: count, fast, levels, part, rate, warm."),
        ({"zzz": 1}, "m has no setting 'zzz'. Known: count, fast, levels, part, rate, warm."),
        ({"rate": 0}, "Setting rate=0 of m: input should be greater than 0. Run: spurbench describe m"),
        ({"rate": "1.0"}, "Setting rate='1.0' of m: input should be less than 1. Run: spurbench describe m"),
        ({"count": 0}, "Setting count=0 of m: input should be greater than or equal to 1. Run: spurbench describe m"),
        ({"count": 10}, "Setting count=10 of m: input should be less than or equal to 9. Run: spurbench describe m"),
        (
            {"count": "many"},
            "Setting count='many' of m: input should be a valid integer, unable to parse string as an integer."
            " Run: spurbench describe m",
        ),
    ],
)
def test_one_clear_message(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpurbenchError) as error:
        Settings.parse(given, "m")
    assert str(error.value) == said


def test_a_budget_is_nothing_to_describe() -> None:
    with pytest.raises(SpurbenchError) as error:
        Training.parse({"optimizer": "lion"}, "the training budget")
    said = "Setting optimizer='lion' of the training budget: input should be 'adamw', 'adam' or 'sgd'."
    assert str(error.value) == said


@pytest.mark.parametrize("value", ["2.5", 2.5, None, [], "", "1e3x"])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(SpurbenchError, match=r"^Setting count=.* of m: input should be a valid integer"):
        Settings.parse({"count": value}, "m")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "nan", "inf", "-Infinity"])
@pytest.mark.parametrize("name", ["rate", "warm", "learning_rate", "weight_decay", "warmup_epochs", "momentum"])
def test_nan_and_infinity_are_refused(name: str, value: object) -> None:
    owner = Settings if name in Settings.model_fields else Training
    with pytest.raises(SpurbenchError, match=rf"^Setting {name}=.* of m: input should be a finite number"):
        owner.parse({name: value}, "m")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_and_infinity_are_refused_inside_a_tuple(value: str) -> None:
    with pytest.raises(SpurbenchError, match=r"^Setting levels\.1=.* of m: input should be a finite number"):
        Settings.parse({"levels": [1.0, value]}, "m")


def test_the_first_of_several_mistakes_is_told() -> None:
    with pytest.raises(SpurbenchError) as error:
        Settings.parse({"rate": -1, "count": 0}, "m")
    assert len(str(error.value).splitlines()) == 1


def test_settings_are_frozen_and_closed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.rate = 0.3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(nothing=1)  # type: ignore[call-arg]


def test_a_field_keeps_its_doc_and_search() -> None:
    field = Settings.model_fields["rate"]
    assert field.description == "a rate"
    assert field.json_schema_extra == {"search": "LogUniform(low=0.001, high=0.5)", "share": None}
    part = Settings.model_fields["part"]
    assert part.default is None
    assert part.json_schema_extra == {"search": None, "share": [0.25, "epochs"]}


# shares of the budget


@pytest.mark.parametrize(
    ("share", "amount", "expected"),
    [(0.25, 8, 2), (0.25, 1, 1), (0.25, 2, 1), (0.25, 6, 2), (0.25, 5, 1), (0.5, 3, 2), (1.5, 2, 3), (0.25, 2.0, 0.5)],
)
def test_share_by_hand(share: float, amount: float, expected: float) -> None:
    """Rounded half up, at least 1; not rounded where the field is no whole number."""
    found = Share(share, "epochs").of(amount)
    assert found == expected and type(found) is type(amount)


@given(share=st.integers(0, 64), amount=st.integers(1, 1000))
def test_share_is_the_nearest_whole_number(share: int, amount: int) -> None:
    exact = share * amount / 32
    found = Share(share / 32, "epochs").of(amount)
    assert found == max(1, round(exact)) or (abs(found - exact) == 0.5 and found > exact)


def test_shares_are_worked_out_once_the_budget_is_known() -> None:
    assert Settings().part is None
    resolved = Settings().resolved(Training(epochs=12, warmup_epochs=3.0))
    assert (resolved.part, resolved.warm) == (3, 1.5)
    assert (resolved.rate, resolved.count, resolved.levels) == (0.1, 3, (1.0, 0.5))


def test_what_is_given_is_no_share() -> None:
    assert Settings(part=5).resolved(Training(epochs=12)).part == 5


def test_working_out_twice_changes_nothing() -> None:
    once = Settings().resolved(Training(epochs=12))
    assert once.resolved(Training(epochs=40)) == once


# overriding the budget


def test_shared_names_override_the_budget() -> None:
    budget = Training(epochs=10, learning_rate=0.01, batch_size=16)
    changed = budget.overridden(Overriding().resolved(budget))
    assert (changed.learning_rate, changed.epochs, changed.batch_size) == (0.5, 5, 16)
    assert "other" not in changed.model_dump()
    assert budget.learning_rate == 0.01


def test_unresolved_shares_and_other_settings_override_nothing() -> None:
    budget = Training(epochs=10)
    assert budget.overridden(Overriding()).epochs == 10
    assert budget.overridden(Settings()) == budget


# what identifies a trajectory


def test_length_is_part_of_a_trajectory_only_with_a_horizon() -> None:
    for schedule in ("constant", "inverse_sqrt"):
        short, long = (Training.parse({"epochs": n, "schedule": schedule}, "b").trajectory() for n in (2, 9))
        assert short == long and "epochs" not in short
    short, long = (Training(epochs=n, schedule="cosine").trajectory() for n in (2, 9))
    assert short != long


@pytest.mark.parametrize("name", [name for name in Training.model_fields if name != "epochs"])
def test_every_other_field_is_part_of_a_trajectory(name: str) -> None:
    assert name in Training().trajectory()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"momentum": 1},
        {"averaging": 1},
        {"warmup_epochs": -0.5},
    ],
)
def test_budgets_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {next(iter(wrong))}="):
        Training.parse(wrong, "the training budget")


@pytest.mark.parametrize("name", ["epochs", "learning_rate"])
def test_a_truth_value_is_no_number(name: str) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {name}=True of training: input should be a number"):
        Training.parse({name: True}, "training")
