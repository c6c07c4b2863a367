"""Stacked image: a picture in which each spectrum is a row, made and sent while the spectra come."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.idlists import IdList
from specflight.client import Client
from specflight.errors import InvalidRequest, LimitExceeded
from specflight.http.bands import Band, bands, scaled_band, scaled_width
from specflight.http.levels import GRAY, Limits, colour_table, coloured, find_limits, grey_levels
from specflight.http.png import EncodedRows, PngWriter, encode_rows
from specflight.http.stackrows import (
    FluxRows,
    aligned_rows,
    name_spectra,
    rest_frame_rows,
    sample_fluxes,
    unaligned_rows,
)

__all__ = ["MAX_IMAGE_PIXELS", "StackOptions", "stacked_image"]

MAX_IMAGE_PIXELS = 250_000_000
"""Default limit of an image: 50,000 spectra of BOSS."""

MAX_WIDTH = 100_000
"""Pixels of a row, which is compressed at once; no aligned answer of the Flight server is longer."""

MAX_THICKNESS = 1000

MAX_BAND = 1 << 24
"""Pixels of the rows that one row of a scaled image is the mean of: held in memory, several times over."""

PIECE = 1 << 18
"""Pixels that a thread works on at a time: 1 MB of fluxes, about what a processor's cache holds."""

THREADS = 2
"""More would wait for one Flight worker, which sends fluxes as fast as two threads compress them."""

AHEAD = 8
"""Pieces of work that wait for the one before them."""

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How to draw a stacked image.

    Attributes
    ----------
    align : bool
        Put all spectra on one wavelength grid; or else let each row start with its spectrum's first pixel.
    yflip : bool
        Put the first spectrum on top, not at the bottom.
    thickness : int
        Rows of the image for each spectrum.
    xscale, yscale : float
        Factors by which the image is scaled, after `thickness`; both sides are rounded down, to 1 at least.
    width, height : int
        Pixels to scale the image to where both factors are 1. 0 leaves that side as it is: pixels along a spectrum and
        rows of spectra have no common scale to keep.
    cmap : str
        Name of a colormap of matplotlib; ``'gray'`` makes a picture of grey levels, any other one of RGBA.
    inverse : bool
        Turn the colormap round.
    limits : Limits
        What fluxes its ends stand for, found in a sample of the spectra.
    rest_frame : bool
        Shift each spectrum to its rest frame, with the redshift of the catalogue; implies `align`.
    format : {'png', 'numpy'}
        A picture; or the fluxes themselves, float32 of shape (spectra, pixels), as a .npy file. There the first
        spectrum is row 0, the bottom of an image in astronomy (``origin='lower'``), and the last row with `yflip`;
        only `align` and `rest_frame` matter beside that.

    Raises
    ------
    InvalidRequest
        Naming the option and the value that will not do.
    """

    align: bool
    yflip: bool = False
    thickness: int = 1
    xscale: float = 1.0
    yscale: float = 1.0
    width: int = 0
    height: int = 0
    cmap: str = GRAY
    inverse: bool = False
    limits: Limits = "zscale"
    rest_frame: bool = False
    format: Literal["png", "numpy"] = "png"

    def __post_init__(self) -> None:
        if not 1 <= self.thickness <= MAX_THICKNESS:
            raise InvalidRequest(f"thickness: {self.thickness} is not a number of rows from 1 to {MAX_THICKNESS}")
        for name, factor in (("xscale", self.xscale), ("yscale", self.yscale)):
            if not 0 < factor < math.inf:
                raise InvalidRequest(f"{name}: {factor} is not a factor above 0")
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels < 0:
                raise InvalidRequest(f"{name}: {pixels} is not a number of pixels")
        if self.format not in ("png", "numpy"):
            raise InvalidRequest(f"fmt: '{self.format}' is not one of png, numpy")
        colour_table(self.cmap)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the scaled image of one of this size."""
        if (self.xscale, self.yscale) != (1, 1):
            return max(1, int(width * self.xscale)), max(1, int(height * self.yscale))
        return self.width or width, self.height or height


@dataclass(frozen=True, slots=True)
class _Picture:
    """Everything that is known of a picture before it is drawn; sizes in pixels, `low` and `high` are fluxes."""

    rows: FluxRows
    options: StackOptions
    width: int
    height: int
    low: float
    high: float


def stacked_image(
    client: Client, context: str, ids: IdList, options: StackOptions, max_pixels: int = MAX_IMAGE_PIXELS
) -> tuple[str, int | None, Iterator[bytes]]:
    """Make an image in which each spectrum is a row.

    Parameters
    ----------
    client : Client
    context : str
    ids : IdList
        Spectra in the order of the rows, from the bottom; duplicates are kept.
    options : StackOptions
    max_pixels : int
        Limit of an image.

    Returns
    -------
    media_type : str
    length : int or None
        Bytes, where they are known.
    body : iterator of bytes
        Made as it is read, in bounded memory; closing it early ends all work.

    Raises
    ------
    InvalidRequest
        If the spectra cannot be aligned as asked.
    UnknownSpectrum
        If there is no such spectrum.
    LimitExceeded
        If the image would be too large.
    """
    names, longest = ids.first, 0
    if not (ids.plain and (options.align or options.rest_frame)):
        names, longest = name_spectra(client, context, ids)
    # A picture starts at its top, an array at its bottom.
    order = slice(None, None, -1 if options.yflip == (options.format == "numpy") else 1)
    if options.rest_frame:
        rows = rest_frame_rows(client, context, names, order)
    elif options.align:
        rows = aligned_rows(client, context, names[order])
    else:
        rows = unaligned_rows(client, context, names[order], longest)
    try:
        if options.format == "numpy":
            _check_size(rows, 1, rows.width, rows.count, max_pixels)
            header = _npy_header(rows)
            return "application/octet-stream", len(header) + 4 * rows.count * rows.width, _array(header, rows)
        width, height = options.size(rows.width, rows.count * options.thickness)
        _check_size(rows, options.thickness, width, height, max_pixels)
        limits = find_limits(sample_fluxes(client, context, names), options.limits)
        return "image/png", None, _png(_Picture(rows, options, width, height, *limits))
    except BaseException:
        rows.close()
        raise


def _check_size(rows: FluxRows, thickness: int, width: int, height: int, max_pixels: int) -> None:
    if max(width, rows.width) > MAX_WIDTH:
        raise LimitExceeded(f"width: {max(width, rows.width):.6g} pixels are more than the limit {MAX_WIDTH}")
    if width * height > max_pixels:
        raise LimitExceeded(
            f"height: an image of {width} x {height:.9g} pixels is larger than the limit max_image_pixels = "
            f"{max_pixels}; scale it down, or ask for fewer spectra"
        )
    if rows.count * thickness / height * width > MAX_BAND:
        raise LimitExceeded(
            f"height: one of {height} rows would be the mean of {rows.count * thickness / height:.0f} rows of {width} "
            f"pixels, which is more than the limit of {MAX_BAND} pixels; scale it down less, or make it narrower"
        )


def _npy_header(rows: FluxRows) -> bytes:
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (rows.count, rows.width)}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


def _array(header: bytes, rows: FluxRows) -> Iterator[bytes]:
    with closing(rows):
        yield header
        for block in rows.blocks:
            yield block.tobytes()


def _png(picture: _Picture) -> Iterator[bytes]:
    rows, thickness = picture.rows, picture.options.thickness
    table = colour_table(picture.options.cmap)

    def levels(flux: NDArray[np.float32]) -> NDArray[np.uint8]:
        grey = grey_levels(flux, picture.low, picture.high)
        return scaled_width(~grey if picture.options.inverse else grey, picture.width)

    def encoded_band(band: Band) -> EncodedRows:
        return encode_rows(coloured(scaled_band(band), table))

    def encoded(grey: NDArray[np.uint8]) -> EncodedRows:
        return encode_rows(coloured(grey, table), thickness)

    writer = PngWriter(picture.width, picture.height, 1 if table is None else 4)
    with closing(rows), ThreadPoolExecutor(THREADS) as threads:
        yield writer.begin()
        grey = _in_order(threads, levels, _pieces(rows, max(1, PIECE // (rows.width * thickness))))
        if picture.height == rows.count * thickness:
            made = _in_order(threads, encoded, grey)
        else:
            made = _in_order(threads, encoded_band, bands(grey, rows.count, thickness, picture.height))
        for some in made:
            yield writer.append(some)
    yield writer.end()


def _pieces(rows: FluxRows, size: int) -> Iterator[NDArray[np.float32]]:
    for block in rows.blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]


def _in_order(threads: ThreadPoolExecutor, work: Callable[[Given], Made], given: Iterator[Given]) -> Iterator[Made]:
    """Results of work on each of the things given, in order, while some of those that follow are being worked on."""
    waiting: deque[Future[Made]] = deque()
    for one in given:
        waiting.append(threads.submit(work, one))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
