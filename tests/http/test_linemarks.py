from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from previewed import (
    ALL,
    column_of,
    frame,
    marked,
    pixels,
    real_spectrum,
    span_of,
    spectrum,
    svg,
    texts,
)

from specflight.flight.archive import fits_files
from specflight.flight.lines import LINES, line
from specflight.http.axes import lay_out, wavelength_scale
from specflight.http.canvas import text_width
from specflight.http.curves import read_trace
from specflight.http.drawing import PreviewOptions, Subject
from specflight.http.linemarks import PROMINENT, lines_in_view, place_marks
from specflight.http.preview import draw_preview


@pytest.mark.parametrize(("width", "height"), [(400, 100), (800, 400), (1600, 800)])
@pytest.mark.parametrize("z", [0.0, 0.1, 0.35])
def test_lines_stand_at_their_redshifted_vacuum_wavelengths(width: int, height: int, z: float) -> None:
    made, subject = spectrum(), Subject(None, z, "GALAXY")
    columns, (left, right) = marked(
        pixels(draw_preview(made, subject, PreviewOptions(width, height, lines=("emission",))))
    )
    for wavelength in (4862.683, 5008.240, 6564.614):
        assert column_of(wavelength * (1 + z), made, left, right) in columns
    known = {column_of(entry.wavelength * (1 + z), made, left, right) for entry in LINES if entry.kind == "emission"}
    assert all(known & {column - 1, column, column + 1} for column in columns)


def test_in_the_rest_frame_lines_stand_at_rest_and_those_of_the_sky_move() -> None:
    made, z = spectrum(), 0.25
    low, high = (edge / (1 + z) for edge in span_of(made))
    data = svg(made, Subject(None, z, "GALAXY"), width=800, height=400, rest_frame=True, lines=("emission", "sky"))
    dashes = {
        float(element.attrib["d"].split()[0][1:])
        for element in ElementTree.fromstring(data).iter("{http://www.w3.org/2000/svg}path")
        if "stroke-dasharray" in element.attrib
    }
    box = next(iter(ElementTree.fromstring(data).iter("{http://www.w3.org/2000/svg}clipPath")))[0].attrib
    left, wide = float(box["x"]), float(box["width"])
    for wavelength in (4862.683, 6564.614, 5578.89 / (1 + z)):
        expected = left + (wavelength - low) / (high - low) * wide
        assert min(abs(expected - dash) for dash in dashes) <= 1
    assert "rest wavelength [Å]" in texts(data)
    assert "vacuum wavelength [Å]" in texts(svg(made, width=800, height=400))


def test_an_emission_line_peaks_where_it_is_marked() -> None:
    z = 0.123
    made = spectrum()
    wavelength = 10 ** made["loglam"].astype(np.float64)
    made["flux"] += 20 * np.exp(-0.5 * ((wavelength / (1 + z) - line("Hα").wavelength) / 3) ** 2)
    for width, height in ((400, 100), (900, 300), (3000, 1000)):
        picture = pixels(draw_preview(made, Subject(None, z), PreviewOptions(width, height)))
        left, top, right, bottom = frame(picture)
        tall, aside = bottom - top, (right - left) // 20
        inside = picture[top + tall // 6 : top + tall // 2, left + aside : right - aside].sum(axis=2) < 600
        peak = np.flatnonzero(inside.any(axis=0)).mean() + left + aside
        assert abs(peak - column_of(line("Hα").wavelength * (1 + z), made, left, right)) <= max(1.5, width / 800)


def test_the_sky_is_marked_without_a_redshift_and_nothing_else() -> None:
    made = spectrum()
    plain = draw_preview(made, Subject(None), PreviewOptions())
    for z in (None, math.nan, -2.0):
        subject = Subject(None, z, None)
        assert draw_preview(made, subject, PreviewOptions(lines=("emission", "absorption"))) == plain
        assert draw_preview(made, subject, PreviewOptions(lines=("sky",))) != plain


def test_stars_absorb_hydrogen() -> None:
    names = texts(svg(spectrum(), Subject(None, 0.0, "STAR"), width=1000, height=400, lines=("absorption",)))
    assert {"Hα", "Hβ", "K", "Mg b", "Na D"} <= set(names)
    assert "[O III]" not in names


def test_every_prominent_line_is_in_the_list() -> None:
    known = {entry.name for entry in LINES}
    assert all(set(names) <= known and len(set(names)) == len(names) for names in PROMINENT.values())


@given(
    z=st.floats(0, 6),
    kind=st.sampled_from(["GALAXY", "QSO", "STAR", "other"]),
    size=st.tuples(st.integers(200, 3000), st.integers(72, 1500)),
    rest_frame=st.booleans(),
)
def test_names_of_lines_never_overlap_and_stand_above_their_lines(
    z: float, kind: str, size: tuple[int, int], rest_frame: bool
) -> None:
    options = PreviewOptions(*size, rest_frame=rest_frame, lines=ALL)
    layout = lay_out(*size, header=True, tiers=3)
    stretch = 1 + z if rest_frame else 1.0
    span = 3600 / stretch, 10400 / stretch
    marks = place_marks(lines_in_view(options, Subject(None, z, kind), span), layout, wavelength_scale(span, layout))
    ends = {mark: mark.start + text_width(mark.name, layout.label) for mark in marks if mark.name}
    for mark, end in ends.items():
        assert mark.start <= mark.x <= end
        assert mark.start >= 1
        assert end <= size[0] - 1
        for other, other_end in ends.items():
            if other is not mark and other.tier == mark.tier:
                assert other_end < mark.start or end < other.start
            if other.tier < mark.tier:
                assert not other.start <= mark.x <= other_end


def test_the_lines_of_a_real_galaxy_are_where_they_are_marked(real_data: Path) -> None:
    path = next(path for path in fits_files(real_data / "sas") if path.name == "spec-0358-51818-0504.fits")
    made, specobjid = real_spectrum(path)
    subject = Subject(specobjid, 0.04723230376839638, "GALAXY")
    columns, (left, right) = marked(pixels(draw_preview(made, subject, PreviewOptions(1600, 400, lines=("emission",)))))
    trace = read_trace(made, smooth=1, redshift=0, model=False, sky=False)
    assert trace is not None
    (low, high), near = trace.span, (trace.wavelength > 6800) & (trace.wavelength < 6950)
    peak = trace.wavelength[near][trace.flux[near].argmax()]
    assert min(abs(left + (peak - low) / (high - low) * (right - left) - column) for column in columns) < 2
