"""The one training loop: device, precision, schedule, checkpoints, selection. Methods never touch it.

Every epoch ends with a checkpoint from which a killed run goes on to the same end, and from which a longer run with the
same settings starts.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur.averaging import Averaging, Exponential
from robustbench_spur.checkpoints import laid_out, on_cpu, read_tensors, under, write_tensors
from robustbench_spur.feeding import Feed, augment, epoch_order, to_unit
from robustbench_spur.gathered import Images
from robustbench_spur.method import Batch, Method, View
from robustbench_spur.networks import Classifier
from robustbench_spur.parameters import Training
from robustbench_spur.passes import Progress, predict
from robustbench_spur.randomness import BESIDE, LAYERS, seeded
from robustbench_spur.types import SpurbenchError

SELECTIONS = ("last", "validation_accuracy", "worst_of_groups")
"""Rules that pick the epoch: the last one, the earliest with the highest accuracy on validation, or the earliest whose worst
group fares best on the set that serves to choose. The third reads attributes."""
KEEP_BYTES = 512 << 20
"""All epochs' weights are kept while together they take at most this; else only the best and the last."""
STATE = "state."
"""Before the names of the method's tensors in a checkpoint."""


class DivergedError(RuntimeError):
    """The loss on the training or the validation set became NaN or infinite."""


@dataclass(frozen=True)
class Chooser:
    """The set with attributes by which the epoch is chosen.

    Args:
        images: of the set.
        labels: class codes, shape (n,).
        groups: group indices, shape (n,); every declared group occurs.
    """

    images: Images
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def worst(self, logits: torch.Tensor) -> float:
        """Accuracy of the worst group."""
        right = logits.argmax(1).numpy() == self.labels
        return min(float(right[self.groups == group].mean()) for group in np.unique(self.groups))


@dataclass
class Run:
    """One training run: what it trains, on what, where, and where its checkpoints lie.

    An epoch has as many full batches as the training set allows: what is left over is not seen in that epoch, so that no
    step is taken on a smaller batch. A set smaller than a batch is one batch.

    Args:
        method: gives loss and sampling.
        model: with its initial weights.
        view: of the training rows.
        train: images of the training partition.
        validation: images of the validation partition.
        validation_labels: class codes of the validation partition.
        augmentations: what may be done to training images.
        training: the budget; ``epochs`` says how far to go.
        selection: one of :data:`SELECTIONS`.
        seed: of the cell.
        device: where to compute.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        folder: of the checkpoints.
        chooser: what the rule ``"worst_of_groups"`` looks at; None for the other rules.
        only_head: train the last layer alone; the backbone stays as it is, running statistics included.

    Attributes:
        state: what the method kept of the selected epoch, once :meth:`fit` is done.
    """

    method: Method
    model: Classifier
    view: View
    train: Images
    validation: Images
    validation_labels: NDArray[np.int64]
    augmentations: tuple[str, ...]
    training: Training
    selection: str
    seed: int
    device: torch.device
    precision: str
    folder: Path
    chooser: Chooser | None = None
    only_head: bool = False

    def __post_init__(self) -> None:
        if not len(self.view) or not len(self.validation):
            raise SpurbenchError(
                f"Expected examples to train {self.method.name} on and to validate it with, found {len(self.view)} and"
                f" {len(self.validation)}. Check the split's train and validation partitions."
            )
        self.batch_size = min(self.training.batch_size, len(self.view))
        self.steps = len(self.view) // self.batch_size
        self.history: list[dict[str, Any]] = []
        self.average: Averaging = self.method.averaging(self.training) or Exponential(self.training.averaging)
        self.state: dict[str, torch.Tensor] = {}
        self._written: set[int] = set()

    def fit(self, progress: Progress) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], int]:
        """Train up to the budget's epochs, from the last checkpoint if there is one.

        Args:
            progress: called with (steps done, all steps).

        Returns:
            Weights of the selected epoch on the CPU, one history entry per epoch, and the selected epoch from 1.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        epochs = self.training.epochs
        if not self._have_weights(epochs):
            self._train_from_checkpoint(epochs, progress)
        chosen = self._select(epochs)
        tensors, _ = read_tensors(self._weights_file(chosen))
        self.state = under(STATE, tensors)
        weights = {name: value for name, value in tensors.items() if not name.startswith(STATE)}
        return weights, self.history[:epochs], chosen

    def _train_from_checkpoint(self, epochs: int, progress: Progress) -> None:
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.model.lower_precision = torch.bfloat16 if self.precision == "bfloat16" else None
        self._start_method()
        optimizer = make_optimizer(self._trained(), self.training)
        done = self._resume(optimizer, epochs)
        self.average.follow(self.model)
        feed = Feed(self.train, self.device)
        validation = Feed(self.validation, self.device)
        choosing = Feed(self.chooser.images, self.device) if self.chooser else None
        labels = torch.from_numpy(self.view.partition.labels).to(self.device)
        attributes = torch.from_numpy(self.view.partition.attributes).to(self.device)
        for epoch in range(done, epochs):
            begun = time.perf_counter()
            with seeded(self.device, self.seed, LAYERS, epoch):
                loss = self._epoch(epoch, feed, labels, attributes, optimizer, epochs, progress)
            self._check_finite("training", loss, epoch)
            if self.average.watches:
                self.average.judge(self._validate(validation)[1], epoch)
            with self.average.swapped_in(self.model):
                accuracy, nll = self._validate(validation)
                chosen_by = self._worst(choosing)
            self._check_finite("validation", nll, epoch)
            entry = {
                "epoch": epoch + 1,
                "loss": loss,
                "validation_accuracy": accuracy,
                "validation_nll": nll,
                **chosen_by,
            }
            self.history.append({**entry, "seconds": round(time.perf_counter() - begun, 3)})
            self._save(epoch + 1, optimizer)

    def _start_method(self) -> None:
        """Let the method set its state and build its further networks, all on the device."""
        self.method.tensors = {
            name: torch.from_numpy(value).to(self.device)
            for name, value in self.method.given.items()
            if value.dtype.kind in "biuf"
        }
        with seeded(self.device, self.seed, BESIDE, 0):
            beside = self.method.modules(self.model, self.view)
            self.method.beside = {name: module.to(self.device) for name, module in beside.items()}
        self.method.start(self.view)
        self.method.state = {name: value.to(self.device) for name, value in self.method.state.items()}

    def _trained(self) -> list[torch.nn.Parameter]:
        """The weights that the optimiser moves."""
        modules = [self.model.head if self.only_head else self.model, *self.method.beside.values()]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def _training_mode(self) -> None:
        self.model.train()
        if self.only_head:
            self.model.backbone.eval()
        for module in self.method.beside.values():
            module.train()

    def _epoch(
        self,
        epoch: int,
        feed: Feed,
        labels: torch.Tensor,
        attributes: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        epochs: int,
        progress: Progress,
    ) -> float:
        """One pass; the mean loss is read from the device once, at its end."""
        sampling = self.method.sampling_in(self.view, epoch)
        order = torch.from_numpy(epoch_order(len(self.view), sampling, self.seed, epoch))
        on_device = order.to(self.device)
        self._training_mode()
        total = torch.zeros((), device=self.device)
        for step in range(self.steps):
            positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size, device=self.device)
            drawn = slice(step * self.batch_size, (step + 1) * self.batch_size)
            rows = on_device[drawn]
            move = partial(augment, positions=positions, kinds=self.augmentations, seed=self.seed, epoch=epoch)
            images, done = to_unit(move(feed.take(order[drawn], rows))), epoch * self.steps + step
            batch = Batch(images, labels[rows], rows, attributes[rows], self.view, done / self.steps, move)
            set_learning_rate(optimizer, self._learning_rate(done, epochs * self.steps))
            optimizer.zero_grad(set_to_none=True)
            loss = self.method.backward(self.model, batch)
            optimizer.step()
            self.average.update(self.model, done, batch.epoch)
            total += loss
            progress(done + 1, epochs * self.steps)
        return float(total) / self.steps

    def _learning_rate(self, step: int, all_steps: int) -> float:
        warmup = self.training.warmup_epochs * self.steps
        if step < warmup:
            return self.training.learning_rate * (step + 1) / (warmup + 1)
        if self.training.schedule == "inverse_sqrt":
            return self.training.learning_rate * math.sqrt(max(1.0, warmup) / (step + 1))
        if self.training.schedule == "cosine":
            share = (step - warmup) / max(1.0, all_steps - warmup)
            return self.training.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
        return self.training.learning_rate

    def _check_finite(self, what: str, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the {what} loss of {self.method.name} became {loss} in epoch {epoch + 1}")

    def _validate(self, feed: Feed) -> tuple[float, float]:
        logits = predict(self.model, feed)[0]
        labels = torch.from_numpy(self.validation_labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return float(accuracy), float(torch.nn.functional.cross_entropy(logits, labels))

    def _worst(self, choosing: Feed | None) -> dict[str, float]:
        """What the epoch is chosen by, for the history; nothing where the rule needs no such set."""
        if self.chooser is None or choosing is None:
            return {}
        return {"selection_worst_of_groups": self.chooser.worst(predict(self.model, choosing)[0])}

    # checkpoints

    def _weights_file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}.safetensors"

    @property
    def _latest(self) -> Path:
        return self.folder / "latest.safetensors"

    def _have_weights(self, epochs: int) -> bool:
        """Whether an earlier run already passed here and kept what the selection rule needs."""
        if not self._latest.is_file():
            return False
        _, about = read_tensors(self._latest)
        self.history = json.loads(about["history"])
        if len(self.history) < epochs:
            return False
        return self._weights_file(self._select(epochs)).is_file()

    def _select(self, epochs: int) -> int:
        if self.selection == "last":
            return epochs
        return 1 + int(np.argmax([entry[self._criterion] for entry in self.history[:epochs]]))

    @property
    def _criterion(self) -> str:
        """Entry of the history whose highest value picks the epoch."""
        return "validation_accuracy" if self.chooser is None else "selection_worst_of_groups"

    def _resume(self, optimizer: torch.optim.Optimizer, epochs: int) -> int:
        """Load the last checkpoint if it is short of the goal; returns the epochs done."""
        self.history = []
        if not self._latest.is_file():
            return 0
        tensors, about = read_tensors(self._latest)
        history = json.loads(about["history"])
        # one that reached the goal is of no use here: the weights that were wanted of it are gone
        if len(history) >= epochs:
            return 0
        self.history = history
        self.model.load_state_dict(under("model.", tensors))
        self.method.state = {name: value.to(self.device) for name, value in under(STATE, tensors).items()}
        for name, module in self.method.beside.items():
            module.load_state_dict(under(f"beside.{name}.", tensors))
        self.average.tensors = {
            name: laid_out(value).to(self.device) for name, value in under("average.", tensors).items()
        }
        self.average.memory = under("memory.", tensors)
        state = optimizer.state_dict()
        state["state"] = {}
        for name, value in under("optimizer.", tensors).items():
            index, field = name.split(".", 1)
            state["state"].setdefault(int(index), {})[field] = laid_out(value)
        optimizer.load_state_dict(state)
        return len(history)

    def _save(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Write this epoch's weights, then the state to go on from: in this order, so that neither is ever missed."""
        weights = on_cpu(self.model.state_dict())
        state = {f"{STATE}{name}": value for name, value in on_cpu(self.method.state).items()}
        write_tensors(self._weights_file(epoch), weights | on_cpu(self.average.tensors) | state, {})
        self._written.add(epoch)
        size = sum(value.numel() * value.element_size() for value in weights.values())
        if size * self.training.epochs > KEEP_BYTES:
            keep = {epoch, 1 + int(np.argmax([entry[self._criterion] for entry in self.history]))}
            # only what this run wrote: another process may be on the same way
            for old in self._written - keep:
                self._weights_file(old).unlink(missing_ok=True)
            self._written &= keep
        tensors = state | {f"model.{name}": value for name, value in weights.items()}
        for name, module in self.method.beside.items():
            tensors |= {f"beside.{name}.{key}": value for key, value in on_cpu(module.state_dict()).items()}
        tensors |= {f"average.{name}": value for name, value in on_cpu(self.average.tensors).items()}
        tensors |= {f"memory.{name}": value for name, value in on_cpu(self.average.memory).items()}
        for index, fields in optimizer.state_dict()["state"].items():
            for field, value in fields.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{field}"] = torch.as_tensor(value).detach().cpu().contiguous()
        write_tensors(self._latest, tensors, {"history": json.dumps(self.history)})


def make_optimizer(parameters: list[torch.nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """The optimiser that the budget names, over all weights alike."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=training.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, rate, weight_decay=decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the step size of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
