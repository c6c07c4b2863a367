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
from previewed import (
    ALL,
    GALAXY,
    frame,
    pixels,
    places,
    real_spectrum,
    span_of,
    spectrum,
    svg,
    texts,
)

from specflight.errors import InvalidRequest
from specflight.flight.archive import fits_files
from specflight.http.canvas import THEMES
from specflight.http.drawing import PreviewOptions, Subject, vectors_of
from specflight.http.preview import draw_preview


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


@pytest.mark.parametrize("z", [None, math.nan, -1.0])
def test_the_rest_frame_needs_a_redshift(z: float | None) -> None:
    with pytest.raises(InvalidRequest, match=r"rest_frame: .* 299518814033307648 "):
        draw_preview(spectrum(), Subject(299518814033307648, z), PreviewOptions(rest_frame=True))


def test_themes_differ_in_the_background() -> None:
    light, dark = (pixels(draw_preview(spectrum(), GALAXY, PreviewOptions(theme=theme))) for theme in ("light", "dark"))
    assert (light[0] == 255).all()
    assert (dark[0] < 40).all()
    assert np.median(dark) < 40


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
