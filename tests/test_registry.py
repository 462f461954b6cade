"""Three ways in, one registry: what is found, what is refused, and that nothing is run to find it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import methods as built_in
from robustbench_spur.registry import FOLDERS, Plugin, Registry
from robustbench_spur.types import SpurbenchError

METHOD = "from robustbench_spur import Method\nclass Mine(Method):\n    name = 'mine'\n    version = 1\n"
EVALUATOR = (
    "from robustbench_spur import Evaluator, Metric\n"
    "class Mine(Evaluator):\n    name = 'mine'\n    version = 1\n    metrics = {'m': Metric('share')}\n"
)
BROKEN = {
    "syntax": ("class Mine(Method:\n", "SyntaxError"),
    "null_byte": ("name = '\0'\n", "null bytes"),
    "deep": ("x = " + "(" * 300 + ")" * 300, "SyntaxError: too many nested parentheses"),
    "no_class": (
        "from robustbench_spur import Method\nclass Mine(Method):\n    name = 'mine'\n",
        "a name and a version",
    ),
}
FAILING = {
    "missing import": ("import a_module_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_module_that_is"),
    "exit": ("import sys; sys.exit('bye')\n", "SystemExit: bye"),
    "exception": ("raise RuntimeError('at import\\nand more')\n", "RuntimeError: at import"),
    "gone": ("del Mine\n", "AttributeError"),
}


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("spurbench_draft_", "acme")) or "added_here" in name:
            del sys.modules[name]


def write(path: Path, text: str = METHOD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def install(
    folder: Path,
    modules: dict[str, str],
    entry_points: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str = "acme-methods",
) -> Path:
    """A folder on sys.path with modules and the metadata of a distribution."""
    for module, text in modules.items():
        write(folder / module, text)
    about = folder / f"{name.replace('-', '_')}-2.1.dist-info"
    write(about / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
    write(about / "entry_points.txt", entry_points)
    monkeypatch.syspath_prepend(folder)
    return folder


def names(registry: Registry, kind: str = "method") -> list[str]:
    return [plugin.name for plugin in registry.entries(kind)]


# Ways in


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_built_in_plugin_is_sound_and_belongs_to_its_own_file(kind: str) -> None:
    entries = Registry().entries(kind)
    assert entries == sorted(entries, key=lambda plugin: plugin.name)
    for plugin in entries:
        assert (plugin.origin, plugin.reason, plugin.kind) == ("built-in", "", kind)
        assert plugin.path is not None
        assert isinstance(plugin.version, int)
        loaded = plugin.load()
        assert (loaded.name, loaded.version) == (plugin.name, plugin.version)
        assert plugin.where.startswith(f"{plugin.path}:")
        line = int(plugin.where.rpartition(":")[2])
        assert plugin.path.read_text().splitlines()[line - 1].startswith(f"class {loaded.__name__}")
        assert plugin.sha256 == hashlib.sha256(plugin.path.read_bytes()).hexdigest()


def test_one_file_in_the_folder_adds_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(Registry())
    write(tmp_path / "added_here.py")
    monkeypatch.setattr(built_in, "__path__", [*built_in.__path__, str(tmp_path)])
    registry = Registry()
    assert names(registry) == sorted([*before, "mine"])
    plugin = registry.find("method", "mine")
    assert plugin.origin == "built-in"
    assert plugin.load().__module__ == "robustbench_spur.methods.added_here"


def test_an_installed_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    marker = f"open({str(ran)!r}, 'w').close()\n"
    install(
        tmp_path,
        {
            "acme/__init__.py": marker,
            "acme/deep/__init__.py": marker,
            "acme/deep/one.py": marker + METHOD,
            "acme_two.py": EVALUATOR,
        },
        "[robustbench_spur.methods]\nmine = acme.deep.one:Mine\n[robustbench_spur.evaluators]\nmine = acme_two:Mine\n",
        monkeypatch,
    )
    registry = Registry()
    method, evaluator = registry.find("method", "mine"), registry.find("evaluator", "mine")
    assert method.origin == evaluator.origin == "acme-methods 2.1"
    assert method.path == tmp_path / "acme" / "deep" / "one.py"
    assert evaluator.path == tmp_path / "acme_two.py"
    assert not ran.exists()
    assert method.load().__module__ == "acme.deep.one"
    assert ran.exists()


def test_a_distribution_installed_into_a_folder_that_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert "mine" not in names(Registry())
    install(tmp_path, {"acme_one.py": METHOD}, "[robustbench_spur.methods]\nmine = acme_one:Mine\n", monkeypatch)
    assert Registry().find("method", "mine").origin == "acme-methods 2.1"


def test_a_draft_given_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "draft.py", METHOD + EVALUATOR.replace("Mine", "Other"))
    registry = Registry((path,))
    plugin = registry.find("method", "mine")
    assert (plugin.origin, plugin.path) == ("file", path)
    assert plugin.load().name == "mine"
    assert registry.find("evaluator", "mine").load().__name__ == "Other"
    assert names(registry, "dataset") == names(Registry(), "dataset")


def test_a_changed_draft_is_loaded_again(tmp_path: Path) -> None:
    path = write(tmp_path / "draft.py")
    first = Registry((path,)).find("method", "mine").load()
    assert Registry((path,)).find("method", "mine").load() is first
    write(path, METHOD.replace("version = 1", "version = 2"))
    assert Registry((path,)).find("method", "mine").load().version == 2


def test_a_draft_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="found none"):
        Registry((tmp_path / "absent.py",))


# One plugin, one name


def test_the_same_file_by_several_routes_is_one_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, {"acme_one.py": METHOD}, "[robustbench_spur.methods]\nmine = acme_one:Mine\n", monkeypatch)
    path, link = tmp_path / "acme_one.py", tmp_path / "link.py"
    link.symlink_to(path)
    plain = Registry().find("method", "mine")
    again = Registry((path, tmp_path / "." / "acme_one.py", link))
    assert again.find("method", "mine") == plain
    assert names(again) == names(Registry())
    own = Registry().entries("method")[0]
    assert own.path is not None
    assert Registry((own.path,)).find("method", own.name) == own


ONE = {"acme_one.py": METHOD}
ENTRY = "[robustbench_spur.methods]\nmine = acme_one:Mine\n"


def clash(registry: Registry, name: str = "mine", kind: str = "method") -> str:
    """The reason of the one entry that stands for all who claim a name, which is the error of loading it."""
    (entry,) = [plugin for plugin in registry.entries(kind) if plugin.name == name]
    assert (entry.source, entry.path, entry.version) == (None, None, None)
    assert len(entry.rivals) > 1
    assert registry.find(kind, name) == entry
    with pytest.raises(SpurbenchError) as error:
        entry.load()
    assert str(error.value) == entry.reason
    return entry.reason


def test_a_draft_and_a_built_in(tmp_path: Path) -> None:
    own = Registry().entries("method")[0]
    draft = write(tmp_path / "draft.py", METHOD.replace("'mine'", f"'{own.name}'"))
    registry = Registry((draft,))
    assert clash(registry, own.name) == (
        f"Two methods are named {own.name!r}: {own.where} (built-in) and {draft}:2 (file)."
        f" Rename one, or leave out --plugin {draft}."
    )
    assert names(registry) == names(Registry())
    assert registry.find("method", own.name).origin == "built-in and file"
    assert registry.find("method", own.name).where == f"{own.where} and {draft}:2"


def test_a_distribution_and_a_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, before = Registry().entries("method")[0], names(Registry())
    text = METHOD.replace("'mine'", f"'{own.name}'")
    install(tmp_path, {"acme_one.py": text}, ENTRY.replace("mine", own.name), monkeypatch)
    assert clash(Registry(), own.name) == (
        f"Two methods are named {own.name!r}: {own.where} (built-in) and {tmp_path / 'acme_one.py'}:2"
        " (acme-methods 2.1). Rename one, or run: pip uninstall acme-methods."
    )
    assert names(Registry()) == before


def test_a_distribution_and_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", ONE, ENTRY, monkeypatch)
    draft = write(tmp_path / "draft.py")
    assert clash(Registry((draft,))) == (
        f"Two methods are named 'mine': {tmp_path / 'site' / 'acme_one.py'}:2 (acme-methods 2.1) and {draft}:2 (file)."
        f" Rename one, or leave out --plugin {draft}, or run: pip uninstall acme-methods."
    )


def test_two_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "one", ONE, ENTRY, monkeypatch)
    two = {"other_one.py": METHOD}
    install(tmp_path / "two", two, ENTRY.replace("acme", "other"), monkeypatch, name="other-methods")
    reason = clash(Registry())
    assert f"{tmp_path / 'one' / 'acme_one.py'}:2 (acme-methods 2.1)" in reason
    assert f"{tmp_path / 'two' / 'other_one.py'}:2 (other-methods 2.1)" in reason
    assert {"run: pip uninstall acme-methods", "run: pip uninstall other-methods"} <= set(
        reason.rstrip(".").split(", or ")
    )


def test_two_drafts_and_three(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.py") for name in ("one", "two", "three")]
    places = [f"{path}:2 (file)" for path in files]
    assert clash(Registry(tuple(files[:2]))) == (
        f"Two methods are named 'mine': {places[0]} and {places[1]}."
        f" Rename one, or leave out --plugin {files[0]}, or leave out --plugin {files[1]}."
    )
    assert clash(Registry(tuple(files))).startswith(f"3 methods are named 'mine': {' and '.join(places)}. Rename one, ")


def test_two_classes_of_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "draft.py", METHOD + METHOD.replace("class Mine", "class Other"))
    assert f"{path}:2 (file) and {path}:6 (file). Rename one, or leave out --plugin {path}." in clash(Registry((path,)))


def test_two_of_other_kinds(tmp_path: Path) -> None:
    metrics = [write(tmp_path / f"{name}.py", EVALUATOR) for name in ("a", "b")]
    assert clash(Registry(tuple(metrics)), kind="evaluator").startswith("Two evaluators are named 'mine': ")
    stated = METHOD.replace("Method", "Dataset") + "    splits = {'a': 'b'}\n"
    datasets = [write(tmp_path / f"{name}.py", stated) for name in ("c", "d")]
    assert clash(Registry(tuple(datasets)), kind="dataset").startswith("Two datasets are named 'mine': ")


def test_a_method_and_an_evaluator_may_have_one_name(tmp_path: Path) -> None:
    files = write(tmp_path / "method.py"), write(tmp_path / "evaluator.py", EVALUATOR)
    registry = Registry(files)
    for kind, path in zip(("method", "evaluator"), files, strict=True):
        found = registry.find(kind, "mine")
        assert (found.path, found.rivals, found.load().name) == (path, (), "mine")


def test_two_of_one_name_disturb_no_other(tmp_path: Path) -> None:
    files = tuple(write(tmp_path / f"{name}.py") for name in ("one", "two"))
    registry, plain = Registry(files), Registry()
    assert names(registry) == sorted([*names(plain), "mine"])
    own = plain.entries("method")[0]
    assert registry.find("method", own.name) == own
    assert registry.find("method", own.name).load() is own.load()
    assert names(registry, "evaluator") == names(plain, "evaluator")


def test_a_split_of_a_dataset_in_dispute_is_not_taken_from_another(tmp_path: Path, spurbench: Any, home: Any) -> None:
    stated = METHOD.replace("Method", "Dataset").replace("'mine'", "'phantom'") + "    splits = {'a': 'b'}\n"
    draft = write(tmp_path / "draft.py", stated)
    for split in ("field", "phantom/field", "phantom/field@1.0"):
        ended = spurbench("run", "--method", "erm", "--split", split, "--plugin", draft, "--dry-run")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("spurbench: Two datasets are named 'phantom': ")
    rows = [row for row in spurbench("list", "splits", "--json", "--plugin", draft).rows if "phantom" in row["name"]]
    assert [(row["name"], row["status"]) for row in rows] == [("phantom", "broken")]


def test_a_broken_plugin_is_no_rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "mine = acme_absent:Mine\n"
    install(tmp_path / "one", {}, f"[robustbench_spur.methods]\n{entry}", monkeypatch)
    install(tmp_path / "two", {}, f"[robustbench_spur.methods]\n{entry}", monkeypatch, name="other-methods")
    draft = write(tmp_path / "draft.py")
    registry = Registry((draft,))
    assert registry.find("method", "mine").path == draft
    places = {"acme-methods 2.1: mine", "other-methods 2.1: mine"}
    assert places <= set(names(registry))
    assert {registry.find("method", place).reason for place in places} == {"no source found for 'acme_absent:Mine'"}


def test_the_command_names_both(tmp_path: Path, spurbench: Any, home: Any, tiny: list[str]) -> None:
    one, two = (write(tmp_path / f"{name}.py") for name in ("one", "two"))
    drafts = ["--plugin", one, "--plugin", two]
    both = f"Two methods are named 'mine': {one}:2 (file) and {two}:2 (file). Rename one"
    states = {
        row["name"]: (row["status"], row["reason"]) for row in spurbench("list", "methods", "--json", *drafts).rows
    }
    assert states["mine"][0] == "broken"
    assert states["mine"][1].startswith(both)
    assert states["erm"] == ("ok", "")
    assert "broken: Two methods are named" in " ".join(spurbench("list", "methods", *drafts).out.split())
    described = spurbench("describe", "mine", *drafts)
    assert (described.code, described.out) == (2, "")
    assert both in described.err
    ran = spurbench("run", "--method", "mine", "--split", "field", *drafts, *tiny)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"spurbench: {both}")
    assert not home.root.exists()


# Broken plugins


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_draft_is_listed_with_its_reason_and_disturbs_nobody(tmp_path: Path, case: str) -> None:
    text, reason = BROKEN[case]
    path = write(tmp_path / f"{case}.py", text)
    registry = Registry((path,))
    assert names(registry) == sorted([*names(Registry()), case])
    assert all(names(registry, kind) == names(Registry(), kind) for kind in ("evaluator", "dataset"))
    plugin = registry.find("method", case)
    assert reason in plugin.reason
    assert (plugin.source, plugin.version, plugin.literal("summary", "none")) == (None, None, "none")
    assert plugin.where == str(path)
    with pytest.raises(SpurbenchError, match=f"method '{case}' is broken: .*{path}"):
        plugin.load()
    with pytest.raises(SpurbenchError, match=f"Unknown method 'mine'. {path} is broken: "):
        registry.find("method", "mine")


def test_a_draft_that_cannot_be_read_is_listed_as_what_it_derives_from(tmp_path: Path) -> None:
    path = write(tmp_path / "draft.py", "class Mine(Evaluator:\n")
    assert "draft" in names(Registry((path,)), "evaluator")
    assert "draft" not in names(Registry((path,)), "method")


def test_a_broken_draft_takes_no_sound_plugins_name(tmp_path: Path) -> None:
    sound = Registry().entries("method")[0]
    path = write(tmp_path / f"{sound.name}.py", "class Mine(Method:\n")
    registry = Registry((path,))
    assert registry.find("method", sound.name) == sound
    assert "SyntaxError" in registry.find("method", str(path)).reason


@pytest.mark.parametrize("case", FAILING)
def test_what_fails_at_import_is_broken_when_loaded_and_in_one_line(tmp_path: Path, case: str) -> None:
    text, reason = FAILING[case]
    path = write(tmp_path / "draft.py", METHOD + text)
    plugin, before = Registry((path,)).find("method", "mine"), set(sys.modules)
    assert plugin.reason == ""
    with pytest.raises(SpurbenchError) as error:
        plugin.load()
    assert str(error.value).startswith(f"method 'mine' is broken: {reason}")
    assert str(error.value).endswith(f"({path}:2)")
    assert "\n" not in str(error.value)
    left = [name for name in set(sys.modules) - before if name.startswith("spurbench_draft_")]
    assert len(left) == (case == "gone")


@pytest.mark.parametrize(
    ("entry", "modules", "reason"),
    [
        ("mine = acme_absent.one:Mine", {}, "no source found for 'acme_absent.one:Mine'"),
        ("mine = acme.absent:Mine", {"acme/__init__.py": ""}, "no source found for 'acme.absent:Mine'"),
        ("mine = !?", {}, "no source found for '!?'"),
        ("mine = acme_one:Mine", {"acme_one.py": "class Mine(\n"}, "SyntaxError"),
        (
            "mine = acme_one:Mine",
            {"acme_one.py": METHOD.replace("'mine'", "'other'")},
            "defines no method named 'mine'",
        ),
    ],
)
def test_a_broken_distribution_is_listed_under_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, modules: dict[str, str], reason: str
) -> None:
    before = names(Registry())
    install(tmp_path, modules, f"[robustbench_spur.methods]\n{entry}\n", monkeypatch)
    registry = Registry()
    assert names(registry) == sorted([*before, "mine"])
    plugin = registry.find("method", "mine")
    assert plugin.origin == "acme-methods 2.1"
    assert reason in plugin.reason
    with pytest.raises(SpurbenchError, match="method 'mine' is broken"):
        plugin.load()


# What the source has to state


def refused(tmp_path: Path, text: str, kind: str = "method") -> str:
    path = write(tmp_path / "draft.py", text)
    with pytest.raises(SpurbenchError) as error:
        Registry((path,)).find(kind, "mine").load()
    return str(error.value).replace(str(path), "draft.py")


def test_an_inherited_attribute_that_matters_is_refused(tmp_path: Path) -> None:
    base = METHOD.replace("Mine", "Base").replace("'mine'", "'base'") + "    needs = ('adapt',)\n"
    child = "class Mine(Base):\n    name = 'mine'\n    version = 1\n"
    expected = "draft.py:6 inherits needs = ('adapt',). Write it out as a literal."
    assert refused(tmp_path, base + child) == expected
    assert (
        Registry((write(tmp_path / "sound.py", base + child + "    needs = ('adapt',)\n"),))
        .find("method", "mine")
        .load()
    )


def test_the_defaults_of_the_contract_need_not_be_stated(tmp_path: Path) -> None:
    evaluator = Registry((write(tmp_path / "e.py", EVALUATOR),)).find("evaluator", "mine")
    assert evaluator.load().partitions == ("test",)


@pytest.mark.parametrize(
    ("line", "stated", "kind"),
    [
        ("version = 1 + 1", "'1 + 1'", "integer"),
        ("needs = tuple(['adapt'])", "\"tuple(['adapt'])\"", "tuple"),
        ("every_group_in = EVERYWHERE", "'EVERYWHERE'", "tuple"),
        ("presets = {'paper': dict(epochs=3)}", "\"{'paper': dict(epochs=3)}\"", "dictionary"),
    ],
)
def test_an_attribute_that_is_no_literal_is_refused(tmp_path: Path, line: str, stated: str, kind: str) -> None:
    text = f"_, EVERYWHERE = 0, ('train', 'adapt')\n{METHOD}    {line}\n"
    reason = f"states {line.partition(' = ')[0]} = {stated}: input should be a valid {kind}, as a literal"
    assert reason in refused(tmp_path, text)


def test_an_attribute_that_is_changed_after_the_class_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, METHOD + "Mine.needs = ('adapt',)\n")
    assert message == "draft.py:2 inherits needs = ('adapt',). Write it out as a literal."


def test_a_class_of_another_kind_is_refused(tmp_path: Path) -> None:
    text = "from robustbench_spur import Evaluator\nclass Mine(Evaluator):\n    name = 'mine'\n    version = 1\n"
    assert "was read as a method, but the class does not derive from robustbench_spur.method.Method" in refused(
        tmp_path, text
    )
    plain = "class Mine:\n    name = 'mine'\n    version = 1\n"
    assert "does not derive from robustbench_spur.method.Method" in refused(tmp_path, plain)


def test_a_version_that_is_no_whole_number_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "draft.py", METHOD.replace("version = 1", "version = '1.0'"))
    assert Registry((path,)).find("method", "mine").version is None


# Looking up


def test_an_unknown_name_gives_the_nearest() -> None:
    known = names(Registry())
    with pytest.raises(SpurbenchError) as error:
        Registry().find("method", known[0] + "x")
    assert (
        str(error.value) == f"Unknown method {known[0] + 'x'!r}. Did you mean {known[0]!r}? Known: {', '.join(known)}."
    )


def test_nothing_is_run_by_listing_or_finding(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = write(tmp_path / "draft.py", f"open({str(ran)!r}, 'w').close()\n" + METHOD)
    registry = Registry((path,))
    found: Plugin = registry.find("method", "mine")
    assert [found.version, found.literal("name")] == [1, "mine"]
    assert len(registry.entries("evaluator")) == len(Registry().entries("evaluator"))
    assert not ran.exists()
    found.load()
    assert ran.exists()


STATING = {
    "method": "from robustbench_spur.method import Method\nclass A(Method):\n",
    "evaluator": "from robustbench_spur.evaluators.base import Evaluator, Metric\nclass A(Evaluator):\n    metrics = {}\n",
    "dataset": "from robustbench_spur.splits.base import Dataset\nclass A(Dataset):\n    splits = {'a': 'b'}\n",
}


@pytest.mark.parametrize(
    ("kind", "stated", "reason"),
    [
        ("method", "name = 'a/b'", "states name = 'a/b': string should match pattern"),
        ("method", "version = '1'", "states version = '1': input should be a valid integer"),
        ("method", "needs = 'adapt'", "states needs = 'adapt': input should be a valid tuple"),
        ("method", "needs = ('adpt',)", "states needs.0 = 'adpt': input should be 'validation_attributes'"),
        ("method", "needs = 5", "states needs = 5: input should be a valid tuple"),
        ("method", "every_group_in = ('trian',)", "states every_group_in.0 = 'trian'"),
        ("method", "presets = {'a': 3}", "states presets.a = 3: input should be a valid dictionary"),
        ("evaluator", "metrics = ['a']", "states metrics = ['a']: input should be a valid dictionary"),
        ("evaluator", "collects = 'abc'", "states collects = 'abc': input should be a valid tuple"),
        ("evaluator", "partitions = ('tst',)", "states partitions.0 = 'tst'"),
        ("dataset", "splits = dict(a='b')", "input should be a valid dictionary"),
        ("dataset", "tied = 'a'", "states tied = 'a': input should be a valid tuple"),
        ("dataset", "image_size = '64'", "states image_size = '64': input should be a valid integer"),
        ("dataset", "aliases = ['x']", "states aliases = ['x']: input should be a valid dictionary"),
    ],
)
def test_a_class_that_states_something_of_another_type_is_broken(
    tmp_path: Path, kind: str, stated: str, reason: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{STATING[kind]}    name = 'mine'\n    version = 1\n    {stated}\n")
    plugin = Registry((path,)).find(kind, "mine")
    assert plugin.source is None
    assert reason in plugin.reason
    with pytest.raises(SpurbenchError, match=f"{kind} 'mine' is broken"):
        plugin.load()


def test_settings_that_are_no_class_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{STATING['method']}    name = 'mine'\n    version = 1\n    Hyperparameters = 3\n")
    with pytest.raises(SpurbenchError, match="states Hyperparameters = 3, which is no settings class"):
        Registry((path,)).find("method", "mine").load()
