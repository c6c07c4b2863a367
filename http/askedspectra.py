"""Spectra as a request of the documented interface asks for them: which, of what, and on which grid.

Old clients ask for the wavelength limits of a list first, and send these along with a request for each spectrum in
it. So limits that differ mean padding, whatever the request says of alignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specflight.catalog.idlists import IdList
from specflight.client import Client
from specflight.client._arguments import wanted
from specflight.client._catalogue import checked
from specflight.client._convert import Spectrum
from specflight.client._transport import Stream
from specflight.errors import InvalidRequest
from specflight.flight.protocol import PIXEL, VECTORS, describe
from specflight.flight.requests import FitsRequest, SpanRequest, SpectraRequest
from specflight.http.npy import pixels, record_type, saved

__all__ = ["Asked", "Batches", "limits_of"]

LOWEST, HIGHEST = 2.0, 6.0
"""log10(wavelength / Å) that limits may have: as a cutout, 100 Å to 1,000,000 Å."""


def limits_of(w0: float, w1: float) -> tuple[int, int] | None:
    """First and last pixel of the SDSS grid between two wavelengths; None where they are equal, which says nothing.

    Parameters
    ----------
    w0, w1 : float
        log10(wavelength / Å).

    Raises
    ------
    InvalidRequest
        If they are not in ascending order, or not of wavelengths.
    """
    if w0 == w1:
        return None
    if not LOWEST <= w0 < w1 <= HIGHEST:
        raise InvalidRequest(
            f"w0, w1: {w0:g} and {w1:g} are not the log10 of wavelengths in Angstrom, the lower first, within "
            f"{LOWEST:g} and {HIGHEST:g}"
        )
    return round(w0 / PIXEL), round(w1 / PIXEL)


class Batches:
    """Record batches of a stream, which can be looked at before they are taken; what ends it early has to close it.

    Parameters
    ----------
    stream : Stream
    """

    def __init__(self, stream: Stream) -> None:
        self.schema = stream.schema
        self._stream = stream.batches
        self._ahead: list[pa.RecordBatch] = []

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return self._ahead.pop(0) if self._ahead else next(self._stream)

    def ahead(self, count: int) -> list[pa.RecordBatch]:
        """The next batches, as many as asked for, or as there are; raises what is wrong with them."""
        while len(self._ahead) < count and (batch := next(self._stream, None)) is not None:
            self._ahead.append(batch)
        return self._ahead[:count]

    def close(self) -> None:
        """Tell the service that nobody reads on."""
        self._ahead.clear()
        if close := getattr(self._stream, "close", None):
            close()


@dataclass(frozen=True, slots=True)
class Asked:
    """Spectra wanted.

    Attributes
    ----------
    client : Client
    context : str
    ids : IdList
    columns : tuple of str
        Vectors, in their order.
    align : bool
        Put all on one grid.
    limits : (first, last) or None
        Pixels that this grid has to hold at least; implies `align`.
    cutout : str or None
        ``'6500-7200'``, in Å: the grid wanted, in place of `limits`.
    """

    client: Client
    context: str
    ids: IdList
    columns: tuple[str, ...]
    align: bool = False
    limits: tuple[int, int] | None = None
    cutout: str | None = None

    @property
    def aligned(self) -> bool:
        """Whether all are on one grid."""
        return self.align or self.limits is not None or self.cutout is not None

    def stream(self, layout: str) -> Batches:
        """Spectra in one of the layouts of `SpectraRequest`, on the common grid if they have one."""
        if not self.aligned:
            return self._spectra(layout, self.columns)
        found = self._spectra(layout, self.columns, align=True)
        if self.limits is None or self.cutout is not None:
            return found
        # Mostly these are the limits of the list itself.
        own = describe(found.schema)["grid"]
        grid = _both((own["k0"], own["npix"]), self.limits)
        if grid == (own["k0"], own["npix"]):
            return found
        found.ahead(1)
        found.close()
        return self._spectra(layout, self.columns, grid=grid, align=True)

    def single(self) -> memoryview | None:
        """Numpy file of the spectrum, if the list is of one entry that stands for one.

        A spectrum that is not on the SDSS grid is not padded.
        """
        if len(self.ids) != 1:
            return None
        limits = self.limits if self.cutout is None else None
        # The wavelengths tell where on the grid it lies.
        columns = tuple(name for name in VECTORS if name in (*self.columns, "loglam")) if limits else self.columns
        found = self._spectra("records", columns)
        try:
            batches = found.ahead(2)
            if [batch.num_rows for batch in batches] != [1]:
                return None
        finally:
            found.close()
        spectrum: Spectrum = np.frombuffer(pixels(batches[0]), record_type(columns))
        if limits is None or not describe(found.schema)["grid"]:
            return saved(spectrum, self.columns)
        k0 = round(float(spectrum["loglam"][0]) / PIXEL)
        return saved(spectrum, self.columns, k0, _both((k0, len(spectrum)), limits))

    def originals(self) -> Batches:
        """Original files."""
        found = wanted(self.ids)
        request = FitsRequest(context=self.context, ids=found.fields.get("ids"))
        return Batches(self.client.stream(request, found.upload))

    def span(self) -> tuple[float, float]:
        """Lowest and highest loglam."""
        found = wanted(self.ids)
        request = SpanRequest(context=self.context, ids=found.fields.get("ids"))
        limits = next(self.client.stream(request, found.upload).batches).to_pylist()[0]
        return limits["w0"], limits["w1"]

    def rows(self, found: Batches) -> int:
        """Number of spectra in a stream of `stream`."""
        if self.ids.plain:
            return len(self.ids)
        first = found.ahead(2)
        if len(first) < 2:
            return sum(batch.num_rows for batch in first)
        told = self.client.getSpec(self.ids, context=self.context, explain=True)
        return int(told["rows"])

    def common_length(self) -> tuple[int, int]:
        """Number of spectra that are not aligned, and the number of pixels that each of them has.

        Raises
        ------
        InvalidRequest
            If they are not equally long.
        """
        found = self._spectra("columns", ("loglam",))
        rows, shortest, longest = 0, 1 << 31, 0
        try:
            for batch in found:
                lengths = pc.min_max(pc.list_value_length(batch.column("loglam"))).as_py()
                shortest, longest = min(shortest, lengths["min"]), max(longest, lengths["max"])
                if shortest != longest:
                    raise InvalidRequest(
                        f"align: the spectra are not equally long, but of {shortest} and {longest} pixels: give "
                        "align=True, or one of the formats arrow, parquet and csv"
                    )
                rows += batch.num_rows
        finally:
            found.close()
        return rows, longest

    def _spectra(self, layout: str, columns: tuple[str, ...], **grid: Any) -> Batches:  # noqa: ANN401
        found = wanted(self.ids)
        fields = {"context": self.context, "layout": layout, "cutout": self.cutout, **grid}
        if columns != tuple(VECTORS):
            fields["columns"] = columns
        return Batches(self.client.stream(checked(SpectraRequest, fields | found.fields), found.upload))


def _both(grid: tuple[int, int], limits: tuple[int, int]) -> tuple[int, int]:
    """Grid that holds another one and all pixels between limits, both included."""
    first = min(grid[0], limits[0])
    return first, max(sum(grid), limits[1] + 1) - first
