"""Short words for tests that draw spectra and look at the pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from specflight.catalog.identifiers import pack_specobjid
from specflight.flight.fits import load_bytes, read_spec_file
from specflight.http.canvas import THEMES
from specflight.http.curves import flux_limits, read_trace
from specflight.http.drawing import PreviewOptions, Subject
from specflight.http.preview import draw_preview

Picture = NDArray[np.int64]
FIELDS = [(name, "<f4") for name in ("flux", "loglam", "ivar", "model", "sky")]
GALAXY = Subject(int(pack_specobjid(266, 51602, 107, "26")), 0.1, "GALAXY", "STARFORMING")
ALL: tuple[Literal["emission", "absorption", "sky"], ...] = ("emission", "absorption", "sky")


def spectrum(npix: int = 3800, k0: int = 35800, **columns: Any) -> NDArray[np.void]:  # noqa: ANN401 - values of a column
    """A flat spectrum of flux 5 with columns replaced."""
    made = np.zeros(npix, FIELDS)
    made["loglam"] = ((k0 + np.arange(npix)) * 1e-4).astype(np.float32)
    made["flux"], made["ivar"] = 5.0, 1.0
    for name, values in columns.items():
        made[name] = values
    return made


def real_spectrum(path: Path) -> tuple[NDArray[np.void], int]:
    """A spectrum of a file, and its specobjid."""
    file = read_spec_file(load_bytes(path))
    made = np.empty(file.words.shape[1], FIELDS)
    for name, _ in FIELDS:
        made[name] = file.column(name)
    return made, file.specobjid


def pixels(data: bytes) -> Picture:
    """Red, green and blue of a picture."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int64)


def frame(picture: Picture, theme: str = "light") -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the inside of the frame, found by the colour of its lines."""
    muted = (picture == THEMES[theme].muted).all(axis=2)
    rows = np.flatnonzero(muted.sum(axis=1) > 0.6 * picture.shape[1])
    columns = np.flatnonzero(muted[rows[0] : rows[-1] + 1].mean(axis=0) > 0.9)
    inner_rows, inner_columns = np.diff(rows).argmax(), np.diff(columns).argmax()
    return (
        int(columns[inner_columns]) + 1,
        int(rows[inner_rows]) + 1,
        int(columns[inner_columns + 1]),
        int(rows[inner_rows + 1]),
    )


def span_of(made: NDArray[np.void]) -> tuple[float, float]:
    """Wavelengths of the outer edges of the first and the last pixel, in Å."""
    loglam = made["loglam"].astype(np.float64)
    return float(10 ** (loglam[0] - 0.5e-4)), float(10 ** (loglam[-1] + 0.5e-4))


def column_of(wavelength: float, made: NDArray[np.void], left: int, right: int) -> int:
    """Column of a picture at which a wavelength stands."""
    low, high = span_of(made)
    return int(left + (wavelength - low) / (high - low) * (right - left))


def marked(picture: Picture, theme: str = "light") -> tuple[list[int], tuple[int, int]]:
    """Columns with blue dashes, counted from the inside of the frame, and how wide that is."""
    left, top, right, bottom = frame(picture, theme)
    inside = picture[top:bottom, left:right]
    blue = (inside[..., 2] - inside[..., 0] > 60).sum(axis=0)
    return (np.flatnonzero(blue > 0.35 * (bottom - top)) + left).tolist(), (left, right)


def texts(data: bytes) -> list[str]:
    """Every text of an SVG."""
    root = ElementTree.fromstring(data)
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def places(data: bytes) -> dict[str, float]:
    """Place of every text of an SVG, from the left."""
    root = ElementTree.fromstring(data)
    return {
        "".join(element.itertext()): float(element.attrib["x"])
        for element in root.iter("{http://www.w3.org/2000/svg}text")
    }


def svg(made: NDArray[np.void], subject: Subject = GALAXY, **options: Any) -> bytes:  # noqa: ANN401 - any option
    """A preview as SVG."""
    return draw_preview(made, subject, PreviewOptions(format="svg", **options))


def limits(made: NDArray[np.void]) -> tuple[float, float]:
    """Lowest and highest flux that a picture shows."""
    trace = read_trace(made, smooth=1, redshift=0, model=False, sky=False)
    assert trace is not None
    return flux_limits(trace)
