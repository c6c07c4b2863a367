"""What an ingest of spectra and one of catalogues share: the lock, the switch to a new state, the end of the old one.

The order is always the same: new files, manifest, links, removal. So whatever moment an ingest is killed at, the old
state or the new one is whole, and the next ingest removes the rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from specflight.catalog.hats import ExtractTable, WrittenFile
from specflight.errors import DamagedData, InvalidRequest, SpecflightError
from specflight.flight.datadir import ContextDirectory, DataFile, Manifest, TableEntry, sync

__all__ = ["clean", "drop_if_empty", "locked", "publish_tables", "table_entry", "writing"]


PATIENCE = 2.0
"""Seconds in which the workers of an ingest that was killed notice it and let go of the lock."""


@contextmanager
def writing(data: Path) -> Iterator[None]:
    """Make an error that names the data directory of what the operating system refuses.

    Raises
    ------
    DamagedData
        If the data directory cannot be written or is full.
    """
    try:
        yield
    except SpecflightError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise DamagedData(f"data: {data} cannot be written: {reason}{where}") from error


def _take(handle: int) -> None:
    """Lock a file; BlockingIOError if somebody else goes on holding it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def locked(directory: ContextDirectory) -> Iterator[None]:
    """Make the folder of a context and keep other ingests out of it.

    Raises
    ------
    InvalidRequest
        If another ingest of the context is running.
    """
    directory.root.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory.root, os.O_RDONLY)
    try:
        try:
            _take(handle)
            # another ingest may have dropped the folder since it was opened
            held = os.path.samestat(os.fstat(handle), directory.root.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise InvalidRequest(f"context: another ingest of '{directory.context}' is running")
        yield
    finally:
        os.close(handle)


def drop_if_empty(directory: ContextDirectory) -> None:
    """Remove the folder of a context that has come to nothing, unless something is in it; call it in `locked`."""
    for folder in (directory.staging, directory.spectra, directory.catalog, directory.root):
        with suppress(OSError):
            folder.rmdir()


def table_entry(
    table: ExtractTable,
    *,
    id_column: str | None = "specobjid",
    ra: str | None = "ra",
    dec: str | None = "dec",
    description: str = "",
    source: str | None = None,
) -> TableEntry:
    """What a manifest says of a table that was written into ``catalog/``.

    Parameters
    ----------
    table : ExtractTable
    id_column, ra, dec : str or None
        Columns of identifiers and of positions.
    description : str
    source : str or None
        Name of the file that it was ingested from; None for a table derived from the spectra.

    Returns
    -------
    TableEntry
    """

    def listed(files: tuple[WrittenFile, ...]) -> tuple[DataFile, ...]:
        names = [file.path.relative_to(table.folder.parent).as_posix() for file in files]
        return tuple(
            DataFile(name=name, bytes=file.bytes, sha256=file.sha256, rows=file.rows)
            for name, file in zip(names, files, strict=True)
        )

    return TableEntry(
        files=listed(table.data),
        hats=listed(table.hats),
        id=id_column,
        ra=ra,
        dec=dec,
        description=description,
        source=source,
    )


def publish_tables(directory: ContextDirectory, tables: Mapping[str, TableEntry]) -> Manifest:
    """Make tables live beside what is live already; call it in `locked`.

    Parameters
    ----------
    directory : ContextDirectory
    tables : mapping of str to TableEntry
        By their names in the context; a table of the same name is replaced. Their folders are complete.

    Returns
    -------
    Manifest
        What is live now.
    """
    old = directory.manifest() or Manifest(context=directory.context, tables={})
    before = old.tables.get("specobjall")
    derived = before if before and before.source is None and "specobjall" in tables else old.derived
    new = old.model_copy(update={"tables": {**old.tables, **tables}, "derived": derived})
    directory.staging.mkdir(exist_ok=True)  # tells `check` that links may be behind
    for folder in (*(directory.catalog / entry.folder for entry in tables.values()), directory.catalog):
        sync(folder)
    sync(directory.root.parent)
    directory.switch(new)
    clean(directory, new)
    with suppress(OSError):  # the chunks of an interrupted ingest of spectra stay
        directory.staging.rmdir()
    return new


def clean(directory: ContextDirectory, manifest: Manifest | None, staged: Collection[str] | None = None) -> None:
    """Point the links to the live state, and remove what neither it nor a staged chunk still needs.

    Parameters
    ----------
    directory : ContextDirectory
    manifest : Manifest or None
        What is live.
    staged : collection of str, optional
        Keys of the chunks that are wanted; all of them unless given. Folders of the staging folder always go.
    """
    wanted = {path for path, _ in directory.live_files(manifest)} if manifest else set()
    for path in directory.staging.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif staged is not None and path.name.partition(".")[0] not in staged:
            path.unlink()
    for about in directory.staging.glob("*.json"):
        # After a loss of power it may be short: then the chunk is done again.
        with suppress(ValueError, KeyError, TypeError):
            wanted |= {directory.spectra / part["name"] for part in json.loads(about.read_bytes())["parts"]}
    for path in directory.root.glob(f".{directory.manifest_path.name}.*.tmp"):
        path.unlink()
    for link, target in directory.links(manifest).items() if manifest else ():
        _point(link, target)
        wanted.add(link)
    if manifest is not None:
        wanted |= {directory.catalog / entry.folder for entry in manifest.entries}
    for folder in (directory.spectra, directory.catalog):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path in wanted:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _point(link: Path, target: str) -> None:
    """Point a link to another file or folder, at once."""
    if link.is_symlink() and link.readlink() == Path(target):
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
