"""Record batches of spectra into numpy and pandas objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.flight.protocol import CATALOGUE_ID, METADATA_KEY, STATUS_OK, VECTORS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Spectrum", "aligned_array", "record_dtype", "spectra_frames", "spectra_records"]

Spectrum = NDArray[np.void]
"""Structured array of one spectrum: a field for each vector column."""

Converted = TypeVar("Converted")

_BLOCK = 16384
"""Pixels interleaved at a time: what the eight columns of them take stays in the processor's cache."""


def record_dtype(schema: pa.Schema) -> np.dtype[np.void]:
    """Structured dtype of a stream of spectra: its vector columns in order, little-endian."""
    return _dtype(tuple(schema.names))


@lru_cache(maxsize=64)
def _dtype(names: tuple[str, ...]) -> np.dtype[np.void]:
    return np.dtype([(name, VECTORS[name].dtype) for name in names if name in VECTORS])


def spectra_records(batches: Iterable[pa.RecordBatch]) -> Iterator[Spectrum | None]:
    """Spectra of a stream one by one, as structured arrays.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        As `specflight.flight.protocol.spectra_schema` says.

    Yields
    ------
    ndarray, shape (npix,)
        Structured, a field for each vector column; None in the place of a spectrum whose status is not ``ok``.
    """
    for ok, offsets, records in _overlapped(batches, _records):
        for good, start, end in zip(ok, offsets, offsets[1:], strict=False):
            yield records[start:end] if good else None


def _overlapped(
    batches: Iterable[pa.RecordBatch], convert: Callable[[pa.RecordBatch], Converted]
) -> Iterator[Converted]:
    """Convert each batch in another thread while the next one arrives; numpy's copies let other threads run."""
    ahead = iter(batches)
    first, second = next(ahead, None), next(ahead, None)
    if first is None:
        return
    if second is None:
        yield convert(first)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(convert, first)
        for batch in chain([second], ahead):
            following = thread.submit(convert, batch)
            yield waiting.result()
            waiting = following
        yield waiting.result()


def _records(batch: pa.RecordBatch) -> tuple[list[bool], list[int], Spectrum]:
    """Status and bounds of the spectra of a batch, and their pixels in one structured array."""
    dtype = record_dtype(batch.schema)
    columns = [_flat(batch.column(name)) for name in dtype.names or ()]
    offsets = _offsets(batch.column(len(batch.schema.names) - len(columns))).tolist()
    words = np.empty((len(columns[0]), len(columns)), np.uint32)
    _interleave(columns, words)
    return _ok(batch), offsets, words.view(dtype).reshape(-1)


def _ok(batch: pa.RecordBatch) -> list[bool]:
    return [status == STATUS_OK for status in batch.column(1).to_pylist()]


def _flat(column: pa.Array) -> NDArray[Any]:
    """Values of a list column of a batch, one spectrum behind the other, without a copy."""
    # Not to_numpy, which imports pandas where it is installed.
    values = np.from_dlpack(column.values)
    if isinstance(column, pa.FixedSizeListArray):
        width = column.type.list_size
        return values[column.offset * width : (column.offset + len(column)) * width]
    return values


def _offsets(column: pa.Array) -> NDArray[Any]:
    if isinstance(column, pa.FixedSizeListArray):
        width: int = column.type.list_size
        return np.arange(len(column) + 1) * width
    return np.from_dlpack(column.offsets)


def _interleave(columns: list[NDArray[Any]], words: NDArray[np.uint32]) -> None:
    """Fill words of shape (pixels, columns) column by column, a block at a time."""
    sources = [column.view(np.uint32) for column in columns]
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        for number, source in enumerate(sources):
            block[:, number] = source[start : start + _BLOCK]


def aligned_array(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], rows: int | None
) -> tuple[Spectrum, list[bool]]:
    """Aligned spectra as one structured array.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the stream; its vector columns are fixed-size lists of npix.
    batches : iterable of pyarrow.RecordBatch
    rows : int or None
        Spectra to expect at most, if that is known: then the array is allocated once.

    Returns
    -------
    records : ndarray, shape (n, npix)
        Structured, a field for each vector column.
    ok : list of bool
        Whether each row is a spectrum.
    """
    dtype = record_dtype(schema)
    npix = next(field.type.list_size for field in schema if field.name in VECTORS)
    width = len(dtype.names or ())
    whole = np.empty((rows or 0, npix, width), np.uint32)
    ends = [0]

    def fill(batch: pa.RecordBatch) -> tuple[list[bool], NDArray[np.uint32]]:
        start, count = ends[-1], batch.num_rows
        ends.append(start + count)
        words = np.empty((count, npix, width), np.uint32) if rows is None else whole[start : start + count]
        _interleave([_flat(batch.column(name)) for name in dtype.names or ()], words.reshape(-1, width))
        return _ok(batch), words

    pieces, ok = [], []
    for good, words in _overlapped(batches, fill):
        ok += good
        if rows is None:
            pieces.append(words)
    if pieces:
        whole = np.concatenate(pieces)
    return whole[: ends[-1]].view(dtype)[..., 0], ok


def spectra_frames(batches: Iterable[pa.RecordBatch]) -> Iterator[pd.DataFrame | None]:
    """Spectra of a stream one by one, as data frames.

    Yields
    ------
    pandas.DataFrame
        A row for each pixel, a column for each vector; ``attrs`` hold specobjid, context and units. None in the
        place of a spectrum whose status is not ``ok``.
    """
    import pandas as pd

    for batch in batches:
        names = [name for name in batch.schema.names if name in VECTORS]
        columns = {name: _flat(batch.column(name)) for name in names}
        offsets = _offsets(batch.column(names[0])).tolist()
        about = json.loads((batch.schema.metadata or {}).get(METADATA_KEY, b"{}"))
        units = {name: VECTORS[name].unit for name in names}
        ids = batch.column(CATALOGUE_ID).to_pylist()
        for specobjid, ok, start, end in zip(ids, _ok(batch), offsets[:-1], offsets[1:], strict=True):
            if not ok:
                yield None
                continue
            frame = pd.DataFrame({name: values[start:end].copy() for name, values in columns.items()})
            frame.attrs = {"specobjid": specobjid, "context": about.get("context"), "units": units}
            yield frame
