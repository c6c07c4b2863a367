"""What the objects of the simulated sky look like: noiseless spectra of galaxies, quasars and stars.

Each kind of object turns the shapes of `simtemplates` into observed light: redshift, brightness, dust, emission lines
with sensible ratios, the Lyα forest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from specflight.flight.lines import line
from specflight.tools.simtemplates import (
    PIXEL_KMS,
    QUASAR_LINES,
    STAR_TYPES,
    dust_law,
    old_population,
    quasar_continuum,
    quasar_lines,
    redshifted,
    star,
    young_population,
)

__all__ = ["EmptySky", "Feature", "Galaxy", "Light", "Quasar", "Star", "Target", "draw_target"]

Floats = NDArray[np.float32]

SPEED_OF_LIGHT = 2.998e18  # Å/s
R_BAND = (5600.0, 6900.0)  # Å; the magnitudes are AB in this top hat


@dataclass(frozen=True, slots=True)
class Feature:
    """One emission line of an object.

    Attributes
    ----------
    wavelength : float
        Vacuum wavelength at rest, Å.
    area : float
        Observed flux of the line, 1e-17 erg/s/cm².
    sigma : float
        Gaussian width, km/s.
    """

    wavelength: float
    area: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Light:
    """The noiseless light of an object on observed pixels.

    Attributes
    ----------
    flux : ndarray of float32, shape (npix,)
        1e-17 erg/s/cm²/Å.
    features : tuple of Feature
        Its emission lines.
    """

    flux: Floats
    features: tuple[Feature, ...]


class Target(Protocol):
    """An object that a fibre is put on."""

    @property
    def classification(self) -> tuple[str, str]:
        """CLASS and SUBCLASS of the pipeline."""

    @property
    def z(self) -> float:
        """Redshift."""

    @property
    def dispersion(self) -> float:
        """Stellar velocity dispersion in km/s, 0 where it is not measured."""

    def light(self, k0: int, npix: int) -> Light:
        """Noiseless light on the pixels ``1e-4 * (k0 + i)`` in log10 of the observed wavelength."""


def _scale(flux: Floats, magnitude: float, k0: int) -> np.float32:
    """Factor that gives `flux` an AB magnitude in the r band."""
    low, high = (round(1e4 * np.log10(edge)) - k0 for edge in R_BAND)
    centre = np.sqrt(R_BAND[0] * R_BAND[1])
    wanted = 10.0 ** (-0.4 * (magnitude + 48.6)) * SPEED_OF_LIGHT / centre**2 * 1e17
    return np.float32(wanted / flux[low:high].mean())


@dataclass(frozen=True, slots=True)
class Galaxy:
    """A mixture of an old and a young population with the lines of its ionised gas.

    Attributes
    ----------
    z, magnitude : float
        Redshift and AB magnitude in the r band.
    dispersion : float
        Velocity dispersion of its stars, km/s, one of 100, 125, … 325.
    young : float
        Share of the young population in the light at 5500 Å, 0 to 1.
    dust : float
        Optical depth at 5500 Å.
    halpha : float
        Equivalent width of Hα in Å.
    n2 : float
        Ratio [N II] 6583 / Hα, which also sets the excitation.
    """

    z: float
    magnitude: float
    dispersion: float
    young: float
    dust: float
    halpha: float
    n2: float

    @property
    def classification(self) -> tuple[str, str]:
        """CLASS and SUBCLASS; the limits between star-forming and starburst follow the pipeline (50 Å)."""
        if self.halpha < 10.0:
            return "GALAXY", ""
        return "GALAXY", "STARBURST" if self.halpha > 50.0 else "STARFORMING"

    def light(self, k0: int, npix: int) -> Light:
        """Noiseless light on the pixels of a spectrum; see `Target`."""
        flux = (1.0 - self.young) * redshifted(old_population(round(self.dispersion)), self.z, k0, npix)
        flux += self.young * redshifted(young_population(), self.z, k0, npix)
        flux *= np.exp(-np.float32(self.dust) * redshifted(dust_law(), self.z, k0, npix))
        flux *= _scale(flux, self.magnitude, k0)
        features = self._nebula(flux, k0)
        for feature in features:
            _add_feature(flux, feature, self.z, k0)
        return Light(flux, features)

    def _nebula(self, continuum: Floats, k0: int) -> tuple[Feature, ...]:
        """Emission lines; ratios of case B (Osterbrock & Ferland 2006) and, for [O III], of Kauffmann et al. (2003)."""
        pixel = round(1e4 * np.log10(line("Hα").wavelength * (1.0 + self.z))) - k0
        level = float(continuum[min(max(pixel, 0), len(continuum) - 1)])
        halpha = self.halpha * level * (1.0 + self.z)
        o3 = 0.5 * 10.0 ** (0.61 / (np.log10(self.n2) - 0.05) + 1.3) * 0.35  # [O III] 5007 / Hα before dust
        ratios = {
            "[O II] 3727": 0.42,
            "[O II] 3729": 0.56,
            "[Ne III] 3868": 0.09 * o3,
            "Hδ": 0.09,
            "Hγ": 0.163,
            "Hβ": 1 / 2.86,
            "[O III] 4959": o3 / 2.98,
            "[O III] 5007": o3,
            "He I 5876": 0.04,
            "[O I] 6300": 0.03,
            "[N II] 6548": self.n2 / 2.96,
            "Hα": 1.0,
            "[N II] 6583": self.n2,
            "[S II] 6716": 0.19,
            "[S II] 6731": 0.135,
        }
        sigma = 0.55 * self.dispersion + 20.0
        return tuple(
            Feature(wave, halpha * ratio * float(np.exp(-self.dust * ((wave / 6564.6) ** -0.7 - 1.0))), sigma)
            for wave, ratio in ((line(name).wavelength, ratio) for name, ratio in ratios.items())
        )


def _add_feature(flux: Floats, feature: Feature, z: float, k0: int) -> None:
    """Add a Gaussian line, broadened by 0.9 pixels of instrument, to `flux` in place."""
    sigma = float(np.hypot(feature.sigma / PIXEL_KMS, 0.9))
    observed = feature.wavelength * (1.0 + z)
    centre = 1e4 * np.log10(observed) - k0
    low, high = max(int(centre - 6 * sigma), 0), min(int(centre + 6 * sigma) + 2, len(flux))
    if low < high:
        width = sigma * 1e-4 * np.log(10.0) * observed
        offset = (np.arange(low, high, dtype=np.float32) - np.float32(centre)) / np.float32(sigma)
        flux[low:high] += np.float32(feature.area / (np.sqrt(2 * np.pi) * width)) * np.exp(-0.5 * offset**2)


@dataclass(frozen=True, slots=True)
class Quasar:
    """A power law with broad lines and, bluewards of Lyα, the forest of the gas in front of it.

    Attributes
    ----------
    z, magnitude : float
        Redshift and AB magnitude in the r band.
    slope : float
        Change of the power-law index against the composite.
    strength : float
        Factor on the equivalent widths.
    width : float
        Factor on the widths of the broad lines, in steps of 0.1.
    absorbers : int
        Seed of its Lyα forest: the same whenever it is observed.
    """

    z: float
    magnitude: float
    slope: float
    strength: float
    width: float
    absorbers: int

    dispersion = 0.0

    @property
    def classification(self) -> tuple[str, str]:
        """CLASS and SUBCLASS; narrower quasars get none, as in the pipeline."""
        return "QSO", "BROADLINE" if self.width >= 0.8 else ""

    def light(self, k0: int, npix: int) -> Light:
        """Noiseless light on the pixels of a spectrum; see `Target`."""
        power, log_ratio = (redshifted(part, self.z, k0, npix) for part in quasar_continuum())
        continuum = power * np.exp(np.float32(self.slope) * log_ratio)
        lines = redshifted(quasar_lines(round(10 * self.width)), self.z, k0, npix)
        flux = continuum * (np.float32(1.0) + np.float32(self.strength) * lines)
        self._absorb(flux, k0)
        scale = _scale(flux, self.magnitude, k0)
        flux *= scale
        continuum *= scale
        return Light(flux, tuple(self._features(continuum, k0)))

    def _absorb(self, flux: Floats, k0: int) -> None:
        """Lyα forest: mean optical depth of Faucher-Giguère et al. (2008), clumped, and the Lyman limit above z = 3."""
        stop = min(round(1e4 * np.log10(1215.67 * (1.0 + self.z))) - k0 - 3, len(flux))
        if stop < 5:  # fewer pixels than the instrument's profile has
            return
        rng = np.random.default_rng(self.absorbers)
        pixel = np.arange(k0, k0 + stop)
        redshift = 10.0 ** (pixel * 1e-4) / 1215.67 - 1.0
        clumps = rng.standard_normal(stop + 6)
        smooth = np.convolve(clumps, (0.25, 0.45, 0.6, 0.65, 0.6, 0.45, 0.25), "valid")
        depth = 0.0018 * (1.0 + redshift) ** 3.92 * np.exp(1.4 * smooth - 0.55)
        limit = 912.0 * (1.0 + self.z - rng.exponential(0.15)) if self.z > 3.0 else 0.0
        depth += 4.0 * (10.0 ** (pixel * 1e-4) < limit)
        flux[:stop] *= np.convolve(np.exp(-depth), (0.06, 0.24, 0.4, 0.24, 0.06), "same").astype(np.float32)

    def _features(self, continuum: Floats, k0: int) -> list[Feature]:
        features = []
        for name, width, sigma in QUASAR_LINES:
            wave = line(name).wavelength
            pixel = round(1e4 * np.log10(wave * (1.0 + self.z))) - k0
            if 0 <= pixel < len(continuum):
                broad = 1.0 if name.startswith("[") else self.width
                area = self.strength * width * (1.0 + self.z) * float(continuum[pixel])
                features.append(Feature(wave, area, broad * sigma / wave * 2.998e5))
        return features


@dataclass(frozen=True, slots=True)
class Star:
    """A star of our galaxy; ``z`` is its radial velocity over c, ``subclass`` a key of `STAR_TYPES`."""

    z: float
    magnitude: float
    subclass: str

    dispersion = 0.0

    @property
    def classification(self) -> tuple[str, str]:
        """CLASS and SUBCLASS."""
        return "STAR", self.subclass

    def light(self, k0: int, npix: int) -> Light:
        """Noiseless light on the pixels of a spectrum; see `Target`."""
        flux = redshifted(star(self.subclass), self.z, k0, npix).copy()
        flux *= _scale(flux, self.magnitude, k0)
        return Light(flux, ())


@dataclass(frozen=True, slots=True)
class EmptySky:
    """A fibre on the empty sky; the pipeline classifies what is left of it all the same."""

    z: float

    dispersion = 0.0

    @property
    def classification(self) -> tuple[str, str]:
        """CLASS and SUBCLASS of the meaningless best fit."""
        return "GALAXY", ""

    def light(self, k0: int, npix: int) -> Light:
        """No light; see `Target`."""
        return Light(np.zeros(npix, dtype=np.float32), ())


@dataclass(frozen=True, slots=True)
class Program:
    """The mixture of targets of a plate.

    Attributes
    ----------
    shares : tuple of float
        Early galaxies, star-forming galaxies, quasars, stars and empty sky; their sum is 1.
    early_z, star_forming_z, quasar_z : tuple of float
        Lowest and highest redshift of each.
    magnitudes : tuple of float
        Brightest and faintest magnitude, r band.
    """

    shares: tuple[float, float, float, float, float]
    early_z: tuple[float, float]
    star_forming_z: tuple[float, float]
    quasar_z: tuple[float, float]
    magnitudes: tuple[float, float]


PROGRAMS = {
    "legacy": Program((0.40, 0.33, 0.13, 0.11, 0.03), (0.03, 0.38), (0.005, 0.22), (0.3, 2.6), (15.8, 19.0)),
    "segue": Program((0.0, 0.0, 0.0, 0.97, 0.03), (0.1, 0.1), (0.1, 0.1), (0.3, 0.3), (15.2, 19.2)),
    "boss": Program((0.44, 0.05, 0.38, 0.10, 0.03), (0.2, 0.7), (0.02, 0.3), (1.9, 3.8), (18.3, 21.8)),
    "eboss": Program((0.24, 0.18, 0.44, 0.11, 0.03), (0.5, 0.85), (0.05, 0.95), (0.8, 3.4), (18.8, 22.3)),
}


STAR_SHARES = (0.02, 0.04, 0.10, 0.20, 0.18, 0.13, 0.12, 0.07, 0.07, 0.07)  # in the order of STAR_TYPES


def _pick(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    """Index drawn with the given probabilities, which add up to 1."""
    chance = float(rng.uniform())
    for index, share in enumerate(shares[:-1]):
        chance -= share
        if chance < 0:
            return index
    return len(shares) - 1


def draw_target(rng: np.random.Generator, program: str) -> Target:
    """Draw an object from the mixture of a plate.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance; the same state gives the same object.
    program : {'legacy', 'segue', 'boss', 'eboss'}
        What the plate was made for.
    """
    mixture = PROGRAMS[program]
    kind = _pick(rng, mixture.shares)
    bright, faint = mixture.magnitudes
    magnitude = faint - (faint - bright) * float(rng.uniform()) ** 1.8
    if kind == 2:
        z = float(rng.uniform(*mixture.quasar_z))
        slope, strength = float(rng.normal(0.0, 0.3)), float(rng.lognormal(0.0, 0.3))
        return Quasar(z, magnitude, slope, strength, float(rng.integers(6, 15)) / 10, int(rng.integers(2**31)))
    if kind == 3:
        subclass = tuple(STAR_TYPES)[_pick(rng, STAR_SHARES)]
        return Star(float(np.clip(rng.normal(0.0, 90.0), -300.0, 300.0)) / 2.998e5, magnitude, subclass)
    if kind == 4:
        return EmptySky(float(rng.uniform(0.0, 1.0)))
    dispersion = float(rng.integers(4, 14)) * 25.0
    if kind == 0:
        z = float(rng.triangular(mixture.early_z[0], np.mean(mixture.early_z), mixture.early_z[1]))
        weak = (0.05, 0.2, 2.0)[_pick(rng, (0.5, 0.3, 0.2))]
        return Galaxy(z, magnitude, dispersion, float(rng.uniform(0.0, 0.08)), 0.1, weak, 0.9)
    low, high = mixture.star_forming_z
    z = low + (high - low) * float(rng.beta(1.6, 2.0))
    n2 = 0.1 + 0.38 * float(rng.beta(2.0, 1.5))
    halpha = float(np.clip(rng.lognormal(3.4, 0.7), 12.0, 300.0))
    young, dust = float(rng.uniform(0.25, 0.85)), float(rng.uniform(0.2, 0.9))
    return Galaxy(z, magnitude, min(dispersion, 150.0), young, dust, halpha, n2)
