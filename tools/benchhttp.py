"""What `specflight bench` measures of the HTTP side.

Every request takes a new connection, as those of the old client do. The limit is what this machine's HTTP can do at
all: an empty answer of the same service, or the same bytes from Python's own file server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np

from specflight.errors import DamagedData
from specflight.tools.race import Figure, Setting, Way, race, timed

__all__ = ["bench_http"]

ALIGNED = 1000
"""Spectra of the aligned array."""

STACKED = 25_600
"""Rows of the stacked image."""

CLIENTS, EACH = 16, 20
"""Clients at once, and the spectra of each of their requests."""

PIECE = 1 << 20


def bench_http(setting: Setting) -> list[Figure]:
    """Single requests, pictures, a large array, a large image, and many clients at once."""
    return [*_single(setting), *_pictures(setting), *_large(setting), *_stacked(setting), *_crowd(setting)]


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _fetch(address: tuple[str, int], path: str, **fields: object) -> bytes:
    """Body of an answer; a POST where there are fields."""
    connection = HTTPConnection(*address, timeout=120)
    try:
        if fields:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, urlencode(fields), headers)
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise DamagedData(f"bench: {path} answers {answer.status} {body[:200]!r}")
        return body
    finally:
        connection.close()


def _drain(address: tuple[str, int], path: str, **fields: object) -> int:
    """Bytes of an answer that is thrown away as it comes."""
    connection = HTTPConnection(*address, timeout=120)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST" if fields else "GET", path, urlencode(fields) if fields else None, headers)
        answer, size = connection.getresponse(), 0
        while piece := answer.read(PIECE):
            size += len(piece)
        return size
    finally:
        connection.close()


def _single(setting: Setting) -> list[Figure]:
    """One spectrum a request, as old clients ask for them."""
    here, context = _address(setting.service.http), setting.client.context
    ids = setting.ids[:16].tolist()
    spectra = [_fetch(here, "/getSpec", id_list=one, context=context) for one in ids]
    wanted = setting.client.getSpec(ids)
    found = [np.load(BytesIO(body), allow_pickle=False) for body in spectra]
    setting.same(
        "getSpec of HTTP and numpy", all(a.tobytes() == b.tobytes() for a, b in zip(found, wanted, strict=True))
    )
    turns = cycle(ids)
    size = sum(map(len, spectra)) // len(spectra)

    def get() -> bytes:
        return _fetch(here, "/getSpec", id_list=next(turns), context=context)

    ways = [
        Way("/ping", partial(timed, lambda: _fetch(here, "/ping")), 1, len("OK")),
        Way("/getSpec of one", partial(timed, get), 1, size, "/ping"),
    ]
    return _with_p99(setting, "HTTP, one spectrum", ways, 100 * setting.repeat)


def _pictures(setting: Setting) -> list[Figure]:
    """Previews and grids, drawn anew and kept."""
    here, context = _address(setting.service.http), setting.client.context
    ids = setting.ids.tolist()
    many = cycle([(one, smooth) for smooth in range(3, 99, 2) for one in ids])
    starts = cycle(range(0, max(1, len(ids) - 25)))
    kept = f"/preview?id={ids[0]}&context={context}"

    def new() -> bytes:
        one, smooth = next(many)
        return _fetch(here, f"/preview?id={one}&context={context}&smooth={smooth}")

    def grid() -> bytes:
        start = next(starts)
        return _fetch(here, "/plotGrid", id_list=ids[start : start + 25], ncols=5, context=context)

    sizes = [len(make()) for make in (new, grid)]
    cells = min(25, len(ids))
    for _ in range(8):  # in every process
        _fetch(here, kept)
    ways = [
        Way("/ping", partial(timed, lambda: _fetch(here, "/ping")), 1, len("OK")),
        Way("/preview, new", partial(timed, new), 1, sizes[0], "/ping"),
        Way("/preview, kept", partial(timed, lambda: _fetch(here, kept)), 1, sizes[0], "/ping"),
        Way("/plotGrid of 5 x 5, new", partial(timed, grid), cells, sizes[1], "/ping"),
    ]
    return _with_p99(setting, "HTTP, pictures", ways, 10 * setting.repeat)


def _with_p99(setting: Setting, group: str, ways: list[Way], rounds: int) -> list[Figure]:
    runs = race(setting, group, ways, rounds)
    return [replace(figure, p99=float(np.percentile(seconds, 99))) for figure, seconds in runs]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


def _serve_folder(pipe: Connection, folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_address)
    pipe.poll(None)


@contextmanager
def _file_server(folder: Path) -> Iterator[tuple[str, int]]:
    """Python's own file server in a process of its own."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_folder, args=(theirs, folder), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def _large(setting: Setting) -> list[Figure]:
    """An aligned array, beside the same bytes as a file."""
    here, context = _address(setting.service.http), setting.client.context
    ids = np.resize(setting.ids, ALIGNED)
    fields = {"id_list": ids.tolist(), "align": True, "context": context}
    body = _fetch(here, "/getSpec", **fields)
    wanted = setting.client.getSpec(ids, align=True)
    setting.same("aligned getSpec of HTTP and numpy", np.load(BytesIO(body)).tobytes() == wanted.tobytes())
    (setting.scratch / "aligned.npy").write_bytes(body)
    with _file_server(setting.scratch) as files:
        ways = [
            Way("a file of Python's server", partial(timed, lambda: _drain(files, "/aligned.npy")), ALIGNED, len(body)),
            Way(
                f"/getSpec of {ALIGNED:,}, aligned",
                partial(timed, lambda: _drain(here, "/getSpec", **fields)),
                ALIGNED,
                len(body),
                "a file of Python's server",
            ),
        ]
        return [figure for figure, _ in race(setting, "HTTP, a large array", ways, 2 * setting.repeat)]


def _stacked(setting: Setting) -> list[Figure]:
    """A stacked image, beside its fluxes through Flight."""
    here, client = _address(setting.service.http), setting.client
    ids = np.resize(setting.ids, STACKED)
    fields = {"id_list": ids.tolist(), "context": client.context}

    def fluxes() -> int:
        return sum(batch.num_rows for batch in client.iterSpec(ids, "arrow", align=True, columns="flux"))

    npix = client.getSpec(setting.ids, fmt="arrow", align=True, columns="flux")["flux"].type.list_size
    before = [_peak(pid) for pid in setting.service.http_pids]
    limit = "the same fluxes through Flight"
    size = _drain(here, "/stackedImage", **fields)
    ways = [
        Way(limit, partial(timed, fluxes), STACKED, 4 * npix * STACKED),
        Way("/stackedImage", partial(timed, lambda: _drain(here, "/stackedImage", **fields)), STACKED, size, limit),
    ]
    figures = [figure for figure, _ in race(setting, "HTTP, a large image", ways, setting.repeat)]
    peaks = [_peak(pid) for pid in setting.service.http_pids]
    grown = max(after - first for after, first in zip(peaks, before, strict=True))
    took, more = max(peaks) / 1e6, grown / 1e6
    note = f"{STACKED:,} x {npix:,} pixels; an HTTP process took {took:,.0f} MB, {more:,.0f} MB more than before"
    return [figures[0], replace(figures[1], note=note)]


def _peak(pid: int) -> int:
    """Peak of the resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _crowd(setting: Setting) -> list[Figure]:
    """Many clients at once, and a ping meanwhile."""
    here, client = _address(setting.service.http), setting.client
    rng = np.random.default_rng(CLIENTS)
    shares = [rng.choice(setting.ids, EACH) for _ in range(CLIENTS)]
    fields = [{"id_list": share.tolist(), "align": True, "context": client.context} for share in shares]
    size = sum(len(_fetch(here, "/getSpec", **one)) for one in fields)
    pings: list[float] = []

    def crowd() -> None:
        done = threading.Event()
        watch = threading.Thread(target=_ping_until, args=(here, done, pings))
        watch.start()
        _at_once([partial(_drain, here, "/getSpec", **one) for one in fields])
        done.set()
        watch.join()

    def one_after_another() -> None:
        for one in fields:
            _drain(here, "/getSpec", **one)

    limit = "one after another"
    ways = [
        Way(limit, partial(timed, one_after_another), CLIENTS * EACH, size),
        Way(f"{CLIENTS} at once", partial(timed, crowd), CLIENTS * EACH, size, limit),
    ]
    figures = [figure for figure, _ in race(setting, "HTTP, many clients", ways, 4 * setting.repeat)]
    quick, slow = np.percentile(pings, [50, 99])
    note = f"{EACH} aligned spectra each; /ping meanwhile: median {1e3 * quick:.1f} ms, p99 {1e3 * slow:.1f} ms"
    return [figures[0], replace(figures[1], note=note)]


def _ping_until(address: tuple[str, int], done: threading.Event, seconds: list[float]) -> None:
    while not done.is_set():
        seconds.append(timed(lambda: _fetch(address, "/ping")))


def _at_once(works: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
