"""The one tree of errors, shared by the readers, the server and the client.

Each error refines the builtin that a caller would catch anyway, and knows the HTTP status it becomes at the
edge; the Flight status is its Arrow counterpart (see `specflight.flight.server`).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "DamagedData",
    "Forbidden",
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


class Forbidden(SpecflightError, PermissionError):
    """Something that the caller, who is known, may not do."""

    http_status = 403


class NotFound(SpecflightError, LookupError):
    """A context, catalogue, file or spectrum that does not exist."""

    http_status = 404


class UnknownSpectrum(NotFound):
    """Identifiers that name no spectrum of the context; the text names up to ten of them and says how many."""

    @classmethod
    def among(cls, named: list[str], what: str, context: str) -> UnknownSpectrum:
        """Error for the spectra that were not found in a context, named by a kind of identifier."""
        shown = (", " if what else "; ").join(named[:10])
        more = f" and {len(named) - 10} more" if len(named) > 10 else ""
        return cls(f"ids: context '{context}' has no spectrum with {what}{shown}{more}")


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
