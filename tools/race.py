"""What a benchmark is made of: the ways that are compared, the race between them, and a line of the report.

What is compared takes turns (A B C A B C …), so that a machine that slows down or is shared does so for all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specflight.client import Client
from specflight.errors import DamagedData
from specflight.tools.rawflight import RawClient
from specflight.tools.serve import Running

__all__ = ["Figure", "Setting", "Way", "race", "timed"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the report.

    Attributes
    ----------
    group, name : str
        What was measured.
    spectra, bytes : int
        Spectra that one measurement gave, and bytes of their values.
    seconds : float
        Median of the measurements.
    p99 : float or None
        99th percentile in seconds, where there are enough measurements to tell.
    limit : str or None
        Name of the line of the same group that this one is compared with.
    ratio : float or None
        Spectra per second over those of `limit`.
    note : str
        What else is to be known.
    """

    group: str
    name: str
    spectra: int
    bytes: int
    seconds: float
    p99: float | None = None
    limit: str | None = None
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Servers that run, and what is asked of them.

    Attributes
    ----------
    client : Client
        Of the service, with the context that is measured.
    service : Running
    raw : RawClient
    raw_url : str
        Location of the bare server.
    ids : ndarray of uint64, shape (n,)
        Spectra in random order.
    files : list of Path
        The FITS file of each.
    scratch : Path
        Folder for files that are thrown away.
    repeat : int
        Rounds of the slow measurements; quick ones take more.
    say : callable
        Is told what goes on.
    equal : list of str
        Comparisons that found the same bytes, added to as they are made.
    """

    client: Client
    service: Running
    raw: RawClient
    raw_url: str
    ids: NDArray[np.uint64]
    files: list[Path]
    scratch: Path
    repeat: int
    say: Callable[[str], None]
    equal: list[str]

    def same(self, what: str, equal: bool) -> None:
        """Take down that two results are the same bytes.

        Raises
        ------
        DamagedData
            If they are not.
        """
        if not equal:
            raise DamagedData(f"bench: {what} differ, so their speed is not to be compared")
        self.equal.append(what)


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that are compared.

    Attributes
    ----------
    name : str
    run : callable
        Returns the seconds that it took.
    spectra, bytes : int
        What one run gives.
    limit : str or None
        The way of the same group that this one is compared with.
    note : str
        What else is to be known.
    """

    name: str
    run: Callable[[], float]
    spectra: int
    bytes: int
    limit: str | None = None
    note: str = ""


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes, whose result is thrown away."""
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    del result  # to give the memory back is not part of the work
    return seconds


def race(setting: Setting, group: str, ways: Sequence[Way], rounds: int) -> list[tuple[Figure, list[float]]]:
    """Figure of each way, and the seconds of each round."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(rounds):
        if number % max(1, rounds // 5) == 0:
            setting.say(f"{group}: round {number + 1} of {rounds}")
        for way in ways:
            times[way.name].append(way.run())
    median = {name: float(np.median(seconds)) for name, seconds in times.items()}
    each = {way.name: median[way.name] / way.spectra for way in ways}
    return [
        (
            Figure(
                group,
                way.name,
                way.spectra,
                way.bytes,
                median[way.name],
                limit=way.limit,
                ratio=each[way.limit] / each[way.name] if way.limit else None,
                note=way.note,
            ),
            times[way.name],
        )
        for way in ways
    ]
