"""The Arrow store: spectra in memory-mapped Arrow IPC files, a record batch for each.

A part file has a column for each stored vector (`specflight.flight.source.STORED`, and ``loglam`` in the parts of
spectra off the SDSS grid) and a record batch of npix rows for each spectrum, uncompressed. So the values of one
spectrum lie together: column j starts ``j * stride`` bytes behind the first, with
``stride = 4 * npix`` rounded up to 8 (the padding of the Arrow IPC format). The index holds where the first starts.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.datadir import ContextDirectory, DataFile, Manifest
from specflight.flight.protocol import VECTORS
from specflight.flight.source import EXPLICIT, STORED, Words, original_bytes

__all__ = ["INDEX_SCHEMA", "ArrowStore", "PartWriter", "read_index"]

INDEX_SCHEMA = pa.schema(
    [
        pa.field("specobjid", pa.uint64()),
        pa.field("part", pa.string()),
        pa.field("offset", pa.int64(), metadata={"description": "of the first vector's values in the part file"}),
        pa.field("length", pa.int64(), metadata={"description": "bytes of all vectors"}),
        pa.field("k0", pa.int32(), metadata={"description": "round(1e4 * loglam[0]); null: loglam is stored"}),
        pa.field("npix", pa.int32()),
        pa.field("file", pa.string(), metadata={"description": "original FITS file"}),
        pa.field("size", pa.int64(), metadata={"description": "of the original file, in bytes"}),
        pa.field("mtime_ns", pa.int64(), metadata={"description": "of the original file"}),
        pa.field("sha256", pa.binary(32), metadata={"description": "of the original file"}),
        pa.field("reduced", pa.float64(), metadata={"description": "date of the reduction, s since 1970; 0: unknown"}),
    ]
)
"""Columns of ``spectra/index.arrow``, sorted by specobjid."""


def part_columns(explicit: bool) -> tuple[str, ...]:
    """Columns of a part file."""
    return (*STORED, "loglam") if explicit else STORED


def _stride(npix: int) -> int:
    return (4 * npix + 7) // 8 * 8


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a spectrum's values lie in its part file, in bytes."""

    offset: int
    length: int


class PartWriter:
    """Writes one part file, a record batch for each spectrum.

    Parameters
    ----------
    path : Path
        The new file.
    explicit : bool
        Whether the spectra bring their own wavelengths.
    """

    def __init__(self, path: Path, explicit: bool) -> None:
        self._columns = part_columns(explicit)
        schema = pa.schema(
            [
                pa.field(name, VECTORS[name].type, nullable=False, metadata={"unit": VECTORS[name].unit})
                for name in self._columns
            ]
        )
        self._schema = schema
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, schema)
        self.spectra = 0

    def add(self, words: NDArray[np.uint32]) -> Placed:
        """Append a spectrum.

        Parameters
        ----------
        words : ndarray of uint32, shape (columns, npix)
            Bit patterns of the columns `part_columns`.
        """
        arrays = [
            pa.Array.from_buffers(kind, words.shape[1], [None, pa.py_buffer(row)])
            for kind, row in zip(self._schema.types, words, strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self.spectra += 1
        # The body ends the message, so it is found from behind whatever the length of the message's header.
        length = _stride(words.shape[1]) * len(self._columns)
        return Placed(self._file.tell() - length, length)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
        self._file.close()


def read_index(path: Path) -> pa.Table:
    """Index of a context, memory-mapped.

    Raises
    ------
    DamagedData
        If it is not an Arrow file with the columns `INDEX_SCHEMA`.
    """
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedData(f"the index {path.name} cannot be read: {_reason(error, path)}") from None
    if not table.schema.equals(INDEX_SCHEMA):
        raise DamagedData(f"the index {path.name} has other columns than this specflight reads")
    return table.combine_chunks()


def _reason(error: Exception, path: Path) -> str:
    """What an error says, but not to strangers where the file lies."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return reason.replace(str(path), path.name)


class _Part:
    """A mapped part file."""

    def __init__(self, path: Path, expected: DataFile) -> None:
        self.name = path.name
        self._bytes = expected.bytes
        try:
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise DamagedData(f"the part file {path.name} cannot be opened: {_reason(error, path)}") from None
        self.check()

    def check(self) -> None:
        """Refuse a file that was cut short: touching the lost pages would kill the process."""
        try:
            size = self.map.size()
        except OSError as error:
            raise DamagedData(f"the part file {self.name} cannot be read: {error}") from None
        if size < self._bytes:
            raise DamagedData(f"the part file {self.name} is truncated: {size} of {self._bytes} bytes")


class ArrowStore:
    """Spectra of an ingested context; a `specflight.flight.source.SpectrumSource`.

    Parameters
    ----------
    directory : ContextDirectory
    manifest : Manifest
        The state to serve.

    Raises
    ------
    DamagedData
        If the index is damaged. A damaged part is named when a spectrum in it is asked for; the rest is served.
    """

    def __init__(self, directory: ContextDirectory, manifest: Manifest) -> None:
        assert manifest.index is not None
        index = read_index(directory.spectra / manifest.index.name)
        self._index = index
        self._directory = directory
        self._files = {file.name: file for file in manifest.parts}
        self.ids: NDArray[np.uint64] = index["specobjid"].to_numpy()
        self.npix: NDArray[np.int32] = index["npix"].to_numpy()
        self.k0: NDArray[np.int32] = index["k0"].fill_null(EXPLICIT).to_numpy()
        self.on_grid = index["k0"].null_count == 0
        self._offset = index["offset"].to_numpy()
        parts = index["part"].combine_chunks().dictionary_encode()
        if isinstance(parts, pa.ChunkedArray):
            parts = parts.combine_chunks()
        self._names: list[str] = parts.dictionary.to_pylist()
        self._part = parts.indices.to_numpy()
        # All at once: a later ingest may remove a part that a stream in flight still needs.
        self._parts = [self._map(name) for name in self._names]

    def _map(self, name: str) -> _Part | DamagedData:
        if name not in self._files:
            return DamagedData(f"the index names the part file {name}, which the manifest does not")
        try:
            return _Part(self._directory.spectra / name, self._files[name])
        except DamagedData as error:
            return error

    def _mapped(self, number: int) -> mmap.mmap | DamagedData:
        part = self._parts[number]
        if isinstance(part, DamagedData):
            return part
        try:
            part.check()
        except DamagedData as error:
            return error
        return part.map

    def prefetch(self, rows: NDArray[np.int64], columns: slice) -> None:
        """See `SpectrumSource.prefetch`."""
        page = mmap.PAGESIZE
        stride = (4 * self.npix[rows].astype(np.int64) + 7) // 8 * 8
        first = self._offset[rows] + columns.start * stride
        starts = first // page * page
        lengths = first + (columns.stop - columns.start) * stride - starts
        numbers = self._part[rows].tolist()
        parts = {number: self._mapped(number) for number in set(numbers)}
        # What is damaged is reported when it is read.
        with suppress(ValueError):
            for number, start, length in zip(numbers, starts.tolist(), lengths.tolist(), strict=True):
                mapped = parts[number]
                if not isinstance(mapped, DamagedData):
                    mapped.madvise(mmap.MADV_WILLNEED, start, length)

    def read(self, rows: NDArray[np.int64]) -> list[Words | DamagedData]:
        """See `SpectrumSource.read`; views of the mapped files."""
        numbers = self._part[rows].tolist()
        parts = {number: self._mapped(number) for number in set(numbers)}
        k0, npix, offsets = self.k0[rows].tolist(), self.npix[rows].tolist(), self._offset[rows].tolist()
        return [
            self._words(parts[number], number, (len(part_columns(first == EXPLICIT)), _stride(pixels) // 4), offset)
            for number, first, pixels, offset in zip(numbers, k0, npix, offsets, strict=True)
        ]

    def _words(
        self, mapped: mmap.mmap | DamagedData, number: int, shape: tuple[int, int], offset: int
    ) -> Words | DamagedData:
        if isinstance(mapped, DamagedData):
            return mapped
        try:
            return np.ndarray(shape, np.uint32, mapped, offset)
        except (TypeError, ValueError):
            return DamagedData(f"the index points outside of the part file {self._names[number]}")

    def original(self, row: int) -> tuple[str, bytes]:
        """See `SpectrumSource.original`."""
        return original_bytes(Path(self._index["file"][row].as_py()))
