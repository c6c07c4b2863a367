"""The contexts of a data directory: loaded when first asked for, and anew when their manifest changes."""

from __future__ import annotations

import math
import os
import secrets
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specflight.catalog.database import open_database
from specflight.catalog.guard import QueryLimits
from specflight.catalog.table import CatalogueTable, open_table
from specflight.errors import DamagedData, InvalidRequest, NotFound
from specflight.flight.archive import FitsArchive
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.flight.joined import JoinedSource
from specflight.flight.releases import about, default_context, fallbacks, natural_key, newest_of_survey
from specflight.flight.settings import ContextSettings, load_settings
from specflight.flight.source import SpectrumSource
from specflight.flight.store import ArrowStore

__all__ = ["Context", "Contexts"]


@dataclass(frozen=True, slots=True)
class Context:
    """A data set being served.

    Attributes
    ----------
    name : str
    about : ContextSettings
    source : SpectrumSource
        Its spectra; none where it has only catalogues, or nothing.
    tables : dict of str to CatalogueTable
        By name, without the schema where that is the context's name.
    """

    name: str
    about: ContextSettings
    source: SpectrumSource
    tables: dict[str, CatalogueTable]


class Contexts:
    """Contexts of a data directory.

    Parameters
    ----------
    data : Path
        The data directory.

    Raises
    ------
    NotFound
        If there is no such folder.
    InvalidRequest
        If ``specflight.toml`` is at fault.
    """

    def __init__(self, data: Path) -> None:
        if not data.is_dir():
            raise NotFound(f"data: there is no folder {data}")
        self.data = data.resolve()
        self._root = str(self.data)
        self.settings = settings = load_settings(self.data)
        if settings.default_context and settings.default_context not in (known := self.names()):
            there = ", ".join(known) or "none"
            raise InvalidRequest(
                f"default_context: there is no context '{settings.default_context}' (there are: {there})"
            )
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._loaded: dict[str, tuple[tuple[int, int] | None, Context]] = {}
        self._default, self._default_since = "default", -math.inf
        # The database makes it when it needs it, and removes it when it is closed.
        scratch = Path(tempfile.gettempdir()) / f"specflight-{secrets.token_hex(8)}"
        self._database = open_database(settings.query_memory, scratch, settings.query_threads)
        self._limits = QueryLimits(
            max_rows=settings.max_rows,
            seconds=settings.query_seconds,
            max_clause_length=settings.max_clause,
            max_nesting=settings.max_nesting,
        )

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def names(self) -> list[str]:
        """Names of the contexts that have data or settings, the newest last."""
        return sorted({*self._with_data(), *self.settings.contexts}, key=natural_key)

    def _with_data(self) -> set[str]:
        ingested = {path.parent.name for path in self.data.glob("*/MANIFEST.json")}
        return ingested | {name for name in self.settings.contexts if self._archive(name)}

    def about(self, name: str) -> ContextSettings:
        """Settings of a context, and what is known of it by its name."""
        return about(name, self.settings)

    @property
    def default(self) -> str:
        """Name of the context that `default` stands for."""
        now = time.monotonic()
        # Listing the folders costs more than a request for one spectrum: a new context may wait this second.
        if now - self._default_since > 1.0:
            self._default = default_context(self._with_data(), self.settings) or "default"
            self._default_since = now
        return self._default

    def meant(self, name: str) -> str:
        """Name of the context that a name stands for: ``default``, and a survey for its newest release."""
        if name == "default":
            return self.default
        if "_" in name or name in self._loaded:  # as nearly all contexts are called
            return name
        names = self._with_data()
        return name if name in names else newest_of_survey(name, names, self.settings) or name

    def get(self, name: str) -> Context:
        """Context of a name, as its manifest stands now.

        Raises
        ------
        NotFound
            If there is none of that name.
        DamagedData
            If its index cannot be read.
        """
        name = self.meant(name)
        held = self._loaded.get(name)
        if held is not None and held[0] == _stamp(f"{self._root}/{name}/MANIFEST.json"):
            return held[1]
        names = self.names()
        if name not in names:
            known = ", ".join(names) or "none"
            raise NotFound(f"context: there is no context '{name}' (there are: {known})")
        directory = ContextDirectory(self.data, name)
        with self._locks[name]:
            stamp = _stamp(str(directory.manifest_path))
            held = self._loaded.get(name)
            if held is None or held[0] != stamp:
                held = self._loaded[name] = stamp, self._load(directory)
        return held[1]

    def scanned(self, name: str) -> bool:
        """Whether getting a context takes no time: its files, if it is served from them, were examined before."""
        return name in self._loaded or (self.data / name / "MANIFEST.json").exists() or not self._archive(name)

    def _archive(self, name: str) -> Path | None:
        settings = self.settings.contexts.get(name)
        return self.data / settings.archive if settings is not None and settings.archive else None

    def _load(self, directory: ContextDirectory) -> Context:
        settings = self.about(directory.context)
        # An ingest that ends in this moment removes files of the state before: then the new manifest is there.
        for attempt in range(5):
            manifest = directory.manifest()
            try:
                source = self._source(directory, manifest)
                tables = self._tables(directory, manifest) if manifest else {}
                return Context(directory.context, settings, source, tables)
            except (DamagedData, FileNotFoundError):
                if attempt == 4 or directory.manifest() == manifest:
                    raise
        raise AssertionError("unreachable")

    def _source(self, directory: ContextDirectory, manifest: Manifest | None) -> SpectrumSource:
        if manifest is not None and manifest.index is not None:
            return ArrowStore(directory, manifest)
        archive = self._archive(directory.context)
        if archive:
            return FitsArchive(archive, directory.root / "archive.arrow")
        return JoinedSource((), np.empty(0, np.uint64))

    def _tables(self, directory: ContextDirectory, manifest: Manifest) -> dict[str, CatalogueTable]:
        return {
            key: open_table(
                key if "." in key else f"{directory.context}.{key}",
                directory.table_folder(manifest, key),
                directory.table_files(manifest, key),
                self._database,
                self._limits,
                id_column=entry.id,
                ra=entry.ra,
                dec=entry.dec,
                description=entry.description,
            )
            for key, entry in manifest.tables.items()
        }

    def further(self, asked: str, context: Context) -> list[Context]:
        """Other releases in which spectra are looked for that a context does not have, the newest first.

        Parameters
        ----------
        asked : str
            The context as the request names it: only `default` and the newest release look elsewhere.
        context : Context
        """
        with_data = sorted(self._with_data(), key=natural_key)
        names = fallbacks(asked, context.name, with_data, self.settings)
        # The first scan of an archive takes too long for this request.
        return [other for other in map(self.get, filter(self.scanned, names)) if len(other.source.ids)]

    def table(self, context: Context, catalog: str | None) -> CatalogueTable:
        """Catalogue of a name: of the context, or as ``schema.table`` of any.

        Raises
        ------
        NotFound
            If there is none of that name.
        """
        wanted = (catalog or context.about.catalog or "specobj").lower()
        schema, _, name = wanted.rpartition(".")
        if wanted in context.tables:
            return context.tables[wanted]
        if schema in ("", context.name):
            owner = context
        elif self.meant(schema) in self.names():
            owner = self.get(schema)
        else:  # a schema that is no context's may lie in any
            others = (self.get(other).tables for other in self.names() if self.scanned(other))
            for tables in others:
                if wanted in tables:
                    return tables[wanted]
            raise NotFound(f"catalog: there is no catalogue '{wanted}' in any context")
        if name in owner.tables:
            return owner.tables[name]
        known = ", ".join(sorted(table.name for table in owner.tables.values()))
        hint = f"there are: {known}" if known else "it has none, so only its spectra are served by id"
        raise NotFound(f"catalog: context '{owner.name}' has no catalogue '{name}' ({hint})")


def _stamp(path: str) -> tuple[int, int] | None:
    # os.stat, not Path.stat: this is on the way of every request.
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino
