"""Calls of the old client, made inside its own environment; nothing of ours is imported here.

Run as ``python legacycalls.py`` in a folder with ``task.json``: where the service is, the values that the calls name,
and the calls, each a name and a Python expression. Every call is reported by a line of JSON on standard output: type,
shape and value of what came back, or the exception; arrays, images and bytes are left in files beside the task.

The client is used as it was published. Its import asks its home, on the internet, for the default context: that one
request is passed on to the service under test (`answered_by`), by a stand-in for ``pycurl_requests.get`` that is there
during the import only. A datagram socket that the import connects to 8.8.8.8, to learn this machine's address (no
packet is sent), gets the loopback interface where there is no route to the internet.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def answered_by(service: str) -> Iterator[None]:
    """Answer what the import of the client asks the internet; afterwards everything is as it was."""
    import pycurl_requests  # type: ignore[import-not-found]

    get, plain_socket = pycurl_requests.get, socket.socket

    def passed_on(url: str, **options: Any) -> Any:  # noqa: ANN401
        _, contexts, question = url.partition("/spec/contexts?")
        if not contexts:
            raise RuntimeError(f"the import of the client asks for {url}, which nobody answers here")
        return get(f"{service}/contexts?{question}", **options)

    class Routed(socket.socket):
        def connect(self, address: Any) -> None:  # noqa: ANN401
            try:
                super().connect(address)
            except OSError:
                if self.type != socket.SOCK_DGRAM:
                    raise
                super().connect(("127.0.0.1", 1))

    pycurl_requests.get, socket.socket = passed_on, Routed  # type: ignore[misc]
    try:
        yield
    finally:
        pycurl_requests.get, socket.socket = get, plain_socket  # type: ignore[misc]


class Drawn:
    """What a call of plot returned, and the first curve that it drew."""

    def __init__(self, returned: object) -> None:
        from matplotlib import pyplot

        self.returned = returned
        curve = pyplot.gcf().axes[0].lines[0]
        self.x, self.y = (np.asarray(values, dtype=float) for values in (curve.get_xdata(), curve.get_ydata()))
        pyplot.close("all")


def text(path: str) -> str:
    """Text of a local file."""
    with open(path) as file:
        return file.read()


def written(path: str, content: str) -> str:
    """Write a local file; its name comes back."""
    with open(path, "w") as file:
        file.write(content)
    return path


def race(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Seconds of two calls by turns: their lists, the median ratio of the second to the first, and what they gave."""
    lengths = len(first()), len(second())
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for call, seconds in zip((first, second), taken, strict=True):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
    ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
    return {"lengths": lengths, "seconds": taken, "ratio": ratio}


def describe(value: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
    """Type, shape and value of an object; its data go to files that start with `path`."""
    kind = type(value).__name__
    if isinstance(value, Drawn):
        np.savez(path + ".npz", x=value.x, y=value.y)
        return {**describe(value.returned, path), "file": path + ".npz"}
    if value is None or isinstance(value, (str, bool, int, float, dict)):
        return {"type": kind, "value": value}
    if isinstance(value, bytes):
        with open(path + ".bin", "wb") as file:
            file.write(value)
        return {"type": kind, "shape": [len(value)], "file": path + ".bin"}
    if isinstance(value, (list, tuple)):
        return {"type": kind, "items": [describe(item, f"{path}-{number}") for number, item in enumerate(value)]}
    if kind == "Spectrum1D":
        parts = {"wavelength": value.spectral_axis, "flux": value.flux, "model": value.meta["model"]}
        parts = {name: np.asarray(part.value) for name, part in parts.items()}
        np.savez(path + ".npz", ivar=value.uncertainty.array, **parts)
        return {"type": kind, "shape": list(value.shape), "file": path + ".npz"}
    about: dict[str, Any] = {}
    if hasattr(value, "getbands"):
        about = {"mode": value.mode, "size": list(value.size), "format": value.format}
        kind, array = "image", np.asarray(value)
    elif kind == "DataFrame":
        array = np.asarray(value.to_records(index=False))
    else:
        array = np.asarray(value.filled() if hasattr(value, "filled") else value)
    np.save(path + ".npy", array, allow_pickle=False)
    dtype = [list(field) for field in array.dtype.descr] if array.dtype.names else array.dtype.str
    return {"type": kind, "shape": list(array.shape), "dtype": dtype, "file": path + ".npy", **about}


def main() -> None:
    """Make the calls of ``task.json``."""
    with open("task.json") as file:
        task = json.load(file)
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with answered_by(task["service"]):
        from dl import specClient, storeClient  # type: ignore[import-not-found]
    import pandas
    import pycurl_requests
    from astropy.coordinates import SkyCoord

    warnings.simplefilter("ignore")
    specClient.set_svc_url(task["service"])
    storeClient.set_svc_url(task["storage"])
    names = {name: value for name, value in vars(specClient).items() if not name.startswith("_")}
    names.update(task["values"], service=task["service"], store=storeClient, requests=pycurl_requests)
    names.update(np=np, pd=pandas, SkyCoord=SkyCoord, os=os, BytesIO=io.BytesIO)
    names.update(text=text, written=written, race=race, drawn=Drawn)
    for number, (name, code) in enumerate(task["calls"]):
        outcome = {"name": name}
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                outcome.update(describe(eval(code, names), f"{number:04d}"))
            except Exception as error:
                outcome.update(type="error", error=type(error).__name__, message=str(error)[:500])
        outcome["seconds"] = round(time.perf_counter() - started, 4)
        print(json.dumps(outcome), file=report, flush=True)


if __name__ == "__main__":
    main()
