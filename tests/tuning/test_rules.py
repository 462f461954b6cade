"""What every rule says of predictions that can be counted by hand, and when it says nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.tuning.rules import (
    RULES,
    Evidence,
    Measured,
    accuracies,
    find_rule,
    judge,
    mean_of,
    wilson,
)
from robustbench_spur.types import Groups, SpurbenchError

GROUPS = Groups(("a", "b", "c"), "site", ("x", "y"))
LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
SITES = [0, 0, 0, 1, 0, 0, 1, 1, 0, 1]
SAID = [0, 0, 1, 1, 1, 1, 1, 0, 2, 2]
"""Right: two of four of a, three of four of b, both of c. Of group a@y none of one, of b@y one of two."""
PATIENTS = list("pppqrrssuv")


def said(labels: Any = LABELS, sites: Any = SITES, predicted: Any = SAID, patients: Any = PATIENTS) -> Predictions:
    logits = np.eye(3, dtype=np.float32)[np.asarray(predicted)]
    ids = np.array([f"x{i}" for i in range(len(logits))], np.str_)
    return Predictions(ids, np.asarray(labels), np.asarray(sites), np.asarray(patients, np.str_), logits, GROUPS)


def evidence(**changes: Any) -> Evidence:
    """The reference is wrong about the first two examples, both of class a."""
    environments = np.array([1, 1] + [0] * 8)
    return replace(Evidence(said(), said(), environments), **changes)


def test_every_rule_by_hand() -> None:
    found = judge(evidence())
    assert found["validation_average"] == Measured(value=0.7, patients=6)
    assert found["worst_class"] == Measured(value=0.5, part="a", patients=2)
    assert found["worst_group"] == Measured(value=0.0, part="a@y", patients=1)
    assert found["class_difference"].value == pytest.approx((0.25 + 0.5 + 0.25) / 3, abs=1e-15)
    # class a where the reference is right: two examples, both wrong
    assert found["worst_inferred_environment"] == Measured(value=0.0, part="a where the reference is right", patients=2)


def test_directions_and_needs() -> None:
    assert {name: rule.sign for name, rule in RULES.items() if rule.sign < 0} == {"class_difference": -1}
    assert {name for name, rule in RULES.items() if rule.needs} == {"worst_group"}


def test_only_the_rule_that_says_so_depends_on_attributes() -> None:
    other = said(sites=[1 - site for site in SITES])
    plain, changed = judge(evidence()), judge(evidence(validation=other, chooser=other))
    assert {name for name in RULES if plain[name] != changed[name]} == {"worst_group"}


def test_a_set_to_choose_by_is_read_by_the_rule_on_attributes_alone() -> None:
    other = said(predicted=LABELS)
    plain, changed = judge(evidence()), judge(evidence(chooser=other))
    assert {name for name in RULES if plain[name] != changed[name]} == {"worst_group"}
    assert changed["worst_group"].value == 1.0


def test_an_empty_group_makes_its_rule_undefined_with_a_reason() -> None:
    few = said(sites=[0] * 9 + [1])
    found = judge(evidence(validation=few, chooser=few))
    assert found["worst_group"].value is None
    assert found["worst_group"].reason == "no examples of a@y and b@y in the set that serves to choose"
    assert found["worst_class"].value == 0.5


def test_an_absent_class_makes_the_rules_on_classes_undefined() -> None:
    two = said(labels=[0] * 5 + [1] * 5, predicted=[0] * 5 + [1] * 5)
    found = judge(evidence(validation=two))
    assert found["worst_class"].reason == found["class_difference"].reason == "no examples of c in validation"
    assert found["validation_average"].value == 1.0


def test_one_class_has_no_difference() -> None:
    groups = Groups(("a",), "site", ("x",))
    rows = np.zeros(2, np.int64)
    one = Predictions(np.array(["1", "2"]), rows, rows, np.array(["1", "2"]), np.zeros((2, 1), np.float32), groups)
    assert judge(Evidence(one, one, np.array([0, 1])))["class_difference"].reason == "there is one class only"


def test_one_environment_is_no_choice() -> None:
    found = judge(evidence(environments=np.zeros(10, np.int64)))["worst_inferred_environment"]
    assert found.value is None
    assert "one environment" in found.reason


def test_a_set_that_may_not_be_read_says_why() -> None:
    assert judge(evidence(chooser="it is tested"))["worst_group"] == Measured(value=None, reason="it is tested")


def test_accuracies_of_nothing_are_undefined() -> None:
    assert np.isnan(accuracies(said(), said().labels, 4)).tolist() == [False, False, False, True]


@pytest.mark.parametrize(("right", "patients"), [(0, 1), (1, 2), (2, 2), (7, 10), (55, 60)])
def test_the_interval_is_wilsons(right: int, patients: int) -> None:
    expected = binomtest(right, patients).proportion_ci(0.95, method="wilson")
    assert wilson(right / patients, patients) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert Measured(value=right / patients, patients=patients).interval == wilson(right / patients, patients)


def test_what_is_no_mean_over_patients_has_no_interval() -> None:
    assert Measured(value=0.2).interval is None
    assert Measured(value=None, patients=3).interval is None


def test_the_mean_over_cells_names_the_part_with_the_fewest_patients() -> None:
    parts = [Measured(value=0.1, part="p", patients=9), Measured(value=0.2, part="q", patients=2)]
    assert mean_of(parts) == Measured(value=0.15000000000000002, part="q", patients=2)
    gap = Measured(value=None, reason="empty")
    assert mean_of([parts[0], gap]) == gap


def test_the_mean_does_not_depend_on_the_order_of_cells() -> None:
    values = [0.1, 0.7, 0.3, 1e-9, 0.95]
    means = {
        mean_of([Measured(value=v) for v in np.random.default_rng(s).permutation(values)]).value for s in range(20)
    }
    assert len(means) == 1


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(
        SpurbenchError, match=r"Unknown selection rule 'worst_clas' of a tuner. Did you mean 'worst_class'"
    ):
        find_rule("worst_clas")
