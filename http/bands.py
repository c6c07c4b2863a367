"""Pictures scaled while their rows come: the same pixels as of the whole, without ever holding it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Band", "bands", "scaled_band", "scaled_width"]

BAND_ROWS = 64
"""Rows of the unscaled picture in a band, about: few enough to stay in a processor's cache."""

BAND_PIXELS = 1 << 18
"""Pixels of the scaled picture in a band, about."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of a picture that become some rows of the scaled one.

    Attributes
    ----------
    rows : ndarray of uint8, shape (n, width)
    thickness : int
        How many times each of them stands in the unscaled picture.
    top, bottom : float
        The part of the picture of these that the band covers, in its rows.
    height : int
        Rows of the scaled picture.
    """

    rows: NDArray[np.uint8]
    thickness: int
    top: float
    bottom: float
    height: int


def bands(blocks: Iterator[NDArray[np.uint8]], count: int, thickness: int, height: int) -> Iterator[Band]:
    """Cut a picture into bands.

    Parameters
    ----------
    blocks : iterator of ndarray of uint8, shape (n, width)
        Its rows in order, some at a time.
    count : int
        Rows in all.
    thickness : int
        How many times each of them stands in the picture.
    height : int
        Rows of the scaled picture.

    Yields
    ------
    Band
        In order; together they have `height` rows.
    """
    held, at = next(blocks), 0
    size = max(1, min(BAND_ROWS * height // (count * thickness), BAND_PIXELS // held.shape[1]))
    for start in range(0, height, size):
        stop = min(start + size, height)
        first, last = start * count // height, -(-stop * count // height)
        pieces, end = [held[first - at :]], at + len(held)
        while end < last:
            pieces.append(next(blocks))
            end += len(pieces[-1])
        held, at = np.concatenate(pieces), first
        top, bottom = (thickness * (edge * count - first * height) / height for edge in (start, stop))
        yield Band(held[: last - first], thickness, top, bottom, stop - start)


def scaled_width(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Rows, shape (n, w), scaled to shape (n, width): see `scaled_band`."""
    if width == rows.shape[1]:
        return rows
    return np.asarray(Image.fromarray(rows).resize((width, len(rows)), Image.Resampling.BOX))


def scaled_band(band: Band) -> NDArray[np.uint8]:
    """Rows of the scaled picture, shape (band.height, width): each pixel the mean of those whose centre lies in it.

    Where the picture becomes larger, pixels are repeated: nothing is drawn between those that were observed.
    """
    rows = band.rows.repeat(band.thickness, axis=0)
    width = rows.shape[1]
    box = (0, band.top, width, band.bottom)
    return np.asarray(Image.fromarray(rows).resize((width, band.height), Image.Resampling.BOX, box))
