"""Options that several verbs share, and the way from their text to a request."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.types import SpurbenchError, finite


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``, of every verb that reads."""
    parser.add_argument("--json", action="store_true", help="print a JSON list in place of a table")


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """``--plugin``, of every verb that looks plugins up."""
    parser.add_argument(
        "--plugin", type=Path, action="append", default=[], metavar="FILE", help="a draft of a plugin; may be repeated"
    )


def add_board(parser: argparse.ArgumentParser) -> None:
    """``--board``, of every verb that reads a manifest."""
    parser.add_argument("--board", default="v1", help="board version (default: %(default)s)")


def add_cells(parser: argparse.ArgumentParser) -> None:
    """What names cells: method, split, seed and all that is part of a row's identity."""
    parser.add_argument("--method", nargs="+", default=["all"], metavar="NAME", help="names, or all (default)")
    parser.add_argument(
        "--split",
        nargs="+",
        default=["all"],
        metavar="SPLIT",
        help="[dataset/]split[@rho], or all the board's splits whose data are present (default)",
    )
    parser.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="of training (default: 0)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the method or the budget",
    )
    add_split_settings(parser)
    parser.add_argument("--preset", help="a method's settings: a paper's, or tuned, what a search chose")
    parser.add_argument("--evaluator", nargs="+", default=[], metavar="NAME", help="names, board (default) or all")
    parser.add_argument("--backbone", help="a timm model, or smallcnn (default: the board's)")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="(default: the board's)")
    parser.add_argument(
        "--pretrained", action=argparse.BooleanOptionalAction, default=None, help="start from timm's published weights"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="safetensors file of backbone weights to start from"
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        default=[],
        metavar="METHOD=FILE",
        help="safetensors weights that stand in for a method's full training, such as erm=mine.safetensors",
    )
    parser.add_argument(
        "--selection",
        help="rule that picks the epoch: last, validation_accuracy or worst_of_groups (default: the board's)",
    )
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="DATASET=PATH", help="where a dataset's files lie"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="run also where a method is not applicable (degenerate)")
    add_board(parser)
    add_plugins(parser)


def add_split_settings(parser: argparse.ArgumentParser) -> None:
    """``--split-set`` and ``--columns``, of every verb that opens splits."""
    parser.add_argument(
        "--split-set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="settings of the dataset"
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=COLUMN",
        help="columns of your own table, such as label=diagnosis: short for --split-set label_column=diagnosis",
    )


def split_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the dataset, those of ``--columns`` among them.

    Raises:
        SpurbenchError: no ``NAME=VALUE``, or a column that both options give.
    """
    settings = {name: literal(value) for name, value in pairs(options.split_set, "--split-set").items()}
    for name, column in pairs(options.columns, "--columns").items():
        if f"{name}_column" in settings:
            raise SpurbenchError(
                f"Expected the column of {name} once, found --columns {name}={column} and"
                f" --split-set {name}_column={settings[f'{name}_column']}. Drop one."
            )
        settings[f"{name}_column"] = column
    return settings


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Split ``NAME=VALUE`` texts.

    Raises:
        SpurbenchError: a text without a name or an equals sign.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise SpurbenchError(f"Expected {option} NAME=VALUE, found {text!r}.")
        found[name] = value
    return found


def path_of(text: str) -> Path:
    """A path in which ``~`` is the user's folder: the shell leaves it alone after an equals sign.

    Raises:
        SpurbenchError: the folder of a user who is not known here.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SpurbenchError(f"Expected a path, found {text!r}: {error}") from error


def named(names: list[str]) -> list[str]:
    """The names given; none where all are meant."""
    return [] if "all" in names else names


def literal(text: str) -> Any:
    """A setting's value: JSON where it is (numbers, true, lists), else the text itself.

    >>> literal("20"), literal("adam"), literal("[0.1, 1]")
    (20, 'adam', [0.1, 1])
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or thousands of brackets
        return text


def request_of(options: argparse.Namespace, *, again: bool = False) -> Any:
    """The request that the options make."""
    from robustbench_spur.plan import Request

    return Request(
        methods=tuple(options.method),
        splits=tuple(options.split),
        seeds=tuple(dict.fromkeys(options.seed)),
        settings={name: literal(value) for name, value in pairs(options.set, "--set").items()},
        split_settings=split_settings(options),
        preset=options.preset,
        evaluators=tuple(options.evaluator),
        backbone=options.backbone,
        image_size=options.image_size,
        pretrained=options.pretrained,
        weights=options.weights,
        checkpoints={name: path_of(value) for name, value in pairs(options.checkpoint, "--checkpoint").items()},
        selection=options.selection,
        board=options.board,
        data={name: path_of(value) for name, value in pairs(options.data, "--data").items()},
        plugin_files=tuple(options.plugin),
        device=options.device,
        force=options.force,
        again=again,
        home=home_of(),
    )


def home_of() -> Home:
    """The folder of results.

    Raises:
        SpurbenchError: something else lies in its place.
    """
    try:
        home = Home.default()
    except RuntimeError as error:  # ~name of a user who is not known here
        raise SpurbenchError(f"Expected a folder as SPURBENCH_HOME: {error}") from error
    if home.root.exists() and not home.root.is_dir():
        raise SpurbenchError(f"Expected a folder of results at {home.root}, found a file. Set SPURBENCH_HOME.")
    return home


def as_json(value: Any) -> Any:
    """A value as JSON has it: an undefined number is None, and what JSON does not know is text.

    >>> as_json({"a": float("nan"), 1: (2.0, Path("b"))})
    {'a': None, '1': [2.0, 'b']}
    """
    if isinstance(value, dict):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, float):
        return finite(value)
    return value if value is None or isinstance(value, str | int) else str(value)


def print_json(rows: list[dict[str, Any]]) -> None:
    """Print a JSON list; letters that the terminal's encoding lacks are escaped."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(as_json(rows), indent=1, allow_nan=False, ensure_ascii=not unicode))
