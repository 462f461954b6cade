"""Imports point one way, the core knows no plugin by name, and what only reads starts nothing heavy."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import robustbench_spur
from robustbench_spur import manifest
from robustbench_spur.cli import VERBS
from robustbench_spur.home import Home
from robustbench_spur.registry import Registry
from tests.records import Laboratory, drawn

PACKAGE = "robustbench_spur"
ROOT = Path(robustbench_spur.__file__).parent
PLUGIN_FOLDERS = ("evaluators", "methods", "splits")
TEMPLATE = ROOT / "template"
"""Files that are written for others to edit: plugins, which nothing here imports."""
BENCH = ROOT / "conformance" / "bench.py"
"""A draft of a dataset: it imports the public names, as drafts do."""

LAYERS = {
    "nouns": "types",
    "ground": "parameters store stage home randomness provenance reading association pictures spreadsheet sidebyside repository"
    " evaluators.metric",
    "contracts": "intervals evaluators.base splits.base method task code averaging heads literals manifest record statistics"
    " evaluators.subject evaluators.finding networks phantom protocols gathered",
    "looking up": "registry stated wrapping splitref scoring coverage runtime feeding attack tuning.presets"
    " calibration corruptions saliency relevance probing shortcut erasing fitting ensembling",
    "plugins": "evaluators splits methods",
    "work": "pixels rerendered passes checkpoints training models engine executor request cell plan runner export tuning.tuned",
    "kit": "conformance",
    "data": "download unpack preparation doctor newplugin curation",
    "searches": "tuning",
    "reading predictions": "arraysfile predictionscolumns predictionsfile measuring examining foreign",
    "results": "standing rows ranking submission board published building accepting arranging cellwords changes comparison"
    " tables tablecsv tablelatex page audit curation.plots curation.page",
    "faces": "cli api",
}
"""From low to high: a module may import from its own layer and from those above it in this table, never from below.

A package stands for all its modules; a module of it that is named itself has its own place.
"""

ALLOWED_WORDS = {
    ("conformance/evaluator_bench.py", "counterfactual"): "a scene of a data set, not the evaluator",
    ("attack/subset.py", "worst_group"): "a key of an attack's curve, not the evaluator",
    ("attack/subset.py", "worst_group_accuracy"): "a key of an attack's curve, not the metric",
    ("cli/__init__.py", "clean"): "the verb, not the split",
    ("cli/cache.py", "clean"): "the verb, not the split",
    ("method.py", "reweight"): "the track, not the method",
    ("page/glossary.py", "reweight"): "the track, not the method",
    ("tables.py", "reweight"): "the track, not the method",
    ("pictures.py", "colour"): "a kind of picture, not the split",
    ("pixels.py", "clean"): "the verb, not the split",
    ("store.py", "clean"): "the verb, not the split",
    ("cli/curate/scan.py", "table"): "the argument, not the data set",
    ("cli/curate/split.py", "table"): "the argument, not the data set",
    ("cli/options.py", "erm"): "an example in a help text",
    ("curation/findings.py", "auroc"): "a column of the scan's table, not the metric",
    ("curation/findings.py", "table"): "a key of the scan's findings, not the data set",
    ("curation/volumes.py", "field_strength"): "the attribute of an acquisition, not the split",
    ("tuning/rules.py", "worst_group"): "the rule that chooses, not the evaluator",
    ("cli/submit.py", "attacks"): "attacks of any kind, not the evaluator",
    ("published.py", "attacks"): "attacks of any kind, not the evaluator",
    ("submission/recordchecks.py", "table"): "the table of a split, not the data set",
    ("page/templates/scan.html.j2", "worst_group"): "a field of the scan's estimate, not the evaluator",
}
"""Names of plugins and metrics that the core may write, by file, with the reason."""

ORDINARY = ("border", "intensity", "noise", "own", "table", "tag")
"""Names that are common words as well. The core's prose may use these words; a text that is one, or that uses one as a
reference (``table/``, ``table@``, ``table=``, in quotes), names the plugin."""

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "torchattacks",
    "torchmetrics",
    "netcal",
    "pandas",
    "sklearn",
    "matplotlib",
    "monai",
    "captum",
    "ray",
)


# Reading the source


@cache
def trees() -> dict[str, ast.Module]:
    """Syntax trees of the package by module name, ``""`` for the package itself."""
    found = {}
    for path in set(ROOT.rglob("*.py")) - {*TEMPLATE.rglob("*.py"), BENCH}:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from statements(child)


def imports(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports, at its top or inside a function."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                inside = name.removeprefix(f"{PACKAGE}.")
                yield inside if inside in known or inside.startswith("methods") else inside.rpartition(".")[0]


def layer_of(module: str) -> int:
    places = {name: level for level, names in enumerate(LAYERS.values()) for name in names.split()}
    parts = module.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    found = next((prefix for prefix in prefixes if prefix in places), None)
    assert found is not None, f"{module} has no place in the table of layers"
    return places[found]


@cache
def graph() -> dict[str, set[str]]:
    """What each module imports, without the package itself, which loads its names when they are used."""
    return {name: set(imports(tree, set(trees()))) for name, tree in trees().items() if name}


def is_plugin(module: str) -> bool:
    """Whether a module is, or belongs to, a plugin; the contracts beside them are not."""
    return layer_of(module) == list(LAYERS).index("plugins")


# Layers


def test_every_module_has_its_place_and_every_place_a_module() -> None:
    assert {layer_of(name) for name in graph()} == set(range(len(LAYERS)))
    for names in LAYERS.values():
        for name in names.split():
            assert name == "methods" or any(f"{module}.".startswith(f"{name}.") for module in graph()), name


@pytest.mark.parametrize("module", sorted(graph()))
def test_imports_point_down(module: str) -> None:
    upward = {other for other in graph()[module] if layer_of(other) > layer_of(module)}
    assert not upward


def test_there_is_no_circle_of_imports() -> None:
    order = list(graphlib.TopologicalSorter(graph()).static_order())
    assert order.index("types") < order.index("board")


def test_nobody_imports_a_plugin_by_name_but_another_plugin_of_its_folder() -> None:
    for module, others in graph().items():
        for other in filter(is_plugin, others):
            assert is_plugin(module), f"{module} imports {other}"
            assert module.split(".")[0] == other.split(".")[0]


def test_the_package_itself_imports_nothing_at_its_top() -> None:
    names = [alias.name for node in trees()[""].body if isinstance(node, ast.Import) for alias in node.names]
    froms = [str(node.module) for node in trees()[""].body if isinstance(node, ast.ImportFrom)]
    assert set(names + froms) <= sys.stdlib_module_names | {"importlib", "__future__"}


def test_a_method_imports_the_public_names_and_other_methods_only() -> None:
    for plugin in Registry().entries("method"):
        assert plugin.path is not None
        for node in ast.walk(ast.parse(plugin.path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == PACKAGE:
                public = node.module == PACKAGE and {alias.name for alias in node.names} <= set(
                    robustbench_spur.__all__
                )
                assert public or str(node.module).startswith(f"{PACKAGE}.methods."), f"{plugin.where}: {node.module}"


def test_every_public_name_is_there() -> None:
    for name in robustbench_spur.__all__:
        assert getattr(robustbench_spur, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = robustbench_spur.nothing


# Names


@cache
def plugin_names() -> dict[str, str]:
    """What the core must not write: names of plugins, splits, metrics and collected arrays, with what they are."""
    registry, found = Registry(), {}
    for kind in ("method", "dataset", "evaluator"):
        for plugin in registry.entries(kind):
            own = [*plugin.literal("splits", {}), *plugin.literal("aliases", {}), *plugin.literal("metrics", {})]
            for name in (plugin.name, *own, *plugin.literal("collects", ())):
                found[name.rstrip(":")] = f"{kind} {plugin.name}"
    return found


def texts(tree: ast.Module) -> Iterator[str]:
    """String literals but docstrings, those under names included."""
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


def refers(text: str, word: str) -> bool:
    """Whether a text is a word, or uses it as the name of something."""
    used = rf"(?<!\w){word}[/@=]|/{word}(?!\w)|[`'\"]{word}[`'\"]"
    return text == word or re.search(used, text) is not None


def names_in_text(text: str) -> set[str]:
    """Names of plugins in one string literal."""
    strange = set(re.findall(r"\w+", text)) & plugin_names().keys() - set(ORDINARY)
    return strange | {word for word in ORDINARY if refers(text, word)}


def names_in_source(source: str) -> set[str]:
    """Names of plugins in the string literals of a Python file."""
    return {name for text in texts(ast.parse(source)) for name in names_in_text(text)}


def names_in_template(source: str) -> set[str]:
    """Names of plugins in a template, and of all else in the string literals of its expressions.

    Splits and metrics have the names of common words, which a template's prose and markup may use.
    """
    own = {name for name, what in plugin_names().items() if name == what.split()[1] or "_" in name}
    found = set(re.findall(r"\w+", source)) & own - set(ORDINARY)
    for expression in re.findall(r"\{[{%].*?[}%]\}", source, re.DOTALL):
        for _, literal in re.findall(r"""(["'])(.*?)\1""", expression):
            found |= names_in_text(literal) & (own | set(ORDINARY))
    return found


def words_of_the_core() -> set[tuple[str, str]]:
    """Every name of a plugin that the core writes, with the file."""
    found = set()
    for path in ROOT.rglob("*"):
        place = path.relative_to(ROOT)
        if place.parts[0] in (*PLUGIN_FOLDERS, "phantom") or path.suffix not in (".py", ".j2"):
            continue
        read = names_in_source if path.suffix == ".py" else names_in_template
        found |= {(place.as_posix(), name) for name in read(path.read_text(encoding="utf-8"))}
    return found


def test_the_core_names_no_method_dataset_split_evaluator_or_metric() -> None:
    assert {"erm", "phantom", "field", "ece", "auroc", *ORDINARY} <= plugin_names().keys()
    named = words_of_the_core()
    assert {(*pair, plugin_names()[pair[1]]) for pair in named - ALLOWED_WORDS.keys()} == set()
    assert ALLOWED_WORDS.keys() <= named, "an exception that nothing needs any more"


NAMING = {
    'if method.name == "erm": pass': {"erm"},
    'raise ValueError("Not with groupdro or jtt.")': {"groupdro", "jtt"},
    'x = f"{split} is the phantom of {worst_group_accuracy}"': {"phantom"},
    'if dataset == "table": pass': {"table"},
    'match split:\n    case "own" | "tag": pass': {"own", "tag"},
    'help("such as table/own")': {"table", "own"},
    'help("Give --data table=PATH")': {"table"},
    'help("injected/noise@0.9 is one")': {"injected", "noise"},
    "raise ValueError(f\"Write 'border' or `intensity`, not {x}.\")": {"border", "intensity"},
    'raise ValueError("Expected rows in the table of its own, found a tag.")': set(),
    'x = f"the {kind} table {name}: {own}"': set(),
    'notable, owned = "tables and their/own-er", "a stage-table"': {"own"},
    '"""A docstring may explain what erm and table/own are."""': set(),
}
"""Sources, and the names that are to be found in them."""


@pytest.mark.parametrize("source", NAMING)
def test_names_are_found_where_they_are_names(source: str) -> None:
    assert names_in_source(source) == NAMING[source]


def test_names_are_found_in_templates() -> None:
    markup = "<table class='table'>{% for row in table %}<td>{{ row.own }}</td>{% endfor %}</table> {{ 'a table' }}"
    assert names_in_template(markup) == set()
    assert names_in_template("{% if row.method == 'erm' %} groupdro {{ x['worst_group'] }}") == {
        "erm",
        "groupdro",
        "worst_group",
    }
    assert names_in_template('{% if row.dataset == "table" or row.split == "tag" %}') == {"table", "tag"}


# Weight


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={"PATH": "", "HOME": "/nonexistent", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_no_other_library() -> None:
    code = f"import sys; before = set(sys.modules); import {PACKAGE}; print(*(set(sys.modules) - before))"
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert loaded <= sys.stdlib_module_names | {PACKAGE}


def test_what_only_reads_loads_nothing_heavy(tmp_path: Path) -> None:
    """All verbs that read, one after the other in one process, on a home with records of the default board."""
    lab, method = Laboratory(Home(tmp_path / "home")), Registry().entries("method")[0].name
    lab.add(method, 0, drawn((0.9, 0.4, 0.6, 0.8)), board="v1")
    lab.add(method, 1, board="v1", status="failed", reason="RuntimeError: x")
    predictions, rows = tmp_path / "predictions.npz", np.arange(40)
    texts = {"id": [f"s{n}" for n in rows], "patient": [f"p{n // 2}" for n in rows]}
    numbers = {"label": rows % 2, "attribute": rows // 2 % 2, "logit_0": rows % 3, "logit_1": np.ones(40)}
    np.savez(predictions, **{name: np.array(column) for name, column in (texts | numbers).items()})
    board = tmp_path / "v1"
    board.mkdir()
    shutil.copy(manifest.boards_folder() / "v1" / "board.json", board)
    names = [method, *(Registry().entries(kind)[0].name for kind in ("evaluator", "dataset"))]
    commands = [
        ["--version"],
        ["list"],
        ["list", "splits", "--json"],
        ["describe", *names],
        ["describe", *names, "--json"],
        ["status"],
        ["status", "--json"],
        ["cache"],
        ["clean", "pixels"],
        ["new", "method", "a_method_to_write", "--out", str(tmp_path)],
        ["leaderboard"],
        ["leaderboard", "--json"],
        ["leaderboard", "--markdown"],
        ["leaderboard", "--csv"],
        ["leaderboard", "--latex"],
        ["leaderboard", "diff", "v1", "v1"],
        ["leaderboard", "build", str(board)],
        ["verify", str(board)],
        ["leaderboard", "--html", str(tmp_path / "page.html")],
        ["evaluate", str(predictions), "--json"],
        ["audit", str(predictions), "--html", str(tmp_path / "audit.html"), "--json"],
    ]
    assert {command[0] for command in commands[1:]} == VERBS.keys() - {
        "run",
        "check",
        "tune",
        "export",
        "compare",
        "data",
        "curate",
        "submit",
    }
    code = f"""
import contextlib, io, json, sys
from {PACKAGE}.cli import main
found = {{}}
for command in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(command) == 0, command
    found[" ".join(command)] = [name for name in {HEAVY!r} if name in sys.modules], len(out.getvalue())
print(json.dumps(found))
"""
    found = json.loads(run_python(code, SPURBENCH_HOME=str(tmp_path / "home")))
    assert {command: heavy for command, (heavy, _) in found.items() if heavy} == {}
    assert all(length > 0 for _, length in found.values())
    assert (tmp_path / "page.html").is_file()


def test_help_loads_next_to_nothing() -> None:
    code = f"""
import contextlib, io, sys
from {PACKAGE}.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main(["--help"])
assert "leaderboard" in out.getvalue()
print([name for name in {(*HEAVY, "pydantic", "scipy", "rich", "jinja2")!r} if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"
