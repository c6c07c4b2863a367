"""The fluxes of many spectra as rows of an image, as they come from the Flight server."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.idlists import IdList
from specflight.client import Client
from specflight.client._transport import Stream
from specflight.errors import InvalidRequest
from specflight.flight.protocol import CATALOGUE_ID, PIXEL, describe
from specflight.flight.requests import SpectraRequest
from specflight.http.subjects import Catalogues, read_redshifts

__all__ = ["FluxRows", "aligned_rows", "name_spectra", "rest_frame_rows", "sample_fluxes", "unaligned_rows"]

SAMPLE = 256
"""Spectra that tell the limits of an image: as many as travel in one call."""

FLUX = ("flux",)


@dataclass(frozen=True, slots=True)
class FluxRows:
    """Rows of fluxes, 0 where a spectrum has no pixel.

    Attributes
    ----------
    count, width : int
        Rows, and pixels of each.
    blocks : iterator of ndarray of float32
        The rows in order, shape (n, width), some at a time; nobody may write there.
    """

    count: int
    width: int
    blocks: Iterator[NDArray[np.float32]]
    _stream: Stream

    @property
    def found_in(self) -> tuple[str, ...]:
        """Contexts that the spectra come from, where the one asked for does not have all of them."""
        return tuple(describe(self._stream.schema).get("found_in", ()))

    def close(self) -> None:
        """Tell the server that nobody reads on."""
        if isinstance(self._stream.batches, Generator):
            self._stream.batches.close()


def name_spectra(client: Client, context: str, ids: IdList) -> tuple[NDArray[np.uint64], int]:
    """Read spectra once to learn which they are, and how long.

    Parameters
    ----------
    client : Client
    context : str
    ids : IdList
        With tuples and wildcards, which stand for any number of spectra.

    Returns
    -------
    ids : ndarray of uint64, shape (n,)
        specobjids.
    longest : int
        Pixels of the longest spectrum.
    """
    wire, upload = (None, _table(ids.first)) if ids.plain else (ids.to_wire(), None)
    stream = client.stream(SpectraRequest(context=context, ids=wire, columns=FLUX), upload)
    names, longest = [], 0
    for batch in stream.batches:
        names.append(batch.column(CATALOGUE_ID).to_numpy().copy())  # a view would hold the fluxes
        longest = max(longest, int(np.diff(_ends(batch)).max()))
    return np.concatenate(names), longest


def sample_fluxes(client: Client, context: str, ids: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Good fluxes, of shape (n,), of evenly chosen spectra: finite, with an inverse variance above 0."""
    chosen = ids[np.unique(np.linspace(0, len(ids) - 1, SAMPLE).round().astype(int))]
    stream = client.stream(SpectraRequest(context=context, columns=("flux", "ivar")), _table(chosen))
    good = []
    for batch in stream.batches:
        flux, ivar = _fluxes(batch), _fluxes(batch, "ivar")
        good.append(flux[np.isfinite(flux) & (ivar > 0)])
    return np.concatenate(good)


def aligned_rows(client: Client, context: str, ids: NDArray[np.uint64]) -> FluxRows:
    """Rows on the common wavelength grid of all spectra.

    Raises
    ------
    InvalidRequest
        If a spectrum is not on the SDSS grid.
    UnknownSpectrum
        If there is no such spectrum.
    """
    stream = client.stream(SpectraRequest(context=context, columns=FLUX, align=True), _table(ids))
    width = stream.schema.field("flux").type.list_size
    return FluxRows(len(ids), width, (_fluxes(batch).reshape(-1, width) for batch in _started(stream)), stream)


def unaligned_rows(client: Client, context: str, ids: NDArray[np.uint64], longest: int) -> FluxRows:
    """Rows that start with the first pixel of each spectrum; `longest` is the number of pixels of the longest.

    Raises
    ------
    UnknownSpectrum
        If there is no such spectrum.
    """
    stream = client.stream(SpectraRequest(context=context, columns=FLUX), _table(ids))
    batches = _started(stream)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            ends, flux = _ends(batch), _fluxes(batch)
            block = np.zeros((batch.num_rows, longest), np.float32)
            for row, start, end in zip(block, ends, ends[1:], strict=False):
                row[: end - start] = flux[start:end]
            yield block

    return FluxRows(len(ids), longest, blocks(), stream)


def rest_frame_rows(client: Client, context: str, ids: NDArray[np.uint64], order: slice) -> FluxRows:
    """Rows on a common grid of rest-frame wavelengths: each shifted by the nearest whole number of pixels.

    Parameters
    ----------
    client : Client
    context : str
    ids : ndarray of uint64, shape (n,)
    order : slice
        Of the rows among the ids.

    Raises
    ------
    InvalidRequest
        If the redshift of a spectrum is not known, or a spectrum is not on the SDSS grid.
    UnknownSpectrum
        If there is no such spectrum.
    """
    rows = aligned_rows(client, context, ids[order])
    try:
        redshifts = _redshifts(client, (context, *rows.found_in), ids)[order]
    except BaseException:
        rows.close()
        raise
    shift = np.rint(np.log10(1 + redshifts) / PIXEL).astype(np.int64)
    offsets = (shift.max() - shift).tolist()
    width = rows.width + max(offsets)

    def blocks() -> Iterator[NDArray[np.float32]]:
        following = iter(offsets)
        for aligned in rows.blocks:
            block = np.zeros((len(aligned), width), np.float32)
            for row, flux in zip(block, aligned, strict=True):
                offset = next(following)
                row[offset : offset + rows.width] = flux
            yield block

    return replace(rows, width=width, blocks=blocks())


def _redshifts(client: Client, contexts: tuple[str, ...], ids: NDArray[np.uint64]) -> NDArray[np.float64]:
    redshifts = read_redshifts(client, Catalogues(), contexts, ids)
    unknown = np.flatnonzero(np.isnan(redshifts))
    if len(unknown):
        raise InvalidRequest(
            f"rest_frame: {len(unknown)} of {len(ids)} spectra have no redshift in the catalogue, "
            f"the first is {ids[unknown[0]]}"
        )
    return redshifts


def _started(stream: Stream) -> Iterator[pa.RecordBatch]:
    """Batches of a stream, the first of which has come, so that errors come now."""
    return chain([next(stream.batches)], stream.batches)


def _table(ids: NDArray[np.uint64]) -> pa.Table:
    return pa.table({CATALOGUE_ID: ids})


def _fluxes(batch: pa.RecordBatch, name: str = "flux") -> NDArray[np.float32]:
    """Values of all spectra of a batch, one behind the other, without a copy."""
    values: NDArray[Any] = np.from_dlpack(batch.column(name).flatten())
    return values


def _ends(batch: pa.RecordBatch) -> NDArray[np.int32]:
    """Where each spectrum starts in the batch, and the last one ends."""
    offsets: NDArray[Any] = np.from_dlpack(batch.column("flux").offsets)
    ends: NDArray[np.int32] = offsets - offsets[0]
    return ends
