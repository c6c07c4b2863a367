"""Spectral shapes at rest: stellar populations, quasars and stars, before redshift and brightness.

All shapes live on one grid, equidistant in log10 of the vacuum wavelength and finer than the pixels of SDSS, so that a
redshift is a shift by whole steps (`redshifted`). They are sketches made of tabulated continua, series of lines and
bands: every feature that a user looks for stands at its right place with a plausible strength, nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from specflight.flight.lines import line

__all__ = [
    "PIXEL_KMS",
    "QUASAR_LINES",
    "STAR_TYPES",
    "dust_law",
    "old_population",
    "quasar_continuum",
    "quasar_lines",
    "redshifted",
    "star",
    "young_population",
]

Floats = NDArray[np.float32]

PIXEL_KMS = 69.03  # one pixel of 1e-4 in log10 wavelength, km/s
OVERSAMPLE = 5
GRID_START = 28300  # 1e4 log10 of the first rest wavelength (676 Å) …
GRID_STOP = 40700  # … and of the last (11,750 Å)


@cache
def _rest() -> NDArray[np.float64]:
    count = (GRID_STOP - GRID_START) * OVERSAMPLE
    return np.asarray(10.0 ** ((GRID_START + np.arange(count) / OVERSAMPLE) * 1e-4))


def redshifted(shape: Floats, z: float, k0: int, npix: int) -> Floats:
    """Sample a shape on the pixels ``1e-4 * (k0 + i)`` in log10 of the observed wavelength; a view, never a copy.

    Parameters
    ----------
    shape : ndarray of float32
        One of the shapes of this module.
    z : float
        Redshift, such that every pixel falls on 676 to 11,750 Å at rest.
    k0, npix : int
        First pixel and number of pixels.
    """
    start = round((k0 - 1e4 * np.log10(1.0 + z) - GRID_START) * OVERSAMPLE)
    return shape[start : start + npix * OVERSAMPLE : OVERSAMPLE]


def _broadened(shape: NDArray[np.float64], sigma: float) -> Floats:
    """Convolve with a Gaussian of `sigma` km/s."""
    steps = sigma / PIXEL_KMS * OVERSAMPLE
    frequency = np.fft.rfftfreq(len(shape))
    transfer = np.exp(-2.0 * (np.pi * frequency * steps) ** 2)
    return np.fft.irfft(np.fft.rfft(shape) * transfer, len(shape)).astype(np.float32)


def _tabulated(nodes: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    wavelength, value = np.array(nodes).T
    return np.asarray(np.exp(np.interp(np.log(_rest()), np.log(wavelength), np.log(value))))


def _gaussians(lines: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    """Sum of Gaussians (centre, equivalent width, sigma; Å) relative to a continuum of 1."""
    rest, total = _rest(), np.zeros(len(_rest()))
    for centre, width, sigma in lines:
        low, high = np.searchsorted(rest, [centre - 6 * sigma, centre + 6 * sigma])
        offset = (rest[low:high] - centre) / sigma
        total[low:high] += width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * offset**2)
    return total


@cache
def _metal_lines() -> NDArray[np.float64]:
    """Optical depth of 3,000 unnamed weak lines of metals, denser and stronger towards the blue."""
    rng = np.random.default_rng(11)
    centres = 2800.0 + 6500.0 * rng.beta(1.0, 2.6, 3000)
    depth = np.zeros(len(_rest()))
    steps = np.searchsorted(_rest(), centres)
    np.add.at(depth, steps, rng.exponential(1.0, len(centres)) * (4500.0 / centres) ** 2)
    return _broadened(depth, 55.0).astype(np.float64) * OVERSAMPLE


OLD_CONTINUUM = (
    *((600, 0.008), (1500, 0.02), (2000, 0.03), (2500, 0.06), (2850, 0.16), (3300, 0.30), (3700, 0.40), (3960, 0.45)),
    *((4050, 0.72), (4300, 0.76), (4600, 0.95), (5000, 1.0), (5500, 1.06), (6000, 1.09), (6500, 1.07), (7000, 1.05)),
    *((7500, 1.02), (8000, 1.0), (9000, 0.94), (10000, 0.88), (11800, 0.78)),
)
YOUNG_CONTINUUM = (
    *((600, 0.3), (912, 0.9), (1216, 2.6), (2000, 2.1), (3000, 1.45), (3640, 1.2), (3760, 1.5), (4000, 1.75)),
    *((4500, 1.42), (5500, 1.0), (6500, 0.78), (8000, 0.58), (9500, 0.44), (11800, 0.31)),
)
OLD_LINES = (
    *((3834, 7.0, 12.0), (3934.8, 9.0, 7.0), (3969.6, 8.0, 7.0), (4102.9, 1.6, 8.0), (4227.9, 1.6, 5.0)),
    *((4305.6, 6.5, 11.0), (4341.7, 1.0, 6.0), (4385, 5.0, 12.0), (4457, 2.0, 8.0), (4533, 3.0, 12.0)),
    *((4670, 6.0, 18.0), (4862.7, 1.8, 6.0), (5016, 5.0, 16.0), (5110, 5.0, 40.0), (5176.6, 5.2, 10.0)),
    *((5271, 3.0, 9.0), (5336, 2.6, 9.0), (5407, 1.6, 8.0), (5710, 1.0, 8.0), (5783, 0.9, 8.0), (5895.6, 4.2, 5.5)),
    *((6190, 3.0, 25.0), (6497, 1.3, 9.0), (6564.6, 1.1, 6.0), (7090, 5.0, 40.0), (7650, 3.0, 40.0)),
    *((8183, 1.0, 9.0), (8500.4, 1.6, 5.0), (8544.4, 4.0, 6.5), (8664.5, 3.4, 6.0)),
)
BALMER_LIMIT = 3647.05  # vacuum Å; the series stands at BALMER_LIMIT n² / (n² - 4)


def _balmer_series(depth: float, width: float, last: int) -> NDArray[np.float64]:
    """Optical depth of the Balmer absorption lines 3 … `last`, with Stark-like wings of `width` Å."""
    rest, total = _rest(), np.zeros(len(_rest()))
    for n in range(3, last + 1):
        centre = BALMER_LIMIT * n**2 / (n**2 - 4)
        strength = depth * (0.75 if n == 3 else 1.0 / (1.0 + np.exp((n - last) / 1.5)))
        total += strength / (1.0 + ((rest - centre) / width) ** 2) ** 1.4
    return total


@cache
def old_population(dispersion: int) -> Floats:
    """Old, metal-rich stars with the 4000 Å break, about 1 at 5000 Å and broadened by `dispersion` km/s."""
    depth = _gaussians(OLD_LINES) + 0.055 * _metal_lines()
    return _broadened(_tabulated(OLD_CONTINUUM) * np.exp(-depth), float(dispersion))


@cache
def young_population() -> Floats:
    """Young stars: blue, with Balmer absorption and a Balmer break, 1 at 5500 Å; without emission lines."""
    depth = _balmer_series(0.35, 7.0, 12) + _gaussians(((3934.8, 1.5, 4.0), (5895.6, 0.8, 4.0)))
    return _broadened(_tabulated(YOUNG_CONTINUUM) * np.exp(-depth - 0.02 * _metal_lines()), 120.0)


@cache
def dust_law() -> Floats:
    """Optical depth over that at 5500 Å (Charlot & Fall 2000, ApJ 539, 718)."""
    return ((_rest() / 5500.0) ** -0.7).astype(np.float32)


# Name of the line, equivalent width and sigma (Å at rest): composite quasar of Vanden Berk et al. (2001, AJ 122, 549).
QUASAR_LINES = (
    *(("Lyβ", 8.0, 8.0), ("Lyα", 68.0, 13.0), ("N V 1240", 18.0, 9.0), ("O I 1305", 1.7, 5.4)),
    *(("C II 1335", 0.7, 3.9), ("Si IV 1398", 8.1, 14.3), ("C IV 1549", 26.0, 14.3), ("He II 1640", 3.0, 16.0)),
    *(("O III] 1665", 1.5, 12.0), ("Al III 1857", 1.0, 9.0), ("C III] 1908", 21.0, 23.6), ("C II] 2326", 2.0, 22.0)),
    *(("Mg II 2799", 32.0, 26.0), ("[Ne V] 3426", 1.2, 5.0), ("[O II] 3727", 0.8, 3.3), ("[O II] 3729", 0.8, 3.3)),
    *(("[Ne III] 3868", 1.4, 5.3), ("Hδ", 5.0, 18.6), ("Hγ", 12.6, 20.3), ("Hβ", 46.0, 38.0)),
    *(("[O III] 4959", 4.4, 4.5), ("[O III] 5007", 13.2, 4.5), ("He I 5876", 4.9, 23.0), ("Hα", 190.0, 44.0)),
    *(("[S II] 6716", 1.6, 4.0), ("[S II] 6731", 1.2, 4.0)),
)
IRON_BUMPS = (
    *((2080.0, 4.0, 40.0), (2400.0, 22.0, 70.0), (2550.0, 14.0, 60.0), (2950.0, 7.0, 60.0), (3250.0, 55.0, 230.0)),
    *((4570.0, 18.0, 50.0), (5190.0, 9.0, 40.0), (5310.0, 12.0, 50.0)),
)


@cache
def quasar_lines(tenths: int) -> Floats:
    """Lines over continuum, their widths scaled by `tenths` / 10; each has a core and wings."""
    scale = tenths / 10
    parts: list[tuple[float, float, float]] = []
    for name, width, sigma in QUASAR_LINES:
        centre = line(name).wavelength
        if name.startswith("["):
            parts.append((centre, width, sigma))
        else:
            parts += [(centre, 0.5 * width, 0.55 * scale * sigma), (centre, 0.5 * width, 1.7 * scale * sigma)]
    return (_gaussians(tuple(parts)) + _gaussians(IRON_BUMPS)).astype(np.float32)


@cache
def quasar_continuum() -> tuple[Floats, Floats]:
    """Broken power law of the composite (break at 4661 Å), and ln(wavelength / 4661 Å)."""
    ratio = _rest() / 4661.0
    return np.where(ratio < 1, ratio**-1.56, ratio**0.3).astype(np.float32), np.log(ratio).astype(np.float32)


@dataclass(frozen=True, slots=True)
class StarType:
    """How the spectrum of a spectral type is drawn.

    Attributes
    ----------
    temperature : float
        Of the continuum, K.
    balmer, balmer_width, balmer_last : float, float, int
        Depth, width in Å and last line of the Balmer series; ``jump`` is the depth of the Balmer discontinuity.
    jump : float
    metals : float
        Strength of the weak lines and of Ca, Mg and Na.
    bands : float
        Depth of the TiO bands.
    helium : float
        Equivalent width of the He I and He II lines, Å.
    """

    temperature: float
    balmer: float
    balmer_width: float
    balmer_last: int
    jump: float
    metals: float
    bands: float
    helium: float


STAR_TYPES = {
    "O": StarType(36000, 0.35, 5, 12, 0.05, 0.0, 0, 1.2),
    "B6": StarType(15000, 0.75, 8, 14, 0.35, 0.05, 0, 0.6),
    "A0": StarType(9600, 1.15, 11, 15, 0.75, 0.12, 0, 0),
    "F5": StarType(6700, 0.65, 6, 13, 0.35, 0.45, 0, 0),
    "F9": StarType(6100, 0.45, 4, 12, 0.18, 0.7, 0, 0),
    "G2": StarType(5700, 0.35, 3.5, 10, 0.08, 0.95, 0, 0),
    "K3": StarType(4700, 0.16, 3, 6, 0, 1.8, 0.05, 0),
    "M0": StarType(3850, 0.05, 3, 5, 0, 2.3, 0.30, 0),
    "M4": StarType(3250, 0, 3, 5, 0, 2.2, 0.75, 0),
    "WD": StarType(14000, 1.1, 27, 8, 0, 0, 0, 0),
}
TITANIUM_OXIDE = (
    *((4761.0, 0.5, 90.0), (4955.0, 0.6, 100.0), (5168.0, 0.7, 110.0), (5449.0, 0.6, 100.0), (5848.0, 0.5, 90.0)),
    *((6159.7, 0.6, 130.0), (6652.0, 0.65, 130.0), (7054.9, 1.0, 130.0), (7590.0, 0.7, 110.0), (8206.0, 0.4, 90.0)),
    *((8434.0, 0.6, 90.0), (8860.0, 0.5, 100.0)),
)  # head in Å, relative depth and the length over which the band fades redwards, Å
METAL_FEATURES = (
    *((3820.0, 4.0, 10.0), (3934.8, 7.0, 4.5), (3969.6, 6.0, 4.5), (4227.9, 1.1, 2.0), (4305.6, 4.5, 10.0)),
    *((4385.0, 1.5, 6.0), (5176.6, 4.0, 9.0), (5110.0, 3.0, 35.0), (5271.0, 1.2, 4.0), (5891.6, 1.0, 1.3)),
    *((5897.6, 0.8, 1.3), (8500.4, 1.2, 2.2), (8544.4, 3.0, 3.2), (8664.5, 2.4, 2.8)),
)
HELIUM = (4027.3, 4472.7, 4542.9, 4687.0, 4923.3, 5413.0, 5877.3, 6679.9)


@cache
def star(subclass: str) -> Floats:
    """Draw the spectrum of a star in arbitrary units; `subclass` is a key of `STAR_TYPES`."""
    kind, rest = STAR_TYPES[subclass], _rest()
    planck = rest**-5 / np.expm1(1.4388e8 / (rest * kind.temperature)) * 1e18
    depth = _balmer_series(kind.balmer, kind.balmer_width, kind.balmer_last) if kind.balmer else np.zeros(len(rest))
    depth += kind.jump / (1.0 + np.exp((rest - 3720.0) / 18.0))
    depth += kind.metals * (0.035 * _metal_lines() + 0.8 * _gaussians(METAL_FEATURES))
    depth += kind.metals * 0.22 * np.clip((4700.0 - rest) / 700.0, 0.0, 2.0)
    for head, strength, length in TITANIUM_OXIDE:
        front = 1.0 / (1.0 + np.exp(np.clip((head - rest) / 3.0, -50, 50)))
        depth += kind.bands * strength * front * np.exp(-np.clip(rest - head, 0, None) / length)
    depth += _gaussians(tuple((wave, kind.helium, 2.5) for wave in HELIUM))
    return _broadened(planck * np.exp(-depth), 70.0)
