"""Chunks of files: what a worker of an ingest turns into part files and staged rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specflight.errors import DamagedData, UnsupportedFile
from specflight.flight.archive import stored_words
from specflight.flight.datadir import ContextDirectory, DataFile, adopt, file_sha256
from specflight.flight.fits import SpecFile, load_bytes, read_spec_file
from specflight.flight.specobj import specobj_table
from specflight.flight.store import INDEX_SCHEMA, PartWriter, Placed, read_index

__all__ = ["SOURCE", "Chunk", "Skipped", "SourceFile", "StagedChunk", "split", "stage_chunk"]

SOURCE = "_source"
"""Column of the staged rows that numbers them through all chunks."""

MEAN_CHUNK = 512
"""Files of a chunk, and so spectra of a part file, where there are many: about 70 MB."""

MAX_CHUNK = 1 << 15
"""Files of a chunk, so that the numbers of its rows are its own; far more than chance brings together."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not taken, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to take, as it was when the ingest began."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Files that one worker turns into part files."""

    data: Path
    context: str
    files: tuple[SourceFile, ...]

    @property
    def first_source(self) -> int:
        """Number of the chunk's first row among all staged rows, whatever the other chunks are."""
        return int(self.key[:12], 16) * MAX_CHUNK

    @property
    def key(self) -> str:
        """Digest of what the chunk is made from."""
        text = "\n".join(f"{file.path}\0{file.size}\0{file.mtime_ns}" for file in self.files)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]


def split(files: list[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """Chunks of consecutive files, not too many and not too few.

    A chunk begins where the digest of a file's name says so. One more file is added to a chunk or cuts it in two,
    and changes no other one; but where it is the 256th, 512th, 1,024th, 2,048th or 4,096th, the chunks get larger.
    """
    mean = min(MEAN_CHUNK, 1 << max(4, (len(files) // 16).bit_length()))
    chunk: list[SourceFile] = []
    for file in files:
        digest = hashlib.blake2b(os.fsencode(file.path), digest_size=4).digest()
        if chunk and (int.from_bytes(digest) % mean == 0 or len(chunk) == MAX_CHUNK):
            yield tuple(chunk)
            chunk = []
        chunk.append(file)
    if chunk:
        yield tuple(chunk)


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """A finished chunk."""

    first_source: int
    index: pa.Table
    rows: Path
    parts: tuple[DataFile, ...]
    skipped: tuple[Skipped, ...]

    @classmethod
    def read(cls, directory: ContextDirectory, chunk: Chunk) -> StagedChunk | None:
        """What a worker left of a chunk, or None if it did not finish it.

        The staged files are not forced to the disk, so after a loss of power they may be short: then they do not
        count either.
        """
        try:
            about = json.loads((directory.staging / f"{chunk.key}.json").read_bytes())
            parts = tuple(DataFile(**part) for part in about["parts"])
            files = [(directory.spectra / part.name, part.bytes) for part in parts]
            files += [(directory.staging / name, size) for name, size in about["files"].items()]
            if any(path.stat().st_size != size for path, size in files):
                return None
            index = read_index(directory.staging / f"{chunk.key}.arrow")
        except (OSError, ValueError, KeyError, TypeError, DamagedData):
            return None
        rows = directory.staging / f"{chunk.key}.parquet"
        return cls(chunk.first_source, index, rows, parts, tuple(Skipped(**skip) for skip in about["skipped"]))


def stage_chunk(chunk: Chunk) -> tuple[str, ...]:
    """Turn a chunk into part files and staged rows, and say so in a small file last.

    Returns
    -------
    tuple of str
        Names of the part files, which are complete but perhaps not on the disk yet.
    """
    directory = ContextDirectory(chunk.data, chunk.context)
    writers: dict[bool, PartWriter] = {}
    paths = {odd: directory.spectra / f".part-{chunk.key}-{int(odd)}.{os.getpid()}.tmp" for odd in (False, True)}
    entries: list[tuple[SourceFile, SpecFile, int, bytes, Placed]] = []
    skipped = []
    for file in chunk.files:
        try:
            content = load_bytes(Path(file.path))
            spec = read_spec_file(content)
            digest = _digest(file, content)
        except UnsupportedFile as error:
            skipped.append(Skipped(file.path, str(error)))
            continue
        odd = spec.k0 is None
        if odd not in writers:
            writers[odd] = PartWriter(paths[odd], explicit=odd)
        words = stored_words(spec)
        placed = writers[odd].add(words)
        # The vectors are on the disk now; only what the catalogue needs stays in memory.
        bare = replace(spec, words=words[:, :0])
        entries.append((file, bare, words.shape[1], digest, placed))
    parts = {}
    for odd, writer in writers.items():
        writer.close()
        parts[odd] = adopt(paths[odd], "part", ".arrow", writer.spectra)
    index = _index_rows(entries, {odd: part.name for odd, part in parts.items()})
    rows = specobj_table([spec for _, spec, *_ in entries])
    numbers = chunk.first_source + np.arange(len(rows), dtype=np.int64)
    staged = [directory.staging / f"{chunk.key}{suffix}" for suffix in (".arrow", ".parquet")]
    with pa.OSFile(str(staged[0]), "wb") as out, pa.ipc.new_file(out, INDEX_SCHEMA) as index_writer:
        index_writer.write_table(index)
    pq.write_table(rows.append_column(SOURCE, pa.array(numbers)), staged[1])
    about = {
        "parts": [part.model_dump() for part in parts.values()],
        "files": {path.name: path.stat().st_size for path in staged},
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in skipped],
    }
    done = directory.staging / f"{chunk.key}.{os.getpid()}.tmp"
    done.write_text(json.dumps(about))
    done.replace(directory.staging / f"{chunk.key}.json")
    return tuple(part.name for part in parts.values())


def _index_rows(entries: list[tuple[SourceFile, SpecFile, int, bytes, Placed]], parts: dict[bool, str]) -> pa.Table:
    rows = [
        (
            spec.specobjid,
            parts[spec.k0 is None],
            placed.offset,
            placed.length,
            spec.k0,
            npix,
            file.path,
            file.size,
            file.mtime_ns,
            digest,
            spec.reduced,
        )
        for file, spec, npix, digest, placed in entries
    ]
    return pa.Table.from_pylist([dict(zip(INDEX_SCHEMA.names, row, strict=True)) for row in rows], schema=INDEX_SCHEMA)


def _digest(file: SourceFile, content: bytes) -> bytes:
    """SHA-256 of a file as it lies on the disk; `content` is decompressed."""
    if len(content) == file.size:
        return hashlib.sha256(content).digest()
    try:
        return bytes.fromhex(file_sha256(Path(file.path)))
    except OSError as error:
        raise UnsupportedFile(f"the file cannot be read: {error.strerror}") from None
