"""The data directory: what ingest writes and serve reads.

Every file that a context's ``MANIFEST.json`` names carries the first digits of its own SHA-256 in its name, or lies
in a folder that carries those of its content, so it is never overwritten by another; replacing the manifest, last and
atomically, is what switches from one state to the next.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specflight.errors import DamagedData, InvalidRequest

__all__ = [
    "SCHEMA_VERSION",
    "ContextDirectory",
    "DataFile",
    "Manifest",
    "TableEntry",
    "adopt",
    "atomic_write",
    "file_sha256",
    "sync",
]

SCHEMA_VERSION = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Model):
    """A file that is live: its name inside the folder of its kind, its size and its checksum."""

    name: str
    bytes: int
    sha256: str
    rows: int


class TableEntry(_Model):
    """A catalogue table that is live, in one version folder ``catalog/<table>-<12 digits>/``.

    Attributes
    ----------
    files : tuple of DataFile
        Parquet files, at least one; taken in order they are the rows of the table. Names are relative to ``catalog/``.
    hats : tuple of DataFile
        The other files that make the folder a HATS catalogue; none where no row has a position.
    id, ra, dec : str or None
        Names of the columns of identifiers and of positions in degrees; None where there are none.
    description : str
    source : str or None
        Name of the file that the table was ingested from; None for a table derived from the spectra.
    """

    files: tuple[DataFile, ...] = Field(min_length=1)
    hats: tuple[DataFile, ...] = ()
    id: str | None = "specobjid"
    ra: str | None = "ra"
    dec: str | None = "dec"
    description: str = ""
    source: str | None = None

    @property
    def folder(self) -> str:
        """Name of the version folder inside ``catalog/``."""
        return self.files[0].name.partition("/")[0]


class Manifest(_Model):
    """What is live in a context.

    Attributes
    ----------
    schema_version : int
        Of the layout of the data directory.
    context : str
    index : DataFile or None
        ``spectra/<name>``: the index of the spectra, a row for each; None where there are catalogues only.
    parts : tuple of DataFile
        ``spectra/<name>``: Arrow files, a record batch for each spectrum.
    tables : dict of str to TableEntry
        The catalogues by name: ``table``, or ``schema.table`` where the schema is not the context's name.
    derived : TableEntry or None
        The rows of all spectra where a table that was ingested itself is served as ``specobjall``: the next ingest of
        spectra starts from them.
    """

    schema_version: int = SCHEMA_VERSION
    context: str
    index: DataFile | None = None
    parts: tuple[DataFile, ...] = ()
    tables: dict[str, TableEntry]
    derived: TableEntry | None = None

    @property
    def entries(self) -> tuple[TableEntry, ...]:
        """Every table that is on the disk, whether it is served or not."""
        return (*self.tables.values(), *([] if self.derived is None else [self.derived]))


class _Version(BaseModel):
    """The one thing that manifests of all versions say."""

    schema_version: int


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
        if context in ("default", "archive"):
            raise InvalidRequest(f"context: the name '{context}' is reserved; choose another")
        if not _NAME.fullmatch(context):
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
            If the manifest cannot be read or is of another schema version.
        """
        try:
            text = self.manifest_path.read_bytes()
        except FileNotFoundError:
            return None
        where = f"{self.context}/{self.manifest_path.name}"
        try:
            version = _Version.model_validate_json(text).schema_version
            if version == SCHEMA_VERSION:
                return Manifest.model_validate_json(text)
        except ValidationError as error:
            raise DamagedData(f"{where} is not a manifest: {error.errors()[0]['msg']}") from None
        advice = (
            f"move the folder {self.context} away and ingest its files again"
            if version < SCHEMA_VERSION
            else "a newer specflight wrote it, which this one cannot read"
        )
        raise DamagedData(f"{where} has schema version {version}, not {SCHEMA_VERSION}: {advice}")

    def switch(self, manifest: Manifest) -> None:
        """Make another state live."""
        with atomic_write(self.manifest_path) as file:
            file.write(manifest.model_dump_json(indent=1).encode() + b"\n")

    def table_files(self, manifest: Manifest, table: str) -> list[Path]:
        """Parquet files of a table, in order."""
        return [self.catalog / file.name for file in manifest.tables[table].files]

    def table_folder(self, manifest: Manifest, table: str) -> Path:
        """Version folder of a table."""
        return self.catalog / manifest.tables[table].folder

    def live_files(self, manifest: Manifest) -> Iterator[tuple[Path, DataFile]]:
        """Every file that a manifest names, with what it says of it."""
        if manifest.index is not None:
            yield self.spectra / manifest.index.name, manifest.index
        for part in manifest.parts:
            yield self.spectra / part.name, part
        for entry in manifest.entries:
            for file in (*entry.files, *entry.hats):
                yield self.catalog / file.name, file

    def links(self, manifest: Manifest) -> dict[Path, str]:
        """Targets of the symbolic links that point to what is live."""
        links = {self.catalog / name: entry.folder for name, entry in manifest.tables.items()}
        if manifest.index is not None:
            links[self.spectra / "index.arrow"] = manifest.index.name
        return links


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
