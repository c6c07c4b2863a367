"""What clients ask of the users' files on a running service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True)
class Service:
    """The users' files of a running service.

    Attributes
    ----------
    url : str
    folder : Path
        Where the files are.
    web : httpx.Client
    tokens : mapping of str to str
        By user; who has none is anonymous.
    """

    url: str
    folder: Path
    web: httpx.Client
    tokens: Mapping[str, str]

    def ask(self, path: str, user: str = "alice", method: str = "GET", **parameters: str) -> httpx.Response:
        """Answer to a request as the old client sends it."""
        headers = {"X-DL-AuthToken": self.tokens.get(user, "anonymous.0.0.anon_access")}
        query = parameters if method == "GET" else None
        body = parameters if method == "POST" else None
        return self.web.request(method, f"{self.url}/storage{path}", params=query, data=body, headers=headers)

    def file(
        self,
        method: str,
        path: str,
        user: str = "alice",
        content: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Answer to a request for a file, as curl sends it."""
        token = {"Authorization": f"Bearer {self.tokens[user]}"} if user in self.tokens else {}
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/storage/files/{path}"
        return self.web.request(method, url, headers=token | told, content=content)


def send(service: Service, name: str, content: bytes, user: str = "alice") -> httpx.Response:
    """Send a file as the old client does."""
    told = service.ask("/put", user, name=name)
    assert told.status_code == 200, told.text
    return service.web.put(told.text, content=content)


def fetch(service: Service, name: str, user: str = "alice") -> bytes:
    """Fetch a file as the old client does."""
    told = service.ask("/get", user, name=name)
    assert told.status_code == 200, told.text
    answer = service.web.get(told.text)
    assert answer.status_code == 200, answer.text
    return answer.content
