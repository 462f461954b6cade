"""A model of anybody's code to what evaluators say: images are those of a split's plan, everything else is done at once.

Nothing of the model is known but its function, so that nothing is kept but the images. Evaluation is in float32.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.cell import lacking
from robustbench_spur.engine import predictions_of, subject_of
from robustbench_spur.evaluators.base import Evaluator, Part
from robustbench_spur.examining import PARTITION, Ask, Examined
from robustbench_spur.executor import LocalExecutor
from robustbench_spur.manifest import load_manifest
from robustbench_spur.measuring import Seed, available, measure
from robustbench_spur.pixels import images_of
from robustbench_spur.plan import Plan, PlannedCell, make_plan
from robustbench_spur.registry import Registry
from robustbench_spur.request import Request
from robustbench_spur.runner import Watcher
from robustbench_spur.runtime import require_writable
from robustbench_spur.types import SpurbenchError

BATCH = 128


def import_model(place: str) -> Any:
    """The model that a function of somebody's gives.

    Args:
        place: ``package.module:function``; looked for in the working folder too.

    Returns:
        A torch module from images in [0, 1], shape (b, channels, height, width), to logits; in eval mode, float32.

    Raises:
        SpurbenchError: it cannot be imported or called, or gives no torch module.
    """
    import torch

    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise SpurbenchError(f"Expected --model package.module:function, found {place!r}.")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # other people's code
        raise SpurbenchError(f"Expected a model from {place}, found {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, torch.nn.Module):
        raise SpurbenchError(f"Expected a torch.nn.Module from {place}, found {type(made).__name__}.")
    return made.float().eval()


def examine_model(place: str, ask: Ask, watcher: Watcher) -> Iterator[Examined]:
    """Look at an imported model on every split that is asked for.

    Args:
        place: see :func:`import_model`.
        ask: what else; its weights and network are not used.
        watcher: is told how the images come along.

    Yields:
        One entry per split.

    Raises:
        SpurbenchError: a model that cannot be had, or whose logits are not of the split's classes; an unknown split.
    """
    model = import_model(place)
    manifest, registry = load_manifest(ask.board), Registry(ask.plugin_files)
    evaluators, left_out = available(registry, manifest, ask.evaluators, costly=ask.costly)
    plan = make_plan(
        Request(
            methods=(manifest.baseline,),
            splits=ask.splits,
            image_size=ask.image_size,
            split_settings=ask.split_settings,
            board=ask.board,
            data=ask.data,
            plugin_files=ask.plugin_files,
            device=ask.device,
            force=True,
            again=True,
            home=ask.home,
        )
    )
    require_writable(ask.home)
    watcher.planned(plan)
    for cell in plan.cells:
        yield _examined(model.to(plan.runtime.device), cell, plan, evaluators, left_out, watcher)


def _examined(
    model: Any,
    cell: PlannedCell,
    plan: Plan,
    evaluators: list[Evaluator],
    left_out: Mapping[str, str],
    watcher: Watcher,
) -> Examined:
    split = cell.spec.split
    wanted = [one for one in evaluators if PARTITION in one.partitions and not lacking(split, one.reads, one.requires)]
    names = dict.fromkeys((PARTITION, *(name for one in wanted for name in one.reads)))
    parts = {name: _part(model, name, cell, plan, watcher) for name in names}
    own = parts[PARTITION]
    told, failed, arrays = dict(left_out), dict[str, str](), dict[str, NDArray[Any]]()
    for one in evaluators:
        if one not in wanted:
            why = lacking(split, one.reads, one.requires)
            told[one.name] = why or f"is about {', '.join(one.partitions)}, not about {PARTITION}"
    for one in wanted:
        if one.collects:
            try:
                pixels = cell.spec.data.pixels[PARTITION]
                subject = subject_of(split, PARTITION, parts, one.reads, one.requires, plan.runtime, pixels)
                arrays |= one.collect(replace(subject, load=lambda: model, device=plan.runtime.device))
            except (Exception, SystemExit) as error:  # other people's models and evaluators
                failed[one.name] = (
                    str(error) if isinstance(error, SpurbenchError) else f"{type(error).__name__}: {error}"
                )
    sound = [one for one in wanted if one.name not in failed]
    seed = Seed(split.ref.full, replace(own.predictions, arrays=arrays))
    found = measure([seed], sound, plan.manifest.bootstrap, left_out=told)
    return Examined(split.ref.full, replace(found, failed={**failed, **found.failed}), (), own.images)


def _part(model: Any, name: str, cell: PlannedCell, plan: Plan, watcher: Watcher) -> Part:
    """Images of a partition, and what the model says of them."""
    import torch

    from robustbench_spur.feeding import Feed

    split, pixels = cell.spec.split, cell.spec.data.pixels[name]
    for outcome in LocalExecutor().run((pixels,), plan.runtime, watcher.progress):
        if outcome.error is not None:
            raise SpurbenchError(outcome.error.message)
    images = images_of(pixels, plan.runtime)
    with torch.no_grad():
        feed = Feed(images, torch.device(plan.runtime.device))
        try:
            said = [model(batch).float().cpu().numpy() for batch in feed.batches(BATCH)]
        except Exception as error:  # other people's models
            shape = (BATCH, *images.shape[1:])
            raise SpurbenchError(
                f"Expected logits of images of shape {shape}, found {type(error).__name__}: {error}. Give --image-size, or"
                " let the model take such images."
            ) from error
    return Part(predictions_of(split, name, np.concatenate(said).astype(np.float32), {}), images)
