"""Lists of spectra in requests."""

from __future__ import annotations

from typing import Any

from specflight.catalog.idlists import IdList, read_id_list
from specflight.errors import InvalidRequest
from specflight.http.endpoints import Call

__all__ = ["IDS", "STORED", "read_ids"]

IDS = (
    "spectra in the order wanted: specobjids, tuples (plate, mjd, fiberid, run2d) with lists, ranges '1-5' and '*', or "
    "plate-mjd-fiberid, one or a list of them as text (also as Python or numpy print it, or CSV), or a JSON array; or "
    "vos://name of a stored file of them"
)
"""What the parameter may hold, for the documentation."""

STORED = "vos://"


def read_ids(value: str | int | list[Any], call: Call) -> IdList:
    """Read the list of spectra of a request.

    Parameters
    ----------
    value : str, int or list
        A text as `specflight.catalog.idlists.read_id_list` takes it; a value of JSON; or ``vos://name``, a file in the
        caller's storage that holds such a text.
    call : Call
        Who asks.

    Raises
    ------
    InvalidRequest
        Naming the first entry that cannot be read; or if there is no entry.
    NotFound, Unauthenticated, LimitExceeded
        If there is no such file, the caller may not read it, or it is longer than a body may be.
    """
    if not (isinstance(value, str) and value.startswith(STORED)):
        return read_id_list(value)
    text = call.state.storage.read(call.caller.name, value, call.state.settings.max_body)
    try:
        return read_id_list(text.decode())
    except UnicodeDecodeError:
        raise InvalidRequest(f"ids: the file '{value}' is not a text of ids") from None
    except InvalidRequest as error:
        raise InvalidRequest(f"ids: in the file '{value}', {str(error).removeprefix('ids: ')}") from None
