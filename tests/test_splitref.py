"""Names of splits: what they mean, what is refused, and that a full name means itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.registry import Registry
from robustbench_spur.splitref import SplitRef, parse_split, parse_splits, split_names
from robustbench_spur.splits.base import RHOS
from robustbench_spur.types import SpurbenchError

DATASET = """
from robustbench_spur import Dataset, Groups, Partition, SplitParameters, SplitTable
from pydantic import Field
import numpy as np

class Parameters(SplitParameters):
    size: int = Field(4, ge=2, le=100, description="patients")
    noise: float = Field(0.5, ge=0, lt=1, description="share")
    title: str = Field("plain", description="a text")

class Mine(Dataset):
    name = "mine"
    version = 3
    summary = "made for tests"
    splits = {"main": "tied", "free": "not tied", "only_here": "tied"}
    aliases = {"short": "main"}
    tied = ("main", "only_here")
    rhos = (1.0, 0.75)
    default_rho = 0.75
    embedded = EMBEDDED
    image_size = 8
    Parameters = Parameters

    def table(self, split, rho):
        rows = {}
        for part in ("train", "validation", "test"):
            ids = np.array([f"{part}{i}" for i in range(self.parameters.size)])
            codes = np.arange(self.parameters.size) % 2
            rows[part] = Partition(ids, codes, codes, ids)
        return SplitTable(Groups(("no", "yes"), "site", ("a", "b")), rows)
"""


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drafts") / "mine.py"
    path.write_text(DATASET.replace("EMBEDDED", "False"))
    return path


@pytest.fixture(scope="module")
def registry(draft: Path) -> Registry:
    return Registry((draft,))


def message(text: str, registry: Registry, given: dict[str, Any] | None = None) -> str:
    with pytest.raises(SpurbenchError) as error:
        parse_split(text, registry, given)
    assert "\n" not in str(error.value)
    return str(error.value)


# Names that are understood


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("phantom/field@0.95", "phantom/field@0.95"),
        ("phantom/field", "phantom/field@0.95"),
        ("phantom/field@1", "phantom/field@1.0"),
        ("phantom/field@.9", "phantom/field@0.9"),
        ("phantom/clean", "phantom/clean"),
        ("field@0.5", "phantom/field@0.5"),
        ("clean", "phantom/clean"),
        ("spurbreast/field", "spurbreast/field_strength"),
        ("vertical_flip", "spurbreast/vertical_flip"),
        ("orientation", "phantom/orientation@0.95"),
        ("mine/main", "mine/main@0.75"),
        ("short@1.0", "mine/main@1.0"),
        ("only_here", "mine/only_here@0.75"),
        ("mine/free", "mine/free"),
        ("mine/main@1.0[size=6]", "mine/main@1.0[size=6]"),
        ("mine/free[size=6,noise=0.25]", "mine/free[noise=0.25,size=6]"),
        ("mine/free[]", "mine/free"),
        ("spurbreast/field+carve.4", "spurbreast/field_strength+carve.4"),
        ("field@1.0+join.0", "phantom/field@1.0+join.0"),
        ("mine/main@1.0+carve.1[size=6]", "mine/main@1.0+carve.1[size=6]"),
    ],
)
def test_names(text: str, full: str, registry: Registry) -> None:
    assert parse_split(text, registry).full == full


def test_every_built_in_split_at_every_rho_means_itself() -> None:
    registry = Registry()
    for plugin in registry.entries("dataset"):
        for split in split_names(plugin):
            ref = parse_split(f"{plugin.name}/{split}", registry)
            assert (ref.dataset, ref.split) == (plugin.name, split)
            assert (ref.rho is not None) == (split in plugin.literal("tied", ()))
            for rho in plugin.literal("rhos", RHOS) if ref.rho is not None else ():
                assert parse_split(f"{plugin.name}/{split}@{rho}", registry).rho == rho


@given(
    st.sampled_from(["main@0.75", "main@1.0", "only_here@1.0", "free"]),
    st.fixed_dictionaries(
        {},
        optional={
            "size": st.integers(2, 100),
            "noise": st.floats(0, 1, exclude_max=True, allow_nan=False),
            "title": st.text(max_size=6),
        },
    ),
)
@settings(max_examples=50, deadline=None)
def test_a_full_name_means_itself(registry: Registry, split: str, given: dict[str, Any]) -> None:
    ref = parse_split(f"mine/{split}", registry, given)
    again = parse_split(ref.full, registry)
    assert again == ref
    assert again.full == ref.full


# Settings


def test_settings_that_equal_the_default_do_not_count(registry: Registry) -> None:
    ref = parse_split("mine/free", registry, {"size": "4", "noise": 0.5, "title": "plain"})
    assert (ref.full, dict(ref.given)) == ("mine/free", {})
    changed = parse_split("mine/free", registry, {"size": "8", "noise": 0.5})
    assert (changed.full, dict(changed.given)) == ("mine/free[size=8]", {"size": 8})
    assert changed.spec() == {"dataset": "mine", "version": 3, "split": "free", "rho": None, "parameters": {"size": 8}}


def test_settings_in_brackets_go_before_those_given_beside(registry: Registry) -> None:
    assert parse_split("mine/free[size=8]", registry, {"size": 6, "noise": 0.0}).full == "mine/free[noise=0.0,size=8]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sise": 3}, "Dataset 'mine' has no setting 'sise'. Did you mean 'size' or 'noise'? "),
        ({"size": 1}, "Setting size=1 of dataset 'mine': Input should be greater than or equal to 2."),
        ({"noise": float("nan")}, "Setting noise=nan of dataset 'mine': "),
        ({"size": "many"}, "Setting size='many' of dataset 'mine': Input should be a valid integer"),
    ],
)
def test_settings_that_are_refused(registry: Registry, given: dict[str, Any], expected: str) -> None:
    assert message("mine/free", registry, given).startswith(expected)


@pytest.mark.parametrize("text", ["mine/free[size]", "mine/free[size=]", "mine/free[size=6", "mine/free[size=6]x"])
def test_brackets_that_are_no_settings(registry: Registry, text: str) -> None:
    assert message(text, registry) == f"Expected dataset/split@rho[setting=value,...], found {text!r}."


def test_all_stands_for_every_rho(registry: Registry) -> None:
    assert [ref.full for ref in parse_splits("mine/main@all", registry)] == ["mine/main@1.0", "mine/main@0.75"]
    folds = parse_splits("phantom/field@all+carve", registry)
    assert len(folds) == len(RHOS) * 5 and len({ref.full for ref in folds}) == len(folds)
    assert message("phantom/clean@all", registry).startswith("Split phantom/clean takes no @rho")
    assert message("mine/main@all", registry) == "Expected one split, found 2 of 'mine/main@all'. Write: mine/main@1.0"


# Names that are refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("phantm/field", "Unknown dataset 'phantm'. Did you mean 'phantom'?"),
        ("/field", "Unknown dataset ''. Known: "),
        ("phantom/feild", "Dataset 'phantom' has no split 'feild'. Did you mean 'field'?"),
        ("phantom/", "Dataset 'phantom' has no split ''. Known: "),
        ("feild", "Unknown split 'feild'. Did you mean 'field'? Known: "),
        ("", "Unknown split ''. Known: "),
        ("phantom/field@0.7", "Expected one of @1.0, @0.99, @0.95, @0.9, @0.8, @0.5, @all, found 'phantom/field@0.7'."),
        ("phantom/field@", "Expected one of @1.0, "),
        ("phantom/field@much", "Expected one of @1.0, "),
        ("phantom/field@nan", "Expected one of @1.0, "),
        ("phantom/field@0.9@0.8", "Expected one of @1.0, "),
        ("mine/main@0.95", "Expected one of @1.0, @0.75, @all, found 'mine/main@0.95'."),
        ("phantom/clean@0.95", "Split phantom/clean takes no @rho, found 'phantom/clean@0.95'. Write: phantom/clean"),
        (
            "spurbreast/field@1.0",
            "Split spurbreast/field_strength takes no @rho, found 'spurbreast/field@1.0'. Write: ",
        ),
        ("phantom/field@1.0+join", "Expected one split, found 5 of 'phantom/field@1.0+join'. Write: phantom"),
        ("spurbreast/field+carv.0", "Unknown protocol 'carv' in 'spurbreast/field+carv.0'. Did you mean 'carve'?"),
        ("spurbreast/field+carve.5", "Expected +carve.0 to +carve.4, found 'spurbreast/field+carve.5'."),
        ("spurbreast/field+carve.00", "Expected +carve.0 to +carve.4, found "),
        ("phantom/clean+", "Unknown protocol '' in 'phantom/clean+'. Known: carve, join."),
    ],
)
def test_names_that_are_refused(text: str, expected: str, registry: Registry) -> None:
    assert message(text, registry).startswith(expected)


def test_a_bare_name_of_two_datasets_that_are_not_embedded_is_refused(tmp_path: Path) -> None:
    drafts = []
    for name in ("mine", "yours"):
        drafts.append(tmp_path / f"{name}.py")
        drafts[-1].write_text(DATASET.replace("EMBEDDED", "False").replace('"mine"', f'"{name}"'))
    found = message("only_here", Registry(tuple(drafts)))
    assert found == "Split 'only_here' could be mine/only_here and yours/only_here. Write the dataset too."


def test_an_embedded_dataset_goes_before_others(tmp_path: Path) -> None:
    drafts = []
    for name, embedded in (("mine", False), ("yours", True)):
        drafts.append(tmp_path / f"{name}.py")
        drafts[-1].write_text(DATASET.replace("EMBEDDED", str(embedded)).replace('"mine"', f'"{name}"'))
    ref = parse_split("only_here", Registry(tuple(drafts)))
    assert (ref.full, ref.embedded) == ("yours/only_here@0.75", True)


def test_a_split_of_a_broken_dataset_gives_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Mine(Dataset:\n")
    assert re.match(r"dataset 'mine' is broken: SyntaxError: ", message("mine/main", Registry((path,))))


# From the name to the table


def test_the_table_follows_from_the_spec(draft: Path, registry: Registry, tmp_path: Path) -> None:
    ref = parse_split("mine/main", registry, {"size": 6})
    split = ref.open(tmp_path)
    assert len(split.table.partitions["train"]) == 6
    assert split.sha256 == split.table.sha256()
    assert parse_split("mine/main", registry, {"size": 6}).open(tmp_path).sha256 == split.sha256


def test_a_dataset_without_its_files_is_refused(registry: Registry) -> None:
    ref: SplitRef = parse_split("mine/main", registry)
    with pytest.raises(SpurbenchError, match="Give it: --data mine=PATH"):
        _ = ref.open(None).table
