"""Pictures of many spectra: previews side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specflight.errors import InvalidRequest, LimitExceeded
from specflight.http.canvas import THEMES, RasterCanvas
from specflight.http.drawing import PreviewOptions, Subject
from specflight.http.png import encode_png
from specflight.http.preview import draw_spectrum, trace_of

__all__ = ["MAX_GRID_PIXELS", "draw_grid"]

MAX_GRID_PIXELS = 50_000_000  # 150 MB while it is drawn


def draw_grid(
    spectra: Sequence[NDArray[np.void]],
    subjects: Sequence[Subject],
    columns: int,
    options: PreviewOptions,
    *,
    align: bool = False,
    labels: bool = True,
) -> bytes:
    """Draw spectra in rows of cells, each like `specflight.http.preview.draw_preview`.

    Parameters
    ----------
    spectra : sequence of structured ndarray
        See `draw_preview`.
    subjects : sequence of Subject
        One for each spectrum.
    columns : int
        Cells in a row; no more than there are spectra.
    options : PreviewOptions
        Its size is that of a cell.
    align : bool
        Give all cells the same wavelength axis, wide enough for every spectrum.
    labels : bool
        Write in each cell which spectrum it is.

    Returns
    -------
    bytes
        PNG (RGB); cells that are left over in the last row have the background's colour.

    Raises
    ------
    InvalidRequest
        If there is no spectrum, `columns` is less than 1, the format is not PNG, or the rest frame is asked for and a
        redshift is not known.
    LimitExceeded
        If the picture would have more than 50 million pixels.
    """
    if not len(spectra):
        raise InvalidRequest("id_list: there is no spectrum to draw")
    if columns < 1:
        raise InvalidRequest(f"columns: {columns} is less than 1")
    if options.format != "png":
        raise InvalidRequest(f"format: a grid is drawn as png only, not as {options.format}")
    columns = min(columns, len(spectra))
    rows = math.ceil(len(spectra) / columns)
    width, height = options.width, options.height
    if rows * columns * width * height > MAX_GRID_PIXELS:
        raise LimitExceeded(
            f"grid: {columns} x {rows} cells of {width} x {height} pixels are more than the limit of "
            f"{MAX_GRID_PIXELS:,} pixels"
        )
    background = THEMES[options.theme].background
    traces = [trace_of(spectrum, subject, options) for spectrum, subject in zip(spectra, subjects, strict=True)]
    spans = [trace.span for trace in traces if trace is not None]
    common = (min(first for first, _ in spans), max(last for _, last in spans)) if align and spans else None
    picture = np.empty((rows * height, columns * width, 3), np.uint8)
    picture[:] = background
    for place, (spectrum, trace, subject) in enumerate(zip(spectra, traces, subjects, strict=True)):
        canvas = RasterCanvas(width, height, background)
        draw_spectrum(canvas, spectrum, trace, subject, options, span=common, header=labels)
        row, column = divmod(place, columns)
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = canvas.pixels()[..., :3]
    return encode_png(picture)
