"""Spectra as files in the storage of the caller, one for each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from specflight.client._convert import spectra_records
from specflight.errors import SpecflightError
from specflight.flight.protocol import CATALOGUE_ID
from specflight.http.askedspectra import Asked, Batches
from specflight.http.npy import header
from specflight.http.state import State

__all__ = ["write_files"]


def write_files(asked: Asked, originals: bool, state: State, caller: str, folder: str) -> None:
    """Write a file for each spectrum, batch by batch.

    Parameters
    ----------
    asked : Asked
    originals : bool
        The original files, by their names, in place of ``specobjid.npy``.
    state : State
    caller : str
        Name of the user.
    folder : str
        ``vos://name``.

    Raises
    ------
    SpecflightError
        Of the kind that says what is wrong, and in how many files it left what came before; none of them is cut short.
    """
    found = asked.originals() if originals else asked.stream("records")
    files = _originals(found) if originals else _arrays(found, asked.columns)
    place = folder if folder.endswith("/") else f"{folder}/"
    written: set[str] = set()
    try:
        for name, pieces in files:
            with state.storage.write(caller, f"{place}{name}") as file:
                for piece in pieces:
                    file.write(piece)
            written.add(name)
    except SpecflightError as error:
        if not written:
            raise
        left = "1 file is" if len(written) == 1 else f"{len(written)} files are"
        raise type(error)(f"{error}; {left} in {folder} already") from None
    finally:
        found.close()


def _originals(found: Batches) -> Iterator[tuple[str, list[bytes]]]:
    for batch in found:
        for row in batch.select(["name", "fits"]).to_pylist():
            yield row["name"], [row["fits"]]


def _arrays(found: Batches, columns: tuple[str, ...]) -> Iterator[tuple[str, list[bytes | memoryview]]]:
    for batch in found:
        ids = batch.column(CATALOGUE_ID).to_pylist()
        for specobjid, spectrum in zip(ids, spectra_records([batch]), strict=True):
            assert spectrum is not None
            yield f"{specobjid}.npy", [header(columns, spectrum.shape), spectrum.view(np.uint8).data]
