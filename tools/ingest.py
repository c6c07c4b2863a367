"""FITS trees into the Arrow store and its catalogue.

The files are split into chunks, whose bounds depend on the files' names only, so that a new file disturbs no other
chunk. A worker turns a chunk into part files and staged rows, and says so in a small file last: what a killed run
finished is not done again. The parent then writes index and catalogue of everything and switches the manifest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.errors import InvalidRequest
from specflight.flight.archive import fits_files, newest
from specflight.flight.datadir import ContextDirectory, DataFile, Manifest, adopt, sync
from specflight.flight.store import INDEX_SCHEMA, read_index
from specflight.tools.chunks import SOURCE, Chunk, Skipped, SourceFile, StagedChunk, split, stage_chunk

__all__ = ["IngestReport", "ingest"]

INLINE = 400
"""Files below which starting worker processes takes longer than the work."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    added : int
        Spectra that are new in the context.
    replaced : int
        Spectra that a newer reduction replaced.
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
    """
    directory = ContextDirectory(data, context)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InvalidRequest(f"PATH: there is no file or folder {missing[0]}")
    directory.spectra.mkdir(parents=True, exist_ok=True)
    directory.catalog.mkdir(exist_ok=True)
    with _locked(directory):
        return _ingest(directory, data, paths, workers, progress)


@contextmanager
def _locked(directory: ContextDirectory) -> Iterator[None]:
    handle = os.open(directory.root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InvalidRequest(f"context: another ingest of '{directory.context}' is running") from None
    finally:
        os.close(handle)


def _ingest(
    directory: ContextDirectory,
    data: Path,
    paths: Sequence[Path],
    workers: int,
    progress: Callable[[int, int], None],
) -> IngestReport:
    manifest = directory.manifest()
    old = read_index(directory.spectra / manifest.index.name) if manifest else INDEX_SCHEMA.empty_table()
    files, skipped, known = _new_files(paths, old)
    chunks = [Chunk(data, directory.context, part) for part in split(files)]
    directory.staging.mkdir(exist_ok=True)
    _clean(directory, manifest, {chunk.key for chunk in chunks})
    staged = _stage(directory, chunks, workers, progress)
    skipped += [skip for stage in staged for skip in stage.skipped]
    live = _choose(old, staged)
    fresh = live.ids[live.sources >= 0]
    replaced = int(np.isin(fresh, old["specobjid"].to_numpy()).sum())
    if len(fresh):
        manifest = _commit(directory, manifest, old, staged, live)
    _clean(directory, manifest, set())
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
            status = path.stat()
        except OSError as error:
            skipped.append(Skipped(name, f"cannot be read: {error.strerror}"))
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
    todo = [chunk for chunk in chunks if StagedChunk.read(directory, chunk) is None]
    done = total - sum(len(chunk.files) for chunk in todo)
    progress(done, total)
    # The disk takes the part files while the workers read on.
    with ThreadPoolExecutor(1) as disk:
        syncing = []
        for count, names in _finished(todo, workers if total >= INLINE else 1):
            syncing += [disk.submit(sync, directory.spectra / name) for name in names]
            done += count
            progress(done, total)
        for future in syncing:
            future.result()
    staged = [StagedChunk.read(directory, chunk) for chunk in chunks]
    assert None not in staged
    return [stage for stage in staged if stage is not None]


def _finished(chunks: list[Chunk], workers: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Files and part files of each chunk, as it gets finished."""
    if workers == 1:
        yield from ((len(chunk.files), stage_chunk(chunk)) for chunk in chunks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _obey_parent) as pool:
        try:
            sizes = {pool.submit(stage_chunk, chunk): len(chunk.files) for chunk in chunks}
            for future in as_completed(sizes):
                yield sizes[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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
    held = set(zip(old["specobjid"].to_pylist(), old["sha256"].to_pylist(), strict=True))
    news = table.slice(len(old)).select(["specobjid", "sha256"])
    # The same bytes under another name are no newer reduction.
    again = [pair in held for pair in zip(news["specobjid"].to_pylist(), news["sha256"].to_pylist(), strict=True)]
    keep = np.flatnonzero(~np.concatenate([np.zeros(len(old), bool), np.array(again, bool)]))
    chosen = keep[newest(table.take(keep))]
    index = table.take(chosen).combine_chunks()
    return _Live(index, index["specobjid"].to_numpy(), sources[chosen])


def _commit(
    directory: ContextDirectory, manifest: Manifest | None, old: pa.Table, staged: list[StagedChunk], live: _Live
) -> Manifest:
    """Write index, catalogue and sky indices of the new state, then switch to it."""
    # Here, because every worker process imports this module and needs neither: they take a second to load.
    from specflight.catalog.extract import write_extract
    from specflight.catalog.sky import SkyIndex

    rows = [stage.rows for stage in staged]
    if manifest is not None:
        rows.insert(0, _restage(directory, manifest, old))
    extracts = write_extract(rows, live.sources, directory.catalog, directory.staging)
    tables = dict(manifest.tables) if manifest else {}
    for extract in extracts:
        SkyIndex.build(extract.files, directory.catalog / f"{extract.name}.sky")
        tables[extract.name] = tuple(
            DataFile(name=path.name, bytes=path.stat().st_size, sha256=digest, rows=pq.read_metadata(path).num_rows)
            for path, digest in zip(extract.files, extract.sha256, strict=True)
        )
    temporary = directory.spectra / f".index.{os.getpid()}.tmp"
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, INDEX_SCHEMA) as writer:
        writer.write_table(live.index)
    index = adopt(temporary, "index", ".arrow", len(live.index))
    sync(directory.spectra / index.name)
    sync(directory.spectra)
    known = {part.name: part for part in (manifest.parts if manifest else ())}
    known |= {part.name: part for stage in staged for part in stage.parts}
    parts = tuple(known[name] for name in sorted(set(live.index["part"].to_pylist())))
    new = Manifest(context=directory.context, index=index, parts=parts, tables=tables)
    directory.switch(new)
    return new


def _restage(directory: ContextDirectory, manifest: Manifest, old: pa.Table) -> Path:
    """Rows of the old catalogue as if they came from a chunk, so that one path makes the new one."""
    target = directory.staging / "old.parquet"
    ids = old["specobjid"].to_numpy()
    writer: pq.ParquetWriter | None = None
    for path in directory.table_files(manifest, "specobjall"):
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number).drop_columns(["_healpix_29"])
            numbers = -1 - np.searchsorted(ids, rows["specobjid"].to_numpy())
            rows = rows.append_column(SOURCE, pa.array(numbers, pa.int64()))
            writer = writer or pq.ParquetWriter(target, rows.schema)
            writer.write_table(rows)
    if writer is not None:
        writer.close()
    return target


def _clean(directory: ContextDirectory, manifest: Manifest | None, staged: set[str]) -> None:
    """Remove what neither the live state nor a chunk that is wanted still needs."""
    wanted = {path for path, _ in directory.live_files(manifest)} if manifest else set()
    for path in directory.staging.iterdir():
        if path.name.partition(".")[0] not in staged:
            path.unlink()
    for about in directory.staging.glob("*.json"):
        wanted |= {directory.spectra / part["name"] for part in json.loads(about.read_bytes())["parts"]}
    link = directory.spectra / "index.arrow"
    if manifest is not None and not (link.is_symlink() and link.readlink() == Path(manifest.index.name)):
        fresh = link.with_name(f".index.arrow.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(manifest.index.name)
        fresh.replace(link)
    folders = [directory.spectra, *(path for path in directory.catalog.iterdir() if path.is_dir())]
    for path in (path for folder in folders for path in folder.iterdir()):
        if path not in wanted and path != link:
            path.unlink()
