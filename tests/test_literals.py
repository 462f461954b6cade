"""What is read of a plugin's source without running it, against what the running class has."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.literals import PluginSource, SettingSource, evaluate, read_plugins
from robustbench_spur.parameters import Choice, LogUniform, Share, Uniform
from robustbench_spur.registry import Registry

HEAD = "from robustbench_spur import *\nfrom pydantic import BaseModel, Field\n"


def read(tmp_path: Path, text: str) -> list[PluginSource]:
    path = tmp_path / "plugin.py"
    path.write_text(text)
    return read_plugins(path)


def settings_of(tmp_path: Path, fields: str, head: str = "") -> dict[str, SettingSource]:
    body = "".join(f"        {line}\n" for line in fields.splitlines())
    text = f"{head}\nclass M:\n    name = 'm'\n    version = 1\n    class Parameters(BaseModel):\n{body}"
    (plugin,) = read(tmp_path, text)
    return {setting.name: setting for setting in plugin.settings}


def value_of(expression: str, **constants: Any) -> Any:
    return evaluate(ast.parse(expression, mode="eval").body, constants)


# Expressions


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(LITERALS)
def test_every_literal_is_read_back(value: Any) -> None:
    assert value_of(repr(value)) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("-3", -3),
        ("-2.5e-3", -0.0025),
        ("1_000", 1000),
        ("(-1, +2)", (-1, 2)),
        ('float("inf")', float("inf")),
        ("'a' 'b'", "ab"),
        ("Share(0.25, 'epochs')", Share(0.25, "epochs")),
        ("LogUniform(1e-3, high=1e-1)", LogUniform(1e-3, 1e-1)),
        ("[Uniform(0, 1), Choice((1, 2))]", [Uniform(0, 1), Choice((1, 2))]),
        ("{'m': Metric('share', low=-1.0)}", {"m": Metric("share", low=-1.0)}),
        ("(SIZE, {'size': SIZE})", (64, {"size": 64})),
    ],
)
def test_constructors_and_constants_are_understood(expression: str, value: Any) -> None:
    assert value_of(expression, SIZE=64) == value


@pytest.mark.parametrize(
    "expression",
    [
        "1 + 1",
        "f'{1}'",
        "UNKNOWN",
        "[1, *OTHERS]",
        "{**BASE, 'a': 1}",
        "Metric('share', **OPTIONS)",
        "Metric()",
        "float('many')",
        "float(10 ** 400)",
        "{[1]: 2}",
        "open('x').read()",
        "Shares(1)",
        "lambda x: x",
    ],
)
def test_what_is_more_than_a_literal_gives_its_source_text(expression: str) -> None:
    assert value_of(expression) == ast.unparse(ast.parse(expression, mode="eval"))


def test_a_number_too_large_for_a_float_is_source_text_and_no_error() -> None:
    assert value_of(f"float({'9' * 400})") == f"float({'9' * 400})"


# Classes


def test_a_plugin_is_a_class_that_states_name_and_version(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        '"""About the file."""\n'
        "SIZE = 8\n"
        "WIDE = (SIZE, 'x')\n"
        "class Helper:\n    name = 'helper'\n"
        "class Abstract:\n    name: str\n    version: int\n"
        "class M:\n"
        '    """About the class."""\n'
        "    name = 'm'\n    version: int = 3\n    size = SIZE\n    wide = WIDE\n    again = size\n"
        "    both = left = 1\n    a, b = 1, 2\n"
        "class E:\n    name = 'e'\n    version = 1\n    metrics = {'x': Metric('share')}\n"
        "class D:\n    name = 'd'\n    version = 1\n    splits = {'s': 'a split'}\n",
    )
    assert [(p.kind, p.class_name, p.line) for p in found] == [
        ("method", "M", 9),
        ("evaluator", "E", 18),
        ("dataset", "D", 22),
    ]
    wide = {"name": "m", "version": 3, "size": 8, "wide": (8, "x"), "again": 8}
    assert found[0].literals == wide
    assert found[0].doc == "About the file."
    assert found[1].literals["metrics"] == {"x": Metric("share")}


def test_the_docstring_of_the_class_serves_where_the_module_has_none(tmp_path: Path) -> None:
    (plugin,) = read(tmp_path, 'class M:\n    """About the class."""\n    name = "m"\n    version = 1\n')
    assert plugin.doc == "About the class."


def test_a_file_with_a_byte_order_mark_or_a_declared_encoding_is_read(tmp_path: Path) -> None:
    text = "class M:\n    name = 'm'\n    version = 1\n    summary = 'größer'\n"
    for raw in (b"\xef\xbb\xbf" + text.encode(), b"# coding: latin-1\n" + text.encode("latin-1")):
        (tmp_path / "plugin.py").write_bytes(raw)
        (plugin,) = read_plugins(tmp_path / "plugin.py")
        assert plugin.literals["summary"] == "größer"


def test_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (plugin,) = read(tmp_path, f"open({str(marker)!r}, 'w')\nclass M:\n    name = 'm'\n    version = 1\n")
    assert plugin.class_name == "M"
    assert not marker.exists()


# Settings


def test_settings_with_parameter(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path,
        "eta: float = parameter(0.01, 'step size', above=0, at_most=1, search=LogUniform(1e-3, 1e-1))\n"
        "epochs: int | None = parameter(Share(0.2, 'epochs'), 'passes', at_least=1)\n"
        "shift: float = parameter(default=-0.5, doc='offset', at_least=-1, below=LIMIT)\n"
        "mode: Literal['a', 'b'] = parameter('a', 'which')\n"
        "odd: int = parameter(1 + 1, 'sum')\n",
        "LIMIT = -0.25",
    )
    assert found["eta"] == SettingSource(
        "eta", "float", 0.01, "step size", {"above": 0, "at_most": 1}, LogUniform(1e-3, 1e-1)
    )
    assert found["eta"].range == "> 0, <= 1"
    assert found["epochs"] == SettingSource(
        "epochs", "int | None", Share(0.2, "epochs"), "passes", {"at_least": 1}, None
    )
    assert found["shift"] == SettingSource("shift", "float", -0.5, "offset", {"at_least": -1, "below": -0.25}, None)
    assert found["shift"].range == ">= -1, < -0.25"
    assert (found["mode"].type, found["mode"].range) == ("Literal['a', 'b']", "")
    assert found["odd"].default == "1 + 1"


def test_settings_with_field_and_plain_defaults(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path,
        "size: int = Field(8, ge=4, lt=100, description='how many')\n"
        "rate: float = Field(default=0.5, gt=0, le=1, description='how much')\n"
        "plain: int = 3\n"
        "required: int\n"
        "not_a_field = 7\n",
    )
    assert found["size"] == SettingSource("size", "int", 8, "how many", {"at_least": 4, "below": 100}, None)
    assert found["rate"] == SettingSource("rate", "float", 0.5, "how much", {"above": 0, "at_most": 1}, None)
    assert found["plain"] == SettingSource("plain", "int", 3, "", {}, None)
    assert found["required"].default is None
    assert list(found) == ["size", "rate", "plain", "required"]


@pytest.mark.parametrize(
    "assignment",
    ["Hyperparameters = Own", "Hyperparameters: ClassVar = Own", "Parameters = Own"],
)
def test_settings_of_a_class_beside_the_plugin_and_of_its_bases_in_the_file(tmp_path: Path, assignment: str) -> None:
    (plugin,) = read(
        tmp_path,
        "class Base(Hyperparameters):\n    a: int = parameter(1, 'first')\n    b: int = parameter(2, 'second')\n"
        "class Own(Base):\n    b: int = parameter(3, 'changed')\n    c: int = parameter(4, 'third')\n"
        f"class M:\n    name = 'm'\n    version = 1\n    {assignment}\n",
    )
    assert [(s.name, s.default) for s in plugin.settings] == [("a", 1), ("b", 3), ("c", 4)]


def test_a_class_that_derives_from_its_own_name_ends(tmp_path: Path) -> None:
    text = "class Own(Own):\n    a: int = 1\nclass M:\n    name = 'm'\n    version = 1\n    Parameters = Own\n"
    (plugin,) = read(tmp_path, text)
    assert [s.name for s in plugin.settings] == ["a"]


# Against the classes that run


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, p.name) for kind in ("method", "evaluator", "dataset") for p in Registry().entries(kind)],
)
def test_what_the_source_states_is_what_the_class_has(kind: str, name: str) -> None:
    plugin = Registry().find(kind, name)
    loaded = plugin.load()
    assert plugin.source is not None
    for attribute, value in plugin.source.literals.items():
        if attribute not in ("Hyperparameters", "Parameters"):
            assert getattr(loaded, attribute) == value, attribute
    model = loaded.Hyperparameters if kind == "method" else loaded.Parameters
    stated = {setting.name: setting for setting in plugin.source.settings}
    assert list(stated) == list(model.model_fields)
    for field, info in model.model_fields.items():
        shown = stated[field]
        assert shown.doc == (info.description or "")
        if not isinstance(shown.default, Share):
            assert shown.default == (None if info.default is PydanticUndefined else info.default)
        bounds = {type(m).__name__: vars_of(m) for m in info.metadata}
        names = {"above": "Gt", "at_least": "Ge", "below": "Lt", "at_most": "Le"}
        assert {names[b]: limit for b, limit in shown.bounds.items()} == {
            k: v for k, v in bounds.items() if k in names.values()
        }


def vars_of(constraint: Any) -> Any:
    return next((getattr(constraint, slot) for slot in ("gt", "ge", "lt", "le") if hasattr(constraint, slot)), None)


def test_settings_of_a_family_are_read_where_they_stand(tmp_path: Path) -> None:
    """Imported from a file beside, with the bases that these have there; nothing is run."""
    (tmp_path / "_family.py").write_text(
        "import nothing_of_this_name\n"
        "class Base(Hyperparameters):\n    rate: float = parameter(0.5, 'how much of it there is', above=0)\n"
        "class Shared(Base):\n    times: int = parameter(2, 'how often it is done', at_least=1)\n"
    )
    (tmp_path / "mine.py").write_text(
        "from robustbench_spur.methods._family import Shared\n"
        "class Own(Shared):\n    own: int = parameter(1, 'what only this one has')\n"
        "class Mine(Method):\n    name = 'mine'\n    version = 1\n    Hyperparameters = Own\n"
        "class Other(Method):\n    name = 'other'\n    version = 1\n    Hyperparameters = Shared\n"
    )
    mine, other = read_plugins(tmp_path / "mine.py")
    assert [field.name for field in mine.settings] == ["rate", "times", "own"]
    assert [(field.name, field.default) for field in other.settings] == [("rate", 0.5), ("times", 2)]
    assert read_plugins(tmp_path / "_family.py") == []
