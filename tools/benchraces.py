"""What `specflight bench` measures, group by group.

What is compared takes turns (A B C A B C …), so that a machine that slows down or is shared does so for all alike.
Before spectra are timed, all ways to them are seen to give the same bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from specflight.client import Client
from specflight.errors import DamagedData
from specflight.flight.protocol import VECTORS
from specflight.tools.benchclients import Server, Use, crew, footprint
from specflight.tools.ingest import ingest
from specflight.tools.rawflight import RawClient
from specflight.tools.serve import Running

__all__ = ["GROUPS", "Figure", "Setting", "Way", "race", "timed"]

SIZES = (1, 100, 2000)
FITS_FILES = 200
"""Files that the FITS readers are given at most: more would take them seconds a round and change nothing."""

SINGLES = 16
"""Spectra that take turns in the latency of one."""

CLIENTS, SHARE = 8, 250


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


def _get(setting: Setting) -> list[Figure]:
    """Spectra by the hundred: the service, the limit, and files."""
    figures = []
    for size in sorted({min(size, len(setting.ids)) for size in SIZES}):
        setting.say(f"getSpec of {size:,}: comparing results")
        rounds = setting.repeat * max(1, min(20, 400 // size))
        figures += [figure for figure, _ in race(setting, f"getSpec of {size:,}", _ways_to(setting, size), rounds)]
    return figures


def _ways_to(setting: Setting, size: int) -> list[Way]:
    client, raw, ids = setting.client, setting.raw, setting.ids[:size]
    npy = [setting.scratch / f"{number}.npy" for number in range(size)]
    payload, aligned = _compare(setting, ids, npy)
    flux = payload // len(VECTORS)
    files = setting.files[: min(size, FITS_FILES)]
    note = f"{len(files)} of the {size:,} files" if len(files) < size else ""
    part = sum(np.load(path, mmap_mode="r").nbytes for path in npy[: len(files)])
    source, target = np.ones(payload, np.uint8), np.ones(payload, np.uint8)

    def way(name: str, work: Callable[[], object], size_bytes: int, limit: str | None = None) -> Way:
        return Way(name, partial(timed, work), size, size_bytes, limit)

    def from_files(name: str, read: Callable[[Path], object]) -> Way:
        work = partial(timed, lambda: [read(path) for path in files])
        return Way(name, work, len(files), part, "raw Flight", note)

    return [
        way("raw Flight", lambda: raw.get("all"), payload),
        way("arrow", lambda: client.getSpec(ids, fmt="arrow"), payload, "raw Flight"),
        way("numpy", lambda: client.getSpec(ids), payload, "raw Flight"),
        way("raw Flight, aligned", lambda: raw.get("aligned"), aligned),
        way("numpy, aligned", lambda: client.getSpec(ids, align=True), aligned, "raw Flight, aligned"),
        way("raw Flight, flux", lambda: raw.get("flux"), flux),
        way("arrow, flux", lambda: client.getSpec(ids, fmt="arrow", columns="flux"), flux, "raw Flight, flux"),
        way("memcpy", lambda: np.copyto(target, source), payload, "raw Flight"),
        way("np.load, a file each", lambda: [np.load(path) for path in npy], payload, "raw Flight"),
        from_files("fitsio, HDU 1", _by_fitsio),
        from_files("astropy, HDU 1", _by_astropy),
    ]


def _compare(setting: Setting, ids: NDArray[np.uint64], npy: list[Path]) -> tuple[int, int]:
    """Give the bare server its tables, write the .npy files, and see that all ways lead to the same bytes.

    Returns
    -------
    int, int
        Bytes of the values, as they are and aligned.
    """
    client, raw, of = setting.client, setting.raw, f"of {len(ids):,}"
    options: dict[str, dict[str, Any]] = {"flux": {"columns": "flux"}, "aligned": {"align": True}, "all": {}}
    for key, chosen in options.items():
        table = client.getSpec(ids, fmt="arrow", **chosen)
        raw.put(key, table)
        setting.same(f"raw Flight {key} {of} and arrow", raw.get(key).equals(table, check_metadata=True))
    records = client.getSpec(ids)
    for name in VECTORS:
        values = pa.concat_arrays([chunk.flatten() for chunk in table[name].chunks]).to_numpy()
        column = np.concatenate([record[name] for record in records])
        setting.same(f"arrow {name} {of} and numpy", values.tobytes() == column.tobytes())
    aligned = client.getSpec(ids, align=True)
    setting.same(f"aligned {of} and numpy", all(map(_lies_in, records, aligned)))
    for path, record in zip(npy, records, strict=True):
        np.save(path, record)
    setting.same(
        f"np.load {of} and numpy",
        all(np.load(path).tobytes() == record.tobytes() for path, record in zip(npy, records, strict=True)),
    )
    files = setting.files[: min(len(ids), FITS_FILES)]
    for reader, read in {"fitsio": _by_fitsio, "astropy": _by_astropy}.items():
        setting.same(f"{reader} {of} and numpy", all(map(_same_values, map(read, files), records)))
    return sum(record.nbytes for record in records), aligned.nbytes


def _lies_in(record: NDArray[np.void], row: NDArray[np.void]) -> bool:
    """Whether an aligned row is a spectrum with nothing but zeros around it."""
    first = int(np.searchsorted(row["loglam"], record["loglam"][0]))
    around = np.delete(row, slice(first, first + len(record)))
    empty = not any(around[name].any() for name in VECTORS if name != "loglam")
    return empty and row[first : first + len(record)].tobytes() == record.tobytes()


def _by_fitsio(path: Path) -> NDArray[np.void]:
    with fitsio.FITS(str(path)) as file:
        table: NDArray[np.void] = file[1].read()
        return table


def _by_astropy(path: Path) -> NDArray[np.void]:
    with fits.open(path) as hdus:
        return np.array(hdus[1].data)


def _same_values(table: NDArray[np.void], record: NDArray[np.void]) -> bool:
    names = {name.lower(): name for name in table.dtype.names or ()}
    return all(table[names[name]].astype(VECTORS[name].dtype).tobytes() == record[name].tobytes() for name in VECTORS)


def _latency(setting: Setting) -> list[Figure]:
    """One spectrum at a time, against a round trip that does nothing."""
    client, raw = setting.client, setting.raw
    singles = setting.ids[:SINGLES].tolist()
    tables = [client.getSpec(one, fmt="arrow") for one in singles]
    for one, table in zip(singles, tables, strict=True):
        raw.put(str(one), table)
    size = sum(table.nbytes for table in tables) // len(tables)

    def way(name: str, get: Callable[[int], object], size_bytes: int, limit: str | None = "raw action") -> Way:
        turns = cycle(singles)
        return Way(name, partial(timed, lambda: get(next(turns))), 1, size_bytes, limit)

    ways = [
        way("raw action", lambda _: raw.act(), 0, None),
        way("health action", lambda _: client.isAlive(), 0),
        way("raw Flight", lambda one: raw.get(str(one)), size),
        way("arrow", lambda one: client.getSpec(one, fmt="arrow"), size),
        way("numpy", lambda one: client.getSpec(one), size),
    ]
    runs = race(setting, "latency of one", ways, 200 * setting.repeat)
    return [replace(figure, p99=float(np.percentile(seconds, 99))) for figure, seconds in runs]


def _clients(setting: Setting) -> list[Figure]:
    """Several clients at the same time, against one."""
    setting.say(f"clients at once: starting {CLIENTS}")
    rng = np.random.default_rng(CLIENTS)
    count = min(SHARE, len(setting.ids))
    shares = {f"share {n}": rng.choice(setting.ids, count, replace=False) for n in range(CLIENTS)}
    sizes = []
    for key, ids in shares.items():
        table = setting.client.getSpec(ids, fmt="arrow")
        setting.raw.put(key, table)
        sizes.append(table.nbytes)
    with crew(setting.client.url, setting.raw_url, setting.client.context, shares) as members:

        def way(name: str, server: Server, number: int, limit: str | None = None) -> Way:
            members.get(server, number)
            return Way(name, partial(members.get, server, number), number * count, sum(sizes[:number]), limit)

        ways = [
            way("raw Flight, 1 client", "raw", 1),
            way("1 client", "specflight", 1, "raw Flight, 1 client"),
            way(f"raw Flight, {CLIENTS} clients", "raw", CLIENTS),
            way(f"{CLIENTS} clients", "specflight", CLIENTS, f"raw Flight, {CLIENTS} clients"),
        ]
        figures = [figure for figure, _ in race(setting, "clients at once", ways, 2 * setting.repeat)]
    gain = CLIENTS * figures[1].seconds / figures[3].seconds
    note = f"{CLIENTS} processes, arrow, {count} random spectra each; {gain:.2f} × the rate of 1 client"
    return [*figures[:3], replace(figures[3], note=note)]


def _memory(setting: Setting) -> list[Figure]:
    """Memory of a client that goes through all spectra, or holds many."""
    some = setting.ids[: SIZES[-1]]
    uses: dict[Use, NDArray[np.uint64]] = {"iterSpec": setting.ids, "arrow": some, "numpy": some}
    figures = []
    for use, ids in uses.items():
        setting.say(f"memory of a client: {use}, {len(ids):,} spectra")
        took = footprint(setting.client.url, setting.client.context, use, ids)
        grown = took.peak - took.baseline
        note = (
            f"peak {took.peak / 1e6:,.0f} MB, of which {took.baseline / 1e6:,.0f} MB before the first request: "
            f"{grown / took.bytes:.2f} of the payload more"
        )
        figures.append(Figure("memory of a client", use, took.spectra, took.bytes, took.seconds, note=note))
    return figures


def _ingest(setting: Setting) -> list[Figure]:
    """Ingest, against a loop that only reads."""
    rounds = max(2, min(setting.repeat, 4))
    turns = []
    for number in range(rounds):
        setting.say(f"ingest: round {number + 1} of {rounds}")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            turns.append(pool.submit(_ingest_turn, setting.files, setting.scratch, number % 2 == 0).result())
    taken = {turn[2] for turn in turns}
    setting.same(f"spectra that ingest took and the {len(setting.files):,} files", taken == {len(setting.files)})
    ours, theirs = (float(np.median([turn[side] for turn in turns])) for side in (0, 1))
    files, size = len(setting.files), sum(path.stat().st_size for path in setting.files)
    note = f"{os.cpu_count()} workers; starting them, checksums, catalogue, sky index, syncing to disk: all included"
    return [
        Figure("ingest", "fitsio, HDU 1 and 2", files, size, theirs, note="1 process, only reads"),
        Figure("ingest", "ingest", files, size, ours, limit="fitsio, HDU 1 and 2", ratio=theirs / ours, note=note),
    ]


def _ingest_turn(files: list[Path], scratch: Path, ours_first: bool) -> tuple[float, float, int]:
    """Seconds of an ingest and of a fitsio loop, and the spectra that ingest took; in a process that did neither."""
    taken: list[int] = []

    def by_ingest() -> None:
        with TemporaryDirectory(dir=scratch) as data:
            taken.append(ingest(Path(data), "bench", files, os.cpu_count() or 1).added)

    def by_fitsio() -> None:
        for path in files:
            with fitsio.FITS(str(path)) as file:
                file[1].read()
                file[2].read()

    if ours_first:
        return timed(by_ingest), timed(by_fitsio), taken[0]
    theirs = timed(by_fitsio)
    return timed(by_ingest), theirs, taken[0]


GROUPS: dict[str, Callable[[Setting], list[Figure]]] = {
    "get": _get,
    "latency": _latency,
    "clients": _clients,
    "memory": _memory,
    "ingest": _ingest,
}
"""What can be measured, by the name that ``--only`` takes."""
