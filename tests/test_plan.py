from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.plan import Request, make_plan
from robustbench_spur.registry import Registry
from robustbench_spur.runner import off_board
from robustbench_spur.runtime import Runtime, choose_device, default_threads, numerics, require_writable
from robustbench_spur.types import SpurbenchError

METHODS = [plugin.name for plugin in Registry().entries("method")]
TWINS = '''
"""Two splits with the same rows, and images of their own."""
import numpy as np
from robustbench_spur import Dataset, Groups, Partition, SplitTable
from robustbench_spur.splits.base import tied_attributes


class Twins(Dataset):
    """Light and dark."""

    name = "twins"
    version = 1
    summary = "two splits with the same rows"
    splits = {"light": "white images", "dark": "black images"}
    tied = ("light", "dark")
    embedded = True
    image_size = 16
    shared_images = SHARED

    def table(self, split, rho):
        """One table."""
        parts, labels = {}, np.arange(40) % 2
        for name in ("train", "validation", "test"):
            share = rho if name != "test" else 0.5
            ids = np.array([f"{name}{n}" for n in range(40)])
            parts[name] = Partition(ids, labels, tied_attributes(labels, share, np.random.default_rng(0)), ids)
        return SplitTable(Groups(("a", "b"), "x", ("0", "1")), parts)

    def pixels(self, split, partition, size):
        """One block."""
        yield np.full((len(partition), 1, size, size), 255 if split == "light" else 0, np.uint8)
'''


def kinds(plan: Any) -> list[str]:
    return [stage.kind for stage in plan.stages()]


def trainings(plan: Any) -> list[str]:
    return [stage.title.removesuffix(", seed 0") for stage in plan.stages() if stage.kind == "train"]


def titles(plan: Any) -> list[tuple[str, str, int]]:
    cells = [cell.spec for cell in plan.cells]
    return [(spec.plugin.name, spec.split.ref.full.split("[")[0], spec.seed) for spec in cells]


# what is planned


def test_cells_are_every_method_on_every_split_with_every_seed(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("erm", "jtt"), splits=("field", "clean"), seeds=(0, 1)))
    assert titles(plan) == [
        (method, split, seed)
        for split in ("phantom/field@0.95", "phantom/clean")
        for method in ("erm", "jtt")
        for seed in (0, 1)
    ]


def test_what_is_named_twice_is_planned_once(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("erm", "erm"), splits=("field", "field@0.95", "clean"), seeds=(1, 1)))
    assert titles(plan) == [("erm", "phantom/field@0.95", 1), ("erm", "phantom/clean", 1)]


def test_bare_split_names_are_told_with_what_they_mean(request_for: Any) -> None:
    splits = ("field", "field@0.95", "phantom/clean", "orientation@0.5")
    resolved = make_plan(request_for(splits=splits, split_settings={})).resolved
    assert resolved == {
        "field": "phantom/field@0.95",
        "field@0.95": "phantom/field@0.95",
        "orientation@0.5": "phantom/orientation@0.5",
    }


def test_all_means_every_method_and_the_boards_splits_that_have_data(home: Home) -> None:
    plan = make_plan(Request(methods=("all",), splits=("all",), device="cpu", home=home))
    board = [pin.name for pin in load_manifest("v1").splits]
    present = [name for name in board if name.startswith("phantom/")]
    assert [(split, method) for method, split, _ in titles(plan)] == [(s, m) for s in present for m in METHODS]
    assert list(plan.skipped) == [name for name in board if name not in present]
    assert plan.skipped["digits/colour@0.95"] == "no data: give --data digits=PATH"


def test_the_boards_budget_is_used_unless_changed(home: Home) -> None:
    board = load_manifest("v1").setups["phantom"]
    spec = make_plan(Request(methods=("erm",), splits=("clean",), device="cpu", home=home)).cells[0].spec
    assert spec.training == board.training
    assert (spec.backbone, spec.image_size, spec.pretrained) == (board.backbone, board.image_size, board.pretrained)


def test_a_default_that_is_a_share_follows_the_budget(request_for: Any) -> None:
    def epochs(count: int) -> int:
        cell = make_plan(request_for(methods="jtt", settings={"epochs": count})).cells[0]
        return int(cell.spec.method.hyper.id_epochs)

    assert [epochs(count) for count in (1, 4, 8, 10)] == [1, 1, 2, 3]


def test_settings_override_a_preset_which_overrides_defaults(request_for: Any) -> None:
    request = request_for(methods="jtt", preset="waterbirds", settings={"upweight": "7", "epochs": 3})
    spec = make_plan(request).cells[0].spec
    assert (spec.method.hyper.upweight, spec.method.hyper.id_epochs, spec.training.epochs) == (7, 60, 3)
    assert spec.given == {"id_epochs": 60, "upweight": 7, "epochs": 3}


def test_planning_writes_nothing(request_for: Any, home: Home) -> None:
    make_plan(request_for(methods=("dfr", "jtt"), splits=("field", "clean")))
    assert not home.root.exists()


# what is shared


def test_epochs_to_compute_and_without_sharing(request_for: Any, home: Home) -> None:
    """ERM's two are DFR's as well, and JTT's identification run is the first of them; without sharing each has its own."""
    names = ("dfr", "erm", "jtt")
    request = request_for(methods=names, settings={"epochs": 2, "id_epochs": 1})
    assert make_plan(request).epochs() == (2 + 2, 2 + 2 + (1 + 2))
    assert make_plan(request_for(methods="jtt", settings={"epochs": 2, "id_epochs": 1})).epochs() == (1 + 2, 3)


def test_dfr_and_erm_share_one_training(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("dfr", "erm")))
    assert trainings(plan) == ["train erm, 2 epochs"]
    training = next(stage for stage in plan.stages() if stage.kind == "train")
    assert plan.users()[training.key] == 2
    assert len({stage.key for stage in plan.stages()}) == len(plan.stages())


def test_jtt_identifies_with_a_prefix_of_erms_training(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("erm", "jtt")))
    assert trainings(plan) == ["train erm, 2 epochs", "train erm, 1 epochs", "train jtt, 2 epochs"]
    whole, prefix, second = (stage.spec for stage in plan.stages() if stage.kind == "train")
    assert whole["trajectory"] == prefix["trajectory"] != second["trajectory"]


def test_a_schedule_with_a_horizon_makes_the_prefix_another_training(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("erm", "jtt"), settings={"epochs": 4, "schedule": "cosine"}))
    whole, prefix, _ = (stage.spec["trajectory"] for stage in plan.stages() if stage.kind == "train")
    assert whole != prefix


def test_splits_share_the_images_of_equal_partitions(request_for: Any) -> None:
    plan = make_plan(request_for(splits=("field@0.8", "field@1.0", "clean")))
    names = [stage.spec["partition"] for stage in plan.stages() if stage.kind == "pixels"]
    assert {name: names.count(name) for name in set(names)} == {"train": 3, "validation": 3, "adapt": 1, "test": 1}


@pytest.mark.parametrize(("shared", "tests", "trains"), [(False, 2, 3), (True, 1, 2)])
def test_splits_with_the_same_rows_share_images_only_where_the_dataset_says_so(
    request_for: Any, tmp_path: Path, shared: bool, tests: int, trains: int
) -> None:
    """The images of the dark split must not stand in for the light one's; rhos of one split share the test."""
    place = tmp_path / "twins.py"
    place.write_text(TWINS.replace("SHARED", str(shared)), encoding="utf-8")
    splits = ("twins/light@0.9", "twins/dark@0.9", "twins/dark@0.8")
    plan = make_plan(request_for(splits=splits, split_settings={}, plugin_files=(place,)))
    names = [str(stage.spec["partition"]) for stage in plan.stages() if stage.kind == "pixels"]
    assert (names.count("test"), names.count("train")) == (tests, trains)


def test_methods_share_images_and_seeds_do_not_share_trainings(request_for: Any) -> None:
    plan = make_plan(request_for(methods=("erm", "groupdro"), seeds=(0, 1)))
    assert kinds(plan).count("pixels") == 4
    assert kinds(plan).count("train") == 4


# identity


def test_a_seed_changes_the_cell_and_not_the_configuration(request_for: Any) -> None:
    first, second = make_plan(request_for(seeds=(0, 1))).cells
    assert first.spec.identity.sha256 == second.spec.identity.sha256
    assert first.key != second.key


@pytest.mark.parametrize(
    "change",
    [
        {"methods": "jtt"},
        {"splits": "field@1.0"},
        {"splits": "clean"},
        {"settings": {"epochs": 3, "batch_size": 16}},
        {"split_settings": {}},
        {"image_size": 24},
        {"backbone": "resnet18", "image_size": 32},
        {"selection": "validation_accuracy"},
    ],
    ids=str,
)
def test_what_a_user_changes_changes_the_configuration(request_for: Any, change: dict[str, Any]) -> None:
    plain, changed = (make_plan(request_for(**c)).cells[0] for c in ({}, change))
    assert plain.spec.identity.sha256 != changed.spec.identity.sha256
    assert plain.key != changed.key


def test_more_evaluators_than_the_boards_stay_on_the_board_fewer_do_not(request_for: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur import Evaluator

        class Mine(Evaluator):
            name = "mine"
            version = 1
            metrics = {}
        """
    )
    board = [pin.name for pin in load_manifest().evaluators]
    for asked, more in (("board", []), (("mine", "board"), ["mine"]), (("mine", *reversed(board)), ["mine"])):
        (cell,) = make_plan(request_for(evaluators=asked, plugin_files=(path,))).cells
        assert [pin.name for pin in cell.spec.evaluators] == [*board, *more]
        assert not [text for text in off_board(cell.spec, degenerate=False) if "measured" in text]
    (cell,) = make_plan(request_for(evaluators="all", plugin_files=(path,))).cells
    assert {pin.name for pin in cell.spec.evaluators} == {
        plugin.name for plugin in Registry((path,)).entries("evaluator")
    }
    (cell,) = make_plan(request_for(evaluators=board[1:])).cells
    assert f"not measured by the board's {board[0]}" in off_board(cell.spec, degenerate=False)


def test_other_evaluators_make_another_cell_of_the_same_configuration(request_for: Any) -> None:
    plain, fewer = (make_plan(request_for(**c)).cells[0] for c in ({}, {"evaluators": "ece"}))
    assert plain.spec.identity.sha256 == fewer.spec.identity.sha256
    assert plain.key != fewer.key


def test_settings_that_equal_the_default_change_nothing(request_for: Any) -> None:
    plain, stated = (
        make_plan(request_for(methods="jtt", split_settings=s, settings=m)).cells[0]
        for s, m in (({}, {}), ({"train_patients": "1000"}, {"upweight": "20"}))
    )
    assert plain.key == stated.key


@pytest.mark.parametrize("kind", ["method", "evaluator", "dataset"])
def test_editing_a_draft_makes_another_cell(request_for: Any, draft: Any, kind: str) -> None:
    sources = {
        "method": (
            "from robustbench_spur.methods.erm import ERM\nclass A(ERM):\n    name='a1'\n    version=1\n    needs=()\n"
        ),
        "evaluator": (
            "from robustbench_spur import Evaluator\n"
            "class A(Evaluator):\n    name='a1'\n    version=1\n    metrics={}\n    partitions=('test',)\n"
        ),
        "dataset": (
            "from robustbench_spur.splits.phantom import Phantom\n"
            "class A(Phantom):\n    name='a1'\n    version=1\n    splits={'clean': 'x', 'field': 'y', 'orientation': 'z'}\n"
            "    tied=('field', 'orientation')\n    embedded=True\n"
        ),
    }
    option = {"method": {"methods": "a1"}, "evaluator": {"evaluators": "a1"}, "dataset": {"splits": "a1/clean"}}[kind]

    def key() -> str:
        return make_plan(request_for(plugin_files=(path,), **option)).cells[0].key

    path = draft(sources[kind])
    before = key()
    assert before == key()
    draft(sources[kind] + "# changed\n")
    assert before != key()


# applicability


def test_a_method_whose_group_is_empty_does_not_run(request_for: Any) -> None:
    cell = make_plan(request_for(methods="groupdro", splits="field@1.0")).cells[0]
    assert cell.reason == "groups clear@1.5T and tumour@3T have no training patients"
    assert (cell.stages, cell.degenerate) == (None, False)


def test_force_runs_it_as_degenerate(request_for: Any) -> None:
    plain, forced = (
        make_plan(request_for(methods="groupdro", splits="field@1.0", force=force)).cells[0] for force in (False, True)
    )
    assert forced.degenerate
    assert forced.stages is not None
    assert forced.key != plain.key


def test_force_changes_nothing_where_a_method_is_applicable(request_for: Any) -> None:
    plain, forced = (make_plan(request_for(force=force)).cells[0] for force in (False, True))
    assert plain.key == forced.key
    assert not forced.degenerate


# plugins that fail


def test_a_fit_that_fails_fails_its_own_cell_only(request_for: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur.methods.erm import ERM

        class Peeping(ERM):
            name = "peeping"
            version = 1
            needs = ()

            def fit(self, task):
                model = task.train(ERM())
                task.outputs(model, "test")
                return model
        """
    )
    erm, peeping = make_plan(request_for(methods=("erm", "peeping"), plugin_files=(path,))).cells
    assert erm.stages is not None
    assert peeping.stages is None
    assert peeping.error is not None
    assert peeping.error.type == "HiddenError"
    assert "partition 'test'" in peeping.error.message


@pytest.mark.parametrize(
    ("result", "found"),
    [("None", "NoneType"), ("'x'", "str"), ("task.outputs(task.train(self), 'train')", "a stage of kind 'outputs'")],
)
def test_a_fit_that_gives_no_model_fails_its_cell(request_for: Any, draft: Any, result: str, found: str) -> None:
    path = draft(f"from robustbench_spur import Method\n{CLASS}    def fit(self, task):\n        return {result}\n")
    (cell,) = make_plan(request_for(methods="mine", plugin_files=(path,))).cells
    assert cell.error is not None
    assert f"what task.train or task.replace_head gave, found {found}" in cell.error.message


def test_broken_methods_are_left_out_of_all_with_the_reason(request_for: Any, draft: Any) -> None:
    required = (
        "from robustbench_spur import Hyperparameters\nclass Needy(Hyperparameters):\n    much: int\n"
        + CLASS.replace('"mine"', '"needy"')
        + "    Hyperparameters = Needy\n"
    )
    files = (
        draft("import nothing_of_this_name\n" + CLASS, "imports.py"),
        draft("def (", "syntax.py"),
        draft(required, "needy.py"),
    )
    plan = make_plan(request_for(methods="all", plugin_files=files))
    assert [method for method, _, _ in titles(plan)] == METHODS
    assert "No module named 'nothing_of_this_name'" in plan.broken["mine"]
    assert "SyntaxError" in plan.broken["syntax"]
    assert "field required" in plan.broken["needy"]


CLASS = """
from robustbench_spur import Method
class Mine(Method):
    name = "mine"
    version = 1
    needs = ()
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name\n" + CLASS, "'mine' is broken: ModuleNotFoundError"),
        (CLASS + "    every_group_in = tuple(['train'])\n", "as a literal"),
        ("class Mine:\n    name = 'mine'\n    version = 1\n", "does not derive from robustbench_spur.method.Method"),
        (
            CLASS + "    def __init__(self, hyper): raise ValueError('no luck')\n",
            "'mine' is broken: ValueError: no luck",
        ),
    ],
)
def test_a_broken_method_that_is_asked_for_is_an_error(request_for: Any, draft: Any, text: str, message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        make_plan(request_for(methods=("mine",), plugin_files=(draft(text),)))


# bad requests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": "grupdro"}, "Unknown method 'grupdro'. Did you mean 'groupdro'"),
        ({"splits": "feild"}, "Unknown split 'feild'. Did you mean 'field'"),
        ({"splits": "phantom/feild"}, "Dataset 'phantom' has no split 'feild'. Did you mean 'field'"),
        ({"splits": "fantom/field"}, "Unknown dataset 'fantom'. Did you mean 'phantom'"),
        ({"splits": "field@0.97"}, "Expected one of @1.0, @0.99, @0.95"),
        ({"splits": "field@nan"}, "Expected one of @1.0"),
        ({"splits": "clean@0.95"}, "takes no @rho"),
        ({"splits": "digits/colour", "split_settings": {}}, "--data digits=PATH"),
        ({"evaluators": "pdg"}, "Unknown evaluator 'pdg'. Did you mean 'pgd'"),
        ({"settings": {"epoch": 3}}, "erm has no setting 'epoch'. Did you mean 'epochs'"),
        ({"methods": "all", "settings": {"etta": 3}}, "None of these methods has a setting 'etta'. Did you mean 'eta'"),
        ({"settings": {"epochs": 0}}, "epochs=0 of training: input should be greater than or equal to 1"),
        ({"settings": {"epochs": 2.5}}, "epochs=2.5 of training: input should be a valid integer"),
        ({"settings": {"epochs": "many"}}, "epochs='many' of training"),
        ({"settings": {"learning_rate": float("nan")}}, "learning_rate=nan of training: input should be a finite"),
        ({"settings": {"learning_rate": float("inf")}}, "learning_rate=inf of training: input should be a finite"),
        ({"settings": {"optimizer": "adan"}}, "optimizer='adan' of training: input should be 'adamw', 'adam' or 'sgd'"),
        ({"methods": "jtt", "settings": {"upweight": 0}}, "upweight=0 of jtt.*spurbench describe jtt"),
        ({"methods": "jtt", "settings": {"upweight": None}}, "upweight=None of jtt: input should be a valid integer"),
        ({"split_settings": {"train_patient": 4}}, "Dataset 'phantom' has no setting 'train_patient'. Did you mean"),
        ({"split_settings": {"train_patients": 5}}, "train_patients=5 of dataset 'phantom': .*multiple of 2"),
        ({"splits": "all", "split_settings": {"nothing": 4}}, "has no setting 'nothing'"),
        ({"seeds": (-1,)}, "Expected seeds from 0 to 2147483647, found -1"),
        ({"seeds": (2**31,)}, "Expected seeds from 0"),
        ({"seeds": ("0",)}, "Expected seeds from 0 to 2147483647, found '0'"),
        ({"seeds": ()}, "at least one seed"),
        ({"preset": "celebb"}, "Method 'erm' has no preset 'celebb'"),
        ({"methods": "jtt", "preset": "celebb"}, "Method 'jtt' has no preset 'celebb'. Did you mean 'celeba'"),
        ({"backbone": "resnet51"}, "Unknown backbone 'resnet51'. Did you mean .*resnet50"),
        ({"backbone": "vit_tiny_patch16_224"}, "'vit_tiny_patch16_224' takes no images of 16 x 16 pixels"),
        ({"pretrained": True}, "'smallcnn' has no published weights"),
        ({"image_size": 0}, "Expected an image size from 8 to 4096 pixels, found 0"),
        ({"image_size": -3}, "Expected an image size from 8 to 4096 pixels, found -3"),
        ({"image_size": 100_000}, "Expected an image size from 8 to 4096 pixels, found 100000"),
        ({"image_size": 12}, "Expected an image size of at least 16 pixels, found 12"),
        ({"selection": "best"}, "Unknown selection rule 'best'. Known: last, validation_accuracy"),
        ({"selection": "lst"}, "Did you mean 'last'"),
        ({"board": "v0"}, "Unknown board 'v0'. Known: v1"),
        ({"data": {"digits": Path("/nothing/here")}}, "Expected the 'digits' data at /nothing/here"),
        ({"data": {"digit": Path("/")}}, "Unknown dataset 'digit'. Did you mean 'digits'"),
        ({"device": "gpu"}, "Expected a device among auto, cpu, cuda, mps"),
        ({"device": "cuda:one"}, "'cuda:one' is not available here"),
        ({"device": "cuda:99"}, "'cuda:99' is not available here"),
        ({"device": "cpu:1"}, "'cpu:1' is not available here"),
        ({"plugin_files": (Path("/nothing/mine.py"),)}, "Expected a plugin file at /nothing/mine.py"),
        ({"plugin_files": (Path("/"),)}, "Expected a plugin file at /"),
        ({"weights": Path("/nothing/w.safetensors")}, "Expected a safetensors file at /nothing.*--weights"),
        ({"checkpoints": {"erm": Path("/nothing/w")}}, "Expected a safetensors file at /nothing.*--checkpoint"),
        ({"checkpoints": {"emr": Path("/nothing/w")}}, "Unknown method 'emr'. Did you mean 'erm'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_request_that_cannot_be_carried_out(request_for: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message) as caught:
        make_plan(request_for(**change))
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("option", ["weights", "checkpoints"])
def test_weights_that_are_no_safetensors(request_for: Any, tmp_path: Path, option: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(SpurbenchError, match=r"Expected a safetensors file, found .*weights.pt: .* Check --"):
        make_plan(request_for(**{option: path if option == "weights" else {"erm": path}}))


def test_a_table_that_cannot_be_made_is_an_error(request_for: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur.splits.phantom import Phantom

        class Odd(Phantom):
            name = "odd"
            version = 1
            splits = {"field": "", "orientation": "", "clean": ""}
            tied = ("field", "orientation")
            embedded = True

            def table(self, split, rho):
                return 1 / 0
        """
    )
    with pytest.raises(SpurbenchError, match=r"rows of odd/clean.* cannot be read: ZeroDivisionError"):
        make_plan(request_for(splits="odd/clean", plugin_files=(path,)))


def test_a_corrupt_first_image_is_found_before_the_work_begins(request_for: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur.splits.phantom import Phantom

        class Odd(Phantom):
            name = "odd"
            version = 1
            splits = {"field": "", "orientation": "", "clean": ""}
            tied = ("field", "orientation")
            embedded = True

            def pixels(self, split, partition, size):
                raise OSError("bad sector")
        """
    )
    with pytest.raises(SpurbenchError, match=r"first image of odd/clean.* cannot be made: OSError: bad sector"):
        make_plan(request_for(splits="odd/clean", plugin_files=(path,)))


ODD_DATASET = """
import numpy as np
from robustbench_spur import SplitTable
from robustbench_spur.splits.phantom import Phantom

class Odd(Phantom):
    name = "odd"
    version = 1
    splits = {"field": "", "orientation": "", "clean": ""}
    tied = ("field", "orientation")
    embedded = True

"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def fingerprint(self): return 3", "Expected a text as the fingerprint of odd/clean"),
        ("def fingerprint(self): raise OSError('no disk')", "odd/clean.* cannot be read: OSError: no disk"),
        ("channels = 3", r"Expected uint8 blocks of \(3, 16, 16\) from odd/clean"),
        ("def pixels(self, *_): return None", "first image of odd/clean.* cannot be made: TypeError"),
        (
            "def table(self, split, rho):\n        t = super().table(split, rho)\n        none = np.array([], int)\n"
            "        return SplitTable(t.groups, {**t.partitions, 'test': t.partitions['test'].take(none)})",
            "Expected examples in the test partition of odd/clean.*, found none",
        ),
    ],
)
def test_a_dataset_that_is_not_in_order(request_for: Any, draft: Any, body: str, message: str) -> None:
    path = draft(f"{ODD_DATASET}    {body}\n")
    with pytest.raises(SpurbenchError, match=message):
        make_plan(request_for(splits="odd/clean", plugin_files=(path,)))


@pytest.mark.parametrize("name", ["logits", "ids", "pgd_rows"])
def test_an_evaluator_that_collects_under_a_name_that_is_taken(request_for: Any, draft: Any, name: str) -> None:
    path = draft(
        f"""
        from robustbench_spur import Evaluator

        class Mine(Evaluator):
            name = "mine"
            version = 1
            metrics = {{}}
            collects = ({name!r},)
        """
    )
    with pytest.raises(SpurbenchError, match=f"Evaluator 'mine' collects '{name}', a name that is taken"):
        make_plan(request_for(evaluators=("pgd", "mine"), plugin_files=(path,)))


# weights


def test_own_weights_take_the_place_of_published_ones(request_for: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path)
    request = request_for(backbone="resnet18", image_size=32, pretrained=True, weights=path)
    spec = make_plan(request).cells[0].spec
    assert not spec.pretrained
    assert spec.weights_sha256 is not None


def test_a_checkpoint_stands_in_for_the_training_that_it_names(request_for: Any, tmp_path: Path) -> None:
    path = tmp_path / "erm.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path)
    plan = make_plan(request_for(methods=("dfr", "erm", "groupdro"), checkpoints={"erm": path}))
    assert trainings(plan) == ["train groupdro, 2 epochs"]
    assert kinds(plan).count("import") == 1
    assert all("checkpoints" in cell.spec.identity.network for cell in plan.cells)


# devices and the home


def test_a_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == choose_device("cpu:0").split(":")[0] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(SpurbenchError, match="Device 'cuda' is not available here"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(SpurbenchError, match="'cuda:2' is not available"):
        choose_device("cuda:2")


def test_the_number_of_a_device_is_no_part_of_a_result() -> None:
    assert numerics("cuda:1") == numerics("cuda") == {"device": "cuda", "precision": "bfloat16"}
    assert numerics("cpu") == {"device": "cpu", "precision": "float32"}


@pytest.mark.parametrize(("given", "threads"), [("1", 1), ("0", None), ("", None), ("2,1", None), ("100000", None)])
def test_threads_follow_the_environment_up_to_what_there_is(
    monkeypatch: pytest.MonkeyPatch, home: Home, given: str, threads: int | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    everything = default_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert Runtime(home).threads == (threads or everything)


def test_a_home_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SpurbenchError, match=f"written to at {place}, found none .*Set SPURBENCH_HOME"):
            require_writable(Home(place))
    require_writable(Home(tmp_path / "new" / "home"))
    assert list((tmp_path / "new" / "home").iterdir()) == []
