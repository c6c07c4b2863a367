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
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
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
from specflight.flight.datadir import ContextDirectory, DataFile, Manifest, adopt, sync
from specflight.flight.store import INDEX_SCHEMA, read_index
from specflight.tools.chunks import SOURCE, Chunk, Skipped, SourceFile, StagedChunk, split, stage_chunk

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
        directory.spectra.mkdir(parents=True, exist_ok=True)
        directory.catalog.mkdir(exist_ok=True)
        with _locked(directory):
            return _ingest(directory, data, paths, workers, progress)
    except SpecflightError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise DamagedData(f"data: {data} cannot be written: {reason}{where}") from error
    except BrokenProcessPool as error:
        raise SpecflightError(
            "workers: a process was ended from outside; the same command goes on from here"
        ) from error


@contextmanager
def _locked(directory: ContextDirectory) -> Iterator[None]:
    handle = os.open(directory.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(f"context: another ingest of '{directory.context}' is running") from None
        yield
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

    from specflight.catalog import extract, sky  # noqa: F401


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
        sky = directory.staging / f"{extract.name}.sky"
        SkyIndex.build(extract.files, sky)
        sky.replace(directory.catalog / sky.name)
        sync(directory.catalog / extract.name)
        tables[extract.name] = tuple(
            DataFile(name=path.name, bytes=path.stat().st_size, sha256=digest, rows=pq.read_metadata(path).num_rows)
            for path, digest in zip(extract.files, extract.sha256, strict=True)
        )
    temporary = directory.spectra / f".index.{os.getpid()}.tmp"
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, INDEX_SCHEMA) as writer:
        writer.write_table(live.index)
    index = adopt(temporary, "index", ".arrow", len(live.index))
    for path in (directory.spectra / index.name, directory.spectra, directory.catalog, directory.root.parent):
        sync(path)
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


def _clean(directory: ContextDirectory, manifest: Manifest | None, staged: set[str]) -> None:
    """Remove what neither the live state nor a chunk that is wanted still needs."""
    wanted = {path for path, _ in directory.live_files(manifest)} if manifest else set()
    for path in directory.staging.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.partition(".")[0] not in staged:
            path.unlink()
    for about in directory.staging.glob("*.json"):
        # After a loss of power it may be short: then the chunk is done again.
        with suppress(ValueError, KeyError, TypeError):
            wanted |= {directory.spectra / part["name"] for part in json.loads(about.read_bytes())["parts"]}
    for path in directory.root.glob(f".{directory.manifest_path.name}.*.tmp"):
        path.unlink()
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
