import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open

from robustbench_spur import engine, methods
from robustbench_spur.cli import VERBS
from robustbench_spur.cli.options import as_json, literal, pairs
from robustbench_spur.cli.progress import Terminal
from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.plan import make_plan
from robustbench_spur.record import RecordStore
from robustbench_spur.registry import Registry
from robustbench_spur.types import SpurbenchError
from tests.conftest import BASIC

CHECKOUT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from robustbench_spur.cli import main; raise SystemExit(main())"]
FIELD = "phantom/field@0.95"


def in_process_of_its_own(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **options.pop("env", {})}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120, **options
    )


def refused(ended: Any, message: str) -> None:
    """Bad input: exit code 2, one or two lines on standard error, no traceback."""
    notes, _, error = ended.err.rpartition("spurbench: ")
    assert ended.code == 2
    assert message in error
    assert error.count("\n") <= 2
    assert all(" means " in line for line in notes.splitlines())


# help


def test_help_names_every_verb(spurbench: Any) -> None:
    for arguments in ((), ("--help",)):
        ended = spurbench(*arguments)
        assert ended.code == 0
        assert all(verb in ended.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(spurbench: Any, verb: str) -> None:
    ended = spurbench(verb, "--help")
    assert ended.code == 0
    assert f"spurbench {verb}" in ended.out


def test_version(spurbench: Any) -> None:
    ended = spurbench("--version")
    assert (ended.code, ended.out.split()[0]) == (0, "spurbench")


@pytest.mark.parametrize("arguments", [("list", "--json"), ("describe", "groupdro"), ("run", "--help"), ("--version",)])
def test_what_only_reads_the_sources_imports_no_torch(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom robustbench_spur.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'scipy', 'sklearn', 'timm'} & sys.modules.keys()\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scoring_and_rendering_import_no_torch(finished: Home, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom robustbench_spur.cli import main\n"
        f"assert main(['leaderboard']) == main(['status']) == main(['leaderboard', '--html', {str(tmp_path / 'p')!r}]) == 0\n"
        "raise SystemExit('imported torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# list and describe


def test_list_json_has_the_promised_keys(spurbench: Any) -> None:
    rows = spurbench("list", "--json").rows
    for row in rows:
        assert {"name", "kind", "version", "origin", "status", "reason"} <= row.keys()
    names = {kind: {row["name"] for row in rows if row["kind"] == kind} for kind in ("method", "split", "evaluator")}
    assert names["method"] >= {"erm", "groupdro", "jtt", "dfr"}
    assert names["split"] >= {"phantom/field", "phantom/orientation", "phantom/clean", "digits/colour", "xray/tag"}
    assert names["evaluator"] >= {"worst_group", "ece", "pgd"}


@pytest.mark.parametrize("kind", ["methods", "splits", "evaluators"])
def test_list_of_one_kind(spurbench: Any, kind: str) -> None:
    rows = spurbench("list", kind, "--json").rows
    assert {row["kind"] for row in rows} == {kind.removesuffix("s")}
    table = spurbench("list", kind)
    assert table.code == 0
    assert all(row["name"] in table.out for row in rows)


def test_splits_that_need_data_say_how_to_give_them(spurbench: Any) -> None:
    rows = {row["name"]: row for row in spurbench("list", "splits", "--json").rows}
    assert (rows["digits/colour"]["status"], rows["phantom/field"]["status"]) == ("needs_data", "ok")
    assert rows["digits/colour"]["reason"] == "give --data digits=PATH"


def test_list_check_imports_everything(spurbench: Any) -> None:
    ended = spurbench("list", "--check", "--json")
    assert ended.code == 0
    assert {row["status"] for row in ended.rows} == {"ok", "needs_data"}


BROKEN = {
    "syntax": ("def (", "SyntaxError", False),
    "bytes": ("x = '\0'", "null bytes", False),
    "imports": (
        "import nothing_of_this_name\nfrom robustbench_spur.methods.erm import ERM\n"
        "class A(ERM):\n    name = 'imports'\n    version = 1\n    needs = ()\n",
        "No module named 'nothing_of_this_name'",
        True,
    ),
    "exits": (
        "raise SystemExit(3)\nfrom robustbench_spur.methods.erm import ERM\n"
        "class A(ERM):\n    name = 'exits'\n    version = 1\n    needs = ()\n",
        "SystemExit",
        True,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_the_others_work(
    spurbench: Any, draft: Any, home: Home, tiny: list[str], name: str
) -> None:
    text, reason, only_when_imported = BROKEN[name]
    path = draft(text, f"{name}.py")
    check = ["--check"] if only_when_imported else []
    ended = spurbench("list", "methods", "--plugin", path, "--json", *check)
    assert ended.code == (1 if check else 0)
    states = {row["name"]: row["status"] for row in ended.rows}
    assert (states[name], states["erm"]) == ("broken", "ok")
    assert reason in next(row["reason"] for row in ended.rows if row["name"] == name)
    assert reason in " ".join(spurbench("list", "methods", "--plugin", path, *check).out.split())
    ran = spurbench("run", "--method", "erm", "--split", "field", "--plugin", path, *tiny, "--evaluator", "ece")
    assert ran.code == 0
    refused(spurbench("run", "--method", name, "--split", "field", "--plugin", path, *tiny), "is broken")


def test_broken_methods_among_all_are_told_last(
    spurbench: Any, draft: Any, home: Home, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # two methods stand for all that are built in
    for name in ("erm", "jtt"):
        (tmp_path / f"{name}.py").write_bytes((Path(methods.__path__[0]) / f"{name}.py").read_bytes())
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])
    path = draft(BROKEN["imports"][0], "imports.py")
    ended = spurbench("run", "--split", "field", "--plugin", path, *tiny)
    assert ended.code == 1
    assert "LEFT OUT imports:" in ended.err.strip().splitlines()[-1]
    done = {(r.method.name, r.status) for r in RecordStore(home.records, home.predictions)}
    assert done == {("erm", "done"), ("jtt", "done")}


@pytest.mark.parametrize("name", ["erm", "groupdro", "jtt", "dfr", "worst_group", "ece", "pgd", "phantom", "digits"])
def test_describe(spurbench: Any, name: str) -> None:
    (one,) = spurbench("describe", name, "--json").rows
    assert one["name"] == name
    assert one["doc"]
    assert one["source"]
    file, line = one["where"].rsplit(":", 1)
    assert "class " in Path(file).read_text().splitlines()[int(line) - 1]
    text = spurbench("describe", name)
    assert text.code == 0
    assert one["where"] in text.out
    assert all(setting["name"] in text.out for setting in one["settings"])


def test_describe_says_what_a_method_needs_and_can_be_set_to(spurbench: Any) -> None:
    (one,) = spurbench("describe", "groupdro", "--json").rows
    assert (one["needs"], one["track"], one["every_group_in"]) == (["train_attributes"], "train", ["train"])
    eta = next(setting for setting in one["settings"] if setting["name"] == "eta")
    assert (eta["default"], eta["range"], eta["type"]) == (0.01, "> 0", "float")
    assert eta["search"] == "LogUniform(low=0.001, high=0.1)"
    assert "Sagawa" in one["source"]
    assert "Deviations:" in one["doc"]


def test_describe_a_split_and_several_at_once(spurbench: Any) -> None:
    rows = spurbench("describe", "field", "phantom/clean", "jtt", "--json").rows
    assert [row["name"] for row in rows] == ["phantom", "phantom", "jtt"]


def test_describe_the_training_budget(spurbench: Any) -> None:
    """What an error about a setting of the budget points at."""
    (one,) = spurbench("describe", "training", "--json").rows
    settings = {setting["name"]: setting for setting in one["settings"]}
    assert settings["epochs"]["range"] == ">= 1"
    assert settings["optimizer"]["type"] == "adamw | adam | sgd"
    assert "learning_rate" in spurbench("describe", "training").out


# run


def test_run_says_what_it_does_and_ends_with_the_table_and_the_page(
    spurbench: Any, home: Home, tiny: list[str]
) -> None:
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny)
    assert ended.code == 0
    assert "field means phantom/field@0.95[" in ended.err
    assert "train erm, 2 epochs, seed 0: " in ended.err
    assert ": done\n" in ended.err
    assert "worst" in ended.out
    page = Path(ended.err.strip().splitlines()[-1].removeprefix("Page: "))
    assert page.is_relative_to(home.root)
    assert "<html" in page.read_text()


def test_a_second_run_does_nothing_and_says_so(
    spurbench: Any, home: Home, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spurbench("run", "--method", "erm", "--split", "field", *tiny)
    monkeypatch.setattr(engine, "execute", lambda *_: pytest.fail("it computed"))
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny)
    assert ended.code == 0
    assert "Nothing to do: every cell is done." in ended.err
    assert "done already" in ended.err


def test_again_runs_it_once_more(spurbench: Any, home: Home, tiny: list[str]) -> None:
    for options in ([], ["--again"]):
        assert spurbench("run", "--method", "erm", "--split", "field", *tiny, *options).code == 0
    assert len(list(home.records.iterdir())) == 2


def test_dry_run_shows_the_plan_and_computes_nothing(spurbench: Any, home: Home, tiny: list[str]) -> None:
    options = ["--method", "dfr", "erm", "groupdro", "jtt", "--split", "field", "field@1.0", *tiny, "--dry-run"]
    ended = spurbench("run", *options)
    assert ended.code == 0
    assert not home.root.exists()
    text = " ".join(ended.out.split())
    assert "7 of 8 cells to run" in text
    assert "not applicable" in text
    assert "saved by sharing" in text
    assert "field means" in ended.err


def test_dry_run_shows_what_is_there_already(spurbench: Any, finished: Home, tiny: list[str]) -> None:
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny, "--dry-run")
    assert "0 of 1 cells to run: 0 stages to compute" in " ".join(ended.out.split())
    assert "done already" in " ".join(ended.out.split())
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny, "--dry-run", "--again")
    assert "1 of 1 cells to run: 0 stages to compute" in " ".join(ended.out.split())


FAILING = """
from robustbench_spur.methods.erm import ERM

class Mine(ERM):
    name = "mine"
    version = 1
    needs = ()

    def loss(self, model, batch):
        raise ValueError("out of luck")
"""


def test_failures_are_listed_last_and_the_exit_code_is_1(
    spurbench: Any, home: Home, draft: Any, tiny: list[str]
) -> None:
    path = draft(FAILING)
    ended = spurbench("run", "--method", "mine", "erm", "--split", "field", "--plugin", path, *tiny)
    assert ended.code == 1
    *_, failed, count = ended.err.strip().splitlines()
    assert failed.startswith("FAILED mine on phantom/field@0.95")
    assert failed.endswith("train mine, 2 epochs, seed 0: out of luck")
    assert count.startswith("1 of 2 cells failed.")
    assert "Traceback" not in ended.err
    states = {r.method.name: r.status for r in RecordStore(home.records, home.predictions)}
    assert states == {"mine": "failed", "erm": "done"}


def test_not_applicable_is_no_failure(spurbench: Any, home: Home, tiny: list[str]) -> None:
    ended = spurbench("run", "--method", "groupdro", "--split", "field@1.0", *tiny)
    assert ended.code == 0
    assert "not applicable: groups clear@1.5T and tumour@3T have no training patients" in ended.err
    forced = spurbench("run", "--method", "groupdro", "--split", "field@1.0", *tiny, "--force")
    assert forced.code == 0
    assert "forced where it is not applicable" in " ".join(forced.out.split())


def test_ctrl_c_ends_with_130_and_a_run_that_goes_on(
    spurbench: Any, home: Home, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = iter(range(100))

    def progress(self: Any, stage: Any, done: int, total: int) -> None:
        if next(reports) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Terminal, "progress", progress)
        ended = spurbench("run", "--method", "erm", "--split", "field", *tiny)
    assert ended.code == 130
    assert "stopped. What was finished is kept" in ended.err
    assert "Traceback" not in ended.err
    assert spurbench("run", "--method", "erm", "--split", "field", *tiny).code == 0


def test_all_splits_are_those_of_the_board_that_have_data(spurbench: Any, home: Home, tiny_board: str) -> None:
    basic = ["--method", *BASIC]
    ended = spurbench("run", *basic, "--board", tiny_board, "--device", "cpu", "--seed", "0", "1")
    assert ended.code == 0
    assert "left out digits/colour@0.95: no data: give --data digits=PATH" in ended.err
    found = list(RecordStore(home.records, home.predictions))
    assert len(found) == 4 * 2 * 2
    assert {r.off_board for r in found} == {()}
    rows = spurbench("leaderboard", "--board", tiny_board, "--json").rows
    field = {row["method"]: row for row in rows if row["split"].startswith("phantom/field@0.95")}
    assert {row["status"] for row in field.values()} == {"ranked"}
    assert {tuple(row["seeds"]) for row in field.values()} == {(0, 1)}
    assert all(1 <= row["rank"] <= row["rank_high"] for row in field.values())
    assert field["erm"]["difference_from_baseline"]["reason"] == "the baseline itself"
    states = spurbench("status", *basic, "--board", tiny_board, "--json").rows
    count = {state: sum(row["status"] == state for row in states) for state in ("done", "not_applicable", "missing")}
    assert count == {"done": 14, "not_applicable": 2, "missing": 8}
    page = spurbench("leaderboard", "--board", tiny_board, "--html")
    assert page.code == 0
    assert "groupdro" in Path(page.out.strip()).read_text()


def test_progress_on_a_terminal_is_a_bar(request_for: Any, draft: Any) -> None:
    slow = FAILING.replace('raise ValueError("out of luck")', "time.sleep(0.1); return super().loss(model, batch)")
    screen = StringIO()
    terminal = Terminal(Console(file=screen, force_terminal=True, width=160))
    path = draft("import time\n" + slow)
    assert terminal.run(make_plan(request_for(methods="mine", plugin_files=(path,)))) == 0
    text = screen.getvalue()
    assert "train mine, 2 epochs, seed 0" in text
    assert "stages" in text
    assert "━" in text


def test_a_draft_runs_by_its_file(spurbench: Any, home: Home, draft: Any, tiny: list[str]) -> None:
    path = draft(FAILING.replace('raise ValueError("out of luck")', "return 2 * super().loss(model, batch)"))
    options = ["--plugin", path, "--method", "mine", "--split", "field", *tiny]
    assert spurbench("run", *options).code == 0
    assert "done already" in spurbench("run", *options).err
    path.write_text(path.read_text().replace("2 *", "3 *"))
    assert "done already" not in spurbench("run", *options).err
    rows = spurbench("leaderboard", "--json", "--plugin", path).rows
    assert [row["method"] for row in rows][:1] == ["mine"]


def test_two_plugins_of_one_name_are_both_named(spurbench: Any, home: Home, draft: Any, tiny: list[str]) -> None:
    path = draft(FAILING.replace('"mine"', '"erm"'))
    for arguments in (("list",), ("run", "--split", "field", *tiny), ("describe", "erm")):
        ended = spurbench(*arguments, "--plugin", path)
        told = " ".join((ended.out + ended.err).split())
        assert ended.code == 2
        assert "wo methods are named 'erm'" in told
        assert "erm.py" in told


# bad input


BAD = {
    "verb": (["rnu"], "Unknown verb 'rnu'. Did you mean 'run'?"),
    "kind": (["list", "method"], "invalid choice: 'method'"),
    "name": (["describe", "gropdro"], "Unknown name 'gropdro'. Did you mean 'groupdro'"),
    "no name": (["describe"], "The following arguments are required: name. Run: spurbench describe --help"),
    "option": (["list", "--jsn"], "Unrecognized arguments: --jsn"),
    "method": (["run", "--method", "grupdro"], "Unknown method 'grupdro'. Did you mean 'groupdro'"),
    "split": (["run", "--split", "feild"], "Unknown split 'feild'. Did you mean 'field'"),
    "empty split": (["run", "--split", ""], "Unknown split ''"),
    "rho": (["run", "--split", "field@0.96"], "Expected one of @1.0, @0.99, @0.95, @0.9, @0.8, @0.5"),
    "evaluator": (["run", "--evaluator", "pgdd"], "Unknown evaluator 'pgdd'. Did you mean 'pgd'"),
    "setting": (["run", "--method", "jtt", "--set", "upweigt=20"], "Did you mean 'upweight'"),
    "out of range": (["run", "--method", "jtt", "--set", "upweight=0"], "greater than or equal to 1"),
    "wrong type": (["run", "--method", "jtt", "--set", "upweight=much"], "valid integer"),
    "no whole number": (["run", "--method", "jtt", "--set", "upweight=1.5"], "valid integer"),
    "list": (["run", "--set", "epochs=[1, 2]"], "valid integer"),
    "null": (["run", "--set", "epochs=null"], "valid integer"),
    "NaN": (["run", "--set", "learning_rate=NaN"], "finite number"),
    "infinity": (["run", "--set", "learning_rate=1e999"], "finite number"),
    "digits": (["run", "--set", f"epochs={'9' * 5000}"], "epochs="),
    "no value": (["run", "--set", "epochs"], "Expected --set NAME=VALUE, found 'epochs'"),
    "no setting": (["run", "--set", "=3"], "Expected --set NAME=VALUE, found '=3'"),
    "split setting": (["run", "--split", "field", "--split-set", "train_patient=4"], "Did you mean 'train_patients'"),
    "data": (["run", "--data", "digits=/nothing/here"], "Expected the 'digits' data at /nothing/here"),
    "data syntax": (["run", "--data", "/nothing/here"], "Expected --data NAME=VALUE"),
    "data name": (["run", "--data", "digit=/"], "Unknown dataset 'digit'. Did you mean 'digits'"),
    "data of nobody": (
        ["run", "--data", "digits=~nobody_of_this_name/x"],
        "Expected a path, found '~nobody_of_this_name/x'",
    ),
    "no backbone": (["run", "--split", "field", "--backbone", ""], "Unknown backbone ''"),
    "no selection": (["run", "--selection", ""], "Unknown selection rule ''"),
    "data missing": (["run", "--split", "digits/colour"], "Give it: --data digits=PATH"),
    "device": (["run", "--device", "gpu"], "Expected a device among auto, cpu, cuda, mps"),
    "device number": (["run", "--device", "cuda:77"], "Device 'cuda:77' is not available here"),
    "seed": (["run", "--seed", "-1"], "Expected seeds from 0 to 2147483647, found -1"),
    "seed type": (["run", "--seed", "one"], "invalid int value: 'one'"),
    "board": (["run", "--board", "v9"], "Unknown board 'v9'. Known: v1"),
    "backbone": (["run", "--backbone", "resnt18"], "Unknown backbone 'resnt18'. Did you mean"),
    "image size": (["run", "--split", "field", "--image-size", "4"], "Expected an image size from 8 to 4096"),
    "small image": (["run", "--split", "field", "--image-size", "10"], "at least 16 pixels, found 10"),
    "no image": (["run", "--image-size", "0"], "Expected an image size from 8 to 4096 pixels, found 0"),
    "backbone and size": (
        ["run", "--split", "field", "--backbone", "vit_tiny_patch16_224"],
        "takes no images of 64 x 64",
    ),
    "pretrained": (["run", "--split", "field", "--pretrained"], "'smallcnn' has no published weights"),
    "selection": (["run", "--selection", "oracle"], "Unknown selection rule 'oracle'"),
    "preset": (["run", "--method", "jtt", "--preset", "imagenet"], "Method 'jtt' has no preset 'imagenet'"),
    "plugin": (["run", "--plugin", "/nothing/mine.py"], "Expected a plugin file at /nothing/mine.py"),
    "plugin of list": (["list", "--plugin", "/nothing/mine.py"], "Expected a plugin file at /nothing/mine.py"),
    "long plugin": (["list", "--plugin", "x" * 5000], "File name too long"),
    "checkpoint": (["run", "--checkpoint", "erm=/nothing"], "Expected a safetensors file at /nothing"),
    "checkpoint syntax": (["run", "--checkpoint", "/nothing"], "Expected --checkpoint NAME=VALUE"),
    "checkpoint name": (["run", "--checkpoint", "emr=/nothing"], "Unknown method 'emr'. Did you mean 'erm'"),
    "weights": (["run", "--weights", "/nothing"], "Expected a safetensors file at /nothing"),
    "leaderboard split": (["leaderboard", "--split", "feild"], "Unknown split 'feild'. Did you mean 'field'"),
    "leaderboard method": (["leaderboard", "--method", "emr"], "Unknown method 'emr'. Did you mean 'erm'"),
    "leaderboard board": (["leaderboard", "--board", "v9"], "Unknown board 'v9'. Known: v1"),
    "status split": (["status", "--split", "feild"], "Unknown split 'feild'. Did you mean 'field'"),
    "status method": (["status", "--method", "emr"], "Unknown method 'emr'. Did you mean 'erm'"),
    "status board": (["status", "--board", "v9"], "Unknown board 'v9'. Known: v1"),
    "clean": (["clean", "pixel"], "Did you mean 'pixels'"),
    "clean records": (["clean", "records"], "Expected a folder that can be made again, found 'records'"),
    "export out": (["export", "--method", "erm", "--split", "field"], "arguments are required: --out"),
    "export several": (["export", "--split", "field", "--out", "x"], "Expected one cell to export, found "),
    "export missing": (
        ["export", "--method", "erm", "--split", "field", "--out", "x"],
        "Expected a finished cell, found none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(spurbench: Any, home: Home, case: str) -> None:
    arguments, message = BAD[case]
    refused(spurbench(*arguments), message)
    assert not home.root.exists()


def test_cuda_that_is_not_there(spurbench: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(spurbench("run", "--device", "cuda"), "Device 'cuda' is not available here. Leave --device out")


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0notjson!"])
@pytest.mark.parametrize("option", ["--weights", "--checkpoint"])
def test_weights_that_are_no_safetensors(
    spurbench: Any, home: Home, tmp_path: Path, tiny: list[str], option: str, content: bytes
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    given = f"erm={path}" if option == "--checkpoint" else path
    refused(spurbench("run", "--split", "field", *tiny, option, given), f"Expected a safetensors file, found {path}")


@pytest.mark.parametrize("kind", ["empty file", "text file", "empty folder", "truncated npz"])
@pytest.mark.parametrize("split", ["digits/colour", "xray/tag", "spurbreast/field"])
def test_data_that_cannot_be_read(spurbench: Any, home: Home, tmp_path: Path, split: str, kind: str) -> None:
    place = tmp_path / "data.npz"
    if kind == "empty folder":
        place.mkdir()
    else:
        place.write_bytes({"empty file": b"", "text file": b"hello", "truncated npz": b"PK\x03\x04\x14\0\0\0"}[kind])
    dataset = split.split("/", maxsplit=1)[0]
    ended = spurbench("run", "--method", "erm", "--split", split, "--data", f"{dataset}={place}", "--device", "cpu")
    refused(ended, str(tmp_path))


@pytest.mark.parametrize("verb", ["run", "status", "leaderboard", "cache", "clean", "export"])
def test_a_home_that_is_a_file(
    spurbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: list[str], verb: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path / "file"))
    cell = ["--method", "erm", "--split", "field", *tiny] if verb in ("run", "export") else []
    out = ["--out", tmp_path / "w"] if verb == "export" else []
    refused(spurbench(verb, *cell, *out), f"Expected a folder of results at {tmp_path / 'file'}, found a file")


def test_a_home_of_nobody(spurbench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPURBENCH_HOME", "~nobody_of_this_name/home")
    refused(spurbench("cache"), "Expected a folder as SPURBENCH_HOME")


def test_a_home_below_a_file(spurbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: list[str]) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path / "file" / "home"))
    refused(spurbench("run", "--method", "erm", "--split", "field", *tiny), "Set SPURBENCH_HOME to another place")


@pytest.mark.parametrize("folder", ["records", "predictions", "artifacts", "pixels", "scores", "leaderboards"])
def test_a_file_in_the_place_of_a_folder_of_the_home(spurbench: Any, home: Home, tiny: list[str], folder: str) -> None:
    home.root.mkdir()
    (home.root / folder).write_text("")
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny)
    assert ended.code in (1, 2)
    assert "Traceback" not in ended.err
    assert folder in ended.err


def test_a_place_that_cannot_be_written_to(spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cell = ["--method", "erm", "--split", "field", *tiny]
    for place in (tmp_path / "file" / "w.safetensors", tmp_path):
        refused(spurbench("export", *cell, "--out", place), str(tmp_path))
        refused(spurbench("leaderboard", "--html", place), str(tmp_path))


DAMAGE = {
    "truncated": lambda path: path.write_text(path.read_text()[:100]),
    "edited": lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 1')),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00\x80" * 50),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("verb", ["run", "status", "leaderboard"])
def test_a_damaged_record_is_named(spurbench: Any, home: Home, tiny: list[str], verb: str, damage: str) -> None:
    cell = ["--method", "groupdro", "--split", "field@1.0", *tiny]  # not applicable: it is quick to make
    assert spurbench("run", *cell).code == 0
    (path,) = home.records.iterdir()
    DAMAGE[damage](path)
    refused(spurbench(verb, *(cell if verb == "run" else [])), str(path))


@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_damaged_predictions_are_named(spurbench: Any, home: Home, tiny: list[str], damage: str) -> None:
    cell = ["--method", "erm", "--split", "field", *tiny]
    spurbench("run", *cell)
    (path,) = home.predictions.iterdir()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200])
    refused(spurbench("leaderboard"), str(path))
    assert spurbench("run", *cell, "--again").code == 0
    assert spurbench("leaderboard").code == 0


@pytest.mark.parametrize("folder", ["artifacts", "pixels"])
def test_a_cache_that_lost_its_files_fails_the_cell_until_it_is_cleaned(
    spurbench: Any, home: Home, tiny: list[str], folder: str
) -> None:
    cell = ["--method", "erm", "--split", "field", *tiny]
    spurbench("run", *cell)
    for path in (home.root / folder).rglob("*"):
        if path.suffix in (".npz", ".npy", ".safetensors"):
            path.unlink()
    ended = spurbench("run", *cell, "--again")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "No such file or directory: '$SPURBENCH_HOME/" in ended.err
    spurbench("clean", folder)
    assert spurbench("run", *cell, "--again").code == 0
    assert spurbench("leaderboard").code == 0


def test_bad_input_to_the_real_command_has_no_traceback(tmp_path: Path) -> None:
    done = in_process_of_its_own("run", "--method", "grupdro", env={"SPURBENCH_HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("spurbench: Unknown method 'grupdro'. Did you mean 'groupdro'? Known: afr, ")
    assert done.stderr.count("\n") == 1


# status, leaderboard


LEADERBOARD = set(
    """
    method split seeds track backbone selection tier status reason rank rank_high config_hash worst_group group_accuracies
    pgd_radius
    """.split()  # noqa: SIM905
)
ESTIMATES = (
    "worst_group_accuracy",
    "micro_accuracy",
    "balanced_accuracy",
    "validation_accuracy",
    "ece",
    "pgd_worst_group_accuracy",
)


def test_leaderboard_json_is_the_contract(spurbench: Any, finished: Home) -> None:
    rows = spurbench("leaderboard", "--json").rows
    assert len(rows) == 8
    for row in rows:
        assert row.keys() >= {*LEADERBOARD, *ESTIMATES}
        for name in ESTIMATES:
            assert row[name].keys() >= {"value", "low", "high"}
        assert row["split"].startswith("phantom/field@")
        assert row["tier"] == "rescored"
    row = next(row for row in rows if row["method"] == "erm" and row["split"].startswith(FIELD))
    assert (row["seeds"], row["track"], row["backbone"], row["selection"]) == ([0], "none", "smallcnn", "last")
    assert row["pgd_radius"] == pytest.approx(1 / 255)
    assert set(row["group_accuracies"]) == {"clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T"}
    for name in ESTIMATES:
        low, value, high = (row[name][part] for part in ("low", "value", "high"))
        assert (low is None and high is None) or low <= value <= high
    missing = next(row for row in rows if row["status"] == "not_applicable")
    assert missing["method"] == "groupdro"
    assert missing["worst_group_accuracy"]["value"] is None
    assert missing["rank"] is None


def test_leaderboard_by_split_and_method(spurbench: Any, finished: Home) -> None:
    everything = spurbench("leaderboard", "--json").rows
    split = next(row["split"] for row in everything if row["split"].startswith(FIELD))
    rows = spurbench("leaderboard", "--split", split, "--method", "erm", "jtt", "--json").rows
    assert {(row["split"], row["method"]) for row in rows} == {(split, "erm"), (split, "jtt")}
    assert spurbench("leaderboard", "--split", "clean", "--json").rows == []
    assert spurbench("leaderboard", "--split", "all", "--method", "all", "--json").rows == everything


def test_leaderboard_as_table_markdown_and_page(spurbench: Any, finished: Home, tmp_path: Path) -> None:
    for arguments in ((), ("--markdown",)):
        ended = spurbench("leaderboard", *arguments)
        assert ended.code == 0
        assert all(name in ended.out for name in ("erm", "groupdro", "jtt", "dfr", "smallcnn"))
    path = tmp_path / "page.html"
    ended = spurbench("leaderboard", "--html", path)
    assert (ended.code, ended.out.strip()) == (0, str(path))
    assert "</html>" in path.read_text()


def test_an_empty_leaderboard(spurbench: Any, home: Home) -> None:
    assert spurbench("leaderboard", "--json").rows == []
    assert "No results yet. Run: spurbench run" in spurbench("leaderboard").out
    assert spurbench("leaderboard", "--html").code == 0


def test_status_counts_the_boards_cells(spurbench: Any, home: Home) -> None:
    rows = spurbench("status", "--json").rows
    board = load_manifest("v1")
    assert len(rows) == len(Registry().entries("method")) * len(board.splits) * len(board.seeds)
    assert {row["status"] for row in rows} == {"missing"}
    assert all(row.keys() >= {"method", "split", "seed", "status", "reason"} for row in rows)
    few = spurbench("status", "--method", "erm", "--split", "field", "--seed", "5", "--json").rows
    assert [(row["method"], row["split"], row["seed"]) for row in few] == [("erm", FIELD, 5)]
    assert f"{len(rows)} missing of {len(rows)} cells." in spurbench("status").out


def test_status_tells_failed_and_stale(
    spurbench: Any, home: Home, tiny_board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = ["--board", tiny_board]
    with monkeypatch.context() as patched:
        patched.setitem(engine.STAGES, "train", lambda *_: 1 / 0)
        assert spurbench("run", *board, "--method", "jtt", "--device", "cpu").code == 1
    assert spurbench("run", *board, "--method", "erm", "--device", "cpu").code == 0
    states = {row["method"]: row for row in spurbench("status", *board, "--seed", "0", "--json").rows[::3]}
    assert (states["erm"]["status"], states["jtt"]["status"], states["dfr"]["status"]) == ("done", "failed", "missing")
    assert "division by zero" in states["jtt"]["reason"]
    from robustbench_spur.registry import Plugin

    monkeypatch.setattr(
        Plugin, "version", property(lambda plugin: 2 if plugin.name == "erm" else plugin.literal("version"))
    )
    states = {row["method"]: row for row in spurbench("status", *board, "--seed", "0", "--json").rows[::3]}
    assert states["erm"]["status"] == "stale"
    assert states["erm"]["reason"] == "method v1, now v2"
    assert "stale" in spurbench("status", *board).out


# export, cache, clean


def test_export_writes_the_weights_with_what_they_are(
    spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "erm.safetensors"
    ended = spurbench("export", "--method", "erm", "--split", "field", *tiny, "--out", path)
    assert (ended.code, ended.out.strip()) == (0, str(path))
    record = next(
        r
        for r in RecordStore(finished.records, finished.predictions)
        if r.method.name == "erm" and "field@0.95" in r.identity.split["name"]
    )
    with safe_open(path, framework="numpy") as archive:
        about, names = archive.metadata(), set(archive.keys())
    assert {"head.weight", "head.bias", "mean", "std"} < names
    assert about["config_hash"] == record.config_hash
    assert json.loads(about["identity"]) == record.identity.model_dump(mode="json")
    assert about["seed"] == "0"


@pytest.mark.parametrize("method", ["dfr", "jtt", "groupdro"])
def test_every_method_can_be_exported(
    spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path, method: str
) -> None:
    path = tmp_path / f"{method}.safetensors"
    assert spurbench("export", "--method", method, "--split", "field", *tiny, "--out", path).code == 0
    with safe_open(path, framework="numpy") as archive:
        assert archive.get_tensor("head.weight").shape == (2, 128)


def test_export_of_a_cell_that_is_not_there(spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    missing = spurbench("export", "--method", "erm", "--split", "clean", *tiny, "--out", path)
    refused(missing, "Expected a finished cell, found none for erm on phantom/clean")
    not_applicable = spurbench("export", "--method", "groupdro", "--split", "field@1.0", *tiny, "--out", path)
    refused(not_applicable, "Expected a finished cell")
    assert not path.exists()


def test_weights_that_cannot_be_written(
    spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    done = spurbench("export", "--method", "erm", "--split", "field", *tiny, "--out", tmp_path / "w.safetensors")
    refused(done, "Expected a file that can be written, found")
    assert not any(tmp_path.glob("*.safetensors"))


def test_weights_go_round(spurbench: Any, finished: Home, home: Home, tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / "erm.safetensors"
    os.environ["SPURBENCH_HOME"] = str(finished.root)
    spurbench("export", "--method", "erm", "--split", "field", *tiny, "--out", path)
    os.environ["SPURBENCH_HOME"] = str(home.root)
    ended = spurbench("run", "--method", "dfr", "--split", "field", *tiny, "--checkpoint", f"erm={path}")
    assert ended.code == 0
    assert "checkpoint for erm" in " ".join(ended.out.split())
    ended = spurbench("run", "--method", "erm", "--split", "field", *tiny, "--weights", path)
    assert ended.code == 0
    assert "initial weights" in " ".join(ended.out.split())


def test_a_checkpoint_of_another_network_fails_its_cell(
    spurbench: Any, finished: Home, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "erm.safetensors"
    cell = ["--method", "erm", "--split", "field", *tiny]
    spurbench("export", *cell, "--out", path)
    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path / "home"))
    ended = spurbench("run", *cell, "--checkpoint", f"erm={path}", "--backbone", "resnet18", "--image-size", "32")
    assert ended.code == 1
    assert "do not fit the network" in ended.err


def test_cache_and_clean(spurbench: Any, home: Home, tiny: list[str]) -> None:
    cell = ["--method", "erm", "--split", "field", *tiny]
    spurbench("run", *cell)
    rows = {row["name"]: row for row in spurbench("cache", "--json").rows}
    assert all(rows[name]["bytes"] > 0 for name in rows.keys() - {"data", "tuning", "presets"})
    on_disk = sum(path.stat().st_size for path in home.root.rglob("*") if path.is_file())
    assert sum(row["bytes"] for row in rows.values()) == on_disk
    kept = {"records", "predictions", "tuning", "presets", "leaderboards", "data"}
    assert {name for name in rows if not rows[name]["cleanable"]} == kept
    assert str(home.root) in " ".join(spurbench("cache").out.split())
    before = spurbench("leaderboard", "--json").rows
    assert spurbench("clean", "pixels").code == 0
    assert not (home.root / "pixels").exists()
    assert (home.root / "artifacts").exists()
    assert "Records and predictions are kept" in spurbench("clean").out
    rows = {row["name"]: row for row in spurbench("cache", "--json").rows}
    assert {name for name in rows if rows[name]["bytes"]} == {"records", "predictions", "leaderboards"}
    assert spurbench("leaderboard", "--json").rows == before
    assert "Nothing to do" in spurbench("run", *cell).err
    out = home.root.parent / "w"
    refused(spurbench("export", *cell, "--out", out), "cleaned away. Run the cell again with --again")
    assert spurbench("run", *cell, "--again").code == 0
    assert spurbench("export", *cell, "--out", out).code == 0


def test_cache_of_a_home_that_is_not_there(spurbench: Any, home: Home) -> None:
    assert {row["bytes"] for row in spurbench("cache", "--json").rows} == {0}
    assert spurbench("clean").code == 0
    assert not home.root.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("describe", "erm"),
        ("status",),
        ("leaderboard",),
        ("cache",),
        ("list", "splits"),
        ("list", "--check"),
    ],
)
def test_every_verb_that_reads_prints_a_json_list(spurbench: Any, finished: Home, arguments: tuple[str, ...]) -> None:
    ended = spurbench(*arguments, "--json")
    assert ended.code == 0
    assert ended.err == ""
    assert isinstance(json.loads(ended.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON")), list)


# the terminal


@pytest.mark.parametrize("verb", [["list"], ["list", "--json"]])
def test_a_reader_that_closes_its_pipe_is_no_error(verb: list[str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *verb], env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) in (0, 1)
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_terminal_without_unicode(finished: Home) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for verb in (["list"], ["describe", "erm", "pgd", "field"], ["leaderboard"], ["status"], ["cache"]):
        for options in ([], ["--json"]):
            done = in_process_of_its_own(*verb, *options, env=ascii_only)
            assert done.returncode == 0, done.stderr


# small parts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("adam", "adam"),
        ("", ""),
        ("1/255", "1/255"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_setting_is_json_or_text(text: str, value: Any) -> None:
    assert literal(text) == value


def test_pairs_keep_what_follows_the_first_sign() -> None:
    assert pairs(["a=1", "b=c=d"], "--set") == {"a": "1", "b": "c=d"}
    for bad in ("a", "a=", "=a", "="):
        with pytest.raises(SpurbenchError, match="Expected --set NAME=VALUE"):
            pairs([bad], "--set")


def test_json_knows_no_nan() -> None:
    assert as_json([{"a": float("nan"), "b": (float("inf"), 1.5, True)}]) == [{"a": None, "b": [None, 1.5, True]}]
