"""Spectra as numpy files: the header, and the bytes of the pixels.

The format is version 1.0 of https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from specflight.client._convert import Spectrum
from specflight.errors import ServiceUnavailable
from specflight.flight.protocol import VECTORS, grid_loglam

__all__ = ["chunks", "file_size", "header", "pixels", "record_type", "saved"]


@lru_cache(maxsize=256)
def record_type(columns: tuple[str, ...]) -> np.dtype[np.void]:
    """Structured type of a pixel: a packed little-endian field for each vector."""
    return np.dtype([(name, VECTORS[name].dtype) for name in columns])


@lru_cache(maxsize=1024)
def header(columns: tuple[str, ...], shape: tuple[int, ...]) -> bytes:
    """Header of a file of pixels, as numpy writes it: 256 bytes for all eight vectors.

    Parameters
    ----------
    columns : tuple of str
        Vectors, in their order.
    shape : tuple of int
        (npix,) of one spectrum, (n, npix) of several.
    """
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(record_type(columns))
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def file_size(columns: tuple[str, ...], shape: tuple[int, ...]) -> int:
    """Bytes of a file; see `header`."""
    return len(header(columns, shape)) + math.prod(shape) * record_type(columns).itemsize


def chunks(
    columns: tuple[str, ...], shape: tuple[int, int], batches: Iterable[pa.RecordBatch]
) -> Iterator[bytes | memoryview]:
    """File of several spectra, piece by piece, each without a copy.

    Parameters
    ----------
    columns, shape
        See `header`.
    batches : iterable of pyarrow.RecordBatch
        Of the layout ``records``, with these columns.

    Raises
    ------
    ServiceUnavailable
        At the end, if the batches do not have as many pixels as the header says. No more than those come before.
    """
    head = header(columns, shape)
    left = file_size(columns, shape) - len(head)
    yield head
    for batch in batches:
        piece = pixels(batch)
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ServiceUnavailable("ids: the data changed while they were being sent; ask again")


def pixels(batch: pa.RecordBatch) -> memoryview:
    """Bytes of the pixels of a batch in the layout ``records``, one spectrum behind the other, without a copy."""
    values = batch.column("records").flatten()
    width, buffer = values.type.byte_width, values.buffers()[1]
    if buffer is None:
        return memoryview(b"")
    return memoryview(buffer).cast("B")[values.offset * width : (values.offset + len(values)) * width]


def saved(spectrum: Spectrum, columns: tuple[str, ...], k0: int = 0, grid: tuple[int, int] = (0, 0)) -> memoryview:
    """File of one spectrum, on a longer grid if one is given: zeros where it has no data, and wavelengths everywhere.

    Parameters
    ----------
    spectrum : ndarray, shape (n,)
        Structured, a field for each vector.
    columns : tuple of str
        Fields wanted.
    k0 : int
        Its first pixel on the SDSS grid.
    grid : (k0, npix)
        A grid that holds all of it.

    Returns
    -------
    memoryview
        Of bytes: the header, then npix pixels.
    """
    first, npix = grid if grid[1] else (k0, len(spectrum))
    kind, head = record_type(columns), header(columns, (npix,))
    # Allocated once: memory of this size is taken from the system, and given back, each time.
    file = np.empty(len(head) + npix * kind.itemsize, np.uint8)
    file[: len(head)] = np.frombuffer(head, np.uint8)
    whole = file[len(head) :].view(kind)
    before, after = slice(0, k0 - first), slice(k0 - first + len(spectrum), npix)
    place = whole[before.stop : after.start]
    if kind == spectrum.dtype:
        place.view(np.uint8)[:] = spectrum.view(np.uint8)
    else:
        for name in columns:
            place[name] = spectrum[name]
    for padding in (before, after):
        whole[padding].view(np.uint8)[:] = 0
        if "loglam" in columns and padding.stop > padding.start:
            whole["loglam"][padding] = grid_loglam(first + padding.start, padding.stop - padding.start)
    return file.data
