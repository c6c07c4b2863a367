"""How fast this server has been, to say how long a request will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

__all__ = ["Pace"]

_WEIGHT = 0.2  # of the newest measurement: a few requests are enough to learn of a slow disk


class Pace:
    """Time that a kind of work takes: a fixed part and a part for each unit, learnt from what was done.

    Parameters
    ----------
    fixed : float
        Seconds before the first unit.
    each : float
        Seconds for a unit, until something was measured.
    least : int
        Units below which a piece of work tells nothing about the units.
    """

    def __init__(self, fixed: float, each: float, least: int) -> None:
        self._fixed, self._each, self._least = fixed, each, least
        self._lock = threading.Lock()

    def seconds(self, units: int) -> float:
        """Time that so much work is expected to take."""
        return self._fixed + self._each * units

    def learn(self, units: int, seconds: float) -> None:
        """Take a piece of work that was done into account."""
        if units >= self._least:
            with self._lock:
                self._each += _WEIGHT * (seconds / units - self._each)

    def watch(self, batches: Iterator[pa.RecordBatch], units: Callable[[], int]) -> Iterator[pa.RecordBatch]:
        """Pass batches on, and learn from the time until all of them were taken."""
        started = time.monotonic()
        yield from batches
        self.learn(units(), time.monotonic() - started)
