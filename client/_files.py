"""Results as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyarrow.types as pt

from specflight.client._convert import spectra_records
from specflight.errors import InvalidRequest
from specflight.flight.protocol import CATALOGUE_ID

__all__ = ["table_bytes", "write_spectra", "writer_of"]

T = TypeVar("T")


def writer_of(out: str | os.PathLike[str]) -> Callable[[pa.Table], None]:
    """Writer of a table into a file that appears when it is complete.

    Parameters
    ----------
    out : str or path
        Ends in ``.csv``, ``.parquet`` or ``.arrow``.

    Raises
    ------
    InvalidRequest
        If it does not, or its folder is not there; and by the writer, if the file cannot be written.
    """
    path = Path(out)
    write = _WRITERS.get(path.suffix.lower())
    if "://" in str(out):
        raise InvalidRequest(f"out: '{out}' is not the name of a local file, nor vos://name")
    if write is None:
        raise InvalidRequest(f"out: '{out}' does not end in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InvalidRequest(f"out: there is no folder '{path.parent}'")
    return partial(_save, path, write)


def table_bytes(name: str, table: pa.Table) -> bytes:
    """A table as the bytes of a file, whose name's end says the format: ``.parquet``, ``.arrow``, or else CSV."""
    sink = pa.BufferOutputStream()
    _WRITERS.get(Path(name).suffix.lower(), _write_csv)(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def write_spectra(folder: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a file for each spectrum of a stream; each appears when it is complete.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    batches : iterable of pyarrow.RecordBatch
        In the layout ``records``, written as ``specobjid.npy``; or of original files, by their names. What is missing
        is left out.

    Raises
    ------
    InvalidRequest
        If they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"out: '{folder}' is not a folder: {os.strerror(error.errno or 0)}") from None
    for batch in batches:
        if "fits" in batch.schema.names:
            for row in batch.select(["name", "fits"]).to_pylist():
                if row["fits"] is not None:
                    _save(folder / row["name"], lambda content, file: file.write(content), row["fits"])
            continue
        for specobjid, spectrum in zip(batch.column(CATALOGUE_ID).to_pylist(), spectra_records([batch]), strict=True):
            if spectrum is not None:
                _save(folder / f"{specobjid}.npy", lambda content, file: np.save(file, content), spectrum)


def _save(path: Path, write: Callable[[T, pa.NativeFile], object], content: T) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as file:
            write(content, file)
        temporary.replace(path)
    except OSError as error:
        raise InvalidRequest(f"out: '{path}' cannot be written: {os.strerror(error.errno or 0)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_csv(table: pa.Table, file: pa.NativeFile) -> None:
    nested = [field.name for field in table.schema if pt.is_nested(field.type)]
    if nested:
        raise InvalidRequest(f"out: CSV cannot hold the vector column '{nested[0]}'; use .parquet or .arrow")
    pyarrow.csv.write_csv(table, file)


def _write_arrow(table: pa.Table, file: pa.NativeFile) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


_WRITERS: dict[str, Callable[[pa.Table, pa.NativeFile], None]] = {
    ".csv": _write_csv,
    ".parquet": pq.write_table,
    ".arrow": _write_arrow,
}
