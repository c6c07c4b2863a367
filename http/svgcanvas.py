"""A surface to draw spectra on that becomes Scalable Vector Graphics (SVG 1.1), with every pixel of a spectrum."""

from __future__ import annotations

from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from specflight.http.canvas import Anchor, Box, Color, Theme, text_parts
from specflight.http.curves import Polyline

__all__ = ["SvgCanvas"]

Floats = NDArray[np.float64]

# Verdana has the widths of DejaVu Sans, for which there is room.
FONTS = "'DejaVu Sans', Verdana, sans-serif"
ANCHORS = {"left": "start", "middle": "middle", "right": "end"}
FAR = 1e5  # pixels: readers of SVG do not take any number


class SvgCanvas:
    """Elements of an SVG file.

    Parameters
    ----------
    width, height : int
        Pixels.
    background : tuple of int
    """

    def __init__(self, width: int, height: int, background: Color) -> None:
        self.width, self.height = width, height
        self._elements: list[str] = []
        self._clips: dict[Box, str] = {}
        self.fill(Box(0, 0, width, height), background)

    def fill(self, box: Box, color: Color) -> None:
        """Fill a rectangle."""
        self._elements.append(f'<rect {_area(box)} fill="{_hex(color)}"/>')

    def dashes(self, column: int, top: int, bottom: int, color: Color, thickness: int) -> None:
        """Draw a dashed upright line, its left edge at a column."""
        self._elements.append(
            f'<path d="M{column + thickness / 2:g} {top}V{bottom}" stroke="{_hex(color)}" stroke-width="{thickness}" '
            f'stroke-dasharray="{3 * thickness} {2 * thickness}"/>'
        )

    def text(self, x: float, y: float, text: str, size: float, color: Color, anchor: Anchor = "left") -> None:
        """Write a line of text; `y` is its baseline, the letter behind ``_`` is an index."""
        self._text(x, y, text, size, color, anchor, "")

    def upright_text(self, x: float, y: float, text: str, size: float, color: Color) -> None:
        """Write text upwards, its middle at `y` and its baseline at `x`."""
        self._text(x, y, text, size, color, "middle", f' transform="rotate(-90 {x:.2f} {y:.2f})"')

    def _text(self, x: float, y: float, text: str, size: float, color: Color, anchor: Anchor, turned: str) -> None:
        spans, above = "", 0.0
        for part, part_size, lowered in text_parts(text, size):
            spans += f'<tspan dy="{lowered - above:.2f}" font-size="{part_size:.2f}">{escape(part)}</tspan>'
            above = lowered
        self._elements.append(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{ANCHORS[anchor]}" fill="{_hex(color)}"{turned} '
            f'xml:space="preserve">{spans}</text>'
        )

    def curve(self, line: Polyline, box: Box, color: Color, thickness: float) -> None:
        """Draw a curve as far as it is in a box."""
        clip = self._clips.setdefault(box, f"box{len(self._clips)}")
        y = np.clip(line.y, -FAR, FAR)
        starts = np.diff(line.piece, prepend=-1) > 0
        points = zip(starts.tolist(), line.x.tolist(), y.tolist(), strict=True)
        path = "".join(f"{'M' if start else 'L'}{x:.2f} {y:.2f}" for start, x, y in points)
        self._elements.append(
            f'<path d="{path}" fill="none" stroke="{_hex(color)}" stroke-width="{thickness:g}" '
            f'stroke-linejoin="round" clip-path="url(#{clip})"/>'
        )

    def flux(self, line: Polyline, points: tuple[Floats, Floats, Floats], box: Box, theme: Theme, size: float) -> None:
        """Draw a spectrum: its curve; the points and their weights are not needed."""
        del points
        self.curve(line, box, theme.flux, 0.6 * size)

    def finish(self) -> bytes:
        """Return the picture as SVG, UTF-8."""
        clips = "".join(f'<clipPath id="{name}"><rect {_area(box)}/></clipPath>' for box, name in self._clips.items())
        return "\n".join(
            (
                '<?xml version="1.0" encoding="UTF-8"?>',
                f'<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" font-family="{FONTS}">',
                f"<defs>{clips}</defs>",
                *self._elements,
                "</svg>\n",
            )
        ).encode()


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _area(box: Box) -> str:
    return f'x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}"'
