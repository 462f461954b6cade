"""What a scanner makes of tissue: relaxation times, the spoiled-gradient-echo signal, coils, noise, window.

The two field strengths differ as real ones do in the mean (signal to noise, T1, B1 inhomogeneity, quality of the fat
suppression) and overlap in their protocols. Every quantity marked ``assumed`` below is a choice of ours; ``unchecked``
names a source whose number was not looked up there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.draws import Columns, Floats, Map, Stream, Uniforms, uniforms

FIELD_STRENGTHS = (1.5, 3.0)
"""In tesla; the first is the one tied to tumour in ``field``."""


class Tissue(NamedTuple):
    """Relaxation of a tissue before contrast agent; pairs are (at 1.5 T, at 3 T).

    Args:
        t1: longitudinal relaxation time, ms.
        t2_star: effective transverse relaxation time, ms.
        density: of protons, relative to water.
        source: of ``t1``.
        status: of ``t1``: ``checked`` in the source's abstract, ``unchecked``, or ``assumed``.
    """

    t1: tuple[float, float]
    t2_star: tuple[float, float]
    density: float
    source: str
    status: Literal["checked", "unchecked", "assumed"]


TISSUES = {
    # T2* is checked at 3 T for gland and fat (Ryu et al., JKSMRM 18(1), abstract) and assumed elsewhere, densities too.
    "fat": Tissue(
        (296.0, 380.0), (50.0, 36.0), 1.00, "1.5 T Rakow-Penner 2006; 3 T between it and Edden 2010", "unchecked"
    ),
    "gland": Tissue(
        (1266.0, 1560.0), (40.0, 22.0), 0.85, "1.5 T Rakow-Penner 2006; 3 T between it and Edden 2010", "unchecked"
    ),
    "tumour": Tissue((1180.0, 1420.0), (45.0, 28.0), 0.95, "", "assumed"),
    "cyst": Tissue((2600.0, 3000.0), (200.0, 150.0), 1.00, "", "assumed"),
    "muscle": Tissue((1008.0, 1412.0), (28.0, 20.0), 0.80, "Stanisz 2005", "unchecked"),
    "blood": Tissue((1580.0, 1660.0), (120.0, 80.0), 0.95, "Sharma 2006", "checked"),
    "liver": Tissue((586.0, 809.0), (28.0, 16.0), 0.75, "de Bazelaire 2004", "unchecked"),
    "marrow": Tissue((549.0, 586.0), (20.0, 12.0), 0.45, "de Bazelaire 2004", "unchecked"),
    "skin": Tissue((900.0, 1100.0), (20.0, 14.0), 0.70, "", "assumed"),
}

RELAXIVITY = (4.78, 4.97)
"""r1 of gadobutrol in plasma at 37 degrees C, L/mmol/s, at (1.5 T, 3 T): Szomolanyi 2019, abstract, checked."""

SIGMA = 0.0050
"""Standard deviation of the noise in each receive channel at 1.5 T, in units of the signal equation. Assumed."""

SNR_RATIO = 1.75
"""Signal to noise at 3 T relative to 1.5 T; up to 2 for equal voxels (Soher 2007, abstract)."""


class Model(NamedTuple):
    """A scanner model and its protocol. Values are generic and assumed, not taken from any header.

    Args:
        repetition_time: TR, ms.
        echo_time: TE, ms.
        flip_angle: nominal, degrees.
        noise: relative to the field strength's mean.
        fat_residual: share of the fat signal that suppression leaves.
        receive_decay: of the coil's sensitivity with depth, mm.
    """

    repetition_time: float
    echo_time: float
    flip_angle: float
    noise: float
    fat_residual: float
    receive_decay: float


MODELS = (
    (  # 1.5 T
        Model(5.4, 2.5, 10.0, 1.00, 0.20, 120.0),
        Model(6.1, 2.7, 12.0, 0.92, 0.17, 135.0),
        Model(4.6, 1.8, 11.0, 1.08, 0.15, 110.0),
    ),
    (  # 3 T
        Model(6.2, 2.2, 10.0, 1.00, 0.10, 115.0),
        Model(4.1, 1.5, 10.0, 1.06, 0.08, 130.0),
        Model(4.8, 1.7, 12.0, 0.94, 0.12, 120.0),
    ),
)

_QUANTILES = 16


@dataclass(frozen=True)
class Scanner(Columns):
    """The scanner of each slice; every field has shape (slices,).

    Args:
        high: 1 at 3 T, 0 at 1.5 T.
        repetition_time: TR, ms.
        echo_time: TE, ms.
        flip_angle: nominal, radians.
        sigma: of the noise in each channel.
        receive_decay: of the coil's sensitivity, mm.
        fat_residual: share of the fat signal that suppression leaves where the field is good.
        b1_offset: relative deviation of the flip angle in the middle.
        b1_slope: and its change per 80 mm to the right.
        b1_wave: amplitude of the standing wave.
        b1_phase: of that wave, radians.
        wave_number: of that wave in tissue, rad/mm (wavelength 520 mm at 1.5 T, 260 mm at 3 T).
        field_error: how badly fat suppression fails at air boundaries.
        receive_slope: relative change of sensitivity per 100 mm to the right.
        window: of the reconstruction's scaling, relative.
    """

    high: Floats
    repetition_time: Floats
    echo_time: Floats
    flip_angle: Floats
    sigma: Floats
    receive_decay: Floats
    fat_residual: Floats
    b1_offset: Floats
    b1_slope: Floats
    b1_wave: Floats
    b1_phase: Floats
    wave_number: Floats
    field_error: Floats
    receive_slope: Floats
    window: Floats


def draw_quantiles(seed: int, patients: NDArray[np.int64]) -> Floats:
    """Where each patient's scanner stands among its kind, shape (patients, 16): shared by both field strengths.

    The counterfactual of a slice at the other field strength keeps these.
    """
    return uniforms(seed, Stream.SCANNER, patients, (_QUANTILES,))


def scanners(quantiles: Floats, field_strength: Floats) -> Scanner:
    """The scanner at these quantiles of the given field strength.

    B1 deviates by -8.9 % left and +5.4 % right at 1.5 T, by -13.7 % and +2.7 % at 3 T (quadrature excitation;
    Radiology 2013, PMID 23401582, abstract, checked); the standing wave's amplitude is assumed.

    Args:
        quantiles: shape (slices, 16).
        field_strength: 1.5 or 3.0 tesla, shape (slices,).
    """
    take = Uniforms(quantiles)
    high = field_strength > 2.0
    third = np.minimum((take.uniform() * 3).astype(np.int64), 2)
    model = Model(*np.moveaxis(np.array(MODELS)[high.astype(np.int64), third], -1, 0))
    return Scanner(
        high=high.astype(np.float64),
        repetition_time=model.repetition_time * take.lognormal(1.0, 0.04),
        echo_time=np.asarray(model.echo_time),
        flip_angle=np.deg2rad(model.flip_angle),
        receive_decay=model.receive_decay * take.lognormal(1.0, 0.08),
        fat_residual=model.fat_residual * take.lognormal(1.0, 0.15),
        sigma=SIGMA / np.where(high, SNR_RATIO, 1.0) * model.noise * take.lognormal(1.0, 0.08),
        b1_offset=np.where(high, -0.055, -0.0175) + take.normal(0.0, 0.02),
        b1_slope=np.where(high, -0.082, -0.0715) * take.lognormal(1.0, 0.25),
        b1_wave=np.where(high, 0.10, 0.025) * take.lognormal(1.0, 0.2),
        b1_phase=take.normal(0.0, 0.5),
        wave_number=2 * np.pi / np.where(high, 260.0, 520.0),
        field_error=np.where(high, 0.9, 0.55) * take.lognormal(1.0, 0.3),
        receive_slope=take.normal(0.0, 0.12),
        window=take.lognormal(1.0, 0.10),
    )


def spoiled_gradient_echo(
    sine: Map, cosine: Map, repetition_time: Map, t1: Map, agent_rate: Map | float = 0.0
) -> NDArray[np.float32]:
    """Steady-state signal of a spoiled gradient echo per unit of transverse-decayed density (Ernst's equation).

    S = sin(a) (1 - E1) / (1 - cos(a) E1), with E1 = exp(-TR (1/T1 + r1 C)).

    Args:
        sine: of the flip angle a.
        cosine: of the flip angle.
        repetition_time: TR in ms.
        t1: before contrast agent, in ms.
        agent_rate: r1 C, the rate that contrast agent adds, in 1/ms.
    """
    recovered = np.exp(-repetition_time * (1 / t1 + agent_rate))
    return np.asarray(sine * (1 - recovered) / (1 - cosine * recovered))


def steady_state(scanner: Scanner, sine: Map, cosine: Map, tissue: Tissue, concentration: Map | float) -> Map:
    """Signal of a tissue before transverse decay, density included; broadcasts over its arguments.

    Args:
        scanner: of each slice, as planes.
        sine: of the flip angle.
        cosine: of the flip angle.
        tissue: which.
        concentration: of contrast agent, in mM.
    """
    rate = _at(scanner, RELAXIVITY) * 1e-3 * concentration
    echo = spoiled_gradient_echo(sine, cosine, scanner.repetition_time, _at(scanner, tissue.t1), rate)
    return np.asarray(tissue.density * echo)


def _at(scanner: Scanner, pair: tuple[float, float]) -> Map:
    """The member of (at 1.5 T, at 3 T) that holds for each slice, shape (slices, 1, 1)."""
    return np.where(scanner.high > 0, np.float32(pair[1]), np.float32(pair[0]))


@dataclass(frozen=True)
class Acquisition:
    """A scanner at work on a batch of slices: the local flip angle, and the signal of any tissue under it.

    Args:
        scanner: of each slice, as planes.
        sine: of the local flip angle, shape (slices, size, size).
        cosine: of the local flip angle.
    """

    scanner: Scanner
    sine: Map
    cosine: Map

    def signal(self, name: str, concentration: Map | float = 0.0) -> Map:
        """Signal of a tissue with ``concentration`` of contrast agent in mM, shape (slices, size, size)."""
        tissue = TISSUES[name]
        decay = np.exp(-self.scanner.echo_time / _at(self.scanner, tissue.t2_star))
        return decay * steady_state(self.scanner, self.sine, self.cosine, tissue, concentration)

    def fat(self, failure: Map | float) -> Map:
        """Signal of fat after suppression, worse by ``failure`` (0 none, 1 typical)."""
        return self.signal("fat") * self.scanner.fat_residual * (0.75 + 0.5 * failure)


def acquisition(scanner: Scanner, x: Map, y: Map) -> Acquisition:
    """Put the scanner's flip-angle map on a grid.

    Args:
        scanner: of each slice, as planes.
        x: coordinates in mm, shape (slices, size, size).
        y: coordinates in mm.
    """
    distance = np.sqrt(x**2 + (y - 20) ** 2)
    wave = np.cos(scanner.wave_number * distance + scanner.b1_phase) - 0.3
    b1 = 1 + scanner.b1_offset + scanner.b1_slope * (x / 80) + scanner.b1_wave * wave
    angle = scanner.flip_angle * b1
    return Acquisition(scanner, np.sin(angle), np.cos(angle))


def sensitivity(scanner: Scanner, x: Map, y: Map) -> Map:
    """Receive sensitivity of the breast coil: strong in front and over each breast, falling with depth."""
    decay = np.exp(-np.maximum(y + 90, -60) / (scanner.receive_decay * 1.6))
    loops = 1 + 0.22 * np.exp(-(((np.abs(x) - 78) / 40) ** 2))
    return np.asarray(decay * (1 + scanner.receive_slope * x / 100) * loops)


def window_scale(scanner: Scanner) -> Map:
    """Grey levels per unit of signal, one number per volume: shape (slices, 1, 1).

    As a reconstruction scales a whole volume: enhanced blood (0.75 mM) at the nominal flip angle becomes 250. A window
    per slice would tie the noise level to what the slice holds.
    """
    angle = scanner.flip_angle
    reference = steady_state(scanner, np.sin(angle), np.cos(angle), TISSUES["blood"], 0.75)
    return np.asarray(250.0 / (reference * scanner.window), np.float32)
