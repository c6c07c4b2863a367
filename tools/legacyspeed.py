"""How fast the unmodified old client is at a service, beside its own bare requests in the same run."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from specflight.client import Client
from specflight.errors import ServiceUnavailable
from specflight.tools.conformance import SERVICE, flight_of
from specflight.tools.legacyenv import CLIENT, legacy_python
from specflight.tools.legacyrun import Run, run_calls
from specflight.tools.legacysample import find_sample

__all__ = ["Race", "show_speed", "speed"]

ALIGNED, UNALIGNED = 1000, 300

_ALIGNED = "getSpec(thousand, align=True)"
_FILE = "its download of the same bytes from a file"
_BASELINES = (
    ("requests.post(service + '/getSpec', data=body, headers=form).content", "its POST of the same request", _ALIGNED),
    ("requests.get(file).content", _FILE, _ALIGNED),
    ("np.load(BytesIO(requests.get(file).content))", f"{_FILE}, and np.load", _ALIGNED),
    ("[requests.get(ping, headers=client.getHeaders(None)).content for _ in few]", "its /ping", "getSpec(few)"),
)
"""Requests of the library that the client uses, what they are, and the client's call that is raced against them."""


@dataclass(frozen=True, slots=True)
class Race:
    """A call of the client beside its bare requests.

    Attributes
    ----------
    call, beside : str
    ratio : float
        Rate of the call by that of the bare requests, the median of rounds by turns.
    seconds : float
        Of the call, median.
    spectra : int
    """

    call: str
    beside: str
    ratio: float
    seconds: float
    spectra: int


def speed(
    url: str = SERVICE,
    *,
    environment: Path | None = None,
    rounds: int = 5,
    say: Callable[[str], object] = print,
) -> tuple[Race, ...]:
    """Race the old client against its own bare requests.

    1,000 aligned spectra beside the same request of the same HTTP library, its body only read, and beside a download of
    the same bytes from a file (Python's http.server), without and with the np.load that the client adds to every
    answer; 300 unaligned ones, a request each, beside as many of ``/ping``.

    Parameters
    ----------
    url, environment, say
        As for `specflight.tools.conformance.conformance`, and so are the errors.
    rounds : int
        Of each race, after one that does not count.
    """
    url = url.rstrip("/")
    with Client(flight_of(url)) as client:
        sample = find_sample(client)
    python = legacy_python(environment, say)
    say(f"racing {CLIENT} at {url}: {ALIGNED} aligned and {UNALIGNED} unaligned spectra, {rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="specflight-") as folder:
        body = _body(url, sample.thousand)
        answer = Path(folder, "served", "spectra.npy")
        answer.parent.mkdir()
        answer.write_bytes(httpx.post(f"{url}/getSpec", data=body, timeout=120.0).content)
        with _served(answer) as file:
            values: dict[str, Any] = {
                "thousand": sample.thousand,
                "few": sample.thousand[:UNALIGNED],
                "body": body,
                "file": file,
                "ping": url.removesuffix("/spec") + "/ping",
                "form": {"Content-Type": "application/x-www-form-urlencoded", "X-DL-ClientVersion": "v1.2.0"},
                "rounds": rounds,
            }
            calls = [(beside, f"race(lambda: {plain}, lambda: {call}, rounds)") for plain, beside, call in _BASELINES]
            run = run_calls(python, Path(folder), url, calls, values)
        size = answer.stat().st_size
        return tuple(_race(call, beside, run, size) for _, beside, call in _BASELINES)


def _body(url: str, ids: list[int]) -> dict[str, Any]:
    """The fields that the client sends for an aligned list."""
    body = {"id_list": str(ids), "values": "all", "format": "numpy", "align": "True", "cutout": "None"}
    body |= {"w0": "0.0", "w1": "0.0", "context": "default", "profile": "default", "debug": "False", "verbose": "False"}
    try:
        span = httpx.post(f"{url}/listSpan", data=body, timeout=120.0).raise_for_status().json()
    except httpx.HTTPError as error:
        raise ServiceUnavailable(f"url: {url} does not answer for {len(ids)} spectra: {error}") from None
    return body | {name: str(value) for name, value in span.items()}


def _race(call: str, beside: str, run: Run, size: int) -> Race:
    result = run.results.get(beside)
    if result is None or result.kind == "error":
        raise ServiceUnavailable(f"url: the client did not get its spectra: {run.end if result is None else result}")
    plain, spectra = result.value["lengths"]
    if plain not in (size, spectra):
        raise ServiceUnavailable(f"url: {beside} gave {plain} bytes, not {size}")
    return Race(call, beside, 1 / result.value["ratio"], statistics.median(result.value["seconds"][1]), spectra)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the method it replaces
        pass


@contextmanager
def _served(file: Path) -> Iterator[str]:
    """URL at which a file can be fetched."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(file.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{file.name}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def show_speed(races: tuple[Race, ...]) -> str:
    """Markdown table of races."""
    lines = [
        f"| `{race.call}`, {race.spectra:,} ids | {race.spectra / race.seconds:,.0f} spectra/s | {race.beside} | "
        f"{race.ratio:.2f} |"
        for race in races
    ]
    return "\n".join(["| call | rate | beside | ratio of rates |", "|---|---|---|---|", *lines]) + "\n"
