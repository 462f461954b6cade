"""Folds of the test patients: who is where, what is shared between folds, and how the five are averaged."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.board import build_board
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.manifest import load_manifest
from robustbench_spur.plan import make_plan
from robustbench_spur.protocols import CARVE, FOLDS, JOIN, Protocol, apply, folds_of, sources
from robustbench_spur.record import RecordStore, read_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import load_evaluators, metric_of
from robustbench_spur.splitref import parse_splits
from robustbench_spur.statistics import estimate, resample_counts
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))


def partition(patients: list[tuple[str, int, tuple[int, ...]]], extra: dict[str, int] | None = None) -> Partition:
    """Rows of (patient, attribute, labels of its slices)."""
    rows = [(who, label, a, k) for who, a, labels in patients for k, label in enumerate(labels)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    ids = np.array([f"{who}-{k}" for who, _, _, k in rows])
    more = {name: np.full(len(rows), value) for name, value in (extra or {}).items()}
    return Partition(ids, columns[1].astype(np.int64), columns[2].astype(np.int64), columns[0].astype(str), more)


def released(narrow: int = 71, wide: int = 79) -> SplitTable:
    """As the released field split: train and validation with two empty groups, test patients with both labels."""
    test = [(f"low {i}", 1, (0, 1, 1)) for i in range(narrow)] + [(f"high {i}", 0, (0, 0, 1)) for i in range(wide)]
    partitions = {
        "train": partition([("a", 1, (1, 1)), ("b", 0, (0, 0))], {"slice": 1, "only here": 2}),
        "validation": partition([("c", 1, (1,)), ("d", 0, (0,))], {"slice": 1}),
        "adapt": partition([("e", 1, (1,))], {"slice": 1}),
        "test": partition(test, {"slice": 3}),
    }
    return SplitTable(GROUPS, partitions, ("a note",))


def patients(table: SplitTable, name: str) -> set[str]:
    return set(table.partitions[name].clusters.tolist())


# Folds


def test_folds_of_the_released_test_patients_are_as_even_as_they_can_be() -> None:
    table = released()
    test = table.partitions["test"]
    fold = dict(zip(test.clusters.tolist(), folds_of(test, table).tolist(), strict=True))
    assert Counter(fold.values()) == dict.fromkeys(range(FOLDS), 30)
    for field, sizes in (("low", {14, 15}), ("high", {15, 16})):
        assert set(Counter(k for who, k in fold.items() if who.startswith(field)).values()) == sizes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(5, 40), st.integers(5, 40))
def test_folds_do_not_depend_on_the_order_of_rows(seed: int, narrow: int, wide: int) -> None:
    table = released(narrow, wide)
    test = table.partitions["test"]
    order = np.random.default_rng(seed).permutation(len(test))
    assert (folds_of(test, table)[order] == folds_of(test.take(order), table)).all()


def test_too_few_patients_are_refused() -> None:
    table = released(2, 2)
    with pytest.raises(SpurbenchError, match="at least 5 test patients to cut into folds, found 4"):
        folds_of(table.partitions["test"], table)


def test_carve_gives_each_fold_its_role_and_leaves_the_rest_alone() -> None:
    table = released()
    drawn: list[set[str]] = []
    tested: Counter[str] = Counter()
    for k in range(FOLDS):
        carved = apply(table, Protocol(CARVE, k))
        assert carved.partitions["train"].digest() == table.partitions["train"].digest()
        assert carved.partitions["validation"].digest() == table.partitions["validation"].digest()
        roles = [patients(carved, name) for name in ("adapt", "selection", "test")]
        assert [len(role) for role in roles] == [30, 30, 90]
        assert set.union(*roles) == patients(table, "test")
        assert all(count["patients"] > 0 for count in carved.counts()["adapt"].values())
        drawn.append(roles[0])
        tested.update(roles[2])
        chosen = patients(apply(table, Protocol(CARVE, (k + 1) % FOLDS)), "adapt")
        assert roles[1] == chosen
    assert set.union(*drawn) == patients(table, "test")
    assert sum(map(len, drawn)) == 150
    assert set(tested.values()) == {3}


def test_join_adds_the_fold_to_the_training_set_and_has_no_adapt() -> None:
    table = released()
    for k in range(FOLDS):
        joined, carved = apply(table, Protocol(JOIN, k)), apply(table, Protocol(CARVE, k))
        assert "adapt" not in joined.partitions
        assert patients(joined, "train") == patients(table, "train") | patients(carved, "adapt")
        assert patients(joined, "test") == patients(carved, "test")
        assert patients(joined, "selection") == patients(carved, "selection")
        assert all(count["examples"] > 0 for count in joined.counts()["train"].values())
        assert joined.partitions["train"].extra["slice"].tolist()[:4] == [1, 1, 1, 1]
        assert set(joined.partitions["train"].extra) == {"slice"}, "columns that only some of the rows have"


def test_every_fold_is_a_table_of_its_own() -> None:
    table = released()
    hashes = {apply(table, Protocol(name, k)).sha256() for name in (CARVE, JOIN) for k in range(FOLDS)}
    assert len(hashes | {table.sha256()}) == 2 * FOLDS + 1


def test_sources_say_where_the_rows_come_from() -> None:
    table = released()
    for name in (CARVE, JOIN):
        made = apply(table, Protocol(name, 2))
        for part, source in sources(table, Protocol(name, 2)).items():
            ids = [table.partitions[of].ids[rows] for of, rows in zip(source.partitions, source.rows, strict=True)]
            assert np.concatenate(ids).tolist() == made.partitions[part].ids.tolist()


def test_a_protocol_names_its_folds() -> None:
    refs = parse_splits("field@1.0+carve", Registry())
    assert [ref.full for ref in refs] == [f"phantom/field@1.0+carve.{k}" for k in range(FOLDS)]
    assert {ref.family for ref in refs} == {"phantom/field@1.0+carve"}
    assert {ref.base.full for ref in refs} == {"phantom/field@1.0"}


# Runs

TINY = {"test_patients": 40, "test_slices": 2}


def kinds(plan: Any) -> Counter[str]:
    return Counter(stage.kind for stage in plan.stages())


def tiny(request_for: Any, **changes: Any) -> Any:
    from tests.conftest import TINY_SPLIT

    return request_for(split_settings={**TINY_SPLIT, **TINY}, evaluators=("worst_group",), **changes)


def test_what_the_folds_share_is_done_once(request_for: Any) -> None:
    plan = make_plan(tiny(request_for, methods=("erm", "dfr"), splits=("field@1.0", "field@1.0+carve")))
    assert [cell.reason for cell in plan.cells if "carve" in cell.spec.split.ref.full] == [""] * 10
    count = kinds(plan)
    assert count["train"] == 1, "ERM on the same training set, for six splits and two methods"
    assert count["pixels"] == 4, "train, validation, adapt and test of the split as it is"
    assert count["gather"] == 3 * FOLDS
    assert count["head"] == 1 + FOLDS


def test_training_differs_where_a_fold_is_joined(request_for: Any) -> None:
    plan = make_plan(tiny(request_for, methods=("erm", "groupdro", "dfr"), splits="field@1.0+join"))
    assert kinds(plan)["train"] == 2 * FOLDS
    reasons = {cell.spec.plugin.name: cell.reason for cell in plan.cells}
    assert reasons == {"erm": "", "groupdro": "", "dfr": "the split has no adapt partition"}


def test_images_of_a_fold_are_those_of_its_rows(request_for: Any, carry_out: Any) -> None:
    from robustbench_spur.engine import images_of

    request = tiny(request_for, splits="field@1.0+join.3")
    record = carry_out(request)[0]
    assert record.status == "done"
    plan = make_plan(tiny(request_for, splits="field@1.0+join.3", again=True))
    split, stages = plan.cells[0].spec.split, plan.cells[0].stages
    for name, rows in split.table.partitions.items():
        made = np.concatenate(list(split.dataset.pixels(split.ref.split, rows, 16)))
        images = images_of(stages.pixels[name], plan.runtime)
        assert images.shape == made.shape
        assert (np.asarray(images) == made).all()
    assert record.split is not None
    assert any(note.startswith("Protocol join.3") for note in record.split.notes)


def test_selection_is_out_of_reach_of_a_method_that_did_not_declare_it(request_for: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur.methods.erm import ERM
        class Peeks(ERM):
            '''Peeks.'''
            name = "peeks"
            version = 1
            summary = "peeks"
            def fit(self, task):
                model = task.train(self)
                task.outputs(model, "selection")
                return model
        """
    )
    request = tiny(request_for, methods="peeks", splits="field@1.0+carve.0", plugin_files=(path,))
    error = make_plan(request).cells[0].error
    assert error is not None
    assert "asked for partition 'selection'" in error.message


def test_a_row_averages_the_folds_and_resamples_each_patient_once(request_for: Any, carry_out: Any, home: Any) -> None:
    request = tiny(request_for, splits="field@1.0+carve", seeds=(0, 1))
    records = carry_out(request)
    manifest = load_manifest("v1")
    (row,) = build_board(home, manifest).rows
    assert row.split.startswith("phantom/field@1.0+carve[")
    assert (row.seeds, row.folds, len(row.records)) == ([0, 1], FOLDS, 2 * FOLDS)
    column = next(c for c in manifest.columns if c.evaluator == "worst_group" and c.metric and c.partition == "test")
    metric = str(column.metric)
    evaluator = load_evaluators(Registry(), tuple(p for p in manifest.evaluators if p.name == "worst_group"))[0]
    store = RecordStore(home.records, home.predictions)
    found: list[Predictions] = [read_predictions(store.arrays(r), r.split, "test") for r in records]
    everybody = sorted({who for one in found for who in one.patients.tolist()})
    assert len(everybody) == 40
    counts = resample_counts(len(everybody), manifest.bootstrap.replicates, manifest.bootstrap.seed)
    spread, values = [], []
    for one in found:
        places = [everybody.index(who) for who in one.patients.tolist()]
        spread.append(evaluator.measure(one, counts[:, places])[metric])
        values.append(evaluator.measure(one, np.ones((1, len(places))))[metric][0])
    by_hand = estimate(
        metric_of(evaluator, metric),
        float(np.mean(values)),
        np.mean(spread, axis=0),
        manifest.bootstrap.confidence,
        patients=min(evaluator.support(one)[metric] for one in found),
    )
    shown = row.values[column.name]
    assert shown.value == pytest.approx(by_hand.value)
    assert (shown.low, shown.high) == (pytest.approx(by_hand.low), pytest.approx(by_hand.high))
    assert shown.low is not None


def test_a_row_with_folds_missing_says_so(request_for: Any, carry_out: Any, home: Any) -> None:
    carry_out(tiny(request_for, splits=("field@1.0+carve.0", "field@1.0+carve.2")))
    (row,) = build_board(home, load_manifest("v1")).rows
    assert (row.seeds, row.status) == ([], "unranked")


# Selection with attributes


def test_the_epoch_is_chosen_by_the_worst_group_of_the_selection_set(request_for: Any, carry_out: Any) -> None:
    settings = {"epochs": 4, "batch_size": 16}
    request = tiny(request_for, splits="field@1.0+carve.1", selection="worst_of_groups", settings=settings)
    (record,) = carry_out(request)
    assert record.status == "done", record.reason
    seen = [entry["selection_worst_of_groups"] for entry in record.history]
    assert record.selected_epoch == 1 + int(np.argmax(seen))
    worst = record.metrics["selection"]["worst_group"]["worst_group_accuracy"]["value"]
    assert worst == pytest.approx(max(seen))
    assert record.track == "selection"
    assert "selection=worst_of_groups" in record.off_board


def test_a_rule_that_needs_every_group_is_refused_where_one_is_empty(request_for: Any) -> None:
    with pytest.raises(SpurbenchError, match=r"every group in validation .* Use phantom/field@1.0\[.*\]\+carve|Use "):
        make_plan(tiny(request_for, splits="field@1.0", selection="worst_of_groups"))


def test_validation_serves_to_choose_where_it_has_every_group(request_for: Any, carry_out: Any) -> None:
    (record,) = carry_out(tiny(request_for, splits="clean", selection="worst_of_groups"))
    seen = [entry["selection_worst_of_groups"] for entry in record.history]
    assert record.metrics["validation"]["worst_group"]["worst_group_accuracy"]["value"] == pytest.approx(max(seen))
