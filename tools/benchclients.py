"""What `specflight bench` runs in fresh processes: clients at the same time, and a client whose memory is watched.

This module imports the client and nothing else, so that the memory of its process is that of a client.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from specflight.client import Client
from specflight.tools.rawflight import RawClient

__all__ = ["Crew", "Footprint", "Server", "crew", "footprint"]

Server = Literal["specflight", "raw"]
Use = Literal["iterSpec", "arrow", "numpy"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a client process took for its work.

    Attributes
    ----------
    seconds : float
        Duration of the work.
    spectra : int
        Spectra got.
    bytes : int
        Bytes of their values.
    baseline : int
        Peak of the resident memory when it was connected but had asked for nothing, in bytes.
    peak : int
        The same at the end.
    """

    seconds: float
    spectra: int
    bytes: int
    baseline: int
    peak: int


def _peak() -> int:
    """Peak of the resident memory of this process, in bytes."""
    try:
        # ru_maxrss would start from the parent's: Linux hands it on across exec.
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _footprint(url: str, context: str, use: Use, ids: NDArray[np.uint64]) -> Footprint:
    with Client(url, context) as client:
        client.isAlive()
        baseline = _peak()
        started = time.perf_counter()
        got: Any
        if use == "iterSpec":
            size, count = 0, 0
            for spectrum in client.iterSpec(ids):
                size, count = size + spectrum.nbytes, count + 1
        elif use == "arrow":
            got = client.getSpec(ids, fmt="arrow")
            size, count = got.nbytes, got.num_rows
        else:
            got = client.getSpec(ids)
            size, count = sum(spectrum.nbytes for spectrum in got), len(got)
        return Footprint(time.perf_counter() - started, count, size, baseline, _peak())


def footprint(url: str, context: str, use: Use, ids: NDArray[np.uint64]) -> Footprint:
    """Have a fresh process get spectra.

    Parameters
    ----------
    url, context : str
        Of the service.
    use : {'iterSpec', 'arrow', 'numpy'}
        Go through them one by one, or hold them all.
    ids : ndarray of uint64
        The spectra.

    Returns
    -------
    Footprint
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_footprint, url, context, use, ids).result()


def _member(pipe: Connection, url: str, raw_url: str, context: str, key: str, ids: NDArray[np.uint64]) -> None:
    client, raw = Client(url, context), RawClient(raw_url)
    pipe.send(client.isAlive())
    while True:
        try:
            server: Server = pipe.recv()
        except EOFError:
            break
        table = client.getSpec(ids, fmt="arrow") if server == "specflight" else raw.get(key)
        pipe.send(table.num_rows)
        del table
    raw.close()
    client.close()


class Crew:
    """Client processes that ask at the same time.

    Parameters
    ----------
    pipes : list of Connection
        To each of them.
    """

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def get(self, server: Server, members: int) -> float:
        """Have the first so many members get their spectra, all at once.

        Returns
        -------
        float
            Seconds until the last one had them.
        """
        started = time.perf_counter()
        for pipe in self._pipes[:members]:
            pipe.send(server)
        for pipe in self._pipes[:members]:
            pipe.recv()
        return time.perf_counter() - started


@contextmanager
def crew(url: str, raw_url: str, context: str, shares: dict[str, NDArray[np.uint64]]) -> Iterator[Crew]:
    """Start client processes, connected and waiting.

    Parameters
    ----------
    url, context : str
        Of the service.
    raw_url : str
        Of the bare server.
    shares : dict of str to ndarray of uint64
        For each member the key of its table in the bare server, and its spectra.

    Yields
    ------
    Crew
    """
    spawn = get_context("spawn")
    pipes, processes = [], []
    try:
        for key, ids in shares.items():
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_member, args=(theirs, url, raw_url, context, key, ids), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()
        yield Crew(pipes)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join()
