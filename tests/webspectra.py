"""Short words for tests that ask for spectra over HTTP, and the arrays that have to come."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from fixtures_server import Vectors
from numpy.typing import NDArray

from specflight.flight.protocol import grid_loglam

Truth = dict[str, dict[int, Path]]
Read = Callable[[Path], Vectors]

CONTEXT = "sdss_dr16"
NAMES = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")
OLD = {"X-DL-ClientVersion": "v1.2.0", "X-DL-AuthToken": "anonymous.0.0.anon_access"}


def fields(id_list: object, **more: object) -> dict[str, str]:
    """The eleven fields that old clients send, as text."""
    old = {
        "id_list": id_list,
        "values": "all",
        "format": "numpy",
        "align": False,
        "cutout": None,
        "w0": 0.0,
        "w1": 0.0,
        "context": CONTEXT,
        "profile": "default",
        "debug": False,
        "verbose": False,
    }
    return {name: str(value) for name, value in (old | more).items()}


def answered(web: httpx.Client, id_list: object, **more: object) -> httpx.Response:
    """Answer to a request as old clients send it."""
    return web.post("/getSpec", data=fields(id_list, **more), headers=OLD)


def arrays(answer: httpx.Response) -> NDArray[np.void]:
    """Spectra of an answer in numpy's format."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(answer.content))
    loaded: NDArray[np.void] = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return loaded


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and text of a refusal."""
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.status_code, answer.text


def whole(vectors: Vectors, names: tuple[str, ...] = NAMES) -> NDArray[np.void]:
    """A spectrum as a structured array."""
    made = np.zeros(len(vectors["flux"]), [(name, vectors[name].dtype.newbyteorder("<")) for name in names])
    for name in names:
        made[name] = vectors[name]
    return made


def on_grid(vectors: Vectors, first: int, npix: int, names: tuple[str, ...] = NAMES) -> NDArray[np.void]:
    """The same on a grid of `npix` pixels from `first` on."""
    own = whole(vectors, names)
    made = np.zeros(npix, own.dtype)
    at = round(float(vectors["loglam"][0]) * 1e4) - first
    made[max(at, 0) : max(at + len(own), 0)] = own[max(-at, 0) : max(npix - at, 0)]
    if "loglam" in names:
        made["loglam"] = grid_loglam(first, npix)
    return made


def pixels_of(vectors: Vectors) -> tuple[int, int]:
    """First pixel of a spectrum, and the one behind the last."""
    first = round(float(vectors["loglam"][0]) * 1e4)
    return first, first + len(vectors["loglam"])


def span_of(truth: dict[int, Vectors], ids: list[int]) -> tuple[int, int]:
    """First pixel, and the one behind the last, of some spectra."""
    limits = [pixels_of(truth[specobjid]) for specobjid in ids]
    return min(first for first, _ in limits), max(end for _, end in limits)


def same(got: NDArray[np.void], expected: NDArray[np.void]) -> bool:
    """Whether two arrays are the same to the bit."""
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()
