"""What `specflight bench` measures, group by group.

Before spectra are timed, all ways to them are seen to give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
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

from specflight.flight.protocol import VECTORS
from specflight.tools.benchclients import Server, Use, crew, footprint
from specflight.tools.ingest import ingest
from specflight.tools.race import Figure, Setting, Way, race, timed

__all__ = ["GROUPS"]

SIZES = (1, 100, 2000)
FITS_FILES = 200
"""Files that the FITS readers are given at most: more would take them seconds a round and change nothing."""

SINGLES = 16
"""Spectra that take turns in the latency of one."""

CLIENTS, SHARE = 8, 250


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
