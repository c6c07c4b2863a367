from __future__ import annotations

import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import InvalidRequest
from specflight.flight.archive import fits_files
from specflight.flight.fits import load_bytes, read_spec_file
from specflight.flight.lines import LINES, line
from specflight.http.axes import lay_out, wavelength_scale
from specflight.http.canvas import THEMES, Box, RasterCanvas, text_width
from specflight.http.curves import Polyline, flux_limits, read_trace, smoothed
from specflight.http.drawing import PreviewOptions, Subject, vectors_of
from specflight.http.linemarks import PROMINENT, lines_in_view, place_marks
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
    file = read_spec_file(load_bytes(path))
    made = np.empty(file.words.shape[1], FIELDS)
    for name, _ in FIELDS:
        made[name] = file.column(name)
    return made, file.specobjid


def pixels(data: bytes) -> Picture:
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
    loglam = made["loglam"].astype(np.float64)
    return float(10 ** (loglam[0] - 0.5e-4)), float(10 ** (loglam[-1] + 0.5e-4))


def column_of(wavelength: float, made: NDArray[np.void], left: int, right: int) -> int:
    low, high = span_of(made)
    return int(left + (wavelength - low) / (high - low) * (right - left))


def marked(picture: Picture, theme: str = "light") -> tuple[list[int], tuple[int, int]]:
    """Columns with blue dashes, counted from the inside of the frame, and how wide that is."""
    left, top, right, bottom = frame(picture, theme)
    inside = picture[top:bottom, left:right]
    blue = (inside[..., 2] - inside[..., 0] > 60).sum(axis=0)
    return (np.flatnonzero(blue > 0.35 * (bottom - top)) + left).tolist(), (left, right)


def texts(data: bytes) -> list[str]:
    root = ElementTree.fromstring(data)
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def places(data: bytes) -> dict[str, float]:
    root = ElementTree.fromstring(data)
    return {
        "".join(element.itertext()): float(element.attrib["x"])
        for element in root.iter("{http://www.w3.org/2000/svg}text")
    }


def svg(made: NDArray[np.void], subject: Subject = GALAXY, **options: Any) -> bytes:  # noqa: ANN401 - any option
    return draw_preview(made, subject, PreviewOptions(format="svg", **options))


def test_a_preview_is_400_by_100_rgba_unless_asked_otherwise() -> None:
    image = Image.open(io.BytesIO(draw_preview(spectrum(), GALAXY, PreviewOptions())))
    image.load()
    assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (400, 100))
    assert np.asarray(image)[..., 3].min() == 255


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (100, 40), (640, 480), (4000, 33), (1200, 3000)])
def test_any_size_is_drawn_as_asked(width: int, height: int) -> None:
    options = PreviewOptions(width, height, lines=ALL, model=True, sky=True)
    assert pixels(draw_preview(spectrum(), GALAXY, options)).shape == (height, width, 3)
    assert svg(spectrum(), width=width, height=height).count(f'width="{width}" height="{height}"'.encode()) >= 1


def test_only_the_vectors_that_are_drawn_are_asked_for() -> None:
    assert vectors_of(PreviewOptions()) == ("flux", "loglam", "ivar")
    assert vectors_of(PreviewOptions(model=True, sky=True)) == ("flux", "loglam", "ivar", "sky", "model")
    options = PreviewOptions(model=True)
    draw_preview(spectrum()[list(vectors_of(options))], GALAXY, options)


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


@pytest.mark.parametrize("z", [None, math.nan, -1.0])
def test_the_rest_frame_needs_a_redshift(z: float | None) -> None:
    with pytest.raises(InvalidRequest, match=r"rest_frame: .* 299518814033307648 "):
        draw_preview(spectrum(), Subject(299518814033307648, z), PreviewOptions(rest_frame=True))


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


@given(
    flux=arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3)),
    width=st.integers(2, 90),
    seed=st.integers(0, 9),
)
def test_smoothing_is_a_weighted_mean_in_a_boxcar(flux: NDArray[np.float64], width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.1, 2, len(flux)) * (rng.random(len(flux)) > 0.3)
    found = smoothed(flux, ivar, width)
    for pixel in range(len(flux)):
        distance = np.abs(np.arange(len(flux)) - pixel)
        part = np.clip((width + 1) / 2 - distance, 0, 1) if width % 2 == 0 else (distance <= width // 2).astype(float)
        weight = ivar * part
        expected = (weight * flux).sum() / weight.sum() if weight.any() else 0.0
        assert found[pixel] == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_smoothing_calms_the_picture_and_leaves_gaps() -> None:
    rng = np.random.default_rng(2)
    made = spectrum(flux=rng.normal(5, 2, 3800))
    made["ivar"][1500:2300] = 0
    rough, calm = (pixels(draw_preview(made, GALAXY, PreviewOptions(smooth=smooth))) for smooth in (1, 25))
    ink = [(picture[14:80, 60:380] < 250).any(axis=2).sum() for picture in (rough, calm)]
    assert ink[1] < 0.5 * ink[0]
    left, top, right, bottom = frame(calm)
    gap = [column_of(10 ** (3.58 + 1e-4 * pixel), made, left, right) for pixel in (1502, 2298)]
    assert (calm[top : bottom - 4, gap[0] + 1 : gap[1]] == 255).all()


def test_overlays_are_drawn_only_when_asked_for_and_where_they_belong() -> None:
    made = spectrum(model=6.0, sky=4.5, flux=np.linspace(4, 7, 3800))
    for name, value in (("model", 6.0), ("sky", 4.5)):
        options = PreviewOptions(800, 400, model=name == "model", sky=name == "sky")
        left, top, right, bottom = frame(pixels(draw_preview(made, GALAXY, options)))
        low, high = limits(made)
        row = bottom - (value - low) / (high - low) * (bottom - top)
        found, bare = (
            colored(pixels(draw_preview(made, GALAXY, chosen))[top:bottom, left:right], name).sum(axis=1)
            for chosen in (options, PreviewOptions(800, 400))
        )
        assert found.sum() > 300
        assert abs(np.average(np.arange(len(found)) + 0.5, weights=found) + top - row) <= 1
        assert bare.sum() == 0


def colored(picture: Picture, name: str) -> NDArray[np.bool_]:
    """Where a picture is orange as a model or blue as a sky."""
    redness = picture[..., 0] - picture[..., 2]
    return redness > 60 if name == "model" else redness < -60


def test_a_bright_sky_is_scaled_by_the_factor_that_is_written() -> None:
    made = spectrum(flux=np.linspace(1, 10, 3800), sky=100.0)
    data = svg(made, width=800, height=400, sky=True)
    note = next(text for text in texts(data) if text.startswith("sky"))
    factor = float(note.removeprefix("sky×"))
    assert 1 < 100 * factor < 10
    options, (low, high) = PreviewOptions(800, 400, sky=True), limits(made)
    picture = pixels(draw_preview(made, GALAXY, options))
    left, top, right, bottom = frame(picture)
    row = bottom - (100 * factor - low) / (high - low) * (bottom - top)
    rows = colored(picture[top:bottom, left:right], "sky").sum(axis=1)
    assert abs(np.average(np.arange(len(rows)) + 0.5, weights=rows) + top - row) <= 1
    assert "sky" in texts(svg(spectrum(sky=1.0), width=800, height=400, sky=True))


def test_themes_differ_in_the_background() -> None:
    light, dark = (pixels(draw_preview(spectrum(), GALAXY, PreviewOptions(theme=theme))) for theme in ("light", "dark"))
    assert (light[0] == 255).all()
    assert (dark[0] < 40).all()
    assert np.median(dark) < 40


@given(pixel=st.integers(150, 3650), upwards=st.booleans())
@settings(max_examples=40)
def test_a_spike_of_one_pixel_is_never_lost(pixel: int, upwards: bool) -> None:
    near = np.abs(np.arange(3800) - pixel) < 400
    flux = np.where(near == upwards, 11.0, 12.0)
    flux[pixel] = 11.8 if upwards else 11.2
    made = spectrum(flux=flux)
    picture = pixels(draw_preview(made, GALAXY, PreviewOptions()))
    left, top, right, bottom = frame(picture)
    low, high = limits(made)
    row = int(bottom - ((11.75 if upwards else 11.25) - low) / (high - low) * (bottom - top))
    column = column_of(10 ** float(made["loglam"][pixel]), made, left, right)
    assert picture[row, column].sum() < 600
    assert (picture[row, column - 3 : column - 1] == 255).all()


@given(y=st.floats(6, 30), thickness=st.sampled_from([1.0, 1.4, 3.0]))
def test_curves_are_drawn_to_a_fraction_of_a_pixel(y: float, thickness: float) -> None:
    canvas = RasterCanvas(40, 40, (255, 255, 255))
    line = Polyline(np.array([5.0, 35.0]), np.array([y, y]), np.zeros(2, np.int64))
    canvas.curve(line, Box(5, 2, 35, 38), (0, 0, 255), thickness)
    picture = canvas.pixels().astype(np.int64)
    covered = (255 - picture[:, 20, 0]) / 255
    rows = np.arange(40)
    expected = np.minimum(rows + 1, y + thickness / 2) - np.maximum(rows, y - thickness / 2)
    assert covered == pytest.approx(np.clip(expected, 0, 1), abs=0.01)
    assert (picture[:, 20, 2:] == 255).all()
    assert (picture[:, :3] == 255).all()


@pytest.mark.parametrize(("width", "height"), [(400, 100), (2000, 300)])
def test_pixels_without_inverse_variance_are_gaps(width: int, height: int) -> None:
    made = spectrum(flux=np.linspace(5, 6, 3800))
    made["ivar"][1000:1400] = 0
    made["flux"][2000:2300] = np.nan
    made["flux"][1200] = 1e6
    picture = pixels(draw_preview(made, GALAXY, PreviewOptions(width, height)))
    left, top, right, bottom = frame(picture)
    inside = picture[top + (bottom - top) // 8 : bottom - (bottom - top) // 4]
    for first, last in ((1000, 1400), (2000, 2300)):
        begin, end = (column_of(10 ** float(made["loglam"][pixel]), made, left, right) for pixel in (first, last))
        edge = np.flatnonzero((inside[:, begin - 2 : end + 3] == 255).all(axis=(0, 2))) + begin - 2
        assert edge[0] <= begin + 1
        assert edge[-1] >= end - 1
        assert (np.diff(edge) == 1).all()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("header", ["all", "none"])
@pytest.mark.parametrize(
    ("width", "height"), [(100, 40), (200, 60), (240, 75), (400, 100), (400, 200), (800, 400), (1600, 800), (4000, 200)]
)
def test_no_label_is_cut_at_the_border(width: int, height: int, header: str, theme: Literal["light", "dark"]) -> None:
    rng = np.random.default_rng(4)
    for scale in (1e-4, -0.07, 1.0, -870.0, 3e5):
        made = spectrum(flux=scale * rng.normal(1, 0.4, 3800), model=scale, sky=1e4)
        for z in (0.0, 2.2):
            subject = Subject(GALAXY.specobjid, z, "QSO", "BROADLINE " * 3) if header == "all" else Subject(None, z)
            options = PreviewOptions(width, height, lines=ALL, model=True, sky=True, theme=theme, rest_frame=z > 2)
            picture = pixels(draw_preview(made, subject, options))
            border = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
            assert all((part == THEMES[theme].background).all() for part in border)


def test_a_picture_says_what_it_shows() -> None:
    made = spectrum()
    large = texts(svg(made, width=1200, height=400, model=True, lines=("emission",)))
    assert {"266-51602-0107", "specobjid 299518814033307648", "GALAXY", "z = 0.10000"} <= set(large)
    assert {"vacuum wavelength [Å]", "fλ [10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹]", "flux", "model", "Hα", "Hβ"} <= set(large)
    small = texts(svg(made))
    assert {"266-51602-0107", "GALAXY", "z = 0.1000", "Å", "fλ [10⁻¹⁷ erg/s/cm²/Å]"} <= set(small)
    assert "Å rest" in texts(svg(made, rest_frame=True))
    assert "16383-66383-4095" in texts(svg(made, Subject(2**64 - 1)))


def test_in_the_smallest_pictures_there_is_still_a_scale() -> None:
    assert {"6000", "8000", "Å"} <= set(texts(svg(spectrum(), width=100, height=40)))
    assert "266-51602-0107" in texts(svg(spectrum(), width=160, height=60))


def test_numbers_stand_at_their_wavelengths_and_fluxes() -> None:
    made = spectrum(flux=np.linspace(0, 10, 3800))
    data = svg(made, width=800, height=400)
    box = next(iter(ElementTree.fromstring(data).iter("{http://www.w3.org/2000/svg}clipPath")))[0].attrib
    left, wide, (low, high) = float(box["x"]), float(box["width"]), span_of(made)
    where = places(data)
    for number in ("4000", "6000", "9000"):
        assert where[number] == pytest.approx(left + (float(number) - low) / (high - low) * wide, abs=0.01)


def test_powers_of_ten_go_to_the_unit() -> None:
    faint = texts(svg(spectrum(flux=np.linspace(1e-4, 9e-4, 3800)), width=800, height=400))
    assert "fλ [10⁻²³ erg s⁻¹ cm⁻² Å⁻¹]" in faint
    assert "800" in faint
    bright = texts(svg(spectrum(flux=np.linspace(0, 8e4, 3800)), width=800, height=400))
    assert "fλ [10⁻¹⁴ erg s⁻¹ cm⁻² Å⁻¹]" in bright
    assert "80" in bright


def limits(made: NDArray[np.void]) -> tuple[float, float]:
    trace = read_trace(made, smooth=1, redshift=0, model=False, sky=False)
    assert trace is not None
    return flux_limits(trace)


def test_cosmic_rays_and_noisy_ends_do_not_set_the_range_of_fluxes() -> None:
    rng = np.random.default_rng(3)
    made = spectrum(flux=rng.normal(10, 0.5, 3800))
    made["flux"][[100, 2000, 2001]] = 5e4
    made["flux"][:300] += rng.normal(0, 400, 300)
    made["ivar"][:300] = 1e-4
    low, high = limits(made)
    assert 7 < low < 9
    assert 11 < high < 13


def test_emission_lines_are_shown_whole() -> None:
    made = spectrum()
    made["flux"] += np.random.default_rng(3).normal(0, 0.5, 3800).astype(np.float32)
    made["flux"] += 25 * np.exp(-0.5 * ((np.arange(3800) - 2000) / 3) ** 2)
    assert limits(made)[1] > 28


def test_zero_is_shown_where_it_is_near() -> None:
    assert limits(spectrum(flux=np.linspace(3, 12, 3800)))[0] < 0
    assert limits(spectrum(flux=np.linspace(10, 12, 3800)))[0] > 9
    assert limits(spectrum(flux=np.linspace(-12, -3, 3800)))[1] > 0


@pytest.mark.parametrize(
    "made",
    [
        spectrum(0),
        spectrum(1, ivar=0),
        spectrum(ivar=0),
        spectrum(flux=np.nan),
        spectrum(ivar=np.inf),
        spectrum(loglam=np.nan),
        spectrum(ivar=-1),
    ],
)
def test_a_spectrum_without_good_pixels_says_so(made: NDArray[np.void]) -> None:
    assert "no good pixels" in texts(svg(made, lines=ALL, model=True, sky=True))
    picture = pixels(draw_preview(made, GALAXY, PreviewOptions(lines=ALL)))
    left, top, right, bottom = frame(picture)
    assert (picture[top : bottom - 8, left:right] < 200).any()


@given(data=st.data(), npix=st.integers(1, 40), smooth=st.sampled_from([0, 1, 2, 5, 1000]))
@settings(max_examples=60)
def test_no_values_can_break_a_drawing(data: st.DataObject, npix: int, smooth: int) -> None:
    values = arrays(np.float32, npix, elements=st.floats(width=32))
    made = spectrum(npix)
    for name in ("flux", "ivar", "model", "sky"):
        made[name] = data.draw(values)
    subject = Subject(data.draw(st.integers(0, 2**64 - 1)), data.draw(st.floats() | st.none()), data.draw(st.text()))
    size = data.draw(st.tuples(st.integers(1, 900), st.integers(1, 500)))
    options = PreviewOptions(*size, smooth=smooth, lines=ALL, model=True, sky=True)
    assert pixels(draw_preview(made, subject, options)).shape == (size[1], size[0], 3)
    ElementTree.fromstring(svg(made, subject, smooth=smooth, lines=ALL, model=True, sky=True))


def test_a_narrow_cutout_and_a_constant_have_sensible_axes() -> None:
    assert {"4.8", "5.0", "5.2"} <= set(texts(svg(spectrum())))
    assert len([text for text in texts(svg(spectrum(20))) if text.replace(".", "").isdigit()]) >= 3


def test_an_svg_has_every_pixel_and_is_valid_whatever_the_catalogue_says() -> None:
    data = svg(spectrum(), Subject(None, 0.1, "<&>\x00_b", '"\n'), width=800, height=300)
    paths = [element.attrib["d"] for element in ElementTree.fromstring(data).iter("{http://www.w3.org/2000/svg}path")]
    assert max(path.count("L") for path in paths) >= 3800
    assert any(text.startswith("<&>") for text in texts(data))


def test_drawing_in_threads_gives_the_same_pictures() -> None:
    rng = np.random.default_rng(5)
    jobs = [
        (
            spectrum(flux=rng.normal(index, 1, 3800), model=index),
            Subject(None, 0.05 * index, ("GALAXY", "QSO", "STAR")[index % 3]),
            PreviewOptions(
                300 + 50 * index, 100 + 20 * index, lines=ALL, model=True, theme=("light", "dark")[index % 2]
            ),
        )
        for index in range(12)
    ]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda job: draw_preview(*job), jobs * 4))
    assert drawn == [draw_preview(*job) for job in jobs] * 4


def test_drawing_needs_no_pyplot() -> None:
    code = "import sys, specflight.http.preview, specflight.http.gridplot; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"width": 0}, "width: 0"),
        ({"width": 4001}, "width: 4001"),
        ({"height": 3001}, "height: 3001"),
        ({"smooth": -1}, "smooth: -1"),
        ({"smooth": 1001}, "smooth: 1001"),
        ({"lines": ("emission", "blue")}, "lines: 'blue'"),
        ({"theme": "pink"}, "theme: 'pink'"),
        ({"format": "gif"}, "format: 'gif'"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        PreviewOptions(**options)


def test_real_spectra_are_drawn_within_their_borders(real_data: Path) -> None:
    for path in list(fits_files(real_data / "sas"))[::9]:
        made, specobjid = real_spectrum(path)
        for options in (PreviewOptions(lines=ALL, sky=True, model=True), PreviewOptions(800, 400, lines=ALL)):
            picture = pixels(draw_preview(made, Subject(specobjid, 0.3, "QSO"), options))
            assert all((part == 255).all() for part in (picture[0], picture[-1], picture[:, 0], picture[:, -1]))
            left, top, right, bottom = frame(picture)
            assert ((picture[top:bottom, left:right] < 200).all(axis=2).any(axis=0)).mean() > 0.8


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


def test_thick_curves_are_thick_where_they_are_steep() -> None:
    canvas = RasterCanvas(40, 40, (255, 255, 255))
    upright = Polyline(np.array([20.2, 20.3]), np.array([5.0, 35.0]), np.zeros(2, np.int64))
    canvas.curve(upright, Box(0, 0, 40, 40), (0, 0, 0), 3.0)
    assert np.flatnonzero(canvas.pixels()[20, :, 0] < 255).tolist() == [19, 20, 21]


def test_the_mean_of_a_column_follows_bright_lines_though_these_are_noisy() -> None:
    made = spectrum(flux=10.0)
    made["flux"][2000:2006], made["ivar"][2000:2006] = 60.0, 0.12
    picture = pixels(draw_preview(made, GALAXY, PreviewOptions()))
    left, top, right, bottom = frame(picture)
    low, high = limits(made)
    row, column = int(bottom - (20 - low) / (high - low) * (bottom - top)), column_of(10**3.7803, made, left, right)
    assert (picture[row, column - 1 : column + 2] == THEMES["light"].flux).all(axis=1).any()


def test_zero_has_a_line_where_it_is_in_view() -> None:
    made = spectrum(flux=np.linspace(3, 12, 3800))
    picture = pixels(draw_preview(made, GALAXY, PreviewOptions()))
    left, top, right, bottom = frame(picture)
    low, high = limits(made)
    row = int(bottom + low / (high - low) * (bottom - top))
    assert (picture[row, left + 5 : right] != 255).any(axis=1).all()
    assert (picture[row - 2, left + 5 : right] == 255).all()
