"""Results as files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyarrow.types as pt

from specflight.errors import InvalidRequest

__all__ = ["writer_of"]


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
        raise InvalidRequest(f"out: '{out}' is not the name of a local file")
    if write is None:
        raise InvalidRequest(f"out: '{out}' does not end in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InvalidRequest(f"out: there is no folder '{path.parent}'")
    return partial(_save, path, write)


def _save(path: Path, write: Callable[[pa.Table, Path], None], table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(table, temporary)
        temporary.replace(path)
    except OSError as error:
        raise InvalidRequest(f"out: '{path}' cannot be written: {os.strerror(error.errno or 0)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_csv(table: pa.Table, path: Path) -> None:
    nested = [field.name for field in table.schema if pt.is_nested(field.type)]
    if nested:
        raise InvalidRequest(f"out: CSV cannot hold the vector column '{nested[0]}'; use .parquet or .arrow")
    pyarrow.csv.write_csv(table, path)


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": pq.write_table,
    ".arrow": _write_arrow,
}
