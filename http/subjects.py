"""Spectra together with what the catalogue says of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.idlists import IdList
from specflight.client import Client
from specflight.client._convert import spectra_records
from specflight.errors import NotFound
from specflight.flight.protocol import CATALOGUE_ID, STATUS_OK, VECTORS, describe
from specflight.flight.requests import MatchRequest, SpectraRequest
from specflight.http.drawing import Subject

__all__ = ["Catalogues", "Observed", "read_observed", "read_redshifts"]

PRIMARY, ALL_SPECTRA = "specobj", "specobjall"

KNOWN_SECONDS = 10.0
"""Time for which the columns of a context's catalogue are taken for granted."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A spectrum and what it is of.

    Attributes
    ----------
    spectrum : ndarray, shape (npix,)
        Structured, a field for each vector asked for.
    subject : Subject
    """

    spectrum: NDArray[np.void]
    subject: Subject


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """Where a context says what its spectra are of: columns of a catalogue in lower case, None for what it lacks."""

    name: str
    redshift: str | None
    kind: str | None
    subclass: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.redshift, self.kind, self.subclass) if name is not None)

    def subjects(self, batch: pa.RecordBatch) -> list[Subject]:
        columns = {name.lower(): column for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        ids, redshifts, kinds, subclasses = (
            [None] * batch.num_rows if name is None else columns[name].to_pylist()
            for name in (CATALOGUE_ID, self.redshift, self.kind, self.subclass)
        )
        return [
            Subject(specobjid, _number(z), _text(kind), _text(subclass))
            for specobjid, z, kind, subclass in zip(ids, redshifts, kinds, subclasses, strict=True)
        ]


class Catalogues:
    """Which catalogues of a context tell of its spectra; known for a short time, as contexts change with an ingest."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, tuple[_Catalogue, ...]]] = {}
        self._lock = threading.Lock()

    def of(self, client: Client, context: str) -> tuple[_Catalogue, ...]:
        """Catalogues of a context with redshifts or classes by specobjid; the first that has a spectrum counts.

        Raises
        ------
        NotFound
            If there is no such context.
        """
        now = time.monotonic()
        with self._lock:
            until, known = self._known.get(context, (0.0, ()))
        if now < until:
            return known
        found = _find_catalogues(client, context)
        with self._lock:
            self._known[context] = now + KNOWN_SECONDS, found
        return found

    def among(self, client: Client, contexts: Iterable[str]) -> Iterator[tuple[str, _Catalogue]]:
        """Contexts and their catalogues, one after the other."""
        for context in contexts:
            for catalogue in self.of(client, context):
                yield context, catalogue


def _find_catalogues(client: Client, context: str) -> tuple[_Catalogue, ...]:
    about = client.list_contexts(context)
    default, told = str(about["catalog"]), about["redshift"].lower()
    schema, _, table = default.rpartition(".")
    # Where a better redshift is not known, that of the pipeline is.
    other = (told,) if table == PRIMARY else (told, "z")
    found = []
    for name, redshifts in ((default, (told,)), (f"{schema}.{ALL_SPECTRA}", other)):
        there = _columns(client, context, name)
        if not {CATALOGUE_ID, about["id_main"].lower()} & there:
            continue
        redshift = next((column for column in redshifts if column in there), None)
        kind, subclass = (column if column in there else None for column in ("class", "subclass"))
        if redshift or kind:
            found.append(_Catalogue(name, redshift, kind, subclass))
    # The primary observations are among all of them.
    return tuple(found[-1:] if table == PRIMARY else found)


def _columns(client: Client, context: str, catalogue: str) -> set[str]:
    """Columns of a catalogue, in lower case; none if there is no such catalogue."""
    schema = catalogue.rpartition(".")[0]
    for owner in dict.fromkeys((context, schema)):
        try:
            tables = client.catalogs(owner, fmt="json")
        except NotFound:
            continue
        for table in tables:
            if table["name"].lower() == catalogue.lower():
                return {column["name"].lower() for column in table["columns"]}
    return set()


def read_observed(
    client: Client,
    catalogues: Catalogues,
    context: str,
    ids: IdList,
    vectors: Sequence[str],
    *,
    start: int = 0,
    most: int,
) -> list[Observed]:
    """Read spectra, and their redshifts and classes where a catalogue has them.

    Parameters
    ----------
    client : Client
    catalogues : Catalogues
    context : str
    ids : IdList
        Spectra in the order wanted, duplicates kept.
    vectors : sequence of str
        Vector columns.
    start : int
        Spectra to leave out first.
    most : int
        Spectra to read at most.

    Raises
    ------
    UnknownSpectrum
        If there is no spectrum for an id; the text names it.
    NotFound
        If there is no such context.
    """
    if not ids.plain:
        return _observed(client, catalogues, context, ids.to_wire(), vectors, start, most)
    wanted: list[int] = ids.first[start : start + most].tolist()
    if not wanted:
        return []
    known = catalogues.of(client, context)
    found = _matched(client, known[0], context, wanted, vectors) if known else {}
    left = [specobjid for row, specobjid in enumerate(wanted) if row not in found]
    # The first catalogue does not have these: they are in the next, of another release, or nowhere.
    others = iter(_observed(client, catalogues, context, left, vectors, 0, len(left)) if left else ())
    return [found[row] if row in found else next(others) for row in range(len(wanted))]


def _matched(
    client: Client, catalogue: _Catalogue, context: str, ids: list[int], vectors: Sequence[str]
) -> dict[int, Observed]:
    """Spectra that a catalogue has, by their place in the list: all of it in one call."""
    request = MatchRequest(
        context=context, catalog=catalogue.name, ids=ids, columns=catalogue.columns, vectors=tuple(vectors)
    )
    dtype = np.dtype([(name, VECTORS[name].dtype) for name in vectors])
    found: dict[int, Observed] = {}
    for batch in client.stream(request).batches:
        places = zip(batch["row"].to_pylist(), batch["status"].to_pylist(), catalogue.subjects(batch), strict=True)
        for place, (row, status, subject) in enumerate(places):
            # A catalogue may have several rows for one spectrum.
            if status == STATUS_OK and row not in found:
                found[row] = Observed(_structured(batch, place, dtype), subject)
    return found


def _structured(batch: pa.RecordBatch, place: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    # Not to_numpy, which imports pandas where it is installed.
    columns = {name: np.from_dlpack(batch[name][place].values) for name in dtype.names or ()}
    spectrum = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        spectrum[name] = values
    return spectrum


def _observed(
    client: Client,
    catalogues: Catalogues,
    context: str,
    ids: list[Any],
    vectors: Sequence[str],
    start: int,
    most: int,
) -> list[Observed]:
    """Spectra first, and then what the catalogues of the releases that they are from say of them."""
    request = SpectraRequest(context=context, ids=ids, columns=tuple(vectors), layout="records", start=start)
    stream = client.stream(request)
    specobjids: list[int] = []
    spectra: list[NDArray[np.void]] = []
    for batch in stream.batches:
        specobjids += batch[CATALOGUE_ID].to_pylist()
        spectra += (spectrum for spectrum in spectra_records([batch]) if spectrum is not None)
        if len(spectra) >= most:
            break
    releases = describe(stream.schema).get("found_in", ())
    subjects = _subjects(client, catalogues, dict.fromkeys((context, *releases)), specobjids[:most])
    return [
        Observed(spectrum, subjects.get(specobjid, Subject(specobjid)))
        for spectrum, specobjid in zip(spectra[:most], specobjids[:most], strict=True)
    ]


def _subjects(
    client: Client, catalogues: Catalogues, contexts: Iterable[str], specobjids: list[int]
) -> dict[int | None, Subject]:
    """What the catalogues of some contexts say of spectra; the first that knows one counts."""
    found: dict[int | None, Subject] = {}
    for context, catalogue in catalogues.among(client, contexts):
        left = [specobjid for specobjid in specobjids if specobjid not in found]
        if not left:
            break
        request = MatchRequest(context=context, catalog=catalogue.name, ids=left, columns=catalogue.columns)
        for batch in client.stream(request).batches:
            for status, subject in zip(batch["status"].to_pylist(), catalogue.subjects(batch), strict=True):
                if status == STATUS_OK:
                    found.setdefault(subject.specobjid, subject)
    return found


def read_redshifts(
    client: Client, catalogues: Catalogues, contexts: Iterable[str], ids: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """Redshifts of many spectra.

    Parameters
    ----------
    client : Client
    catalogues : Catalogues
    contexts : iterable of str
        In whose catalogues to look; the first that has a redshift counts.
    ids : ndarray of uint64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where none is known, or what is there is no redshift.
    """
    redshifts = np.full(len(ids), np.nan)
    for context, catalogue in catalogues.among(client, contexts):
        left = np.flatnonzero(np.isnan(redshifts))
        if not len(left):
            break
        if catalogue.redshift is None:
            continue
        found = client.match(
            ids=ids[left], fields=[catalogue.redshift], catalog=catalogue.name, context=context, missing="skip"
        )
        z = found[catalogue.redshift].cast(pa.float64()).to_numpy()
        good = (z > -1) & (z < np.inf)
        redshifts[left[found["row"].to_numpy()[good]]] = z[good]
    return redshifts


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value).strip() or None
