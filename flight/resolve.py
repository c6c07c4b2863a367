"""From what a request names to rows of a source: ids, tuples with wildcards, or what a query finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from specflight.catalog.expand import expand
from specflight.catalog.identifiers import parse_ids
from specflight.catalog.idlists import IdList, read_id_list
from specflight.errors import InvalidRequest, UnknownSpectrum
from specflight.flight.contexts import Context, Contexts
from specflight.flight.joined import JoinedSource
from specflight.flight.protocol import CATALOGUE_ID
from specflight.flight.requests import Missing
from specflight.flight.source import NO_ID, NOT_FOUND, locate

__all__ = ["Found", "find_spectra", "specobjids", "uploaded_ids"]


@dataclass(frozen=True, slots=True)
class Found:
    """Spectra in the order wanted.

    Attributes
    ----------
    context : Context
        Its source has them; where the context asked for lacks some, it joins several releases.
    ids : ndarray of uint64, shape (n,)
        `NO_ID` in the place of a tuple that matches nothing.
    rows : ndarray of int64, shape (n,)
        Rows in the source, or `NOT_FOUND`.
    found_in : tuple of str
        The contexts that the spectra come from, where the one asked for does not have all of them.
    """

    context: Context
    ids: NDArray[np.uint64]
    rows: NDArray[np.int64]
    found_in: tuple[str, ...] = ()


def find_spectra(contexts: Contexts, asked: str, wanted: IdList, missing: Missing, check: Callable[[], None]) -> Found:
    """Find the spectra that a list names.

    Parameters
    ----------
    contexts : Contexts
    asked : str
        The context as the request names it.
    wanted : IdList
    missing : {'raise', 'null', 'skip'}
    check : callable
        Raises when the time of the request is over.

    Raises
    ------
    UnknownSpectrum
        If `missing` is 'raise' and an entry has no spectrum in the context, nor in those where it may look further.
    LimitExceeded
        If the list stands for too many spectra.
    """
    context = contexts.get(asked)
    others: list[Context] | None = None
    ids = wanted.first
    if not wanted.plain:
        ids, others = _expanded(contexts, asked, context, wanted, missing, check)
    rows = locate(context.source, ids)
    found = Found(context, ids, rows)
    gone = rows == NOT_FOUND
    if gone.any():
        found = _look_further(contexts.further(asked, context) if others is None else others, found)
        gone = found.rows == NOT_FOUND
    if missing == "raise" and gone.any():
        raise _unknown(context, "specobjid ", [str(number) for number in dict.fromkeys(ids[gone].tolist())])
    if missing == "skip":
        return replace(found, ids=ids[~gone], rows=found.rows[~gone])
    return found


def _expanded(
    contexts: Contexts, asked: str, context: Context, wanted: IdList, missing: Missing, check: Callable[[], None]
) -> tuple[NDArray[np.uint64], list[Context] | None]:
    """Specobjids that the entries of a list stand for; those without any are tried in one release after the other."""
    limit = contexts.settings.max_ids
    found = expand(wanted, context.source.ids, limit, check)
    if not len(found.unmatched):
        return found.ids, None
    others = contexts.further(asked, context)
    ids, entry, left = found.ids, found.entry, found.unmatched
    for other in others:
        more = expand(_some(wanted, left), other.source.ids, limit, check)
        ids, entry = np.concatenate([ids, more.ids]), np.concatenate([entry, left[more.entry]])
        left = left[more.unmatched]
    if len(left) and missing == "raise":
        raise _unknown(context, "", [str(wanted.pattern(place)) for place in left.tolist()])
    ids, entry = np.concatenate([ids, np.full(len(left), NO_ID, np.uint64)]), np.concatenate([entry, left])
    return ids[np.argsort(entry, kind="stable")], others


def _some(wanted: IdList, places: NDArray[np.int64]) -> IdList:
    patterns = {at: wanted.patterns[place] for at, place in enumerate(places.tolist()) if place in wanted.patterns}
    return IdList(wanted.first[places], wanted.last[places], patterns)


def _look_further(others: list[Context], found: Found) -> Found:
    """Look for the spectra that a context lacks in other releases, too."""
    if not others:
        return found
    joined = JoinedSource([found.context.source, *(other.source for other in others)], found.ids)
    rows = locate(joined, found.ids)
    names = [found.context.name, *(other.name for other in others)]
    used = np.flatnonzero(np.bincount(joined.source_of(rows[rows != NOT_FOUND]))).tolist()
    # An answer of the context's own spectra alone needs no join.
    if used in ([], [0]):
        return found
    return Found(replace(found.context, source=joined), found.ids, rows, tuple(names[number] for number in used))


def _unknown(context: Context, what: str, named: list[str]) -> UnknownSpectrum:
    if not len(context.source.ids):
        return UnknownSpectrum(
            f"ids: context '{context.name}' has no spectra of its own, so none with {what}{named[0]}"
        )
    return UnknownSpectrum.among(named, what, context.name)


def specobjids(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Identifiers of a catalogue as such of spectra.

    Raises
    ------
    InvalidRequest
        If the column holds no whole numbers.
    """
    if not (pt.is_integer(column.type) or pt.is_null(column.type)):
        raise InvalidRequest(f"{name}: the catalogue's specobjid is {column.type}, so it names no spectra")
    return column.cast(pa.uint64())


def uploaded_ids(table: pa.Table) -> IdList:
    """List that came up as a table with the column ``specobjid``, of integers or of texts.

    Raises
    ------
    InvalidRequest
        If there is no such column, or a value of it is none.
    """
    if CATALOGUE_ID not in table.column_names:
        raise InvalidRequest(f"ids: the table has no column {CATALOGUE_ID}, only {table.column_names}")
    column = table[CATALOGUE_ID]
    if column.null_count:
        raise InvalidRequest(f"ids: {column.null_count} of {len(column)} values are null")
    if not len(column):
        raise InvalidRequest("ids: the list is empty")
    if pt.is_integer(column.type):
        ids = parse_ids(column.to_numpy())
        return IdList(ids, ids)
    return read_id_list(column.to_pylist())
