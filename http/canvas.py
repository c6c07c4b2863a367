"""A surface to draw spectra on, and its PNG form.

A picture of a spectrum is made of text, of upright and level lines, and of curves that cross every column of pixels
once. Drawing just these takes a few milliseconds; figures and axes of a general plotting library take ten times that.
Positions are in pixels from the upper left corner, x to the right and y downwards; sizes of text are in pixels.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, Protocol

import matplotlib
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from specflight.http.curves import Polyline, column_means, column_ranges
from specflight.http.png import encode_png

__all__ = [
    "THEMES",
    "Anchor",
    "Box",
    "Canvas",
    "Color",
    "RasterCanvas",
    "Theme",
    "text_parts",
    "text_width",
]

Color = tuple[int, int, int]
Anchor = Literal["left", "middle", "right"]
Floats = NDArray[np.float64]

FAINTEST = 0.004  # of the opacity: less does not change a byte
CROWDED = 2.5  # pixels of the spectrum in a column from which on its range and mean are drawn apart


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture; distinguishable with any colour vision (Okabe & Ito 2008)."""

    background: Color
    ink: Color
    muted: Color
    flux: Color
    scatter: Color
    model: Color
    sky: Color
    lines: dict[str, Color]


THEMES = {
    "light": Theme(
        background=(255, 255, 255),
        ink=(20, 20, 20),
        muted=(110, 110, 110),
        flux=(35, 45, 60),
        scatter=(172, 182, 196),
        model=(213, 94, 0),
        sky=(86, 180, 233),
        lines={"emission": (0, 114, 178), "absorption": (0, 135, 95), "sky": (140, 140, 140)},
    ),
    "dark": Theme(
        background=(18, 20, 26),
        ink=(235, 235, 235),
        muted=(150, 152, 158),
        flux=(232, 236, 242),
        scatter=(92, 102, 118),
        model=(255, 140, 60),
        sky=(70, 150, 205),
        lines={"emission": (86, 180, 233), "absorption": (60, 200, 150), "sky": (140, 142, 148)},
    ),
}


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels from `left` to before `right` and from `top` to before `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


class Canvas(Protocol):
    """Surface of `width` x `height` pixels."""

    width: int
    height: int

    def fill(self, box: Box, color: Color) -> None:
        """Fill a rectangle."""

    def dashes(self, column: int, top: int, bottom: int, color: Color, thickness: int) -> None:
        """Draw a dashed upright line, its left edge at a column."""

    def text(self, x: float, y: float, text: str, size: float, color: Color, anchor: Anchor = "left") -> None:
        """Write a line of text; `y` is its baseline, the letter behind ``_`` is an index."""

    def upright_text(self, x: float, y: float, text: str, size: float, color: Color) -> None:
        """Write text upwards, its middle at `y` and its baseline at `x`."""

    def curve(self, line: Polyline, box: Box, color: Color, thickness: float) -> None:
        """Draw a curve as far as it is in a box."""

    def flux(self, line: Polyline, points: tuple[Floats, Floats, Floats], box: Box, theme: Theme, size: float) -> None:
        """Draw a spectrum: its curve, and x, y and weight of its pixels, thickness `size`."""

    def finish(self) -> bytes:
        """Return the picture."""


@lru_cache(maxsize=128)
def _font(size: float, thread: int) -> ImageFont.FreeTypeFont:
    # A face of FreeType is not for several threads at once.
    del thread
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def text_parts(text: str, size: float) -> list[tuple[str, float, float]]:
    """Split a text where ``_`` makes the next letter an index: parts, their sizes and how far they are lowered."""
    head, *tails = text.split("_")
    parts = [(head, size, 0.0)]
    for tail in tails:
        parts += [(tail[:1], 0.75 * size, 0.18 * size), (tail[1:], size, 0.0)]
    return [part for part in parts if part[0]]


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Width of a text in pixels, in DejaVu Sans.

    Examples
    --------
    >>> text_width("5000", 9.0) == 2 * text_width("50", 9.0)
    True
    """
    return sum(_font(part_size, threading.get_ident()).getlength(part) for part, part_size, _ in text_parts(text, size))


@lru_cache(maxsize=1024)
def _lettering(text: str, size: float, upright: bool) -> Image.Image:
    """Opacity of a text; one pixel before its beginning, 1.1 `size` above its baseline and 0.4 `size` below."""
    ascent = round(1.1 * size)
    mask = Image.new("L", (math.ceil(text_width(text, size)) + 2, ascent + round(0.4 * size)))
    draw, x = ImageDraw.Draw(mask), 1.0
    for part, part_size, lowered in text_parts(text, size):
        font = _font(part_size, threading.get_ident())
        draw.text((round(x), round(ascent + lowered)), part, fill=255, font=font, anchor="ls")
        x += font.getlength(part)
    return mask.transpose(Image.Transpose.ROTATE_90) if upright else mask


class RasterCanvas:
    """Pixels in memory.

    Parameters
    ----------
    width, height : int
    background : tuple of int
    """

    def __init__(self, width: int, height: int, background: Color) -> None:
        self.width, self.height = width, height
        # Whole pixels are set as one number, which is faster than their four bytes.
        self._words = np.full((height, width), _word(background), np.uint32)
        self._bytes = self._words.view(np.uint8).reshape(-1, 4)
        self._texts: list[tuple[float, float, str, float, Color, Anchor]] = []
        self._upright_texts: list[tuple[float, float, str, float, Color]] = []

    def fill(self, box: Box, color: Color) -> None:
        """Fill a rectangle."""
        self._words[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)] = _word(color)

    def dashes(self, column: int, top: int, bottom: int, color: Color, thickness: int) -> None:
        """Draw a dashed upright line, its left edge at a column."""
        for begin in range(top, bottom, 5 * thickness):
            self.fill(Box(column, begin, column + thickness, min(begin + 3 * thickness, bottom)), color)

    def text(self, x: float, y: float, text: str, size: float, color: Color, anchor: Anchor = "left") -> None:
        """Write a line of text; `y` is its baseline, the letter behind ``_`` is an index."""
        self._texts.append((x, y, text, size, color, anchor))

    def upright_text(self, x: float, y: float, text: str, size: float, color: Color) -> None:
        """Write text upwards, its middle at `y` and its baseline at `x`."""
        self._upright_texts.append((x, y, text, size, color))

    def curve(self, line: Polyline, box: Box, color: Color, thickness: float) -> None:
        """Draw a curve as far as it is in a box."""
        least, greatest = column_ranges(line, box.left, box.width)
        self._bars(_broadened(least, -thickness), _broadened(greatest, thickness), box, color)

    def flux(self, line: Polyline, points: tuple[Floats, Floats, Floats], box: Box, theme: Theme, size: float) -> None:
        """Draw a spectrum: its curve, and x, y and weight of its pixels, thickness `size`.

        Where many pixels share a column, their range is drawn faintly and their weighted mean above it.
        """
        if len(points[0]) <= CROWDED * box.width:
            self.curve(line, box, theme.flux, size)
            return
        self.curve(line, box, theme.scatter, size)
        self.curve(column_means(*points, box.left, box.width), box, theme.flux, size)

    def _bars(self, tops: Floats, bottoms: Floats, box: Box, color: Color) -> None:
        """Draw a bar in every column, its ends to a fraction of a pixel."""
        columns = np.flatnonzero(np.isfinite(tops))
        top, bottom = (np.clip(edge[columns], box.top, box.bottom) for edge in (tops, bottoms))
        first, last = np.ceil(top).astype(np.int64), np.floor(bottom).astype(np.int64)
        columns += box.left
        whole = np.maximum(last - first, 0)
        below = np.arange(whole.sum()) - np.repeat(np.cumsum(whole) - whole, whole)
        self._words.ravel()[np.repeat(first * self.width + columns, whole) + below * self.width] = _word(color)
        thin = first > last  # within one pixel
        self._blend(first - 1, columns, np.where(thin, bottom, first) - top, color)
        self._blend(last, columns, np.where(thin, 0, bottom - last), color)

    def _blend(self, rows: NDArray[np.int64], columns: NDArray[np.int64], opacity: Floats, color: Color) -> None:
        seen = opacity > FAINTEST
        places = rows[seen] * self.width + columns[seen]
        below = self._bytes[places]
        blended = below + (np.array((*color, 255)) - below) * opacity[seen, None]
        self._bytes[places] = (blended + 0.5).astype(np.uint8)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the finished picture, shape (height, width, 4)."""
        image = Image.fromarray(self._bytes.reshape(self.height, self.width, 4))
        for x, y, text, size, color, anchor in self._texts:
            start = x - {"left": 0.0, "middle": 0.5, "right": 1.0}[anchor] * text_width(text, size)
            mask = _lettering(text, size, False)
            image.paste((*color, 255), (round(start) - 1, round(y) - round(1.1 * size)), mask)
        for x, y, text, size, color in self._upright_texts:
            mask = _lettering(text, size, True)
            image.paste((*color, 255), (round(x) - round(1.1 * size), round(y - mask.height / 2)), mask)
        return np.asarray(image)

    def finish(self) -> bytes:
        """Return the picture as PNG, RGBA."""
        return encode_png(self.pixels())


@cache
def _word(color: Color) -> int:
    return int(np.array((*color, 255), np.uint8).view(np.uint32)[0])


def _broadened(edge: Floats, thickness: float) -> Floats:
    """Move the edge of a curve outwards by half its thickness, and sideways where that is more than a column."""
    more = round(abs(thickness)) - 1
    if more > 0:
        aside = sliding_window_view(np.pad(edge, (more // 2, more - more // 2), constant_values=np.nan), more + 1)
        edge = (np.fmin if thickness < 0 else np.fmax).reduce(aside, axis=1)
    return edge + 0.5 * thickness
