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

ARENA = 32 << 20
"""Bytes of the arrays that spectra which are all kept share: larger ones cost fewer page faults."""


def record_dtype(schema: pa.Schema) -> np.dtype[np.void]:
    """Structured dtype of the spectra of a stream in the layout ``records``."""
    return _dtype(schema.field("records").metadata[b"dtype"])


@lru_cache(maxsize=64)
def _dtype(text: bytes) -> np.dtype[np.void]:
    return np.dtype([(name, kind) for name, kind in json.loads(text)])


def spectra_records(batches: Iterable[pa.RecordBatch], kept: bool = False) -> Iterator[Spectrum | None]:
    """Spectra of a stream one by one, as structured arrays.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        In the layout ``records`` of `specflight.flight.protocol.spectra_schema`.
    kept : bool
        Whether all of them will be kept, so that they may share memory with many others.

    Yields
    ------
    ndarray, shape (npix,)
        Structured, a field for each vector column; None in the place of a spectrum whose status is not ``ok``.
    """
    arena = np.empty(0, np.uint8)

    def own(batch: pa.RecordBatch) -> tuple[list[bool], list[int], Spectrum]:
        nonlocal arena
        sent = _sent(batch)
        if sent.nbytes > arena.nbytes:
            arena = np.empty(max(sent.nbytes, ARENA if kept else 0), np.uint8)
        mine, arena = arena[: sent.nbytes], arena[sent.nbytes :]
        mine[:] = sent.view(np.uint8)
        return _ok(batch), _offsets(batch.column("records")).tolist(), mine.view(sent.dtype)

    for ok, offsets, records in _overlapped(batches, own):
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


def _ok(batch: pa.RecordBatch) -> list[bool]:
    return [status == STATUS_OK for status in batch.column(1).to_pylist()]


def _sent(batch: pa.RecordBatch) -> Spectrum:
    """Pixels of a batch, one spectrum behind the other, where Arrow has them: nobody may write there."""
    column = batch.column("records")
    dtype = record_dtype(batch.schema)
    buffer = column.values.buffers()[1]
    pixels = np.frombuffer(buffer, dtype) if buffer is not None and buffer.size else np.empty(0, dtype)
    pixels = pixels[column.values.offset :][: len(column.values)]
    if isinstance(column, pa.FixedSizeListArray):
        width = column.type.list_size
        return pixels[column.offset * width : (column.offset + len(column)) * width]
    return pixels


def _offsets(column: pa.Array) -> NDArray[Any]:
    if isinstance(column, pa.FixedSizeListArray):
        width: int = column.type.list_size
        return np.arange(len(column) + 1) * width
    # Not to_numpy, which imports pandas where it is installed.
    return np.from_dlpack(column.offsets)


def aligned_array(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], rows: int | None
) -> tuple[Spectrum, list[bool]]:
    """Aligned spectra as one structured array.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the stream, which has the layout ``records`` and a common grid.
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
    dtype, npix = record_dtype(schema), schema.field("records").type.list_size
    whole = np.empty((rows or 0, npix * dtype.itemsize), np.uint8)
    ends = [0]

    def own(batch: pa.RecordBatch) -> tuple[list[bool], NDArray[np.uint8]]:
        start, count = ends[-1], batch.num_rows
        ends.append(start + count)
        mine = np.empty((count, whole.shape[1]), np.uint8) if rows is None else whole[start : start + count]
        mine[:] = _sent(batch).view(np.uint8).reshape(mine.shape)
        return _ok(batch), mine

    pieces, ok = [], []
    for good, mine in _overlapped(batches, own):
        ok += good
        if rows is None:
            pieces.append(mine)
    if pieces:
        whole = np.concatenate(pieces)
    return whole[: ends[-1]].view(dtype), ok


def _flat(column: pa.Array) -> NDArray[Any]:
    """Values of a list column of a batch, one spectrum behind the other, without a copy."""
    values = np.from_dlpack(column.values)
    if isinstance(column, pa.FixedSizeListArray):
        width = column.type.list_size
        return values[column.offset * width : (column.offset + len(column)) * width]
    return values


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
