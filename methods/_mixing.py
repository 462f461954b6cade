"""Mixing pairs of images and their labels: what Mixup, CutMix and LISA share."""

import torch
from torch.nn.functional import cross_entropy


def beta_share(alpha: float, size: int, device: torch.device) -> torch.Tensor:
    """Shares drawn from Beta(alpha, alpha), shape (size,)."""
    # _sample_dirichlet draws from torch's own generator, as everything in a loss must
    concentration = torch.full((size, 2), alpha, device=device)
    return torch._sample_dirichlet(concentration)[:, 0]


def blend(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The blends share x_i + (1 - share) x_partner(i)."""
    share = share.reshape(-1, 1, 1, 1)
    return share * images + (1 - share) * images[partner]


def patch(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a rectangle of their partner's, of an area of 1 - share before it is cut off at the border.

    The rectangle has the image's aspect; its centre is uniform over the image.

    Returns:
        The images, and the shares of the image that are left, shape (b,).
    """
    count, _, height, width = images.shape
    side = (1 - share).sqrt()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = _span(side * height, torch.rand(count, device=images.device) * height, rows)
    inside_columns = _span(side * width, torch.rand(count, device=images.device) * width, columns)
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    left = 1 - inside.float().mean((1, 2, 3))
    return torch.where(inside, images[partner], images), left


def _span(length: torch.Tensor, centre: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    return (place + 0.5 - centre[:, None]).abs() < length[:, None] / 2


def mixed_loss(logits: torch.Tensor, labels: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mean of share CE(z, y_i) + (1 - share) CE(z, y_partner(i))."""
    own = cross_entropy(logits, labels, reduction="none")
    other = cross_entropy(logits, labels[partner], reduction="none")
    return (share * own + (1 - share) * other).mean()


def random_partner(allowed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each example one of those that are allowed, at random; itself where none is.

    Args:
        allowed: who may be whose partner, shape (b, b).

    Returns:
        Positions, shape (b,), and whether there was one, shape (b,).
    """
    chance = torch.where(allowed, torch.rand(allowed.shape, device=allowed.device), -1.0)
    found = allowed.any(dim=1)
    own = torch.arange(len(allowed), device=allowed.device)
    return torch.where(found, chance.argmax(dim=1), own), found
