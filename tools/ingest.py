"""FITS trees into the Arrow store and its catalogue.

The files are split into chunks, whose bounds depend on the files' names only, so that a new file disturbs no other
chunk. A worker turns a chunk into part files and staged rows, and says so in a small file last: what a killed run
finished is not done again. The parent then writes index and catalogue of everything and switches the manifest.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.errors import DamagedData, InvalidRequest, SpecflightError, UnsupportedFile
from specflight.flight.archive import examine, fits_files, newest
from specflight.flight.datadir import ContextDirectory, Manifest, TableEntry, adopt, sync
from specflight.flight.store import INDEX_SCHEMA, read_index
from specflight.tools.chunks import SOURCE, Chunk, Skipped, SourceFile, StagedChunk, split, stage_chunk
from specflight.tools.publish import clean, drop_if_empty, locked, table_entry, writing

__all__ = ["IngestReport", "ingest"]

INLINE = 100
"""Files below which starting worker processes takes longer than the work."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    added : int
        Spectra that are new in the context.
    replaced : int
        Spectra that a newer reduction replaced, or that are in another file because theirs is gone.
    unchanged : int
        Files whose spectrum was there already, in the same or a newer reduction.
    skipped : tuple of Skipped
        Files that are no spectra, with the reason.
    spectra : int
        Spectra in the context now.
    """

    added: int
    replaced: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    spectra: int


def ingest(
    data: Path,
    context: str,
    paths: Sequence[Path],
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> IngestReport:
    """Take FITS files into a context.

    Parameters
    ----------
    data : Path
        The data directory; made when missing.
    context : str
        Name of the context.
    paths : sequence of Path
        Files of any name, and trees of files ``*.fits``, ``*.fit``, also gzipped.
    workers : int
        Processes that read files.
    progress : callable
        Called with the files done and the files in all.

    Returns
    -------
    IngestReport

    Raises
    ------
    InvalidRequest
        If a path does not exist, the name will not do, or another ingest of this context is running.
    DamagedData
        If the data directory cannot be written, is full, or holds damaged files of this context.
    """
    directory = ContextDirectory(data, context)
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise InvalidRequest(f"PATH: there is no file or folder {missing[0]}")
    try:
        with writing(data), locked(directory):
            directory.spectra.mkdir(exist_ok=True)
            directory.catalog.mkdir(exist_ok=True)
            try:
                return _ingest(directory, data, paths, workers, progress)
            finally:
                drop_if_empty(directory)
    except BrokenProcessPool as error:
        raise SpecflightError(
            "workers: a process was ended from outside; the same command goes on from here"
        ) from error


def _ingest(
    directory: ContextDirectory,
    data: Path,
    paths: Sequence[Path],
    workers: int,
    progress: Callable[[int, int], None],
) -> IngestReport:
    manifest = directory.manifest()
    index = manifest.index if manifest else None
    old = read_index(directory.spectra / index.name) if index else INDEX_SCHEMA.empty_table()
    files, skipped, known = _new_files(paths, old)
    chunks = [Chunk(data, directory.context, part) for part in split(files)]
    directory.staging.mkdir(exist_ok=True)
    clean(directory, manifest, {chunk.key for chunk in chunks})
    staged = _stage(directory, chunks, workers, progress)
    skipped += [skip for stage in staged for skip in stage.skipped]
    live = _choose(old, staged)
    fresh = live.ids[live.sources >= 0]
    replaced = int(np.isin(fresh, old["specobjid"].to_numpy()).sum())
    if len(fresh):
        manifest = _commit(directory, manifest, old, staged, live)
    clean(directory, manifest, set())
    shutil.rmtree(directory.staging)
    unchanged = known + sum(len(stage.index) for stage in staged) - len(fresh)
    return IngestReport(len(fresh) - replaced, replaced, unchanged, tuple(skipped), len(live.ids))


def _new_files(paths: Sequence[Path], old: pa.Table) -> tuple[list[SourceFile], list[Skipped], int]:
    """Files to read, in the order of their names, and how many the index knows already."""
    seen = set(zip(*(old[name].to_pylist() for name in ("file", "size", "mtime_ns")), strict=True))
    files: dict[str, SourceFile] = {}
    skipped = []
    known = 0
    for path in (file for root in paths for file in fits_files(root)):
        name = os.path.abspath(path)
        try:
            status = examine(Path(name))
        except UnsupportedFile as error:
            skipped.append(Skipped(os.fsencode(name).decode(errors="backslashreplace"), str(error)))
            continue
        if (name, status.st_size, status.st_mtime_ns) in seen:
            known += 1
        else:
            files[name] = SourceFile(name, status.st_size, status.st_mtime_ns)
    return [files[name] for name in sorted(files)], skipped, known


def _stage(
    directory: ContextDirectory, chunks: list[Chunk], workers: int, progress: Callable[[int, int], None]
) -> list[StagedChunk]:
    total = sum(len(chunk.files) for chunk in chunks)
    staged = {chunk.key: StagedChunk.read(directory, chunk) for chunk in chunks}
    todo = [chunk for chunk in chunks if staged[chunk.key] is None]
    done = total - sum(len(chunk.files) for chunk in todo)
    progress(done, total)
    # The disk takes the part files while the workers read on.
    with ThreadPoolExecutor(1) as disk:
        syncing = [
            # What a killed run left may be in memory only.
            disk.submit(sync, directory.spectra / part.name)
            for stage in staged.values()
            for part in (stage.parts if stage else ())
        ]
        for count, names in _finished(todo, workers if total >= INLINE else 1):
            syncing += [disk.submit(sync, directory.spectra / name) for name in names]
            done += count
            progress(done, total)
        for future in syncing:
            future.result()
    staged |= {chunk.key: StagedChunk.read(directory, chunk) for chunk in todo}
    return [stage for stage in staged.values() if stage is not None]


def _finished(chunks: list[Chunk], workers: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Files and part files of each chunk, as it gets finished."""
    if workers == 1:
        yield from ((len(chunk.files), stage_chunk(chunk)) for chunk in chunks)
        return
    with ProcessPoolExecutor(workers, _processes(), _obey_parent) as pool:
        try:
            # The largest first, so that no worker is left alone with one in the end.
            largest = sorted(chunks, key=lambda chunk: len(chunk.files), reverse=True)
            sizes = {pool.submit(stage_chunk, chunk): len(chunk.files) for chunk in largest}
            _load_catalogue()
            for future in as_completed(sizes):
                yield sizes[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _processes() -> BaseContext:
    """How to start workers: forked while this process has one thread, so that they load nothing anew."""
    with suppress(ImportError):
        import pandas  # noqa: F401 - pyarrow would import it in every worker
    return get_context("fork" if threading.active_count() == 1 else "forkserver")


def _load_catalogue() -> None:
    """Import what `_commit` needs, which takes a second, while the workers read."""
    from astropy import coordinates, units  # noqa: F401

    from specflight.catalog import extract, table  # noqa: F401


def _obey_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Live:
    """The spectra of the new state, ascending by specobjid.

    `sources` numbers their rows among the staged ones; those that the old state had already are negative.
    """

    index: pa.Table
    ids: NDArray[np.uint64]
    sources: NDArray[np.int64]


def _choose(old: pa.Table, staged: list[StagedChunk]) -> _Live:
    table = pa.concat_tables([old, *(stage.index for stage in staged)])
    sources = np.concatenate(
        [-1 - np.arange(len(old)), *(stage.first_source + np.arange(len(stage.index)) for stage in staged)]
    ).astype(np.int64)
    bytes_of = list(zip(table["specobjid"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    held = {pair: row for row, pair in enumerate(bytes_of[: len(old)])}
    dropped = np.zeros(len(table), np.bool_)
    for row, pair in enumerate(bytes_of[len(old) :], len(old)):
        if (before := held.get(pair)) is not None:
            # The same bytes under another name are no newer reduction, but the original may have moved there.
            dropped[row if os.path.exists(old["file"][before].as_py()) else before] = True
    keep = np.flatnonzero(~dropped)
    chosen = keep[newest(table.take(keep))]
    index = table.take(chosen).combine_chunks()
    return _Live(index, index["specobjid"].to_numpy(), sources[chosen])


def _commit(
    directory: ContextDirectory, manifest: Manifest | None, old: pa.Table, staged: list[StagedChunk], live: _Live
) -> Manifest:
    """Write index and catalogue of the new state, then switch to it."""
    rows = [stage.rows for stage in staged]
    if len(old):
        assert manifest is not None
        rows.insert(0, _restage(directory, manifest, old))
    tables = dict(manifest.tables) if manifest else {}
    derived = manifest.derived if manifest else None
    for name, entry in _derived_tables(directory, rows, live, {entry.folder for entry in tables.values()}).items():
        if name not in tables or tables[name].source is None:
            tables[name] = entry
        elif name == "specobjall":
            derived = entry
    temporary = directory.spectra / f".index.{os.getpid()}.tmp"
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, INDEX_SCHEMA) as writer:
        writer.write_table(live.index)
    index = adopt(temporary, "index", ".arrow", len(live.index))
    for path in (directory.spectra / index.name, directory.spectra, directory.catalog, directory.root.parent):
        sync(path)
    known = {part.name: part for part in (manifest.parts if manifest else ())}
    known |= {part.name: part for stage in staged for part in stage.parts}
    parts = tuple(known[name] for name in sorted(set(live.index["part"].to_pylist())))
    new = Manifest(context=directory.context, index=index, parts=parts, tables=tables, derived=derived)
    directory.switch(new)
    return new


def _derived_tables(
    directory: ContextDirectory, rows: list[Path], live: _Live, indexed: set[str]
) -> dict[str, TableEntry]:
    """Write the tables of the live spectra, with the indices of those whose folder is a new one."""
    # Here, because every worker process imports this module and needs neither: they take a second to load.
    from specflight.catalog.extract import write_extract
    from specflight.catalog.table import index_table

    entries = {}
    for extract in write_extract(rows, live.sources, directory.catalog, directory.staging):
        entry = entries[extract.name] = table_entry(extract)
        if entry.folder not in indexed:
            index_table(extract.folder, extract.files, id_column=entry.id, ra=entry.ra, dec=entry.dec)
            sync(extract.folder)
    return entries


def _restage(directory: ContextDirectory, manifest: Manifest, old: pa.Table) -> Path:
    """Rows of the old catalogue as if they came from a chunk, so that one path makes the new one."""
    target = directory.staging / "old.parquet"
    ids = old["specobjid"].to_numpy()
    writer: pq.ParquetWriter | None = None
    for part in (manifest.derived or manifest.tables["specobjall"]).files:
        path = directory.catalog / part.name
        try:
            file = pq.ParquetFile(path)
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number).drop_columns(["_healpix_29"])
                numbers = -1 - np.searchsorted(ids, rows["specobjid"].to_numpy())
                rows = rows.append_column(SOURCE, pa.array(numbers, pa.int64()))
                writer = writer or pq.ParquetWriter(target, rows.schema)
                writer.write_table(rows)
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the catalogue {path} cannot be read: {error}") from error
    if writer is not None:
        writer.close()
    return target
