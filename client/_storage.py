"""Files of the user on the service, ``vos://``, over its HTTP address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from specflight import errors
from specflight.errors import InvalidRequest, QueryTimeout, ServiceUnavailable, SpecflightError

if TYPE_CHECKING:
    import httpx

__all__ = ["STORED", "Storage"]

STORED = "vos://"

_BY_STATUS: dict[int, type[SpecflightError]] = {
    kind.http_status: kind
    for kind in (
        errors.InvalidRequest,
        errors.Unauthenticated,
        errors.Forbidden,
        errors.NotFound,
        errors.LimitExceeded,
        errors.ServiceUnavailable,
        errors.QueryTimeout,
    )
}


class Storage:
    """The virtual storage of a service.

    Parameters
    ----------
    url : str
        Of the service; only its ``http://`` address has a storage.
    timeout : float
        Deadline for each part of an answer, in seconds.
    token : str or None
        Says whose files these are.
    """

    def __init__(self, url: str, timeout: float, token: str | None) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def read(self, name: str) -> bytes:
        """Content of a file ``vos://name``.

        Raises
        ------
        NotFound
            If there is no such file.
        Unauthenticated, Forbidden
            If the caller may not read it.
        InvalidRequest
            If the client knows no HTTP address, or the name is none.
        """
        return self._ask(name, "GET", _path(name)).content

    def write(self, name: str, content: bytes) -> None:
        """Store a file ``vos://name``, in place of one that has that name; see `read` for errors.

        Raises
        ------
        LimitExceeded
            If it is too large, or the user's files together are.
        """
        self._ask(name, "PUT", _path(name), content=content)

    def store_spectra(self, folder: str, fields: dict[str, Any]) -> None:
        """Have the service write a file for each spectrum into a folder ``vos://name``; see `write` for errors.

        Parameters
        ----------
        folder : str
        fields : dict
            Parameters of ``/getSpec``.
        """
        self._ask(folder, "POST", "/getSpec", json=fields | {"out": folder})

    def check(self, name: str) -> None:
        """Raise what cannot be helped by trying: there is no storage but at an ``http://`` address."""
        if not self._url.startswith(("http://", "https://")):
            raise InvalidRequest(f"url: '{name}' is on the HTTP side of a service, which {self._url} is not")

    def _ask(self, name: str, method: str, path: str, **body: Any) -> httpx.Response:  # noqa: ANN401
        import httpx

        self.check(name)
        try:
            answer = httpx.request(method, self._url + path, headers=self._headers, timeout=self._timeout, **body)
        except httpx.TimeoutException:
            raise QueryTimeout(f"timeout: {self._url} gave no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"url: {self._url} cannot be reached or broke off: {error}") from None
        if answer.is_success:
            return answer
        raise _BY_STATUS.get(answer.status_code, SpecflightError)(answer.text.removeprefix("Error: "))


def _path(name: str) -> str:
    # Another user's public files keep their USER:// in front.
    return "/storage/files/" + quote(name.removeprefix(STORED))
