"""Pictures of single spectra."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import unpack_specobjid
from specflight.errors import InvalidRequest
from specflight.http.axes import Layout, Scale, draw_frame, flux_scale, flux_unit, lay_out, wavelength_scale
from specflight.http.canvas import THEMES, Box, Canvas, Color, RasterCanvas, Theme, text_width
from specflight.http.curves import Polyline, Trace, flux_limits, read_trace
from specflight.http.drawing import PreviewOptions, Subject, vectors_of
from specflight.http.linemarks import draw_marks, lines_in_view, place_marks
from specflight.http.svgcanvas import SvgCanvas

__all__ = ["PreviewOptions", "Subject", "draw_preview", "draw_spectrum", "trace_of", "vectors_of"]

NOTHING = (3600.0, 10400.0)  # Å: wavelengths of an axis that has no spectrum
NOISY = 0.1  # of the median inverse variance: below that, pixels count less in the mean of a column
SKY_HEIGHT = 0.4  # of the flux axis, that a brighter sky is scaled to
FIBER_DIGITS = 4
MOST_TIERS = 3


def draw_preview(spectrum: NDArray[np.void], subject: Subject, options: PreviewOptions) -> bytes:
    """Draw one spectrum.

    Pixels whose inverse variance is 0 or whose values are not finite are gaps. The flux axis fits the continuum and
    features of several pixels, see `specflight.http.curves.flux_limits`. In PNG the range of all pixels within a
    column is drawn; where these are many, their mean is drawn above it, to which noisy ones contribute less. SVG has
    every pixel. A sky that is brighter than the spectrum is scaled down by the factor that is written.

    Parameters
    ----------
    spectrum : structured ndarray, shape (npix,)
        With the fields that `vectors_of` names; fluxes in 1e-17 erg/s/cm²/Å, `loglam` increasing.
    subject : Subject
    options : PreviewOptions

    Returns
    -------
    bytes
        PNG (RGBA) or SVG of the size that was asked for.

    Raises
    ------
    InvalidRequest
        If the rest frame is asked for and the redshift is not known.
    """
    theme = THEMES[options.theme]
    kind = SvgCanvas if options.format == "svg" else RasterCanvas
    canvas = kind(options.width, options.height, theme.background)
    draw_spectrum(canvas, spectrum, trace_of(spectrum, subject, options), subject, options)
    return canvas.finish()


def trace_of(spectrum: NDArray[np.void], subject: Subject, options: PreviewOptions) -> Trace | None:
    """Take out of a spectrum what is drawn of it; None where it has no good pixel.

    Raises
    ------
    InvalidRequest
        If the rest frame is asked for and the redshift is not known.
    """
    if options.rest_frame and subject.redshift is None:
        raise InvalidRequest(f"rest_frame: the redshift of spectrum {subject.specobjid} is not known")
    redshift = (subject.redshift or 0.0) if options.rest_frame else 0.0
    return read_trace(spectrum, smooth=options.smooth, redshift=redshift, model=options.model, sky=options.sky)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A canvas and what is the same for all that is drawn on it."""

    canvas: Canvas
    layout: Layout
    theme: Theme
    x: Scale
    y: Scale

    def curve(self, line: Polyline) -> Polyline:
        return Polyline(self.across(line.x), self.down(line.y), line.piece)

    def across(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.x.start + (wavelength - self.x.low) * self.x.slope

    def down(self, flux: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.y.start + (flux - self.y.low) * self.y.slope


def draw_spectrum(
    canvas: Canvas,
    spectrum: NDArray[np.void],
    trace: Trace | None,
    subject: Subject,
    options: PreviewOptions,
    *,
    span: tuple[float, float] | None = None,
    header: bool = True,
) -> None:
    """Draw a spectrum with its axes on a canvas.

    Parameters
    ----------
    canvas : Canvas
        Of the size of the options.
    spectrum : structured ndarray
    trace : Trace or None
        From `trace_of`.
    subject : Subject
    options : PreviewOptions
    span : tuple of float, optional
        First and last wavelength, Å; those of the spectrum when not given.
    header : bool
        Whether to write which spectrum it is.
    """
    theme = THEMES[options.theme]
    layout = lay_out(canvas.width, canvas.height, header=header, tiers=MOST_TIERS if options.lines else 0)
    own = _whole_span(spectrum) if trace is None else trace.span
    x = wavelength_scale(span or own, layout)
    marks = place_marks(lines_in_view(options, subject, own), layout, x)
    # Names that stand lower than they might leave their place to the spectrum.
    used = max((mark.tier + 1 for mark in marks if mark.name), default=0)
    layout = lay_out(canvas.width, canvas.height, header=header, tiers=used)
    title = _title(subject, layout, theme)
    if trace is None:
        draw_frame(canvas, layout, theme, x, None, rest_frame=options.rest_frame)
        box = layout.box
        middle = (box.left + box.right) / 2, (box.top + box.bottom + 0.7 * layout.size) / 2
        canvas.text(*middle, "no good pixels", layout.size, theme.muted, "middle")
        _draw_header(canvas, layout, title, [])
        return
    picture = _Picture(canvas, layout, theme, x, flux_scale(flux_limits(trace), layout))
    draw_marks(canvas, marks, layout, theme)
    notes = _draw_curves(picture, trace)
    draw_frame(canvas, layout, theme, x, picture.y, rest_frame=options.rest_frame)
    if not layout.full and layout.flux_numbers:
        unit = flux_unit(picture.y.exponent, short=True)
        notes.append(_Note(unit if notes else f"f_λ [{unit}]", theme.muted, 4))
    _draw_header(canvas, layout, title, notes)


def _whole_span(spectrum: NDArray[np.void]) -> tuple[float, float]:
    loglam = spectrum["loglam"].astype(np.float64)
    loglam = loglam[(loglam > 0) & (loglam < 6)]
    if not len(loglam) or loglam.min() == loglam.max():
        return NOTHING
    return float(10 ** loglam.min()), float(10 ** loglam.max())


def _draw_curves(picture: _Picture, trace: Trace) -> list[_Note]:
    """Draw zero, sky, flux and model, and say what they are called."""
    canvas, layout, theme, y = picture.canvas, picture.layout, picture.theme, picture.y
    box, thickness = layout.box, max(1.0, layout.size / 13)
    notes = []
    if y.low < 0 < y.high:
        row = int(y.start - y.low * y.slope)
        canvas.fill(Box(box.left, row, box.right, row + 1), theme.scatter)
    if trace.sky is not None:
        factor, note = _sky_factor(trace.sky, y)
        canvas.curve(picture.curve(trace.line(trace.sky * factor, np.isfinite(trace.sky))), box, theme.sky, thickness)
        notes.append(_Note(note, theme.sky, 5))
    # Bright lines have noisy pixels: by the inverse variance itself they would be averaged away.
    weight = np.minimum(trace.ivar, NOISY * trace.typical)
    points = picture.across(trace.wavelength), picture.down(trace.flux), weight
    canvas.flux(picture.curve(trace.line(trace.flux, trace.good)), points, box, theme, thickness)
    if trace.model is not None:
        model = picture.curve(trace.line(trace.model, np.isfinite(trace.model)))
        canvas.curve(model, box, theme.model, thickness)
        notes.append(_Note("model", theme.model, 5))
    return [_Note("flux", theme.flux, 5), *notes] if notes and layout.full else notes


def _sky_factor(sky: NDArray[np.float64], y: Scale) -> tuple[float, str]:
    """Factor that brings the sky into the picture, and what to write of it."""
    finite = sky[np.isfinite(sky)]
    bright = float(np.percentile(finite, 99.5)) if len(finite) else 0.0
    room = SKY_HEIGHT * (y.high if y.high > 0 else y.high - y.low)
    if bright <= room / SKY_HEIGHT:
        return 1.0, "sky"
    power = 10.0 ** math.floor(math.log10(room / bright))
    factor = next(digit * power for digit in (5, 2, 1) if digit * power <= room / bright * (1 + 1e-9))
    return factor, f"sky×{factor:.1g}"


@dataclass(frozen=True, slots=True)
class _Note:
    """Part of the header; those of less `weight` give way."""

    text: str
    color: Color
    weight: int


def _title(subject: Subject, layout: Layout, theme: Theme) -> list[_Note]:
    notes = []
    if subject.specobjid is not None:
        ids = unpack_specobjid(np.array([subject.specobjid], np.uint64))
        notes.append(_Note(f"{ids.plate[0]}-{ids.mjd[0]}-{ids.fiberid[0]:0{FIBER_DIGITS}}", theme.ink, 6))
        if layout.full:
            notes.append(_Note(f"specobjid {subject.specobjid}", theme.ink, 1))
    notes += [
        _Note(_plain(text), theme.ink, weight) for text, weight in ((subject.kind, 3), (subject.subclass, 2)) if text
    ]
    if subject.redshift is not None:
        decimals = 5 if layout.full or abs(subject.redshift) < 0.01 else 4
        text = f"z = {subject.redshift:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        notes.append(_Note(text, theme.ink, 7))
    return notes


def _plain(text: str) -> str:
    """What the font can show on one line, without a letter made an index."""
    return "".join(letter if letter.isprintable() and ord(letter) < 256 and letter != "_" else " " for letter in text)


def _draw_header(canvas: Canvas, layout: Layout, title: list[_Note], notes: list[_Note]) -> None:
    """Write the title on the left and the notes on the right, as far as there is room."""
    if layout.header is None:
        return
    size, gap = layout.size, (0.8 if layout.full else 0.65) * layout.size
    room, kept = layout.box.width + gap, set[_Note]()
    for note in sorted((*title, *notes), key=lambda note: -note.weight):
        width = text_width(note.text, size) + gap
        if width <= room:
            room -= width
            kept.add(note)
    x = float(layout.box.left)
    for note in title:
        if note in kept:
            canvas.text(x, layout.header, note.text, size, note.color)
            x += text_width(note.text, size) + gap
    x = float(layout.box.right)
    for note in reversed(notes):
        if note in kept:
            canvas.text(x, layout.header, note.text, size, note.color, "right")
            x -= text_width(note.text, size) + gap
