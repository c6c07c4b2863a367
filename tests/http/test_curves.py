from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from previewed import (
    GALAXY,
    Picture,
    column_of,
    frame,
    limits,
    pixels,
    spectrum,
    svg,
    texts,
)

from specflight.http.canvas import THEMES, Box, RasterCanvas
from specflight.http.curves import Polyline, smoothed
from specflight.http.drawing import PreviewOptions
from specflight.http.preview import draw_preview


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
