"""Specobjids for foreign tables that name their spectra by plate, MJD and fibre."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specflight.catalog.identifiers import FIBERID, MJD, PLATE, pack_specobjid, run2d_code
from specflight.errors import InvalidRequest

__all__ = ["IdMaker", "fibre_columns", "id_maker"]

_NAMES = {"plate": ("plate",), "mjd": ("mjd",), "fiberid": ("fiberid", "fiber")}


@dataclass(frozen=True, slots=True, eq=False)
class IdMaker:
    """Makes the specobjids of a table.

    Attributes
    ----------
    columns : tuple of str
        Columns of plate, MJD and fibre.
    run2d : str or None
        Column of the reduction; without one, spectra are looked up.
    known : ndarray of uint64, shape (n,)
        Specobjids of spectra that are the only ones of their plate, MJD and fibre, ascending.
    """

    columns: tuple[str, str, str]
    run2d: str | None
    known: NDArray[np.uint64]

    @property
    def origin(self) -> str:
        """What the identifiers are made from, in words."""
        names = f"{self.columns[0]}, {self.columns[1]} and {self.columns[2]}"
        if self.run2d is not None:
            return f"packed from {names} with {self.run2d}"
        return f"looked up by {names} among the context's spectra"

    def make(self, batch: pa.RecordBatch) -> pa.Array:
        """Make the identifiers of rows.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            With the columns of the table.

        Returns
        -------
        pyarrow.Array
            Of uint64, null where a part is missing or out of range, or where no spectrum or more than one is known.
        """
        plate, mjd, fiberid = (_integers(batch.column(name)) for name in self.columns)
        usable = np.ones(len(batch), np.bool_)
        for part, numbers in ((PLATE, plate), (MJD, mjd), (FIBERID, fiberid)):
            usable &= (numbers >= part.origin) & (numbers <= part.largest)
        run2d = np.full(len(batch), "0")
        if self.run2d is not None:
            run2d = _texts(batch.column(self.run2d))
            usable &= np.isin(run2d, [name for name in np.unique(run2d) if _is_run2d(str(name))])
        ids = np.zeros(len(batch), np.uint64)
        ids[usable] = pack_specobjid(plate[usable], mjd[usable], fiberid[usable], run2d[usable])
        if self.run2d is None:
            keys = self.known >> np.uint64(MJD.shift)
            place = np.minimum(np.searchsorted(keys, ids >> np.uint64(MJD.shift)), len(keys) - 1)
            usable &= keys[place] == ids >> np.uint64(MJD.shift)
            ids = self.known[place]
        return pa.array(ids, mask=~usable)


def fibre_columns(schema: pa.Schema) -> tuple[str, str, str] | None:
    """Find the columns of plate, MJD and fibre.

    Parameters
    ----------
    schema : pyarrow.Schema
        As for `id_maker`.

    Returns
    -------
    (str, str, str) or None
        None where one of them is not there.
    """
    plain = _plain_names(schema)
    plate, mjd, fiberid = (next((plain[n] for n in names if n in plain), None) for names in _NAMES.values())
    return None if plate is None or mjd is None or fiberid is None else (plate, mjd, fiberid)


def _plain_names(schema: pa.Schema) -> dict[str, str]:
    """Columns of integers or text by their names without punctuation."""
    plain: dict[str, str] = {}
    for field in schema:
        if pa.types.is_integer(field.type) or pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            plain.setdefault(re.sub(r"[^a-z0-9]", "", field.name), field.name)
    return plain


def id_maker(schema: pa.Schema, spectra: NDArray[np.uint64]) -> IdMaker | None:
    """Find the columns that specobjids can be made from.

    Parameters
    ----------
    schema : pyarrow.Schema
        With lower-case names. The columns are plate, mjd, fiberid (or fiber) and, where there is one, run2d, with any
        punctuation in their names, of integers or text.
    spectra : ndarray of uint64
        Identifiers of the context's spectra.

    Returns
    -------
    IdMaker or None
        None where plate, MJD or fibre is not there, or the reduction is not and the context has no spectra.
    """
    columns = fibre_columns(schema)
    if columns is None:
        return None
    run2d = _plain_names(schema).get("run2d")
    _, first, counts = np.unique(np.sort(spectra) >> np.uint64(MJD.shift), return_index=True, return_counts=True)
    known = np.sort(spectra)[first[counts == 1]]
    return IdMaker(columns, run2d, known) if run2d is not None or len(known) else None


def _integers(values: pa.Array) -> NDArray[np.int64]:
    """Small integers, of text as well; -1 where there is none."""
    if not pa.types.is_integer(values.type):
        digits = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.match_substring_regex(digits, "^[0-9]{1,9}$"), digits, None)
    numbers: NDArray[Any] = pc.fill_null(values.cast(pa.int64(), safe=False), -1).to_numpy(zero_copy_only=False)
    return numbers.astype(np.int64)


def _texts(values: pa.Array) -> NDArray[np.str_]:
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return np.array(pc.fill_null(texts, "").to_pylist(), np.str_)


def _is_run2d(name: str) -> bool:
    try:
        run2d_code(name)
    except InvalidRequest:
        return False
    return True
