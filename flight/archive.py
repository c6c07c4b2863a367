"""The FITS archive: spectra read on the fly from a tree of original files."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specflight.errors import DamagedData, UnsupportedFile
from specflight.flight.datadir import atomic_write
from specflight.flight.fits import SpecFile, load_bytes, read_spec_file
from specflight.flight.source import EXPLICIT, Words, original_bytes

__all__ = ["FITS_SUFFIXES", "FitsArchive", "examine", "fits_files", "newest", "stored_words"]

log = logging.getLogger(__name__)

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
"""Files of a tree that are taken for FITS."""

REMEMBER = 10_000
"""Files after which a scan is saved: ten seconds' work is all that a restart repeats."""

_SCAN_SCHEMA = pa.schema(
    [
        pa.field("specobjid", pa.uint64()),
        pa.field("k0", pa.int32()),
        pa.field("npix", pa.int32()),
        pa.field("file", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("reduced", pa.float64()),
    ]
)


def fits_files(root: Path) -> Iterator[Path]:
    """FITS files of a tree (links followed), or the one file that `root` is, whatever its name.

    A folder to which links lead again is listed once; one that cannot be listed is given in place of its files.
    """
    if not root.is_dir():
        yield root
        return
    closed: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=lambda e: closed.append(Path(e.filename))):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.lower().endswith(FITS_SUFFIXES))
    yield from closed


def examine(path: Path) -> os.stat_result:
    """Size and times of a file that `fits_files` gave.

    Raises
    ------
    UnsupportedFile
        If it cannot be a FITS file, whatever it holds, or the index cannot hold its name.
    """
    try:
        status = path.stat()
        str(path).encode()
    except OSError as error:
        raise UnsupportedFile(f"the file cannot be read: {error.strerror}") from None
    except UnicodeEncodeError:
        raise UnsupportedFile("the file's name is not UTF-8") from None
    if stat.S_ISDIR(status.st_mode):
        raise UnsupportedFile("the folder cannot be read")
    # Waiting for a pipe or a device could take forever.
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedFile("it is not a regular file")
    return status


def stored_words(spec: SpecFile) -> NDArray[np.uint32]:
    """Vectors of a file as `specflight.flight.source.SpectrumSource.read` gives them."""
    flux, loglam, rest = spec.words[:1], spec.words[1:2], spec.words[2:]
    return np.concatenate([flux, rest, loglam] if spec.k0 is None else [flux, rest])


def newest(table: pa.Table) -> NDArray[np.int64]:
    """Rows of a table of files that hold the newest reduction of each spectrum.

    The newer of two files of one specobjid is the one whose header gives the later date of reduction; where both say
    the same or nothing, the file that changed last; then the last name.

    Parameters
    ----------
    table : pyarrow.Table
        With the columns specobjid, reduced (s), mtime_ns and file.

    Returns
    -------
    ndarray of int64
        Rows, one for each specobjid, in the order of the specobjids.
    """
    keys = [(name, "ascending") for name in ("specobjid", "reduced", "mtime_ns", "file")]
    order: NDArray[np.int64] = pc.sort_indices(table, sort_keys=keys).to_numpy().astype(np.int64)
    ids = table["specobjid"].to_numpy()[order]
    last: NDArray[np.bool_] = np.append(ids[1:] != ids[:-1], np.ones(len(ids[:1]), np.bool_))
    return order[last]


class FitsArchive:
    """Spectra of a tree of FITS files; a `specflight.flight.source.SpectrumSource`.

    Names of files are not trusted: every file is read once to learn whose spectrum it holds. What was learnt is
    kept in `memory`, so that a restart reads new and changed files only.

    Parameters
    ----------
    root : Path
        The tree.
    memory : Path
        File in which the scan is remembered; made when missing.

    Raises
    ------
    DamagedData
        If there is no folder `root`.
    """

    def __init__(self, root: Path, memory: Path) -> None:
        if not root.is_dir():
            raise DamagedData(f"the archive {root} is not a folder")
        table = _scan(root, memory)
        if len(table):
            table = table.take(newest(table))
        self._files: list[str] = table["file"].to_pylist()
        self.ids: NDArray[np.uint64] = table["specobjid"].to_numpy()
        self.npix: NDArray[np.int32] = table["npix"].to_numpy()
        self.k0: NDArray[np.int32] = table["k0"].to_numpy()
        self.on_grid = not bool((self.k0 == EXPLICIT).any())

    def prefetch(self, rows: NDArray[np.int64], columns: slice) -> None:
        """See `SpectrumSource.prefetch`; files are read whole, which the system reads ahead by itself."""

    def read(self, rows: NDArray[np.int64]) -> list[Words | DamagedData]:
        """See `SpectrumSource.read`."""
        return [self._words(row) for row in rows.tolist()]

    def _words(self, row: int) -> Words | DamagedData:
        path = Path(self._files[row])
        try:
            spec = read_spec_file(load_bytes(path))
        except UnsupportedFile as error:
            return DamagedData(f"the file {path.name} cannot be read any more: {error}")
        words = stored_words(spec)
        k0 = EXPLICIT if spec.k0 is None else spec.k0
        if (spec.specobjid, k0, words.shape[1]) != (int(self.ids[row]), int(self.k0[row]), int(self.npix[row])):
            return DamagedData(f"the file {path.name} has changed since it was scanned")
        return words

    def original(self, row: int) -> tuple[str, bytes]:
        """See `SpectrumSource.original`."""
        return original_bytes(Path(self._files[row]))


def _scan(root: Path, memory: Path) -> pa.Table:
    known = _recall(memory)
    rows = []
    fresh = 0
    for path in fits_files(root):
        try:
            status = examine(path)
            row = known.get((str(path), status.st_size, status.st_mtime_ns))
            spec = read_spec_file(load_bytes(path)) if row is None else None
        except UnsupportedFile as error:
            log.warning("archive: %s is left out: %s", path, error)
            continue
        if spec is not None:
            fresh += 1
            row = {
                "specobjid": spec.specobjid,
                "k0": EXPLICIT if spec.k0 is None else spec.k0,
                "npix": spec.words.shape[1],
                "file": str(path),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "reduced": spec.reduced,
            }
        rows.append(row)
        if spec is not None and fresh % REMEMBER == 0:
            log.info("archive: %d files of %s scanned", len(rows), root)
            _remember(pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA), memory)
    table = pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA)
    if fresh or len(rows) != len(known):
        _remember(table, memory)
    return table


def _remember(table: pa.Table, memory: Path) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(memory) as file, pa.ipc.new_file(file, _SCAN_SCHEMA) as writer:
            writer.write_table(table)
    except OSError as error:
        log.warning("archive: the next start has to scan again: %s", error)


def _recall(memory: Path) -> dict[tuple[str, int, int], dict[str, object]]:
    try:
        with pa.OSFile(str(memory)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid):
        return {}
    if not table.schema.equals(_SCAN_SCHEMA):
        return {}
    return {(row["file"], row["size"], row["mtime_ns"]): row for row in table.to_pylist()}
