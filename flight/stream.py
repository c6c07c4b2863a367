"""From rows of a source to record batches: the one path on which spectra leave.

One spectrum is sent from the mapped part file as it lies there. The values of several are copied once, into the
buffers that Flight sends, so that they share a batch: a message for each spectrum would cost more than the copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.grids import Grid
from specflight.flight.protocol import STATUS_DAMAGED, STATUS_MISSING, STATUS_OK, VECTORS, list_of
from specflight.flight.source import EXPLICIT, NO_ID, NOT_FOUND, STORED, SpectrumSource, Words, loglam_words

__all__ = ["SpectraPlan", "spectra_batches"]

BATCH_BYTES = 4 << 20
"""Of a record batch: 32 spectra with all columns. Smaller ones cost messages, larger ones memory and latency."""

_COLUMN = {name: number for number, name in enumerate((*STORED, "loglam"))}

READ_AHEAD = 1024
"""Spectra that the disk is asked for at once: about 150 MB, far below what a server may cache."""


@dataclass(frozen=True, slots=True)
class SpectraPlan:
    """What to send.

    Attributes
    ----------
    schema : pyarrow.Schema
        As `specflight.flight.protocol.spectra_schema` makes it for `columns` and `grid`.
    columns : tuple of str
        Vector columns in the order wanted.
    ids : ndarray of uint64, shape (n,)
        Identifiers in the order wanted, `NO_ID` where there is none.
    rows : ndarray of int64, shape (n,)
        Their rows in the source, or `NOT_FOUND`.
    grid : Grid or None
        The common grid, if the spectra are to be aligned.
    records : bool
        Whether the vectors go as packed structures in one column.
    null_damaged : bool
        Whether a spectrum that cannot be read is sent as null with status ``damaged``, rather than ending the stream.
    """

    schema: pa.Schema
    columns: tuple[str, ...]
    ids: NDArray[np.uint64]
    rows: NDArray[np.int64]
    grid: Grid | None = None
    records: bool = False
    null_damaged: bool = False


def spectra_batches(source: SpectrumSource, plan: SpectraPlan) -> Iterator[pa.RecordBatch]:
    """Record batches of a plan, in order.

    Raises
    ------
    DamagedData
        If a spectrum cannot be read, unless the plan says `null_damaged`.
    """
    build = _records if plan.records else _lists if plan.grid is None else _aligned
    size = _batch_rows(source, plan)
    runs = _layout(plan.columns).runs or (slice(0, 0),)
    # A single spectrum is read at once anyway.
    ahead = 0 if len(plan.rows) > 1 else 1
    for start in range(0, len(plan.rows), size):
        if start >= ahead:
            chunk = plan.rows[ahead : ahead + READ_AHEAD]
            source.prefetch(chunk[chunk != NOT_FOUND], slice(runs[0].start, runs[-1].stop))
            ahead += READ_AHEAD
        rows = plan.rows[start : start + size]
        yield build(source, plan, plan.ids[start : start + size], rows, _views(source, plan, rows))


def _batch_rows(source: SpectrumSource, plan: SpectraPlan) -> int:
    if len(plan.rows) <= 1:
        return 1
    if plan.grid is not None:
        pixels = plan.grid.npix
    else:
        found = plan.rows[plan.rows != NOT_FOUND][:READ_AHEAD]
        pixels = int(source.npix[found].sum()) // len(found) if len(found) else 1
    return max(1, BATCH_BYTES // (4 * pixels * len(plan.columns)))


@dataclass(frozen=True, slots=True)
class _Views:
    """Words of the spectra of a batch, None in the place of one that is missing or damaged.

    `valid` says which are there; None stands for all of them.
    """

    words: Sequence[Words | None]
    valid: NDArray[np.bool_] | None


def _views(source: SpectrumSource, plan: SpectraPlan, rows: NDArray[np.int64]) -> _Views:
    found = rows != NOT_FOUND
    complete = bool(found.all())
    read = source.read(rows if complete else rows[found])
    words = [None if isinstance(view, DamagedData) else view for view in read]
    if complete and all(view is not None for view in words):
        return _Views(words, None)
    bad = [number for number, view in enumerate(read) if isinstance(view, DamagedData)]
    if bad and not plan.null_damaged:
        raise DamagedData(f"spectrum {source.ids[rows[found][bad[0]]]} cannot be read: {read[bad[0]]}")
    following = iter(words)
    placed = [next(following) if there else None for there in found.tolist()]
    return _Views(placed, np.array([view is not None for view in placed]))


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the columns of a request lie in the buffer of a batch: those that are stored in file order, then loglam.

    Attributes
    ----------
    types : tuple of pyarrow.DataType
        Of their values.
    lists : tuple of pyarrow.DataType
        Lists of these.
    runs : tuple of slice
        Runs of neighbours among the stored columns, which are copied in one assignment.
    loglam : bool
        Whether the last column is loglam.
    order : tuple of int
        Number in the buffer of each column of the request.
    """

    types: tuple[pa.DataType, ...]
    lists: tuple[pa.DataType, ...]
    runs: tuple[slice, ...]
    loglam: bool
    order: tuple[int, ...]


@lru_cache(maxsize=64)
def _layout(columns: tuple[str, ...]) -> _Layout:
    names = [name for name in (*STORED, "loglam") if name in columns]
    runs: list[slice] = []
    for number in (STORED.index(name) for name in names if name != "loglam"):
        if runs and runs[-1].stop == number:
            runs[-1] = slice(runs[-1].start, number + 1)
        else:
            runs.append(slice(number, number + 1))
    types = tuple(VECTORS[name].type for name in names)
    lists = tuple(pa.list_(kind) for kind in types)
    order = tuple(names.index(name) for name in columns)
    return _Layout(types, lists, tuple(runs), "loglam" in columns, order)


def _buffers(columns: int, words: int) -> tuple[pa.Buffer, NDArray[np.uint32], int]:
    """One allocation for all columns of a batch, each starting on a 64-byte boundary."""
    stride = (words + 15) // 16 * 16
    buffer = pa.allocate_buffer(4 * stride * columns)
    return buffer, np.frombuffer(buffer, np.uint32).reshape(columns, stride), 4 * stride


def _lists(
    source: SpectrumSource, plan: SpectraPlan, ids: NDArray[np.uint64], rows: NDArray[np.int64], views: _Views
) -> pa.RecordBatch:
    layout = _layout(plan.columns)
    npix, k0 = _grids(source, rows, views)
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(npix, out=offsets[1:])
    if len(rows) == 1 and views.valid is None:
        values = _mapped_values(layout, views.words[0], k0[0], int(npix[0]))
    else:
        values = _copied_values(layout, views.words, k0, offsets.tolist())
    shared = [_validity(views), pa.py_buffer(offsets)]
    lists = [
        pa.Array.from_buffers(layout.lists[number], len(rows), shared, children=[values[number]])
        for number in layout.order
    ]
    return _batch(plan, ids, rows, views, lists)


def _mapped_values(layout: _Layout, words: Words | None, k0: int, npix: int) -> list[pa.Array]:
    """Values of the columns of one spectrum where they lie, without a copy."""
    assert words is not None
    stored = pa.py_buffer(words)
    places = [stored.slice(words.strides[0] * n, 4 * npix) for run in layout.runs for n in range(run.start, run.stop)]
    if layout.loglam:
        at = words.strides[0] * len(STORED)
        places.append(stored.slice(at, 4 * npix) if k0 == EXPLICIT else pa.py_buffer(loglam_words(k0, npix)))
    return [pa.Array.from_buffers(kind, npix, [None, place]) for kind, place in zip(layout.types, places, strict=True)]


def _copied_values(layout: _Layout, views: Sequence[Words | None], k0: list[int], ends: list[int]) -> list[pa.Array]:
    """Values of the columns of some spectra, one behind the other."""
    total = ends[-1]
    buffer, out, stride = _buffers(len(layout.types), total)
    there = [
        (words, first, at, end)
        for words, first, at, end in zip(views, k0, ends, ends[1:], strict=False)
        if words is not None
    ]
    row = 0
    for run in layout.runs if there else ():
        after = row + run.stop - run.start
        if after == row + 1:
            column = run.start
            np.concatenate([words[column, : end - at] for words, _, at, end in there], out=out[row, :total])
        else:
            for words, _, at, end in there:
                out[row:after, at:end] = words[run, : end - at]
        row = after
    if layout.loglam and there:
        loglam = [
            words[len(STORED), : end - at] if first == EXPLICIT else loglam_words(first, end - at)
            for words, first, at, end in there
        ]
        np.concatenate(loglam, out=out[-1, :total])
    return [
        pa.Array.from_buffers(kind, total, [None, buffer.slice(number * stride, 4 * total)])
        for number, kind in enumerate(layout.types)
    ]


def _grids(source: SpectrumSource, rows: NDArray[np.int64], views: _Views) -> tuple[NDArray[np.int32], list[int]]:
    """Number of pixels, 0 where there is no spectrum, and first pixel of each."""
    if views.valid is None:
        return source.npix[rows], source.k0[rows].tolist()
    npix, k0 = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
    there = rows[views.valid]
    npix[views.valid], k0[views.valid] = source.npix[there], source.k0[there]
    return npix, k0.tolist()


def _aligned(
    source: SpectrumSource, plan: SpectraPlan, ids: NDArray[np.uint64], rows: NDArray[np.int64], views: _Views
) -> pa.RecordBatch:
    assert plan.grid is not None
    layout, grid, count = _layout(plan.columns), plan.grid, len(rows)
    npix, k0 = _grids(source, rows, views)
    total = count * grid.npix
    buffer, flat, stride = _buffers(len(plan.columns), total)
    out = flat[:, :total].reshape(len(plan.columns), count, grid.npix)
    stored = len(plan.columns) - layout.loglam
    for number, (words, first, pixels) in enumerate(zip(views.words, k0, npix.tolist(), strict=True)):
        shift = first - grid.k0
        low = min(max(0, shift), grid.npix)
        high = min(max(low, shift + pixels), grid.npix)
        out[:stored, number, :low] = 0
        out[:stored, number, high:] = 0
        if words is None or high == low:
            continue
        row = 0
        for run in layout.runs:
            after = row + run.stop - run.start
            out[row:after, number, low:high] = words[run, low - shift : high - shift]
            row = after
    if layout.loglam:
        out[-1] = loglam_words(grid.k0, grid.npix)
    valid = _validity(views)
    arrays = []
    for number, kind in enumerate(layout.types):
        values = pa.Array.from_buffers(kind, total, [None, buffer.slice(number * stride, 4 * total)])
        arrays.append(pa.Array.from_buffers(pa.list_(kind, grid.npix), count, [valid], children=[values]))
    return _batch(plan, ids, rows, views, [arrays[number] for number in layout.order])


def _records(
    source: SpectrumSource, plan: SpectraPlan, ids: NDArray[np.uint64], rows: NDArray[np.int64], views: _Views
) -> pa.RecordBatch:
    width, grid = len(plan.columns), plan.grid
    npix, k0 = _grids(source, rows, views)
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(npix if grid is None else np.full(len(rows), grid.npix), out=offsets[1:])
    ends = offsets.tolist()
    buffer = pa.allocate_buffer(4 * width * ends[-1])
    out = np.frombuffer(buffer, np.uint32).reshape(ends[-1], width)
    for words, first, pixels, at, end in zip(views.words, k0, npix.tolist(), ends, ends[1:], strict=False):
        place, shift = out[at:end], 0
        low, high = 0, pixels
        if grid is not None:
            shift = first - grid.k0
            low = min(max(0, shift), grid.npix)
            high = min(max(low, shift + pixels), grid.npix)
            place[:low], place[high:] = 0, 0
        for number, name in enumerate(plan.columns):
            if name == "loglam" and (grid is not None or first != EXPLICIT):
                place[:, number] = loglam_words(first, pixels) if grid is None else loglam_words(grid.k0, grid.npix)
            elif words is not None:
                place[low:high, number] = words[_COLUMN[name], low - shift : high - shift]
    kind = pa.binary(4 * width)
    values = pa.Array.from_buffers(kind, ends[-1], [None, buffer])
    lists, shared = list_of(kind, None), [_validity(views), pa.py_buffer(offsets)]
    if grid is not None:
        lists, shared = list_of(kind, (grid.k0, grid.npix)), shared[:1]
    return _batch(plan, ids, rows, views, [pa.Array.from_buffers(lists, len(rows), shared, children=[values])])


def _validity(views: _Views) -> pa.Buffer | None:
    return None if views.valid is None else pa.py_buffer(np.packbits(views.valid, bitorder="little"))


def _batch(
    plan: SpectraPlan, ids: NDArray[np.uint64], rows: NDArray[np.int64], views: _Views, vectors: list[pa.Array]
) -> pa.RecordBatch:
    if views.valid is None:
        status = _all_ok(len(rows))
    else:
        unreadable = np.where(rows == NOT_FOUND, STATUS_MISSING, STATUS_DAMAGED)
        status = pa.array(np.where(views.valid, STATUS_OK, unreadable).tolist())
    known = pa.array(ids) if ids.all() else pa.array(ids, mask=ids == NO_ID)
    return pa.RecordBatch.from_arrays([known, status, *vectors], schema=plan.schema)


@lru_cache(maxsize=256)
def _all_ok(count: int) -> pa.Array:
    return pa.array([STATUS_OK] * count)
