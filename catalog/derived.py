"""Files derived from a table's Parquet files: memory-mapped Arrow IPC that knows which Parquet files it belongs to.

They can be removed at any time: whoever opens a table writes those anew that are missing or belong to other files.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

__all__ = ["open_derived", "write_derived"]

_METADATA_KEY = b"specflight.parquet"
_LAYOUT = b"3:"  # raised when a derived file gets other columns or metadata, so that older ones are written anew


def write_derived(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], files: Sequence[Path]) -> None:
    """Write a file at once and whole; one that is at `path` stays until then.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        Of every batch. Its own metadata is not kept, that of its fields is.
    batches : iterable of pyarrow.RecordBatch
        The metadata of a batch's schema is kept as that of the batch.
    files : sequence of Path
        The Parquet files that the batches come from.
    """
    stamped = schema.with_metadata({_METADATA_KEY: _LAYOUT + _fingerprint(files)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as sink:
            with pa.ipc.new_file(sink, stamped) as writer:
                for batch in batches:
                    own = batch.schema.metadata
                    writer.write_batch(batch.replace_schema_metadata(stamped.metadata), custom_metadata=own)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_derived(path: Path, files: Sequence[Path]) -> pa.ipc.RecordBatchFileReader | None:
    """Map a file that was written before.

    Returns
    -------
    pyarrow.ipc.RecordBatchFileReader or None
        None if there is no readable file at `path`, or it belongs to other Parquet files: write it anew.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # pa.memory_map would have the kernel read ahead every batch that is touched
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        current = (reader.schema.metadata or {}).get(_METADATA_KEY) == _LAYOUT + _fingerprint(files)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return reader if current else None


def _fingerprint(files: Sequence[Path]) -> bytes:
    """Digest the sizes and footers of Parquet files; the footers hold every chunk's place and statistics."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            size = source.seek(-8, os.SEEK_END) + 8
            footer = min(int.from_bytes(source.read(4), "little"), size - 8)
            source.seek(-8 - footer, os.SEEK_END)
            digest.update(size.to_bytes(8, "little") + source.read())
    return digest.hexdigest().encode()
