"""What goes wrong in an MR image between the patient and the reader: seven corruptions, each at five severities.

As ImageNet-C has them for photographs: a fixed list, five severities, for testing only and never for training. Here the
list is that of an MR physicist. The levels are choices, made by eye on slices of 320 mm and 64 pixels: severity 1 is meant to
be easily overlooked (but for resolution, where any averaging takes the noise of single pixels), 3 to be noticed, and 5 to
make one repeat the scan:

=================  ============================================  =============================  =======================
name               level                                         severities 1 to 5              what one sees
=================  ============================================  =============================  =======================
rician_noise       standard deviation of each of the two         0.03 0.05 0.08 0.12 0.18       little signal: low
                   channels, share of full scale                                                field, thin slice
bias_field         half range of the coefficients of the log     0.1 0.2 0.3 0.45 0.6           surface coil, dielectric
                   of the field                                                                 shading at 3 T
motion_ghosting    amplitude of the motion, share of the field   0.003 0.006 0.01 0.016 0.025   breathing: 1 to 8 mm of
                   of view                                                                      320 mm
spike              amplitude of the stripes, share of full       0.03 0.06 0.1 0.16 0.25        an electric discharge
                   scale                                                                        ("corduroy")
low_resolution     side of a voxel, in pixels                    1.33 1.6 2 2.7 4               a faster protocol
gamma              exponent, or one over it                      1.2 1.4 1.7 2.1 2.7            another window or
                                                                                                display curve
gibbs_ringing      radius of the k-space that is kept, share of  0.8 0.65 0.5 0.4 0.3           zero-filled k-space
                   the largest sampled frequency along an axis
=================  ============================================  =============================  =======================

All but ghosting are MONAI's, chosen among three libraries. Kornia corrupts photographs: it knows no k-space. TorchIO is made
for volumes in scanner coordinates, brings SimpleITK and nibabel for them, and lacks Rician noise and Gibbs ringing. MONAI has
six of the seven for single slices, needs numpy and torch alone, and keeps random state in the transform. It has no ghosting:
that is written here, as the phase that a displacement gives to each line of k-space.

Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019,
section 4 (severities); MONAI 1.6, ``monai.transforms``: ``RandRicianNoise`` (Gudbjartsson and Patz, Magnetic Resonance in
Medicine 34, 1995), ``RandBiasField``, ``KSpaceSpikeNoise``, ``RandSimulateLowResolution``, ``AdjustContrast``,
``GibbsNoise``; Wood and Henkelman, MR image artifacts from periodic motion, Medical Physics 12, 1985 (ghosting).
Deviations: a slice has no phase, so that spikes and ringing are taken of a real image (MONAI keeps the real part, the stripes
of a spike are those of a pair); MONAI's disc of k-space is centred half a sample beside its zero frequency; resolution is
lost by averaging (partial volume), where nnU-Net takes the nearest pixel; the ends of the range are clipped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import SpurbenchError, nearest

Image = NDArray[np.float32]
SEVERITIES = (1, 2, 3, 4, 5)
LEAST_SIDE = 16
"""Images are at least as high and wide, in pixels: in fewer lines of k-space there is no room for a spike beside its middle."""
SPIKE_RADII = (0.06, 0.25)
"""Distance of a spike from the middle of k-space, in cycles per pixel."""
BIAS_DEGREE = 3
"""Degree of the polynomials of the bias field: ten coefficients in two dimensions."""


@dataclass(frozen=True)
class Corruption:
    """A way in which an image is damaged.

    Args:
        levels: of severities 1 to 5.
        unit: what a level is, in words.
        apply: from an image in [0, 1], shape (channels, height, width), a level and a seed in [0, 2^32) to an image of that
            shape, whose values may leave [0, 1].
    """

    levels: tuple[float, ...]
    unit: str
    apply: Callable[[Image, float, int], Any]


def _monai() -> Any:
    """MONAI's transforms; loaded when something is corrupted, since that takes seconds."""
    from monai import transforms

    return transforms


def rician_noise(image: Image, deviation: float, seed: int) -> Any:
    """Magnitude of the image plus complex Gaussian noise: independent in every pixel and channel."""
    noise = _monai().RandRicianNoise(prob=1.0, mean=0.0, std=deviation, sample_std=False)
    return noise.set_random_state(seed)(image)


def bias_field(image: Image, reach: float, seed: int) -> Any:
    """Image times exp of a Legendre polynomial whose coefficients are uniform within ``reach`` of 0; one for all channels."""
    field = _monai().RandBiasField(prob=1.0, degree=BIAS_DEGREE, coeff_range=(-reach, reach))
    return field.set_random_state(seed)(image)


def motion_ghosting(image: Image, amplitude: float, seed: int) -> Any:
    """Magnitude of an image whose lines were read while everything swung along the phase encoding.

    Line j of N is read at time j, where the displacement is d_j = A sin(2 pi c j / N + phi), and gets the phase
    -2 pi k_j d_j of its spatial frequency k_j = (j - N/2) / N. Ghosts lie at multiples of c pixels. Axis, phase and the
    number c of cycles, from N/8 to N/2 (where neighbouring lines disagree), are drawn.
    """
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(1, 3))
    lines = image.shape[axis]
    cycles, phase = int(rng.integers(lines // 8, lines // 2 + 1)), rng.uniform(0, 2 * math.pi)
    time = np.arange(lines)
    displacement = amplitude * lines * np.sin(2 * math.pi * cycles * time / lines + phase)
    turned = np.exp(-2j * math.pi * (time - lines // 2) / lines * displacement)
    # sampled from the most negative frequency up; the transform wants zero frequency first
    turned = np.expand_dims(np.fft.ifftshift(turned), 1 if axis == 1 else 0)
    return np.abs(np.fft.ifft(np.fft.fft(image, axis=axis) * turned, axis=axis))


def spike(image: Image, amplitude: float, seed: int) -> Any:
    """One coefficient of k-space set so that its stripes have an amplitude, in a direction and of a period that are drawn."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, math.pi), rng.uniform(*SPIKE_RADII)
    height, width = image.shape[1:]
    row = height // 2 + round(radius * math.sin(angle) * height)
    column = width // 2 + round(radius * math.cos(angle) * width)
    return _monai().KSpaceSpikeNoise(loc=(row, column), k_intensity=math.log(amplitude * height * width))(image)


def low_resolution(image: Image, voxel: float, seed: int) -> Any:
    """Pixels averaged over larger ones, and these interpolated linearly; nothing is drawn."""
    import torch

    coarse = _monai().RandSimulateLowResolution(
        prob=1.0, downsample_mode="area", upsample_mode="bilinear", zoom_range=(1 / voxel, 1 / voxel)
    )
    return coarse.set_random_state(seed)(torch.from_numpy(image))


def gamma(image: Image, exponent: float, seed: int) -> Any:
    """The image, scaled to its own range, to the power ``exponent`` or one over it; which of the two is drawn."""
    darker = np.random.default_rng(seed).random() < 0.5
    return _monai().AdjustContrast(exponent if darker else 1 / exponent)(image)


def gibbs_ringing(image: Image, kept: float, seed: int) -> Any:
    """Image of the k-space within a disc, whose radius is a share of the largest frequency; nothing is drawn."""
    # the transform's own parameter is the share cut off the half diagonal of k-space
    return _monai().GibbsNoise(1 - kept / math.sqrt(2))(image)


CORRUPTIONS: dict[str, Corruption] = {
    "rician_noise": Corruption(
        (0.03, 0.05, 0.08, 0.12, 0.18), "standard deviation of each channel, share of full scale", rician_noise
    ),
    "bias_field": Corruption(
        (0.1, 0.2, 0.3, 0.45, 0.6), "half range of the coefficients of the shading's logarithm", bias_field
    ),
    "motion_ghosting": Corruption(
        (0.003, 0.006, 0.01, 0.016, 0.025), "amplitude of the motion, share of the image's side", motion_ghosting
    ),
    "spike": Corruption((0.03, 0.06, 0.1, 0.16, 0.25), "amplitude of the stripes, share of full scale", spike),
    "low_resolution": Corruption((1.33, 1.6, 2.0, 2.7, 4.0), "side of a voxel in pixels", low_resolution),
    "gamma": Corruption((1.2, 1.4, 1.7, 2.1, 2.7), "exponent, or one over it", gamma),
    "gibbs_ringing": Corruption(
        (0.8, 0.65, 0.5, 0.4, 0.3), "radius of k-space that is kept, share of the largest frequency", gibbs_ringing
    ),
}
"""All of them, in the order of the tables."""


def draw_seed(seed: int, name: str, severity: int, example: str) -> int:
    """Seed of one corrupted image, in [0, 2^32): whatever else is corrupted with it, in whatever order."""
    digest = hashlib.sha256(f"{seed}:{name}:{severity}:{example}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def corrupt(images: NDArray[np.uint8], ids: Sequence[str], name: str, severity: int, seed: int) -> Image:
    """Images under one corruption, each with a draw of its own that follows from (seed, name, severity, id).

    Args:
        images: uint8, shape (n, channels, height, width), at least 16 pixels high and wide.
        ids: of the examples, n of them.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 to 5; 0 for the images as they are.
        seed: at least 0.

    Returns:
        float32 in [0, 1], of the same shape. No random state but their own is touched.

    Raises:
        SpurbenchError: an unknown name or severity, images of another type or shape.
    """
    if name not in CORRUPTIONS:
        raise SpurbenchError(f"Unknown corruption {name!r}. {nearest(name, list(CORRUPTIONS))}")
    if severity not in (0, *SEVERITIES):
        raise SpurbenchError(f"Expected a severity from 0 to {SEVERITIES[-1]}, found {severity}.")
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(ids) or min(images.shape[2:]) < LEAST_SIDE:
        raise SpurbenchError(
            f"Expected uint8 images of shape ({len(ids)}, channels, height, width), at least {LEAST_SIDE} pixels high and"
            f" wide, found {images.dtype} of shape {images.shape}."
        )
    out: Image = images.astype(np.float32) / np.float32(255)
    if severity:
        way = CORRUPTIONS[name]
        for place, example in enumerate(ids):
            drawn = draw_seed(seed, name, severity, str(example))
            damaged = way.apply(out[place], way.levels[severity - 1], drawn)
            out[place] = np.clip(np.asarray(damaged, np.float32), 0, 1)
    return out
