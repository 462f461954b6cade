"""``spurbench evaluate``: what all evaluators say of anybody's predictions, or of anybody's weights on a split."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import (
    add_board,
    add_json,
    add_plugins,
    add_split_settings,
    home_of,
    named,
    pairs,
    path_of,
    print_json,
    split_settings,
)
from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from robustbench_spur.evaluators.base import Part
    from robustbench_spur.manifest import Manifest
    from robustbench_spur.measuring import Measured

OF_PREDICTIONS = ("classes", "values", "attribute_name", "validation", "train", "conflict", "ensemble")
OTHERS = ("validation", "train")
"""Options with predictions on another partition, which has that name."""
OF_WEIGHTS = ("arch", "split", "data", "image_size", "mean", "std", "split_set", "columns")
"""Options that make no sense with the other kind of input."""


@dataclass(frozen=True)
class Subject:
    """What was looked at.

    Args:
        title: for people.
        about: for JSON.
        measured: what the evaluators said.
        notes: what was assumed.
        images: of the examples, where there are any.
    """

    title: str
    about: dict[str, Any]
    measured: Measured
    notes: tuple[str, ...] = field(default=())
    images: Any = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "predictions",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="csv, tsv or npz with the columns id, patient, label, attribute, and logit_0, logit_1, ... or prob_0, ...;"
        " and if you like the last layer's input, feature_0, feature_1, ...; npz may have arrays logits or probs, features, and"
        " the last layer, head_weight and head_bias; several files are seeds of one model",
    )
    of = parser.add_argument_group("with predictions")
    of.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="in the order of the score columns")
    of.add_argument(
        "--values", nargs="+", default=[], metavar="NAME", help="the declared attribute values (default: found)"
    )
    of.add_argument("--attribute-name", metavar="NAME", help="what the attribute is (default: attribute)")
    of.add_argument(
        "--validation", nargs="+", type=Path, default=[], metavar="FILE", help="the same of validation, a file per seed"
    )
    of.add_argument("--train", nargs="+", type=Path, default=[], metavar="FILE", help="the same of the training set")
    of.add_argument(
        "--conflict", nargs="+", default=[], metavar="CLASS@VALUE", help="the groups in which the shortcut misleads"
    )
    of.add_argument("--ensemble", action="store_true", help="the files as one model, the mean of their probabilities")
    of = parser.add_argument_group("with weights")
    of.add_argument(
        "--weights", type=Path, metavar="FILE", help="safetensors of a classifier, as exported or as timm's"
    )
    of.add_argument("--model", metavar="MODULE:FUNCTION", help="in place of weights: code that gives a torch module")
    of.add_argument("--arch", metavar="NAME", help="a timm model, or smallcnn (default: what the file says)")
    of.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="[dataset/]split[@rho], whose test is used")
    of.add_argument("--image-size", type=int, metavar="PIXELS", help="(default: what the file says, else the board's)")
    of.add_argument(
        "--mean", nargs="+", type=float, default=[], metavar="X", help="of each channel of images in [0, 1]"
    )
    of.add_argument("--std", nargs="+", type=float, default=[], metavar="X", help="of each channel (default: timm's)")
    of.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="DATASET=PATH", help="where a dataset's files lie"
    )
    add_split_settings(of)  # type: ignore[arg-type]
    of.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument(
        "--evaluator", nargs="+", default=[], metavar="NAME", help="names (default: all that can be carried out)"
    )
    parser.set_defaults(thorough=True)
    add_json(parser)
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print what was found; exit code 1 where an evaluator failed."""
    from robustbench_spur.manifest import load_manifest

    manifest = load_manifest(options.board)
    found = subjects(options, manifest)
    if options.json:
        print_json([row for one in found for row in _rows(one)])
    else:
        from robustbench_spur.cli.evaluation import show

        for one in found:
            show(one.title, one.measured, one.notes, manifest)
    return 1 if any(one.measured.failed for one in found) else 0


def subjects(options: argparse.Namespace, manifest: Manifest) -> list[Subject]:
    """What the options ask to look at, measured.

    Raises:
        SpurbenchError: options that make no sense together, or input that cannot be read.
    """
    _check_options(options)
    return list(_of_predictions(options, manifest) if options.predictions else _of_model(options))


def _check_options(options: argparse.Namespace) -> None:
    given = [name for name in ("predictions", "weights", "model") if getattr(options, name)]
    if len(given) != 1:
        raise SpurbenchError(
            f"Expected a file of predictions, or --weights FILE, or --model MODULE:FUNCTION, found"
            f" {' and '.join(given) or 'none'}. Run: spurbench evaluate --help"
        )
    kind, strange = (given[0], OF_PREDICTIONS if given[0] != "predictions" else OF_WEIGHTS)
    if options.model:
        strange = (*strange, "arch", "mean", "std")
    for name in strange:
        if getattr(options, name):
            raise SpurbenchError(f"--{name.replace('_', '-')} makes no sense with {kind}. Leave it out.")
    if kind != "predictions" and not options.split:
        raise SpurbenchError(f"Expected a split to test the {kind} on, found none. Give --split.")


# predictions


def _of_predictions(options: argparse.Namespace, manifest: Manifest) -> Iterator[Subject]:
    from robustbench_spur.measuring import Seed, available, measure
    from robustbench_spur.registry import Registry

    parts, notes = _loaded(options.predictions, options)
    others: list[dict[str, Part]] = [{} for _ in parts]
    for name in OTHERS:
        if getattr(options, name):
            found, told = _other(name, options, parts)
            others = [{**one, name: part} for one, part in zip(others, found, strict=True)]
            notes += told
    names = named(options.evaluator)
    evaluators, left_out = available(Registry(tuple(options.plugin)), manifest, names, costly=options.thorough)
    files = [str(path) for path in options.predictions]
    runs = [f"ensemble of {len(files)}"] if options.ensemble else files
    seeds = [Seed(run, one.predictions, features=one.features) for run, one in zip(runs, parts, strict=True)]
    measured = measure(seeds, evaluators, manifest.bootstrap, others=others, left_out=left_out)
    for name in names:
        if name in measured.left_out:
            why = measured.left_out[name]
            raise SpurbenchError(f"Evaluator {name!r} cannot be carried out: {why.rstrip('.')}.{_way_out(why)}")
    title = f"{runs[0]}: {', '.join(files)}" if options.ensemble else ", ".join(files)
    yield Subject(title, {"files": files}, measured, tuple(dict.fromkeys(notes)))


def _way_out(why: str) -> str:
    """What to give where an evaluator was left out."""
    from robustbench_spur.measuring import NEEDS_FEATURES, NEEDS_MODEL

    weights = "--weights, --arch and --split in place of predictions"
    hints = {NEEDS_MODEL: f" Give {weights}.", NEEDS_FEATURES: f" Give features in the file, or {weights}."}
    return hints.get(why, "")


def _loaded(paths: Sequence[Path], options: argparse.Namespace) -> tuple[list[Part], list[str]]:
    """Predictions and features of each seed in the same row order, and what was assumed."""
    from robustbench_spur.ensembling import ensemble
    from robustbench_spur.evaluators.base import Part
    from robustbench_spur.predictionsfile import aligned, load_predictions

    names = {"classes": options.classes, "values": options.values, "attribute": options.attribute_name or "attribute"}
    found = [load_predictions(path.expanduser(), **names) for path in paths]
    first = found[0].predictions
    conflict = _conflict(options.conflict, first.groups.names)
    found[1:] = [aligned(first, one, path) for path, one in zip(paths[1:], found[1:], strict=True)]
    parts = [replace(one.part, predictions=replace(one.predictions, conflict=conflict)) for one in found]
    notes = [note for one in found for note in one.notes]
    if not options.ensemble:
        return parts, notes
    if len(parts) == 1:
        raise SpurbenchError("Expected several files to make an ensemble of, found one. Leave out --ensemble.")
    if any(one.features is not None for one in parts):
        notes.append("The features are not looked at: an ensemble has no last layer.")
    return [Part(ensemble([one.predictions for one in parts]))], notes


def _conflict(given: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    for name in given:
        if name not in names:
            raise SpurbenchError(f"Unknown group {name!r} in --conflict. {nearest(name, list(names))}")
    return tuple(sorted({names.index(name) for name in given}))


def _other(name: str, options: argparse.Namespace, tests: Sequence[Part]) -> tuple[list[Part], list[str]]:
    """Another partition as each seed saw it, with the names of the test's groups, and what was assumed."""
    paths = getattr(options, name)
    if len(paths) != len(options.predictions):
        raise SpurbenchError(
            f"Expected as many files in --{name} as files of predictions, {len(options.predictions)}, found {len(paths)}."
        )
    test = tests[0].predictions
    groups = test.groups
    same = argparse.Namespace(
        classes=list(groups.classes),
        values=list(groups.values),
        attribute_name=groups.attribute,
        conflict=options.conflict,
        ensemble=options.ensemble,
    )
    found, notes = _loaded(paths, same)
    for path, one, two in zip(paths, tests, found, strict=False):  # an ensemble is one of many files, without features
        if one.features and two.features and one.features.points.shape[1] != two.features.points.shape[1]:
            raise SpurbenchError(
                f"Expected {one.features.points.shape[1]} features in {path}, as many as in the predictions, found"
                f" {two.features.points.shape[1]}. Save those of one model."
            )
    if shared := sorted(set(found[0].predictions.patients.tolist()) & set(test.patients.tolist())):
        notes.append(f"{len(shared)} patients are in the predictions and in --{name} alike, such as {shared[0]!r}.")
    return found, notes


# weights


def _of_model(options: argparse.Namespace) -> Iterator[Subject]:
    from robustbench_spur.cli.progress import Terminal
    from robustbench_spur.examining import Ask, examine

    ask = Ask(
        options.weights and options.weights.expanduser(),
        tuple(options.split),
        arch=options.arch,
        image_size=options.image_size,
        evaluators=tuple(named(options.evaluator)),
        costly=options.thorough,
        mean=tuple(options.mean),
        std=tuple(options.std),
        board=options.board,
        data={name: path_of(value) for name, value in pairs(options.data, "--data").items()},
        split_settings=split_settings(options),
        plugin_files=tuple(options.plugin),
        device=options.device,
        home=home_of(),
    )
    if options.model:
        from robustbench_spur.foreign import examine_model

        found = examine_model(options.model, ask, Terminal())
    else:
        found = examine(ask, Terminal())
    name, kind = (options.model, "model") if options.model else (str(options.weights), "weights")
    for one in found:
        about = {kind: name, "split": one.split}
        yield Subject(f"{name} on {one.split}, test", about, one.measured, one.notes, one.images)


# what comes out


def _rows(one: Subject) -> Iterator[dict[str, Any]]:
    from robustbench_spur.cli.evaluation import group_rows

    first = one.measured.seeds[0].predictions
    common: Mapping[str, Any] = {
        "examples": len(first),
        "patients": len(first.patients),
        "groups": group_rows(first),
        "notes": list(one.notes),
    }
    for row in one.measured.as_dicts():
        yield {**one.about, **row, **common}
