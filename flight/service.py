"""What a data directory can answer: requests in, record batches out, no network.

The Flight server and the in-process client both stand on `Service.answer`.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import specflight
from specflight.catalog.database import open_database
from specflight.catalog.identifiers import parse_ids
from specflight.catalog.regions import Cone, Polygon
from specflight.catalog.sky import SkyIndex
from specflight.catalog.table import CatalogueTable, QueryLimits
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, NotFound, UnknownSpectrum
from specflight.flight.answers import Answer, Context, fits_answer, span_answer, spectra_answer
from specflight.flight.archive import FitsArchive
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.flight.protocol import (
    CATALOGUE_ID,
    FitsRequest,
    Query,
    QueryRequest,
    Request,
    SpanRequest,
    SpectraRequest,
    parse_request,
)
from specflight.flight.settings import ContextSettings, load_settings
from specflight.flight.source import NOT_FOUND, SpectrumSource, locate
from specflight.flight.store import ArrowStore

__all__ = ["ACTIONS", "Service"]

ACTIONS = {
    "health": "is the service well, and where are its Flight endpoints",
    "contexts": "contexts with description, release and number of spectra",
    "catalogs": 'catalogues of a context with their rows and columns; body {"context": NAME}',
    "validate": 'OK or Error; body {"what": "context", "value": NAME}',
    "span": "wavelength limits of a list of spectra; body a span request",
}


class Service:
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
        self.settings = load_settings(self.data)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._loaded: dict[str, tuple[tuple[int, int] | None, Context]] = {}
        self._default_name, self._default_since = "default", -math.inf
        self._scratch = tempfile.TemporaryDirectory(prefix="specflight-")
        settings = self.settings
        self._database = open_database(
            [self.data], settings.query_memory, Path(self._scratch.name), settings.query_threads
        )
        self._limits = QueryLimits(
            max_rows=settings.max_rows,
            seconds=settings.query_seconds,
            max_clause_length=settings.max_clause,
            max_nesting=settings.max_nesting,
        )

    def close(self) -> None:
        """Let go of the database and its scratch folder."""
        self._database.close()
        self._scratch.cleanup()

    def context_names(self) -> list[str]:
        """Names of the contexts that can be served, in natural order."""
        ingested = {path.parent.name for path in self.data.glob("*/MANIFEST.json")}
        archives = {name for name, about in self.settings.contexts.items() if about.archive}
        return sorted(ingested | archives, key=_natural)

    def context(self, name: str) -> Context:
        """Context of a name, as its manifest stands now.

        Raises
        ------
        NotFound
            If there is none of that name.
        DamagedData
            If its index cannot be read.
        """
        if name == "default":
            name = self._default()
        held = self._loaded.get(name)
        if held is not None and held[0] == _stamp(f"{self._root}/{name}/MANIFEST.json"):
            return held[1]
        names = self.context_names()
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

    def _default(self) -> str:
        if self.settings.default_context:
            return self.settings.default_context
        now = time.monotonic()
        # Listing the folders costs more than a request for one spectrum: a new context may wait this second.
        if now - self._default_since > 1.0:
            self._default_name, self._default_since = (self.context_names() or ["default"])[-1], now
        return self._default_name

    def _load(self, directory: ContextDirectory) -> Context:
        about = self.settings.contexts.get(directory.context, ContextSettings.model_validate({}))
        # An ingest that ends in this moment removes files of the state before: then the new manifest is there.
        for attempt in range(5):
            manifest = directory.manifest()
            try:
                source = self._source(directory, manifest, about)
                tables = self._tables(directory, manifest) if manifest else {}
                return Context(directory.context, about, source, tables)
            except (DamagedData, FileNotFoundError):
                if attempt == 4 or directory.manifest() == manifest:
                    raise
        raise AssertionError("unreachable")

    def _source(self, directory: ContextDirectory, manifest: Manifest | None, about: ContextSettings) -> SpectrumSource:
        if manifest is not None:
            return ArrowStore(directory, manifest)
        assert about.archive is not None
        return FitsArchive(self.data / about.archive, directory.root / "archive.arrow")

    def _tables(self, directory: ContextDirectory, manifest: Manifest) -> dict[str, CatalogueTable]:
        tables = {}
        for name in manifest.tables:
            files = directory.table_files(manifest, name)
            sky_path = directory.catalog / f"{name}.sky"
            sky = SkyIndex.open(sky_path, files) or SkyIndex.build(files, sky_path)
            tables[name] = CatalogueTable(f"{directory.context}.{name}", files, sky, self._database, self._limits)
        return tables

    def table(self, context: Context, catalog: str | None) -> CatalogueTable:
        """Catalogue of a name, in its context or, as ``context.table``, in another.

        Raises
        ------
        NotFound
            If there is none of that name.
        """
        schema, dot, name = (catalog or "specobj").rpartition(".")
        owner = self.context(schema) if dot else context
        if name not in owner.tables:
            known = ", ".join(f"{owner.name}.{table}" for table in sorted(owner.tables))
            hint = f"there are: {known}" if known else "it was never ingested, so only its spectra are served by id"
            raise NotFound(f"catalog: context '{owner.name}' has no catalogue '{name}' ({hint})")
        return owner.tables[name]

    def act(self, name: str, body: bytes, endpoints: Sequence[str] = ()) -> Any:  # noqa: ANN401 - any JSON value
        """Answer of a small question.

        Parameters
        ----------
        name : str
            One of `ACTIONS`.
        body : bytes
            JSON object with its parameters.
        endpoints : sequence of str
            Flight locations to tell with ``health``.

        Returns
        -------
        object
            What JSON can hold.

        Raises
        ------
        InvalidRequest
            If there is no such action or its body is at fault.
        """
        match name:
            case "health":
                return {
                    "status": "ok",
                    "version": specflight.__version__,
                    "contexts": self.context_names(),
                    "endpoints": list(endpoints),
                }
            case "contexts":
                return [self.describe(name) for name in self.context_names()]
            case "catalogs":
                return self.describe_tables(_field(body, "context", "default"))
            case "validate":
                return self._validate(_field(body, "what"), _field(body, "value"))
            case "span":
                request = parse_request(body)
                if not isinstance(request, SpanRequest):
                    raise InvalidRequest(f"what: the action span takes a span request, not '{request.what}'")
                return next(self.answer(request).batches()).to_pylist()[0]
            case _:
                raise InvalidRequest(f"action: '{name}' is not one of {', '.join(ACTIONS)}")

    def _validate(self, what: str, value: str) -> str:
        if what != "context":
            raise InvalidRequest(f"what: '{what}' cannot be validated, only 'context' can")
        try:
            self.context(value)
        except NotFound:
            return "Error"
        return "OK"

    def describe(self, name: str) -> dict[str, object]:
        """A context for listings.

        Returns
        -------
        dict
            name, description, release, number of spectra (None while an archive is scanned for the first time) and
            default catalogue (None where there is none).
        """
        about = self.settings.contexts.get(name, ContextSettings.model_validate({}))
        scanned = name in self._loaded or (self.data / name / "MANIFEST.json").exists()
        context = self.context(name) if scanned else None
        return {
            "name": name,
            "description": about.description,
            "release": about.release,
            "spectra": len(context.source.ids) if context else None,
            "catalog": f"{name}.specobj" if context and "specobj" in context.tables else None,
        }

    def describe_tables(self, name: str) -> list[dict[str, object]]:
        """Catalogues of a context: name, rows and columns with type, unit and description."""
        context = self.context(name)
        return [
            {
                "name": f"{context.name}.{key}",
                "rows": table.rows,
                "columns": [
                    {
                        "name": column.name,
                        "type": str(column.type),
                        **{k.decode(): v.decode() for k, v in (column.metadata or {}).items()},
                    }
                    for column in table.schema
                ],
            }
            for key, table in sorted(context.tables.items())
        ]

    def answer(self, request: Request, ids: NDArray[np.uint64] | None = None) -> Answer:
        """Answer to a request.

        Parameters
        ----------
        request : Request
        ids : ndarray of uint64 or None
            Identifiers that came beside the request, in place of those in it.

        Raises
        ------
        SpecflightError
            Of the kind that says what is wrong; before anything is sent, but for damage found while reading.
        """
        context = self.context(request.context)
        if isinstance(request, QueryRequest):
            return self._answer_query(context, request)
        wanted = self._ids(context, request, ids)
        rows = locate(context.source, wanted)
        gone = rows == NOT_FOUND
        if gone.any():
            if request.missing == "raise":
                raise UnknownSpectrum.among(list(dict.fromkeys(wanted[gone].tolist())), context.name)
            if request.missing == "skip":
                wanted, rows = wanted[~gone], rows[~gone]
        match request:
            case SpectraRequest():
                return spectra_answer(context, request, wanted, rows)
            case SpanRequest():
                return span_answer(context, rows)
            case FitsRequest():
                return fits_answer(context, request, wanted[request.start :], rows[request.start :])

    def _ids(
        self, context: Context, request: SpectraRequest | SpanRequest | FitsRequest, ids: NDArray[np.uint64] | None
    ) -> NDArray[np.uint64]:
        given = [what for what in (request.ids, request.query, ids) if what is not None]
        if len(given) != 1:
            raise InvalidRequest(f"ids: give either a list of ids or a query, got {len(given)} of them")
        if request.query is not None:
            found = self._rows(context, request.query, (CATALOGUE_ID,))[CATALOGUE_ID]
            return np.asarray(found.to_numpy(), np.uint64)
        wanted = parse_ids(request.ids) if request.ids is not None else ids
        assert wanted is not None
        if not len(wanted):
            raise InvalidRequest("ids: the list is empty")
        if len(wanted) > self.settings.max_ids:
            raise LimitExceeded(f"ids: {len(wanted)} are more than the limit max_ids = {self.settings.max_ids}")
        return wanted

    def _rows(self, context: Context, query: Query, columns: tuple[str, ...] | None) -> pa.Table:
        region: Cone | Polygon | None = None
        if query.cone is not None:
            region = Cone(*query.cone)
        elif query.polygon is not None:
            region = Polygon(query.polygon)
        asked = (region, query.where, query.order_by, query.limit, query.offset, columns)
        try:
            return self.table(context, query.catalog).query(*asked)
        except DamagedData:
            # An ingest that ended in this moment has removed the files of the state before.
            return self.table(self.context(context.name), query.catalog).query(*asked)

    def _answer_query(self, context: Context, request: QueryRequest) -> Answer:
        table = self._rows(context, request, request.columns)
        return Answer(table.schema, table.num_rows, lambda: table.nbytes, lambda: iter(table.to_batches()))


def _field(body: bytes, name: str, default: str | None = None) -> str:
    try:
        values = json.loads(body or b"{}")
        value = values.get(name, default)
    except (ValueError, AttributeError):
        raise InvalidRequest(f"body: {body[:80]!r} is not a JSON object") from None
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: expected a text, got {value!r}")
    return value


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts dr9 before dr16."""
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.findall(r"\d+|\D+", name)]


def _stamp(path: str) -> tuple[int, int] | None:
    # os.stat, not Path.stat: this is on the way of every request.
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino
