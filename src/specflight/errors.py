"""The one tree of errors, shared by the readers, the server and the client.

Each error refines the builtin that a caller would catch anyway, and knows the HTTP status it becomes at the
edge; the Flight status is its Arrow counterpart (see `specflight.flight.server`).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "DamagedData",
    "InvalidRequest",
    "LimitExceeded",
    "NotFound",
    "QueryTimeout",
    "ServiceUnavailable",
    "SpecflightError",
    "Unauthenticated",
    "UnknownSpectrum",
    "UnsupportedFile",
]


class SpecflightError(Exception):
    """Base of every error that specflight raises on purpose.

    Its text is one sentence for the user that names the parameter and the value at fault.
    """

    http_status: ClassVar[int] = 500


class InvalidRequest(SpecflightError, ValueError):
    """A request, parameter or SQL clause that cannot be understood or is refused."""

    http_status = 400


class Unauthenticated(SpecflightError, PermissionError):
    """A token that is forged, truncated or expired, or none where one is needed."""

    http_status = 401


class NotFound(SpecflightError, LookupError):
    """A context, catalogue, file or spectrum that does not exist."""

    http_status = 404


class UnknownSpectrum(NotFound):
    """Identifiers that name no spectrum of the context.

    Parameters
    ----------
    ids : list of int
        Every identifier that was not found, in the order of the request.
    context : str
        The context in which they were looked for.
    """

    def __init__(self, ids: list[int], context: str) -> None:
        shown = ", ".join(str(i) for i in ids[:10])
        more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
        noun = "id" if len(ids) == 1 else f"{len(ids)} ids:"
        super().__init__(f"no spectrum in context '{context}' has the {noun} {shown}{more}")
        self.ids = ids


class LimitExceeded(SpecflightError):
    """An answer or a request beyond a limit of the service; the text names the limit."""

    http_status = 413


class QueryTimeout(SpecflightError, TimeoutError):
    """A query or a transfer that ran past its time limit."""

    http_status = 504


class ServiceUnavailable(SpecflightError, ConnectionError):
    """The service cannot be reached, or stopped in the middle of an answer."""

    http_status = 503


class DamagedData(SpecflightError, OSError):
    """A file of the data directory that is missing, truncated or not what its checksum says."""

    http_status = 500


class UnsupportedFile(SpecflightError, ValueError):
    """A file that cannot be read as a spectrum; the text is the reason, without the file's name."""

    http_status = 500
