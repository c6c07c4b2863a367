"""Axes of the picture of a spectrum: where everything stands at a given size, ticks and their numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from specflight.http.canvas import Box, Canvas, Theme, text_width

__all__ = ["Layout", "Scale", "draw_frame", "flux_scale", "flux_unit", "lay_out", "wavelength_scale"]

FULL_WIDTH, FULL_HEIGHT = 400, 200  # pixels from which on there is room for the names of axes
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WIDEST = "\N{MINUS SIGN}1000"  # among the numbers at the flux axis
FLUX_EXPONENT = -17  # of the unit of SDSS fluxes


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand; rows and columns are pixels, `size` is that of the text.

    Attributes
    ----------
    full : bool
        Whether axes have names and ticks on all sides; else the units are in the corners.
    size : float
        Of the text.
    stroke : int
        Thickness of the frame, ticks and marks.
    box : Box
        Inside of the frame.
    header : float or None
        Baseline of the title, if there is room.
    tiers : tuple of float
        Baselines for the names of lines, the lowest first.
    numbers : float or None
        Baseline of the numbers of the wavelength axis.
    flux_numbers : bool
        Whether the flux axis has numbers.
    """

    full: bool
    size: float
    stroke: int
    box: Box
    header: float | None
    tiers: tuple[float, ...]
    numbers: float | None
    flux_numbers: bool

    @property
    def label(self) -> float:
        """Size of the names of lines."""
        return max(7.0, 0.85 * self.size)


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear scale of an axis.

    Attributes
    ----------
    low, high : float
        Values at its ends.
    start, end : float
        Pixels of these.
    major, minor : tuple of float
        Values of the ticks.
    numbers : tuple of str
        Text at each major tick.
    exponent : int
        The numbers are in units of ten to it.
    """

    low: float
    high: float
    start: float
    end: float
    major: tuple[float, ...]
    minor: tuple[float, ...]
    numbers: tuple[str, ...]
    exponent: int = 0

    @property
    def slope(self) -> float:
        """Pixels per unit."""
        return (self.end - self.start) / (self.high - self.low)


def lay_out(width: int, height: int, *, header: bool, tiers: int) -> Layout:
    """Choose sizes and places for a picture.

    Parameters
    ----------
    width, height : int
        Pixels of the picture.
    header : bool
        Whether a title is wanted.
    tiers : int
        Rows for names of spectral lines; fewer where there is no room.
    """
    full = width >= FULL_WIDTH and height >= FULL_HEIGHT
    grown = 7.4 * (width * height / 40000) ** 0.3  # pages show large pictures smaller
    size = round(2 * max(7.0, min(max(9.0, grown), height / (18 if full else 10.5), width / 30))) / 2
    stroke = max(1, round(size / 14))
    label = max(7.0, 0.85 * size)
    margin = 0.5 * size if full else 1.0
    top, bottom = margin + 1, height - margin - 1
    baseline = numbers = None
    if header and height >= 56:
        baseline = top + 0.95 * size
        top = baseline + (0.6 if full else 0.3) * size
    tiers = min(tiers, 0 if height < 72 else 1 if not full else 2 if height < 500 else 3)
    top += 1.2 * label * tiers
    rows = tuple(top - (0.3 + 1.2 * tier) * label for tier in range(tiers))
    if full:
        numbers = bottom - 2.1 * size
        bottom = numbers - 1.15 * size
    elif height >= 32 and width >= 60:
        numbers = bottom - 1
        bottom = numbers - 0.75 * size - 3
    flux_numbers = full or (width >= 160 and height >= 48)
    left, right = margin + 1, width - (1.3 * size if full else 5 if width >= 60 else 2)
    if flux_numbers:
        left += text_width(WIDEST, size) + (2.3 * size if full else 4)
    box = Box(round(left) + stroke, round(top) + stroke, round(right) - stroke, round(bottom) - stroke)
    if box.width < 1 or box.height < 1:
        box = Box(0, 0, width, height)
    return Layout(full, size, stroke, box, baseline, rows, numbers, flux_numbers)


def _step(span: float, most: int) -> float:
    """Smallest of 1, 2, 5 times a power of ten that goes into a span at most so many times."""
    rough = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def _ticks(
    low: float, high: float, most: int, pixels: float, finest: float
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Step of the major ticks, major ticks (two at least), minor ticks at least `finest` pixels apart."""
    step = _step(high - low, most)
    while len(_multiples(low, high, step)) < 2:
        most += 1
        step = _step(high - low, most)
    parts = 4 if round(step / 10 ** math.floor(math.log10(step) + 1e-9)) == 2 else 5
    fine = step / parts * pixels / (high - low) >= finest
    return step, _multiples(low, high, step), _multiples(low, high, step / parts) if fine else ()


def _number(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def wavelength_scale(span: tuple[float, float], layout: Layout) -> Scale:
    """Scale of the wavelength axis.

    Parameters
    ----------
    span : tuple of float
        First and last wavelength, Å.
    layout : Layout
    """
    box, (low, high) = layout.box, span
    room = text_width("00000", layout.size) + (2.5 if layout.full else 2.0) * layout.size
    step, major, minor = _ticks(low, high, int(box.width / room), box.width, 4 * layout.stroke)
    return Scale(low, high, box.left, box.right, major, minor, tuple(_number(value, step) for value in major))


def flux_scale(limits: tuple[float, float], layout: Layout) -> Scale:
    """Scale of the flux axis; numbers have four characters at most, a power of ten goes to the unit."""
    box, (low, high) = layout.box, limits
    most = max(2, int(box.height / ((2.6 if layout.full else 1.9) * layout.size)))
    step, major, minor = _ticks(low, high, most, box.height, 4 * layout.stroke)
    largest = max(abs(value) for value in (low, high))
    exponent = 0
    if largest >= 1e4 or step < 0.01:
        exponent = 3 * math.floor(math.log10(largest) / 3)
    numbers = tuple(_number(value / 10.0**exponent, step / 10.0**exponent) for value in major)
    return Scale(low, high, box.bottom, box.top, major, minor, numbers, exponent)


def flux_unit(exponent: int, *, short: bool = False) -> str:
    """Unit of the numbers at the flux axis, which are also by ten to `exponent` smaller.

    Examples
    --------
    >>> flux_unit(0)
    '10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹'
    """
    unit = "erg/s/cm²/Å" if short else "erg s⁻¹ cm⁻² Å⁻¹"
    return f"10{str(FLUX_EXPONENT + exponent).translate(SUPERSCRIPTS)} {unit}"


def draw_frame(canvas: Canvas, layout: Layout, theme: Theme, x: Scale, y: Scale | None, *, rest_frame: bool) -> None:
    """Draw the frame, ticks, numbers and names of the axes; without `y` the flux axis stays bare."""
    box, stroke = layout.box, layout.stroke
    outer = Box(box.left - stroke, box.top - stroke, box.right + stroke, box.bottom + stroke)
    if outer.left >= 0:
        for side in (
            Box(outer.left, outer.top, outer.right, box.top),
            Box(outer.left, box.bottom, outer.right, outer.bottom),
            Box(outer.left, outer.top, box.left, outer.bottom),
            Box(box.right, outer.top, outer.right, outer.bottom),
        ):
            canvas.fill(side, theme.muted)
    length = round(0.4 * layout.size) if layout.full else 3
    _wavelength_ticks(canvas, layout, theme, x, length)
    _wavelength_numbers(canvas, layout, theme, x, rest_frame)
    if y is not None:
        _flux_axis(canvas, layout, theme, y, length)


def _wavelength_ticks(canvas: Canvas, layout: Layout, theme: Theme, x: Scale, length: int) -> None:
    box, stroke = layout.box, layout.stroke
    for values, long in ((x.minor, (length + 1) // 2), (x.major, length)):
        for value in values:
            column = min(int(x.start + (value - x.low) * x.slope), box.right - 1) - (stroke - 1) // 2
            canvas.fill(Box(column, box.bottom - long, column + stroke, box.bottom), theme.muted)
            if layout.full:
                canvas.fill(Box(column, box.top, column + stroke, box.top + long), theme.muted)


def _wavelength_numbers(canvas: Canvas, layout: Layout, theme: Theme, x: Scale, rest_frame: bool) -> None:
    if layout.numbers is None:
        return
    size, box = layout.size, layout.box
    written, limit = 1.0, canvas.width - 2.0
    if not layout.full:
        unit = "Å rest" if rest_frame else "Å"
        canvas.text(limit, layout.numbers, unit, size, theme.ink, "right")
        limit -= text_width(unit, size) + 0.4 * size
    for value, number in zip(x.major, x.numbers, strict=True):
        where, half = x.start + (value - x.low) * x.slope, 0.5 * text_width(number, size)
        if written < where - half and where + half <= limit:
            canvas.text(where, layout.numbers, number, size, theme.ink, "middle")
            written = where + half
    if layout.full:
        name = "rest wavelength [Å]" if rest_frame else "vacuum wavelength [Å]"
        canvas.text((box.left + box.right) / 2, layout.numbers + 1.65 * size, name, size, theme.ink, "middle")


def _flux_axis(canvas: Canvas, layout: Layout, theme: Theme, y: Scale, length: int) -> None:
    size, stroke, box = layout.size, layout.stroke, layout.box
    for values, long in ((y.minor if layout.full else (), (length + 1) // 2), (y.major, length)):
        for value in values:
            row = min(int(y.start + (value - y.low) * y.slope), box.bottom - 1) - (stroke - 1) // 2
            canvas.fill(Box(box.left, row, box.left + long, row + stroke), theme.muted)
            if layout.full:
                canvas.fill(Box(box.right - long, row, box.right, row + stroke), theme.muted)
    if not layout.flux_numbers:
        return
    for value, number in zip(y.major, y.numbers, strict=True):
        where = y.start + (value - y.low) * y.slope
        if where < 0.4 * size + 2:
            continue
        canvas.text(box.left - stroke - 0.3 * size, where + 0.36 * size, number, size, theme.ink, "right")
    if layout.full:
        name = f"f_λ [{flux_unit(y.exponent)}]"
        canvas.upright_text(1.4 * size, (box.top + box.bottom) / 2, name, size, theme.ink)
