"""The check that everything in a data directory is what its manifests say.

Every file is compared with its checksum first, and opened only if it is whole. So a damaged file is one fault, and
a truncated one is never mapped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.errors import DamagedData, NotFound, SpecflightError
from specflight.flight.datadir import ContextDirectory, DataFile, Manifest, TableEntry, file_sha256
from specflight.flight.source import EXPLICIT, STORED, read_one
from specflight.flight.store import ArrowStore, read_index
from specflight.tools.checktables import check_derived, check_partitions, check_sky, check_store, read_rows

__all__ = ["CheckReport", "Finding", "check"]

MAX_ORIGINALS = 20
"""Originals of a context that are named one by one: a whole archive may have moved."""

_MAGIC = 8  # bytes before the first message of an Arrow file: ARROW1 and padding

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of a file."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes
    ----------
    contexts, files, bytes, spectra : int
        How much was checked.
    faults : tuple of Finding
        What is wrong.
    notes : tuple of Finding
        What harms nothing that is served from the data directory, or sets itself right.
    """

    contexts: int
    files: int
    bytes: int
    spectra: int
    faults: tuple[Finding, ...]
    notes: tuple[Finding, ...]


def check(data: Path, progress: Progress = lambda done, total: None) -> CheckReport:
    """Check the contexts of a data directory.

    Parameters
    ----------
    data : Path
        The data directory; nothing in it is changed.
    progress : callable
        Called with the files done and the files in all.

    Returns
    -------
    CheckReport

    Raises
    ------
    NotFound
        If there is no such folder.
    """
    if not data.is_dir():
        raise NotFound(f"data: there is no folder {data}")
    roots = {path.parent for path in data.glob("*/MANIFEST.json")}
    # Made after the first manifest only: where it is, there was one.
    roots |= {path.parent.parent for path in data.glob("*/spectra/index.arrow")}
    roots |= {path.parent.parent for path in data.glob("*/catalog/*") if path.is_symlink()}
    faults: list[Finding] = []
    live: list[tuple[ContextDirectory, Manifest]] = []
    for root in sorted(roots):
        try:
            directory = ContextDirectory(data, root.name)
            live.append((directory, _manifest(directory)))
        except (SpecflightError, OSError) as error:
            faults.append(Finding(root / "MANIFEST.json", _reason(error)))
    total = sum(1 + len(list(directory.live_files(manifest))) for directory, manifest in live)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(min(done, total), total)

    progress(0, total)
    checks = [_checked(directory, manifest, step) for directory, manifest in live]
    return CheckReport(
        len(live),
        sum(len(one.files) for one in checks),
        sum(file.bytes for one in checks for _, file in one.files),
        sum(one.manifest.index.rows for one in checks if one.manifest.index),
        (*faults, *(fault for one in checks for fault in one.faults)),
        tuple(note for one in checks for note in one.notes),
    )


def _manifest(directory: ContextDirectory) -> Manifest:
    manifest = directory.manifest()
    if manifest is None:
        raise DamagedData("is missing, though something was ingested")
    return manifest


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return str(error).partition("\n")[0]


def _checked(directory: ContextDirectory, manifest: Manifest, step: Callable[[], None]) -> _ContextCheck:
    """Check a context; once more where an ingest ended meanwhile and removed files of the state before."""
    for _attempt in range(5):
        one = _ContextCheck(directory, manifest, step)
        one.run()
        with suppress(SpecflightError, OSError):
            now = _manifest(directory)
            if one.faults and now != manifest:
                manifest = now
                continue
        break
    return one


@dataclass
class _ContextCheck:
    """The check of one context, as far as it has come."""

    directory: ContextDirectory
    manifest: Manifest
    step: Callable[[], None]
    faults: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    files: list[tuple[Path, DataFile]] = field(init=False)

    def __post_init__(self) -> None:
        self.files = list(self.directory.live_files(self.manifest))

    def run(self) -> None:
        """Check everything, what is damaged notwithstanding."""
        index: pa.Table | None = None
        store: ArrowStore | None = None
        places: dict[str, dict[int, int]] = {}
        if self.manifest.index is not None:
            path = self.directory.spectra / self.manifest.index.name
            if self._whole(path, self.manifest.index):
                with self._noted(path):
                    index = _sound_index(path, self.manifest.index, self.manifest.parts)
                    places = _places(index)
                    store = ArrowStore(self.directory, self.manifest)
        for part in self.manifest.parts:
            path = self.directory.spectra / part.name
            if self._whole(path, part) and store is not None:
                with self._noted(path):
                    _compare_part(path, part, places.get(part.name, {}), store)
        ids = None if store is None else store.ids
        for name, entry in self.manifest.tables.items():
            self._table(name, entry, ids)
        if self.manifest.derived is not None:
            self._table("specobjall", self.manifest.derived, ids)
        self._links()
        if index is not None:
            self._originals(index)
        self.step()

    @contextmanager
    def _noted(self, path: Path) -> Iterator[None]:
        """Make a fault of what is raised, and go on."""
        try:
            yield
        except (SpecflightError, OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
            self.faults.append(Finding(path, _reason(error)))

    def _whole(self, path: Path, expected: DataFile) -> bool:
        """Tell if a file is there with its bytes unchanged."""
        self.step()
        before = len(self.faults)
        with self._noted(path):
            if not path.exists():
                raise DamagedData("is missing")
            if not path.is_file():
                raise DamagedData("is not a file")
            size = path.stat().st_size
            if size != expected.bytes:
                raise DamagedData(f"has {size} bytes in place of {expected.bytes}")
            if file_sha256(path) != expected.sha256:
                raise DamagedData("is damaged: its SHA-256 is not that of the manifest")
        return len(self.faults) == before

    def _table(self, name: str, entry: TableEntry, ids: NDArray[np.uint64] | None) -> None:
        paths = [self.directory.catalog / file.name for file in entry.files]
        found: list[pa.Table] = []
        for path, file in zip(paths, entry.files, strict=True):
            if self._whole(path, file):
                with self._noted(path):
                    found.append(read_rows(path, file, entry))
        folder = self.directory.catalog / entry.folder
        if all([self._whole(self.directory.catalog / file.name, file) for file in entry.hats]):
            with self._noted(folder / "partition_info.csv"):
                check_partitions(folder, entry)
        if len(found) < len(paths):
            return
        rows = pa.concat_tables(found)
        with self._noted(folder):
            cells = rows["_healpix_29"].to_numpy()
            if (cells[1:] < cells[:-1]).any():
                raise DamagedData("has files that are not sorted by _healpix_29")
            if entry.source is None and ids is not None:
                check_derived(name, rows, ids)
        self._rebuilt(folder / "index.sky", lambda path: check_sky(path, paths, rows, entry))
        self._rebuilt(folder / "rows.arrow", lambda path: check_store(path, paths))

    def _rebuilt(self, path: Path, problem: Callable[[Path], str | None]) -> None:
        """Check a file that is written anew when it is missing."""
        with self._noted(path):
            if reason := problem(path):
                self.notes.append(Finding(path, reason))

    def _links(self) -> None:
        for link, target in self.directory.links(self.manifest).items():
            if link.is_symlink() and link.readlink() == Path(target):
                continue
            found = Finding(link, f"does not point to {target}, which is live")
            # An ingest sets it after the manifest, and removes its staging folder after that.
            if self.directory.staging.is_dir():
                self.notes.append(Finding(link, f"{found.text}; the next ingest sets it right"))
            else:
                self.faults.append(found)

    def _originals(self, index: pa.Table) -> None:
        """Name the originals that are not what was ingested."""
        columns = (index[name].to_pylist() for name in ("file", "size", "mtime_ns", "sha256"))
        count = 0
        for file, size, mtime_ns, digest in zip(*columns, strict=True):
            text = _changed(Path(file), size, mtime_ns, digest)
            if text is None:
                continue
            count += 1
            if count <= MAX_ORIGINALS:
                self.notes.append(Finding(Path(file), f"the original {text}"))
        if count > MAX_ORIGINALS:
            more = f"{count - MAX_ORIGINALS:,} more originals are missing or have changed"
            self.notes.append(Finding(self.directory.root, more))


def _sound_index(path: Path, expected: DataFile, parts: Sequence[DataFile]) -> pa.Table:
    """Index of a context after a check of all that needs no other file."""
    index = read_index(path)
    if len(index) != expected.rows:
        raise DamagedData(f"has {len(index)} rows in place of {expected.rows}")
    for name in index.column_names:
        if name != "k0" and index[name].null_count:
            raise DamagedData(f"has rows without {name}")
    ids = index["specobjid"].to_numpy()
    if (twice := ids[1:] <= ids[:-1]).any():
        raise DamagedData(f"is not sorted by specobjid, or has it twice, at {ids[1:][twice][0]}")
    sizes = {part.name: part.bytes for part in parts}
    if unknown := set(index["part"].to_pylist()) - set(sizes):
        raise DamagedData(f"names the part file {min(unknown)}, which the manifest does not")
    first, length = index["offset"].to_numpy(), index["length"].to_numpy()
    size = np.array([sizes[name] for name in index["part"].to_pylist()], np.int64)
    if (outside := (first < _MAGIC) | (length <= 0) | (first + length > size)).any():
        row = int(np.argmax(outside))
        raise DamagedData(f"points outside of {index['part'][row]} for specobjid {ids[row]}")
    return index


def _places(index: pa.Table) -> dict[str, dict[int, int]]:
    """Rows of the index by the part file, and by where in it the spectrum's bytes end."""
    places: dict[str, dict[int, int]] = {}
    ends = index["offset"].to_numpy() + index["length"].to_numpy()
    for row, (part, end) in enumerate(zip(index["part"].to_pylist(), ends.tolist(), strict=True)):
        if places.setdefault(part, {}).setdefault(end, row) != row:
            raise DamagedData(f"points twice to the same spectrum of {part}, at byte {end}")
    return places


def _compare_part(path: Path, part: DataFile, places: dict[int, int], store: ArrowStore) -> None:
    """Read a part file with pyarrow and compare what the store reads by the index."""
    count = found = 0
    for end, batch in _batches(path):
        count += 1
        if end in places:
            found += 1
            _compare_spectrum(batch, places[end], store)
    if count != part.rows:
        raise DamagedData(f"has {count} spectra in place of {part.rows}")
    if found < len(places):
        raise DamagedData(f"has no spectrum at {len(places) - found} of the places that the index points to")


def _batches(path: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Record batches of an Arrow file and where they end: its messages, one by one, which the footer must confirm."""
    with pa.OSFile(str(path)) as file:
        footer = pa.ipc.open_file(file)
        count = footer.num_record_batches
        file.seek(_MAGIC)
        messages = pa.ipc.MessageReader.open_stream(file)
        schema = pa.ipc.read_schema(messages.read_next_message())
        if schema != footer.schema:
            raise DamagedData("has another schema in its footer than in front")
        for _ in range(count):
            message = messages.read_next_message()
            yield file.tell(), pa.ipc.read_record_batch(message, schema)


def _compare_spectrum(batch: pa.RecordBatch, row: int, store: ArrowStore) -> None:
    specobjid, npix = store.ids[row], int(store.npix[row])
    names = (*STORED, "loglam") if store.k0[row] == EXPLICIT else STORED
    if tuple(batch.schema.names) != names:
        raise DamagedData(f"has the columns {', '.join(batch.schema.names)} for specobjid {specobjid}")
    if batch.num_rows != npix:
        raise DamagedData(f"has {batch.num_rows} pixels in place of {npix} for specobjid {specobjid}")
    columns = np.stack([column.to_numpy().view(np.uint32) for column in batch.columns])
    words = read_one(store, row)
    if words.shape[0] != len(columns) or not np.array_equal(words[:, :npix], columns):
        raise DamagedData(f"has other values than the index points to for specobjid {specobjid}")


def _changed(path: Path, size: int, mtime_ns: int, digest: bytes) -> str | None:
    """What is different about an original; None if nothing is."""
    try:
        status = os.stat(path)
        if status.st_size == size and (status.st_mtime_ns == mtime_ns or file_sha256(path) == digest.hex()):
            return None
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "has changed"
