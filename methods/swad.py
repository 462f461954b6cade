"""SWAD: the mean of the weights after every step, from where the validation loss stops falling to where it starts to rise.

The average begins at the first epoch whose validation loss is the lowest of ``patience`` in a row from there, and ends
before ``tolerance_epochs`` in a row whose losses are all above ``ratio`` times the mean of the losses of those first
``patience`` epochs. In between, the weights after every step count alike.

Source: Cha et al., NeurIPS 2021 (arXiv 2102.08604), "SWAD: domain generalization by seeking flat minima", algorithm 1
    and section 3.3.
Deviations: the validation loss is looked at once an epoch, which is the paper's unit here; if it never stops falling,
    the model is the last step's; running statistics of batch normalisation are averaged like weights.
Needs: labels only, those of validation among them.
"""

import torch

from robustbench_spur import Averaging, Classifier, Hyperparameters, Training, Uniform, parameter
from robustbench_spur.methods.erm import ERM


class SWADHyperparameters(Hyperparameters):
    """Settings of SWAD."""

    patience: int = parameter(3, "epochs in which the loss must not fall any more", at_least=1, search=Uniform(2, 4))
    tolerance_epochs: int = parameter(6, "epochs of too large a loss that end the average", at_least=1)
    ratio: float = parameter(
        1.3, "how much larger than at the beginning is too large", above=1, search=Uniform(1.05, 1.6)
    )


class Dense(Averaging):
    """The average of SWAD.

    ``memory`` has the running mean of the present epoch (``now.``), those of the last epochs (by their number), and the mean of
    those before, which count whatever comes (``sure.``).

    Args:
        patience: epochs in which the loss must not fall.
        tolerance_epochs: epochs of too large a loss.
        ratio: what is too large.
    """

    watches = True

    def __init__(self, patience: int, tolerance_epochs: int, ratio: float) -> None:
        super().__init__()
        self.patience, self.tolerance_epochs, self.ratio = patience, tolerance_epochs, ratio

    @torch.no_grad()
    def update(self, model: Classifier, step: int, epoch: float) -> None:
        """Take the weights into the mean of the epoch."""
        state = model.state_dict()
        self._add("now.", {name: value for name, value in state.items() if value.is_floating_point()})

    def judge(self, nll: float, epoch: int) -> None:
        """Decide whether the epoch that ended counts."""
        losses = [*self.memory.get("losses", torch.zeros(0)).tolist(), nll]
        self.memory["losses"] = torch.tensor(losses, dtype=torch.float64)
        mean = self._pop("now.")
        if "end" in self.memory:
            return
        self._add(f"{epoch}.", mean)
        if "start" not in self.memory:
            first = epoch - self.patience + 1
            if first < 0 or losses[first] > min(losses[first:]):
                self._pop(f"{first}.")  # the average does not begin there
                return
            self.memory["start"] = torch.tensor(first)
        self._settle(losses, int(self.memory["start"]), epoch)

    def _settle(self, losses: list[float], start: int, epoch: int) -> None:
        """End the average if it is time; else let the epoch count that no end can take away any more."""
        limit = self.ratio * sum(losses[start : start + self.patience]) / self.patience
        oldest = epoch - self.tolerance_epochs + 1
        if oldest >= start and min(losses[oldest:]) > limit:
            self.memory["end"] = torch.tensor(oldest)
            for late in range(oldest, epoch + 1):
                self._pop(f"{late}.")
        elif oldest >= start:
            self._add("sure.", self._pop(f"{oldest}."))
        count, parts = int(self.memory.get("sure.#", torch.tensor(0))), [self._get("sure.")]
        parts = parts * count + [self._get(f"{one}.") for one in range(start, epoch + 1) if f"{one}.#" in self.memory]
        self.tensors = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}

    def _get(self, prefix: str) -> dict[str, torch.Tensor]:
        """A mean that is kept under a prefix; its count has the name ``#``."""
        kept = {name.removeprefix(prefix): value for name, value in self.memory.items() if name.startswith(prefix)}
        return {name: value for name, value in kept.items() if name != "#"}

    def _pop(self, prefix: str) -> dict[str, torch.Tensor]:
        found = self._get(prefix)
        self.memory = {name: value for name, value in self.memory.items() if not name.startswith(prefix)}
        return found

    def _add(self, prefix: str, new: dict[str, torch.Tensor]) -> None:
        """Take tensors into the mean under a prefix."""
        count = int(self.memory.get(f"{prefix}#", torch.tensor(0))) + 1
        self.memory[f"{prefix}#"] = torch.tensor(count)
        for name, value in new.items():
            mean = self.memory.get(prefix + name)
            self.memory[prefix + name] = value.clone() if mean is None else mean + (value - mean) / count


class SWAD(ERM):
    """ERM, averaged densely while its validation loss is low."""

    name = "swad"
    version = 1
    summary = "averages the weights of all steps while the validation loss is low"
    source = "Cha et al. 2021, SWAD, algorithm 1"
    needs = ()
    Hyperparameters = SWADHyperparameters

    def averaging(self, training: Training) -> Averaging:
        """The average between start and end."""
        return Dense(self.hyper.patience, self.hyper.tolerance_epochs, self.hyper.ratio)
