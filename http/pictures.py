"""Pictures that were drawn a short time ago, and turns at drawing new ones."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from specflight.errors import ServiceUnavailable
from specflight.flight.settings import HttpSettings

__all__ = ["Picture", "Pictures"]

OVERHEAD = 1000
"""Bytes that a picture takes beside its content, about."""

LEARNING = 0.2
"""Weight of the last drawing in the mean time that a drawing takes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is sent.

    Attributes
    ----------
    content : bytes
    media_type : str
    made : float
        When its data were asked for, on the clock of `time.monotonic`.
    """

    content: bytes
    media_type: str
    made: float


class Pictures:
    """Pictures of one process.

    They are kept until they are as old as the settings allow, or newer ones take their place: data that are ingested
    anew show after that time.

    Parameters
    ----------
    settings : HttpSettings
        Its `picture_cache_bytes`, `picture_seconds`, `drawings` and `drawing_wait_seconds` count.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._max_bytes, self._max_age = settings.picture_cache_bytes, settings.picture_seconds
        self._kept: OrderedDict[bytes, Picture] = OrderedDict()
        self._bytes = 0
        self._being_made: dict[bytes, Future[Picture]] = {}
        self._lock = threading.Lock()
        self._drawings, self._patience = settings.drawings, settings.drawing_wait_seconds
        self._turns = threading.Semaphore(self._drawings)
        self._waiting, self._mean_seconds = 0, 0.0

    def get(self, key: bytes, make: Callable[[], tuple[bytes, str]]) -> Picture:
        """Picture of a key; the first who asks makes it, those who ask meanwhile wait for it.

        Parameters
        ----------
        key : bytes
            Stands for all that the picture depends on, but for the state of the data.
        make : callable
            Gives the content and its media type; draws within `turn`.

        Raises
        ------
        SpecflightError
            What `make` raises, for all who wait.
        """
        with self._lock:
            picture = self._kept.get(key)
            if picture is not None and self.left(picture) > 0:
                self._kept.move_to_end(key)
                return picture
            waited = self._being_made.get(key)
            mine: Future[Picture] = Future()
            if waited is None:
                self._being_made[key] = mine
        if waited is not None:
            return waited.result()
        started = time.monotonic()
        try:
            picture = Picture(*make(), started)
        except BaseException as error:
            self._done(key, None)
            mine.set_exception(error)
            raise
        self._done(key, picture)
        mine.set_result(picture)
        return picture

    def left(self, picture: Picture) -> float:
        """Seconds for which a picture may still be shown."""
        return picture.made + self._max_age - time.monotonic()

    def _done(self, key: bytes, picture: Picture | None) -> None:
        with self._lock:
            del self._being_made[key]
            if picture is None:
                return
            self._forget(key)
            self._kept[key] = picture
            self._bytes += _size(picture)
            while self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= _size(gone)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let a few draw at a time: drawing keeps Python's lock, and with it the rest of the process, busy.

        Raises
        ------
        ServiceUnavailable
            If it would take longer than `drawing_wait_seconds` until it is one's turn.
        """
        too_long = ServiceUnavailable(
            f"pictures: too many are being drawn to wait for this one; the limit is drawing_wait_seconds = "
            f"{self._patience:g}"
        )
        with self._lock:
            # Who would wait in vain does not take a thread from others meanwhile.
            if self._waiting * self._mean_seconds > self._patience * self._drawings:
                raise too_long
            self._waiting += 1
        try:
            if not self._turns.acquire(timeout=self._patience):
                raise too_long
        finally:
            with self._lock:
                self._waiting -= 1
        started = time.monotonic()
        try:
            yield
        finally:
            self._turns.release()
            with self._lock:
                self._mean_seconds += LEARNING * (time.monotonic() - started - self._mean_seconds)


def _size(picture: Picture) -> int:
    return len(picture.content) + OVERHEAD
