"""The data directory: what ingest writes and serve reads.

Every file that a context's ``MANIFEST.json`` names carries the first digits of its own SHA-256 in its name, so it
is never overwritten; replacing the manifest, last and atomically, is what switches from one state to the next.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from specflight.errors import DamagedData, InvalidRequest

__all__ = ["SCHEMA_VERSION", "ContextDirectory", "DataFile", "Manifest", "adopt", "atomic_write", "file_sha256", "sync"]

SCHEMA_VERSION = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Model):
    """A file that is live: its name inside the folder of its kind, its size and its checksum."""

    name: str
    bytes: int
    sha256: str
    rows: int


class Manifest(_Model):
    """What is live in a context.

    Attributes
    ----------
    schema_version : int
        Of the layout of the data directory.
    context : str
    index : DataFile
        ``spectra/<name>``: the index of the spectra, a row for each.
    parts : tuple of DataFile
        ``spectra/<name>``: Arrow files, a record batch for each spectrum.
    tables : dict of str to tuple of DataFile
        ``catalog/<table>/<name>``: Parquet files in order.
    """

    schema_version: int = SCHEMA_VERSION
    context: str
    index: DataFile
    parts: tuple[DataFile, ...]
    tables: dict[str, tuple[DataFile, ...]]


class ContextDirectory:
    """Paths of one context in a data directory.

    Parameters
    ----------
    data : Path
        The data directory.
    context : str
        Name of the context: lower-case letters, digits and underscores.

    Raises
    ------
    InvalidRequest
        If the name could not be a folder's or is `default`, which stands for another context.
    """

    def __init__(self, data: Path, context: str) -> None:
        if not _NAME.fullmatch(context) or context in ("default", "archive"):
            raise InvalidRequest(f"context: '{context}' is not a name of lower-case letters, digits and underscores")
        self.context = context
        self.root = data / context
        self.spectra = self.root / "spectra"
        self.catalog = self.root / "catalog"
        self.staging = self.root / ".staging"
        self.manifest_path = self.root / "MANIFEST.json"

    def manifest(self) -> Manifest | None:
        """What is live, or None where nothing was ever ingested.

        Raises
        ------
        DamagedData
            If the manifest cannot be read or is of a newer schema version.
        """
        try:
            text = self.manifest_path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise DamagedData(f"{self.context}/MANIFEST.json is not a manifest: {error.errors()[0]['msg']}") from None
        if manifest.schema_version != SCHEMA_VERSION:
            raise DamagedData(
                f"{self.context}/MANIFEST.json has schema version {manifest.schema_version}, not {SCHEMA_VERSION}"
            )
        return manifest

    def switch(self, manifest: Manifest) -> None:
        """Make another state live."""
        with atomic_write(self.manifest_path) as file:
            file.write(manifest.model_dump_json(indent=1).encode() + b"\n")

    def table_files(self, manifest: Manifest, table: str) -> list[Path]:
        """Parquet files of a table, in order."""
        return [self.catalog / table / file.name for file in manifest.tables[table]]

    def live_files(self, manifest: Manifest) -> Iterator[tuple[Path, DataFile]]:
        """Every file that a manifest names, with what it says of it."""
        yield self.spectra / manifest.index.name, manifest.index
        for part in manifest.parts:
            yield self.spectra / part.name, part
        for table, files in manifest.tables.items():
            for file in files:
                yield self.catalog / table / file.name, file


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def adopt(temporary: Path, prefix: str, suffix: str, rows: int) -> DataFile:
    """Give a finished file its lasting name, which holds its checksum.

    It is on the disk for good only after `sync`.

    Parameters
    ----------
    temporary : Path
        The complete file.
    prefix, suffix : str
        The name becomes ``<prefix>-<12 digits of sha256><suffix>``.
    rows : int
        Spectra or rows in it.

    Returns
    -------
    DataFile
        As the manifest will list it.
    """
    digest = file_sha256(temporary)
    target = temporary.with_name(f"{prefix}-{digest[:12]}{suffix}")
    size = temporary.stat().st_size
    temporary.replace(target)
    return DataFile(name=target.name, bytes=size, sha256=digest, rows=rows)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
