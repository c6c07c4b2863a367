from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from specflight.client._convert import aligned_array, record_dtype, spectra_frames, spectra_records
from specflight.flight.protocol import VECTORS, spectra_schema

Vectors = dict[str, NDArray[Any]]
COLUMNS = ("flux", "and_mask", "loglam")


def values(npix: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, (len(COLUMNS), npix), dtype=np.uint32)  # any bits, NaN of every kind among them
    return {name: row.view(VECTORS[name].dtype) for name, row in zip(COLUMNS, words, strict=True)}


def batch(
    spectra: list[Vectors | None], npix: int | None = None, first: int = 1, layout: str = "records"
) -> pa.RecordBatch:
    schema = spectra_schema(COLUMNS, "here", "", None if npix is None else (35500, npix), layout=layout)
    blank = {name: np.zeros(npix or 0, VECTORS[name].dtype) for name in COLUMNS}  # a row that is null is padded
    status = ["ok" if spectrum is not None else "missing" for spectrum in spectra]
    null = pa.array([spectrum is None for spectrum in spectra])
    arrays: list[pa.Array] = [pa.array(range(first, first + len(spectra)), pa.uint64()), pa.array(status)]
    lengths = [len((spectrum or blank)["flux"]) for spectrum in spectra]
    flats = [np.concatenate([(spectrum or blank)[name] for spectrum in spectra]) for name in COLUMNS]
    if layout == "records":
        packed = np.stack([flat.view(np.uint32) for flat in flats], axis=1)
        kind = pa.binary(4 * len(COLUMNS))
        values_ = [pa.Array.from_buffers(kind, len(packed), [None, pa.py_buffer(packed)])]
    else:
        values_ = [pa.array(flat) for flat in flats]
    for flat in values_:
        if npix is None:
            starts = pa.array(np.cumsum([0, *lengths]), pa.int32())
            arrays.append(pa.ListArray.from_arrays(starts, flat, mask=null))
        else:
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, npix, mask=null))
    return pa.record_batch(arrays, schema=schema)


def assert_same(mine: Any, spectrum: Vectors) -> None:  # noqa: ANN401
    for name in COLUMNS:
        assert np.asarray(mine[name]).tobytes() == spectrum[name].tobytes(), name


@pytest.mark.parametrize("sizes", [[5, 3], [1], [4096, 4097, 1], [9000]])
def test_records_hold_the_bits_of_the_columns(sizes: list[int]) -> None:
    spectra = [values(npix, seed) for seed, npix in enumerate(sizes)]
    records = list(spectra_records([batch([*spectra])]))
    assert len(records) == len(spectra)
    for record, spectrum in zip(records, spectra, strict=True):
        assert record is not None
        assert record.dtype == np.dtype([("flux", "<f4"), ("and_mask", "<i4"), ("loglam", "<f4")])
        assert_same(record, spectrum)


def test_batches_that_are_slices_of_a_larger_one_give_their_own_spectra() -> None:
    spectra = [values(npix, npix) for npix in (4, 7, 2, 9)]
    whole = batch([*spectra])
    for record, spectrum in zip(spectra_records([whole.slice(1, 2)]), spectra[1:3], strict=True):
        assert_same(record, spectrum)
    columns = batch([*spectra], layout="columns")
    for frame, spectrum in zip(spectra_frames([columns.slice(2)]), spectra[2:], strict=True):
        assert_same(frame, spectrum)
    same = [values(6, seed) for seed in range(4)]
    aligned = batch([*same], npix=6)
    records, ok = aligned_array(aligned.schema, [aligned.slice(1, 2)], 2)
    assert ok == [True, True]
    for record, spectrum in zip(records, same[1:3], strict=True):
        assert_same(record, spectrum)


def test_what_is_missing_is_none_in_its_place() -> None:
    spectra = [None, values(3, 1), None]
    for make, layout in ((spectra_records, "records"), (spectra_frames, "columns")):
        results: list[Any] = list(make([batch(spectra, layout=layout)]))
        assert [result is None for result in results] == [True, False, True]
    aligned = batch([None, values(3, 1)], npix=3)
    results = list(spectra_records([aligned]))
    assert [result is None for result in results] == [True, False]


@pytest.mark.parametrize("rows", [None, 5, 9])
def test_aligned_spectra_become_one_array_of_as_many_rows_as_came(rows: int | None) -> None:
    spectra = [values(6, seed) for seed in range(5)]
    batches = [batch([*spectra[:3]], npix=6), batch([None, spectra[4]], npix=6, first=4)]
    records, ok = aligned_array(batches[0].schema, batches, rows)
    assert records.shape == (5, 6)
    assert records.dtype == record_dtype(batches[0].schema)
    assert ok == [True, True, True, False, True]
    for number in (0, 1, 2, 4):
        assert_same(records[number], spectra[number])


@pytest.mark.parametrize("rows", [None, 0, 3])
def test_no_spectra_are_an_empty_array_of_the_same_kind(rows: int | None) -> None:
    schema = spectra_schema(COLUMNS, "here", "", (35500, 6), layout="records")
    nothing: Iterable[pa.RecordBatch] = []
    records, ok = aligned_array(schema, nothing, rows)
    assert (records.shape, ok) == ((0, 6), [])
    assert records.dtype == record_dtype(schema)
    assert list(spectra_records([])) == []


def test_a_frame_tells_its_spectrum_context_and_units() -> None:
    frame = next(iter(spectra_frames([batch([values(3, 1)], first=77, layout="columns")])))
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == list(COLUMNS)
    assert frame.attrs["specobjid"] == 77
    assert frame.attrs["context"] == "here"
    assert frame.attrs["units"]["flux"] == "1e-17 erg s-1 cm-2 Angstrom-1"


def test_a_frame_owns_its_numbers() -> None:
    whole = batch([values(3, 1)], layout="columns")
    frame = next(iter(spectra_frames([whole])))
    assert frame is not None
    before = whole.column("and_mask").flatten().to_pylist()
    frame.loc[:, "and_mask"] = 0
    assert whole.column("and_mask").flatten().to_pylist() == before


@pytest.mark.parametrize("kept", [False, True])
def test_records_can_be_written_to_and_leave_their_neighbours_alone(kept: bool) -> None:
    spectra = [values(npix, npix) for npix in (4, 7)]
    first, second = list(spectra_records([batch([*spectra]), batch([*spectra])], kept=kept))[:2]
    assert first is not None
    assert second is not None
    first["flux"] = 0
    assert_same(second, spectra[1])
