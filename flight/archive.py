"""The FITS archive: spectra read on the fly from a tree of original files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.errors import DamagedData, UnsupportedFile
from specflight.flight.datadir import atomic_write
from specflight.flight.fits import SpecFile, load_bytes, read_spec_file
from specflight.flight.source import EXPLICIT, original_bytes

__all__ = ["FITS_SUFFIXES", "FitsArchive", "fits_files", "newest", "stored_words"]

log = logging.getLogger(__name__)

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
"""Files of a tree that are taken for FITS."""

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
    """FITS files of a tree (links followed), or the one file that `root` is, whatever its name."""
    if not root.is_dir():
        yield root
        return
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        yield from (Path(folder, name) for name in sorted(names) if name.lower().endswith(FITS_SUFFIXES))


def stored_words(spec: SpecFile) -> NDArray[np.uint32]:
    """Vectors of a file as `specflight.flight.source.SpectrumSource.words` gives them."""
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
    ids = table["specobjid"].to_numpy()
    names = np.argsort(np.argsort(table["file"].to_numpy(zero_copy_only=False).astype(str), kind="stable"))
    order = np.lexsort((names, table["mtime_ns"].to_numpy(), table["reduced"].to_numpy(), ids))
    last = np.flatnonzero(np.diff(ids[order], append=ids[order][-1:] + np.uint64(1)))
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

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """See `SpectrumSource.prefetch`; files are read whole, which the system reads ahead by itself."""

    def words(self, row: int) -> NDArray[np.uint32]:
        """See `SpectrumSource.words`."""
        path = Path(self._files[row])
        try:
            spec = read_spec_file(load_bytes(path))
        except UnsupportedFile as error:
            raise DamagedData(f"the file {path.name} cannot be read any more: {error}") from None
        words = stored_words(spec)
        k0 = EXPLICIT if spec.k0 is None else spec.k0
        if (spec.specobjid, k0, words.shape[1]) != (int(self.ids[row]), int(self.k0[row]), int(self.npix[row])):
            raise DamagedData(f"the file {path.name} has changed since it was scanned")
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
            status = path.stat()
        except OSError as error:
            log.warning("archive: %s is left out: %s", path, error.strerror)
            continue
        row = known.get((str(path), status.st_size, status.st_mtime_ns))
        if row is None:
            fresh += 1
            try:
                spec = read_spec_file(load_bytes(path))
            except UnsupportedFile as error:
                log.warning("archive: %s is left out: %s", path, error)
                continue
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
    table = pa.Table.from_pylist(rows, schema=_SCAN_SCHEMA)
    if fresh or len(rows) != len(known):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(memory) as file, pa.ipc.new_file(file, _SCAN_SCHEMA) as writer:
            writer.write_table(table)
    return table


def _recall(memory: Path) -> dict[tuple[str, int, int], dict[str, object]]:
    try:
        with pa.OSFile(str(memory)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid):
        return {}
    if not table.schema.equals(_SCAN_SCHEMA):
        return {}
    return {(row["file"], row["size"], row["mtime_ns"]): row for row in table.to_pylist()}
