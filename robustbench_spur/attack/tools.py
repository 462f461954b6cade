"""What an attack needs of torch: a model that can be attacked, its own random state, and logits that are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import SpurbenchError


def noise_seed(seed: int, radius: float, batch: int, restart: int = 0) -> int:
    """Seed of a batch's random start, in [0, 2^63); the first start is that of an attack without restarts."""
    name = f"{seed}:{radius!r}:{batch}" + (f":{restart}" if restart else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, device: Any) -> Iterator[None]:
    """Inside, torch draws on ``device`` (a ``torch.device``) from ``seed``; afterwards as if nothing had been drawn."""
    import torch

    # Not torch.manual_seed: it seeds every accelerator of the machine, and only this one's state is given back.
    state = torch.Generator(device=device).manual_seed(seed).get_state()
    on_cpu = device.type == "cpu"
    with torch.random.fork_rng(devices=[] if on_cpu else [device], device_type=device.type):
        if on_cpu:
            torch.random.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, device)
        yield


@contextmanager
def attackable(model: Any, device: Any) -> Iterator[None]:
    """Inside, gradients are on, autocast is off, and the model is in eval mode with weights that need no gradient.

    Args:
        model: a torch module; the flags of every part and weight are given back.
        device: a ``torch.device``.
    """
    import torch

    training = {part: part.training for part in model.modules()}
    needing = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        model.eval().requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, flag in training.items():
            part.training = flag
        for weight in needing:
            weight.requires_grad_(True)


def lead_of(logits: Any, labels: Any) -> Any:
    """Lead of the true class, z_y - log(sum over j != y of exp(z_j)), tensor of shape (b,): below 0 where p_y < 1/2."""
    import torch

    true = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    own = logits.gather(1, labels[:, None])[:, 0]  # an index by the mask would wait for the device
    return own - logits.masked_fill(true, -torch.inf).logsumexp(dim=1)


def levelled(logits: Any, labels: Any) -> Any:
    """The logits with the true class's lowered by its lead, a constant for the gradient: see :func:`unsaturated`."""
    import torch

    with torch.no_grad():
        true = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        lead = lead_of(logits, labels)
    return logits - true * lead[:, None]


def unsaturated(model: Any, labels: Any) -> Any:
    """The model with the true class's logit lowered by its lead over the others, a constant for the gradient.

    With logits z, true class y and lead L = z_y - log(sum over j != y of exp(z_j)), the cross-entropy is
    log(1 + exp(-L)): it falls as L grows, so its gradient has the sign of minus L's, wherever L stands. Moving L to 0
    keeps that sign, and keeps softmax where float32 resolves it.

    Args:
        model: a torch module to logits, shape (b, classes), of at least two classes.
        labels: int64 tensor of shape (b,), the true classes of the batch that will be passed.

    Returns:
        A torch module in eval mode, and the model with it.
    """
    return _wrapped(model, lambda logits: levelled(logits, labels))


def scaled(model: Any, factor: float) -> Any:
    """The model with its logits divided by a constant, a torch module in eval mode; gradients of NaN are an error."""
    return _wrapped(model, lambda logits: logits / factor)


def _wrapped(model: Any, change: Any) -> Any:
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.requires_grad:
                images.register_hook(check_gradient)  # type: ignore[no-untyped-call]
            changed: torch.Tensor = change(self.model(images))
            return changed

    # torchattacks puts a model that says it is training back into training mode: this one must not say so
    return Wrapped().eval()


def check_gradient(gradient: Any) -> None:
    """Check that a gradient holds no NaN: torch's sign of NaN is 0, and the attack would stand still."""
    if bool(gradient.isnan().any()):
        raise SpurbenchError("Expected gradients to attack along, found NaN. Check the network.")


def check_logits(logits: Any) -> None:
    """Check that a tensor or an array of logits is finite."""
    finite = np.isfinite(logits).all() if isinstance(logits, np.ndarray) else logits.isfinite().all()
    if not bool(finite):
        raise SpurbenchError("Expected finite logits under attack, found NaN or infinity. Check the network.")


def as_floats(images: Any, rows: NDArray[np.int64], device: Any) -> Any:
    """These images as float32 in [0, 1] on the device."""
    import torch

    from robustbench_spur.feeding import to_unit

    return to_unit(torch.from_numpy(images[rows]).to(device))


def logits_of(model: Any, images: Any) -> NDArray[np.float32]:
    """Finite logits of a batch, shape (b, classes)."""
    import torch

    with torch.no_grad():
        logits: NDArray[np.float32] = model(images).float().cpu().numpy()
    check_logits(logits)
    return logits
