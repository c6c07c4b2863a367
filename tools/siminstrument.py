"""How the SDSS and BOSS spectrographs see an object: sky, throughput, noise, bad pixels and masks.

The numbers were read off real coadds: throughput and read noise from their ``ivar`` as a function of flux and sky, the
airglow from the median ``sky`` of BOSS plate 7102, the regions of the mask bits from the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coadd", "Instrument", "observe", "spectrograph"]

Floats = NDArray[np.float32]
Masks = NDArray[np.int32]

FIRST_PIXEL, LAST_PIXEL = 35400, 40300  # 1e4 log10 of the wavelengths that any spectrum may hold

# Bits of SPPIXMASK, https://www.sdss3.org/dr9/algorithms/bitmask_sppixmask.php
NEARBADPIXEL, LOWFLAT, FULLREJECT, PARTIALREJECT = (1 << bit for bit in (16, 17, 18, 19))
NOSKY, BRIGHTSKY, NODATA, COMBINEREJ, BADFLUXFACTOR, BADSKYCHI = (1 << bit for bit in (22, 23, 24, 25, 26, 27))

# Airglow: vacuum wavelength in Å and peak, 1e-17 erg/s/cm²/Å, of the lines that stand out in BOSS plate 7102.
AIRGLOW = np.fromstring(
    """
    4048.0 9 4359.7 15 5462.6 9 5579.0 192 5690.7 6 5891.6 31 5897.6 20 5934.6 4 5955.3 4 6237.7 5 6260.1 5
    6289.5 4 6302.1 25 6308.8 4 6332.0 4 6365.6 8 6500.8 4 6535.1 3 6555.7 4 6579.4 3 6831.3 7 6836.1 6 6866.1
    11 6914.8 4 6925.4 6 6951.4 7 6980.7 5 7242.9 19 7247.2 17 7278.6 23 7286.7 9 7306.1 6 7318.5 17 7331.6 9
    7343.3 21 7360.9 7 7371.7 17 7394.5 6 7404.3 11 7440.8 6 7482.8 5 7526.4 12 7574.3 7 7601.2 9 7631.0 7
    7719.0 25 7727.4 6 7753.1 30 7762.4 11 7782.9 6 7796.5 22 7811.0 10 7823.9 27 7843.8 9 7855.9 32 7862.9 11
    7872.6 13 7882.3 9 7892.4 17 7916.1 32 7923.5 15 7933.8 11 7951.8 7 7967.3 23 7981.7 12 7996.0 25 8016.8 7
    8028.3 20 8064.7 11 8283.5 20 8290.8 24 8300.9 26 8313.4 9 8347.1 55 8355.5 19 8367.2 8 8384.9 14 8401.9 42
    8417.9 18 8432.9 47 8454.9 16 8468.1 37 8496.1 11 8507.4 23 8551.3 10 8632.2 24 8662.4 22 8667.3 21 8677.3
    13 8763.9 37 8770.1 44 8780.3 47 8793.9 15 8829.4 85 8838.9 36 8852.6 10 8870.2 22 8888.5 58 8906.0 28
    8922.4 73 8946.0 25 8960.8 50 8991.1 20 9004.1 32 9052.4 17 9105.5 9 9311.4 72 9315.7 81 9326.4 79 9340.8 25
    9378.9 157 9405.1 20 9422.8 36 9442.8 130 9461.6 56 9480.1 93 9505.7 48 9522.4 68 9555.9 30 9570.2 64 9610.8
    16 9624.1 23 9671.9 17 9684.5 27 9702.5 27 9723.0 34 9740.5 15 9794.3 67 9802.9 21 9851.7 20 9875.4 56
    9898.2 26 9917.7 69 9948.7 96 9960.5 75 9975.8 21 10016.1 137 10028.7 38 10064.2 33 10085.7 89 10106.9 35
    10127.2 109 10156.5 39 10175.2 99 10193.0 67 10213.8 83 10229.4 51 10289.7 206 10299.1 67 10312.9 21
    """,
    sep=" ",
).reshape(-1, 2)

SKY_RESIDUAL = np.diff(np.exp(-0.5 * (np.arange(-5.5, 5.5) / 1.4) ** 2)).astype(np.float32)  # a line, slightly shifted


@dataclass(frozen=True, slots=True)
class Instrument:
    """A spectrograph and its night sky on the pixels `FIRST_PIXEL` … `LAST_PIXEL`.

    Attributes
    ----------
    throughput : ndarray of float32
        Detected electrons, in units that make the variance flux / throughput.
    read_variance : ndarray of float32
        Variance of the detector, (1e-17 erg/s/cm²/Å)².
    continuum, airglow : ndarray of float32
        Smooth and line part of the sky, 1e-17 erg/s/cm²/Å.
    dispersion : ndarray of float32
        Width of the line spread function, pixels.
    or_regions : ndarray of int32
        Mask bits that some exposure always has there, such as beyond the dichroic.
    """

    throughput: Floats
    read_variance: Floats
    continuum: Floats
    airglow: Floats
    dispersion: Floats
    or_regions: Masks


@dataclass(frozen=True, slots=True)
class Coadd:
    """The eight columns of a coadded spectrum but ``loglam``, which ``k0`` stands for; all of shape (npix,).

    Attributes
    ----------
    k0 : int
        First pixel: ``loglam[i] = float32((k0 + i) * 1e-4)``.
    flux, model, sky : ndarray of float32
        1e-17 erg/s/cm²/Å.
    ivar : ndarray of float32
        Inverse variance of the flux, 0 where it is unusable.
    and_mask, or_mask : ndarray of int32
        SPPIXMASK bits set in all, in any of the exposures.
    wdisp : ndarray of float32
        Width of the line spread function, pixels.
    """

    k0: int
    flux: Floats
    ivar: Floats
    and_mask: Masks
    or_mask: Masks
    wdisp: Floats
    sky: Floats
    model: Floats


def _curve(wavelength: NDArray[np.floating], text: str) -> Floats:
    """Smooth positive curve through ``wavelength:value`` nodes."""
    nodes = np.array([pair.split(":") for pair in text.split()], dtype=np.float64)
    curve: Floats = np.exp(np.interp(wavelength, nodes[:, 0], np.log(nodes[:, 1]))).astype(np.float32)
    return curve


@cache
def spectrograph(name: str) -> Instrument:
    """Return one of the two spectrographs.

    Parameters
    ----------
    name : {'sdss', 'boss'}
        SDSS-I/II with 640 fibres of 3″, or BOSS with 1000 of 2″.
    """
    pixel = np.arange(FIRST_PIXEL, LAST_PIXEL)
    wavelength = 10.0 ** (pixel * 1e-4)
    airglow = np.zeros(len(pixel))
    for centre, peak in AIRGLOW:
        offset = 1e4 * np.log10(centre) - FIRST_PIXEL
        near = slice(int(offset) - 8, int(offset) + 10)
        airglow[near] += peak * np.exp(-0.5 * ((np.arange(near.start, near.stop) - offset) / 1.05) ** 2)
    bump = 1.3 * np.exp(-0.5 * ((wavelength - 5890) / 90) ** 2)  # high-pressure sodium lamps
    or_regions = np.zeros(len(pixel), dtype=np.int32)

    def mark(low: float, high: float, bits: int) -> None:
        or_regions[(wavelength >= low) & (wavelength <= high)] |= bits

    mark(5574, 5583, BADSKYCHI)
    if name == "boss":
        for low, high in ((5205, 5898), (6378, 6647)):
            mark(low, high, LOWFLAT | NOSKY)
        for low, high in ((5169, 5206), (6645, 7316)):
            mark(low, high, NODATA)
        for low, high in ((5169, 5884), (6339, 7316)):
            mark(low, high, BADFLUXFACTOR)
        mark(5859, 5883, BADSKYCHI)
        throughput = "3500:0.8 3600:2 3700:3.4 3850:8 4100:18 4500:30 5000:45 5600:50 6000:40 6300:70 7000:85 8000:95 "
        throughput += "8800:95 9300:70 9700:38 10000:18 10200:8 10400:4.5 10800:2"
        continuum = "3500:4 3600:3.8 4000:3.5 4500:3.2 5000:2.8 5700:2.6 6500:2.2 8000:2.0 9000:1.8 10000:2.2 10800:3"
        sigma, glow, dispersion = 0.09, 1.0, "3500:1.35 4000:1.1 4600:.95 5500:.89 6100:.95 7500:.87 9000:.79 10400:.9"
    else:
        throughput = "3500:0.6 3800:2.0 3900:3.4 4200:8.5 4700:17 5200:23 5900:25 6100:36 6700:50 7400:42 8000:30 "
        throughput += "8600:20 9000:14 9250:10 10800:5"
        continuum = "3500:6 3800:6 4200:6.8 5000:6.7 5600:7 6500:5.8 7500:5.6 8500:5 9300:4.5 10800:5"
        sigma, glow, dispersion = 0.25, 2.4, "3500:1.3 3800:1.2 4500:1.0 5500:.83 5950:.95 7000:.87 9300:.78 10800:.8"
    curve = _curve(wavelength, throughput)
    smooth = _curve(wavelength, continuum) + np.float32(1.0 if name == "boss" else 3.0) * bump.astype(np.float32)
    return Instrument(
        throughput=curve,
        read_variance=(sigma**2 * np.sqrt(curve.max() / curve)).astype(np.float32),
        continuum=smooth,
        airglow=(glow * airglow).astype(np.float32),
        dispersion=_curve(wavelength, dispersion),
        or_regions=or_regions,
    )


def observe(model: Floats, instrument: Instrument, k0: int, rng: np.random.Generator) -> Coadd:
    """Add sky residuals, photon and detector noise, cosmic rays and bad columns to noiseless light.

    Parameters
    ----------
    model : ndarray of float32, shape (npix,)
        Noiseless flux, 1e-17 erg/s/cm²/Å.
    instrument : Instrument
        The spectrograph.
    k0 : int
        First pixel of the spectrum.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Coadd
        With ``(flux - model) * sqrt(ivar)`` normally distributed, but for a few pixels at the 5577 Å line, wherever
        ivar is not 0; pixels with ivar = 0 keep a (wrong) flux, as in the files of SDSS.
    """
    npix = len(model)
    here = slice(k0 - FIRST_PIXEL, k0 - FIRST_PIXEL + npix)
    dark, glow, quality, blur = rng.normal((1.0, 1.0, 1.0, 1.0), (0.06, 0.15, 0.08, 0.03)).astype(np.float32)
    continuum = dark * instrument.continuum[here]
    sky = continuum + glow * instrument.airglow[here]
    variance = (np.maximum(model, 0) + sky) / (quality * instrument.throughput[here]) + instrument.read_variance[here]
    error = np.sqrt(variance)
    flux = model + error * rng.standard_normal(npix, dtype=np.float32)
    _leave_sky_residual(flux, error, k0, rng)
    ivar = np.float32(1.0) / variance
    excess = sky - model
    bright = (sky > 1.25 * continuum) & (excess > 6 * error)
    or_mask = instrument.or_regions[here] | (bright * np.int32(BRIGHTSKY))
    and_mask = (bright & (excess > 10 * error) & (sky > 2.5 * continuum)) * np.int32(BRIGHTSKY)
    _reject_exposures(or_mask, rng)
    _spoil(flux, ivar, and_mask, error, rng)
    or_mask |= and_mask
    wdisp = blur * instrument.dispersion[here]
    return Coadd(k0, flux, ivar, and_mask, or_mask, wdisp, sky, model)


def _leave_sky_residual(flux: Floats, error: Floats, k0: int, rng: np.random.Generator) -> None:
    """Subtract the brightest line of the sky imperfectly: a few sigma, positive beside negative."""
    centre = round(1e4 * np.log10(5578.9)) - k0
    near = slice(centre - 5, centre + 5)
    flux[near] += np.float32(rng.normal(0.0, 10.0)) * SKY_RESIDUAL * error[near]


def _reject_exposures(or_mask: Masks, rng: np.random.Generator) -> None:
    """Mark what some exposures lost to cosmic rays and bad pixels; the others fill the gap."""
    starts = rng.integers(10, len(or_mask) - 10, (40, 1))
    or_mask[starts[:20] + np.arange(4)] |= COMBINEREJ
    or_mask[starts[20:] + np.arange(-3, 8)] |= NEARBADPIXEL
    or_mask[starts[20:] + np.arange(5)] |= FULLREJECT | PARTIALREJECT


def _spoil(flux: Floats, ivar: Floats, and_mask: Masks, error: Floats, rng: np.random.Generator) -> None:
    """Make pixels unusable in every exposure: both ends, sometimes a bad column, cosmic rays."""
    npix = len(flux)
    for pixel in (1, npix - int(rng.integers(4, 9)), npix - 2):
        ivar[pixel] = 0.0
        and_mask[pixel] |= BADSKYCHI
    chance = rng.uniform(size=2)
    if chance[0] < 0.3:
        start = int(rng.integers(50, npix - 50))
        column = slice(start, start + int(rng.integers(3, 11)))
        flux[column] += (np.float32(3.0) * error[column] * rng.standard_normal()).astype(np.float32)
        ivar[column] = 0.0
        and_mask[column] |= NEARBADPIXEL | LOWFLAT
    if chance[1] < 0.4:
        start = int(rng.integers(50, npix - 50))
        hit = slice(start, start + int(rng.integers(1, 4)))
        flux[hit] += np.float32(rng.uniform(15.0, 60.0)) * error[hit]
        ivar[hit] = 0.0
        and_mask[hit] |= FULLREJECT | COMBINEREJ
