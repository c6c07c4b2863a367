"""Numpy files of spectra, against what numpy itself writes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.errors import ServiceUnavailable
from specflight.flight.protocol import VECTORS, grid_loglam
from specflight.http.npy import chunks, file_size, header, pixels, record_type, saved

ALL = tuple(VECTORS)


def spectrum(k0: int, npix: int, columns: tuple[str, ...] = ALL) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    rng = np.random.default_rng(npix)
    made = np.zeros(npix, record_type(columns))
    for name in columns:
        made[name] = grid_loglam(k0, npix) if name == "loglam" else rng.integers(1, 1000, npix)
    return made


@given(
    st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
)
def test_header_and_pixels_are_the_file_that_numpy_writes(columns: list[str], shape: list[int]) -> None:
    array = np.zeros(shape, record_type(tuple(columns)))
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    assert header(tuple(columns), tuple(shape)) + array.tobytes() == file.getvalue()


@pytest.mark.parametrize("shape", [(1,), (4639,), (2, 4639), (1_000_000, 40_000)])
def test_the_header_of_all_vectors_has_256_bytes_as_old_clients_know_it(shape: tuple[int, ...]) -> None:
    text = header(ALL, shape)
    assert (len(text), text[:8], text[8:10]) == (256, b"\x93NUMPY\x01\x00", (246).to_bytes(2, "little"))


def test_the_fields_are_those_of_the_documentation() -> None:
    expected = "flux:<f4 loglam:<f4 ivar:<f4 and_mask:<i4 or_mask:<i4 wdisp:<f4 sky:<f4 model:<f4"
    kind = record_type(ALL)
    assert [f"{name}:{kind[name].str}" for name in kind.names or ()] == expected.split()
    assert kind.itemsize == 32


@pytest.mark.parametrize("fixed", [True, False])
def test_the_pixels_of_a_slice_of_a_batch_are_its_own(fixed: bool) -> None:
    width, npix = 8, 5
    raw = np.random.default_rng(1).bytes(width * npix * 4)
    values = pa.Array.from_buffers(pa.binary(width), npix * 4, [None, pa.py_buffer(raw)])
    lists = (
        pa.FixedSizeListArray.from_arrays(values, npix)
        if fixed
        else pa.ListArray.from_arrays([0, npix, 2 * npix, 3 * npix, 4 * npix], values)
    )
    batch = pa.record_batch([lists], ["records"])
    size = width * npix
    assert bytes(pixels(batch)) == raw
    assert bytes(pixels(batch.slice(1, 2))) == raw[size : 3 * size]
    assert bytes(pixels(batch.slice(4, 0))) == b""


def records(own: np.ndarray[Any, np.dtype[np.void]], rows: int) -> pa.RecordBatch:
    values = pa.Array.from_buffers(pa.binary(own.itemsize), own.size, [None, pa.py_buffer(own.tobytes())])
    return pa.record_batch([pa.FixedSizeListArray.from_arrays(values, own.size // rows)], ["records"])


def test_the_chunks_of_several_spectra_are_one_file() -> None:
    own = np.stack([spectrum(35_500, 10), spectrum(35_500, 10), spectrum(35_510, 10)])
    file = io.BytesIO()
    np.lib.format.write_array(file, own, version=(1, 0))
    sent = b"".join(chunks(ALL, own.shape, [records(own[:2], 2), records(own[2:], 1)]))
    assert sent == file.getvalue()
    assert file_size(ALL, own.shape) == len(sent)


@pytest.mark.parametrize("rows", [2, 4])
def test_a_list_that_changed_meanwhile_does_not_look_complete(rows: int) -> None:
    own = np.stack([spectrum(35_500, 10)] * rows)
    sent: list[bytes | memoryview] = []
    with pytest.raises(ServiceUnavailable, match="changed"):
        sent.extend(chunks(ALL, (3, 10), [records(row, 1) for row in own]))
    assert len(b"".join(sent)) <= file_size(ALL, (3, 10))


def load(file: memoryview) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    loaded: np.ndarray[tuple[int], np.dtype[np.void]] = np.load(io.BytesIO(file), allow_pickle=False)
    return loaded


@pytest.mark.parametrize("columns", [ALL, ("loglam", "flux"), ("sky",)])
def test_a_spectrum_is_saved_as_numpy_saves_it(columns: tuple[str, ...]) -> None:
    own = spectrum(35_500, 40, columns)
    file = io.BytesIO()
    np.lib.format.write_array(file, own, version=(1, 0))
    assert saved(own, columns) == file.getvalue()


@given(st.integers(0, 50), st.integers(1, 60), st.integers(0, 50))
def test_padding_adds_zeros_and_continues_the_wavelengths(before: int, npix: int, after: int) -> None:
    k0 = 35_500
    own = spectrum(k0, npix)
    whole = load(saved(own, ALL, k0, (k0 - before, before + npix + after)))
    assert whole.dtype == own.dtype
    assert whole[before : before + npix].tobytes() == own.tobytes()
    assert np.array_equal(whole["loglam"], grid_loglam(k0 - before, before + npix + after))
    for name in set(ALL) - {"loglam"}:
        assert not whole[name][:before].any()
        assert not whole[name][before + npix :].any()


def test_padding_gives_only_the_vectors_wanted() -> None:
    own = spectrum(35_500, 10)
    whole = load(saved(own, ("flux", "or_mask"), 35_500, (35_498, 14)))
    assert whole.dtype == record_type(("flux", "or_mask"))
    assert whole["flux"].tolist() == [0, 0, *own["flux"].tolist(), 0, 0]
    assert whole["or_mask"].tolist() == [0, 0, *own["or_mask"].tolist(), 0, 0]
