"""What one process of the HTTP side keeps: connections, callers, files, pictures."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from specflight.client import Client
from specflight.client._near import Nearby
from specflight.errors import Unauthenticated
from specflight.flight.settings import HttpSettings
from specflight.http.pictures import Pictures
from specflight.http.subjects import Catalogues
from specflight.http.vos import Storage

__all__ = ["ANONYMOUS", "Caller", "State"]

ANONYMOUS_TOKENS = ("", "anonymous.0.0.anon_access")
"""What old clients send when nobody is logged in, and what others send then."""

KEPT_TOKENS = 256
TRUSTED_SECONDS = 60.0
"""A token is verified again after this time."""

HEALTH_SECONDS = 5.0
"""A Flight server that takes longer to say how it is, is not well."""

MAX_TOKEN = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name : str
        User's name; ``'anonymous'`` without a token.
    admin : bool
        Whether they may stop the service.
    """

    name: str
    admin: bool = False


ANONYMOUS = Caller("anonymous")


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    clients: tuple[Client, ...]
    until: float


class State:
    """What lives as long as the process.

    Parameters
    ----------
    settings : HttpSettings
    storage : Storage
        Files of the users.
    secret : bytes
        Signs what this service hands out and takes back; the same in all its processes.
    endpoints : sequence of str
        Locations of the Flight servers, as they are told to clients.
    nearby : sequence of str
        The same, as this process reaches them.
    data : Path
        Their data directory, from which this process reads spectra by itself.

    Attributes
    ----------
    pictures : Pictures
        What was drawn lately.
    catalogues : Catalogues
        What is known of the contexts' columns.
    threads : ThreadPoolExecutor
        Where answers are made.
    """

    def __init__(
        self,
        settings: HttpSettings,
        storage: Storage,
        secret: bytes,
        endpoints: Sequence[str],
        nearby: Sequence[str],
        data: Path,
    ) -> None:
        self.settings, self.storage, self.secret, self.endpoints = settings, storage, secret, tuple(endpoints)
        self.pictures, self.catalogues = Pictures(settings), Catalogues()
        self.threads = ThreadPoolExecutor(settings.threads, "answer")
        self._nearby, self._data = tuple(nearby), Nearby(data)
        self._turn = itertools.count()
        self._doctor = Client(self._nearby, timeout=HEALTH_SECONDS)
        self._anonymous = _Known(ANONYMOUS, self._clients(None), float("inf"))
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def _clients(self, token: str | None) -> tuple[Client, ...]:
        timeout, nearby = self.settings.flight_seconds, self._nearby
        return tuple(
            self._data.client(nearby[number:] + nearby[:number], timeout, token) for number in range(len(nearby))
        )

    def admit(self, token: str) -> tuple[Caller, tuple[Client, ...]]:
        """Caller that a token belongs to, and clients that pass the token on; may ask the Flight server.

        Returns
        -------
        caller : Caller
        clients : tuple of Client
            One for each Flight server, which goes to the others when its own fails. The first is that whose turn it is.

        Raises
        ------
        Unauthenticated
            If the token is forged, truncated or expired.
        """
        known = self._anonymous if token in ANONYMOUS_TOKENS else self._verified(token[:MAX_TOKEN])
        turn = next(self._turn) % len(known.clients)
        return known.caller, known.clients[turn:] + known.clients[:turn]

    def alive(self) -> bool:
        """Whether a Flight server answers."""
        return self._doctor.isAlive()

    def _verified(self, token: str) -> _Known:
        if not (token.isascii() and token.isprintable()):  # which a call of Flight cannot carry
            raise Unauthenticated(f"token: {token[:12]!a} is not a token of this service")
        with self._lock:
            known = self._known.get(token)
        if known is not None and time.monotonic() < known.until:
            return known
        clients = self._clients(token) if known is None else known.clients
        told = clients[0].act("whoami")
        left = min(TRUSTED_SECONDS, told["seconds"])
        known = _Known(Caller(told["name"], told["admin"]), clients, time.monotonic() + left)
        with self._lock:
            self._known[token] = known
            while len(self._known) > KEPT_TOKENS:
                self._known.popitem(last=False)
        return known
