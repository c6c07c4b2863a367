"""From fluxes to the levels and colours of a picture."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray

from specflight.errors import InvalidRequest

__all__ = ["GRAY", "Limits", "colour_table", "coloured", "find_limits", "grey_levels", "parse_limits"]

Limits = Literal["zscale"] | tuple[float, float]
"""How the fluxes of black and white are found: IRAF's algorithm zscale, or two percentiles.

On spectra of all brightnesses the lower limit of zscale is the lowest flux that it sees, an outlier each time another
one, which halves the contrast. So it is shown nothing below the flux of `LOWEST` percent.
"""

GRAY = "gray"

LOWEST = 0.1

ZSCALE_PIXELS = 10_000
"""Fluxes that zscale fits its line to, every n-th of those given; with IRAF's 1,000 the upper limit varies by 10 %."""


def parse_limits(text: str) -> Limits:
    """Limits as users write them.

    Parameters
    ----------
    text : str
        ``'zscale'``, or two percentiles: ``'1,99'``.

    Raises
    ------
    InvalidRequest
        If it is neither.
    """
    if text.strip().lower() == "zscale":
        return "zscale"
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not 0 <= low < high <= 100:
        raise InvalidRequest(f"limits: '{text[:80]}' is neither 'zscale' nor two percentiles such as '1,99'")
    return low, high


def find_limits(flux: NDArray[np.float32], limits: Limits) -> tuple[float, float]:
    """Fluxes that become black and white.

    Parameters
    ----------
    flux : ndarray of float32, shape (n,)
        A sample of the good pixels, finite.
    limits : Limits

    Returns
    -------
    low, high : float
        0 and 1 for a sample without pixels.
    """
    if not len(flux):
        return 0.0, 1.0
    if limits == "zscale":
        shown = np.fmax(flux, np.percentile(flux, LOWEST))
        # Here: it takes longer to import than the rest of the module.
        from astropy.visualization import ZScaleInterval

        low, high = ZScaleInterval(n_samples=ZSCALE_PIXELS).get_limits(shown)
    else:
        low, high = np.percentile(flux, limits)
    return float(low), float(high)


def grey_levels(flux: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Grey levels of fluxes.

    Parameters
    ----------
    flux : ndarray of float32
    low, high : float
        Fluxes that become 0 and 255.

    Returns
    -------
    ndarray of uint8
        ``255 (flux - low) / (high - low)``, clipped and rounded; 0 where there is no flux: NaN, or exactly 0, which
        stands for pixels outside of a spectrum.
    """
    scale = np.float32(255 / (high - low)) if high > low else np.float32(0)
    levels = np.fmax(flux, np.float32(low))
    np.fmin(levels, np.float32(high), out=levels)
    np.subtract(levels, np.float32(low), out=levels)
    np.multiply(levels, scale, out=levels)
    np.add(levels, np.float32(0.5), out=levels)
    grey: NDArray[np.uint8] = levels.astype(np.uint8)
    grey *= flux != 0
    return grey


def colour_table(cmap: str) -> NDArray[np.uint8] | None:
    """Colours of the grey levels, for `coloured`.

    Parameters
    ----------
    cmap : str
        Name of a colormap of matplotlib.

    Returns
    -------
    ndarray of uint8, shape (256, 4), or None
        Red, green, blue and alpha; None for ``'gray'``, which leaves grey levels as they are.

    Raises
    ------
    InvalidRequest
        If there is no such map; the text names similar ones.
    """
    if cmap == GRAY:
        return None
    if cmap not in matplotlib.colormaps:
        near = get_close_matches(cmap.lower()[:40], list(matplotlib.colormaps), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ", such as gray, viridis or inferno"
        raise InvalidRequest(f"cmap: '{cmap[:40]}' is no colormap of matplotlib{hint}")
    # As fractions, since some maps have fewer or more than 256 colours.
    return np.array(matplotlib.colormaps[cmap](np.arange(256) / 255, bytes=True), np.uint8)


def coloured(levels: NDArray[np.uint8], table: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Pixels, shape (n, width) or (n, width, 4), of grey levels of shape (n, width)."""
    if table is None:
        return levels
    # Four bytes at a time: three times faster than rows of the table.
    return np.take(table.view(np.uint32), levels).view(np.uint8).reshape(*levels.shape, 4)
