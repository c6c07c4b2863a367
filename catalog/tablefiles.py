"""Foreign tables: FITS, Parquet, VOTable, ECSV and text, each as Arrow batches of bounded size under one schema.

FITS, Parquet and text files of any size take little memory; VOTable and ECSV are held whole.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq

from specflight.catalog.tablecells import BATCH_BYTES, BATCH_ROWS, TableFile, described, lower_names, queryable, refuse
from specflight.catalog.tablefits import read_fits
from specflight.catalog.tabletext import read_text
from specflight.catalog.tablevo import read_ecsv, read_votable

__all__ = ["TableFile", "open_table_file"]

_VOTABLE_SUFFIXES = (".vot", ".votable", ".xml")
_STATED = (b"unit", b"description", b"ucd", b"shape")
_CELL = "_healpix_29"  # every table of the catalogue gets its own
_GZIP = b"\x1f\x8b"


@contextmanager
def open_table_file(path: Path, scratch: Path) -> Iterator[TableFile]:
    """Open a foreign table of any format that is known, by its content and not by its name.

    Parameters
    ----------
    path : Path
        A FITS file (its first binary table), a VOTable or ECSV or text file, each gzipped or not, or a Parquet file.
    scratch : Path
        Folder for the decompressed file, where one is needed.

    Yields
    ------
    TableFile

    Raises
    ------
    InvalidRequest
        If the file is none of these, or is truncated or damaged; the text names it. Also while the batches are read.
    """
    try:
        start = _start(path)
    except (OSError, EOFError, zlib.error) as error:
        raise refuse(path, f"cannot be read: {error}") from error
    if not start:
        raise refuse(path, "is empty")
    if start.startswith(b"PAR1"):
        with _parquet(path) as table:
            yield table
        return
    reader = read_text
    head = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"SIMPLE  ="):
        reader = read_fits
    elif head.startswith((b"<VOTABLE", b"<?xml", b"<!--")) or (
        head.startswith(b"<") and path.name.lower().removesuffix(".gz").endswith(_VOTABLE_SUFFIXES)
    ):
        reader = read_votable
    elif head.startswith(b"# %ECSV"):
        reader = read_ecsv
    with nullcontext(path) if reader is read_text else _decompressed(path, scratch) as plain:
        try:
            table = reader(plain, path)
        except (OSError, EOFError, zlib.error) as error:
            raise refuse(path, f"cannot be read: {error}") from error
        yield table


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(_GZIP):
        with gzip.open(path) as packed:
            start = packed.read(512)
    return start


@contextmanager
def _decompressed(path: Path, scratch: Path) -> Iterator[Path]:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    if not packed:
        yield path
        return
    with NamedTemporaryFile(dir=scratch, prefix="plain-") as plain:
        try:
            with gzip.open(path) as source:
                shutil.copyfileobj(source, plain, 1 << 20)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise refuse(path, f"cannot be decompressed: {error}") from error
        plain.flush()
        yield Path(plain.name)


@contextmanager
def _parquet(path: Path) -> Iterator[TableFile]:
    """Open a Parquet file; units and descriptions are its fields' metadata, or astropy's."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            stored = [field for field in file.schema_arrow if field.name != _CELL]
            if not stored:
                raise refuse(path, "has a table without columns")
            names = lower_names(path, [field.name for field in stored])
            stated = _by_astropy(file.schema_arrow.metadata or {})
            fields = []
            for name, field in zip(names, stored, strict=True):
                own = {key.decode(): value.decode() for key, value in (field.metadata or {}).items() if key in _STATED}
                fields.append(described(name, _kind(path, field), **(stated.get(field.name, {}) | own)))
            schema = pa.schema(fields)
            yield TableFile(schema, file.metadata.num_rows, _parquet_batches(path, file, schema))
    except pa.ArrowException as error:
        raise refuse(path, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _kind(path: Path, field: pa.Field) -> pa.DataType:
    try:
        return queryable(field.type)
    except TypeError:
        raise refuse(path, f"has a column '{field.name}' of {field.type}: write it as lists, not views") from None


def _parquet_batches(path: Path, file: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    about = file.metadata
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    step = min(max(BATCH_BYTES * about.num_rows // max(size, 1), 1), BATCH_ROWS)
    try:
        for batch in file.iter_batches(batch_size=step):
            columns = [batch.column(i) for i, field in enumerate(batch.schema) if field.name != _CELL]
            arrays = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except (pa.ArrowException, OSError) as error:
        raise refuse(path, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _by_astropy(metadata: dict[bytes, bytes]) -> dict[str, dict[str, str]]:
    """Units and descriptions that astropy keeps in a file of its own."""
    from astropy.table.meta import get_header_from_yaml

    lines = metadata.get(b"table_meta_yaml", b"").decode(errors="replace").splitlines()
    try:
        columns = get_header_from_yaml(lines)["datatype"] if lines else []
        return {
            column["name"]: {key: str(column[key]) for key in ("unit", "description") if key in column}
            for column in columns
        }
    except Exception:  # of many kinds; the table is there without them
        return {}
