from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from specflight.errors import InvalidRequest, LimitExceeded
from specflight.http.drawing import PreviewOptions, Subject
from specflight.http.gridplot import draw_grid
from specflight.http.preview import draw_preview


def spectrum(level: float = 5.0, k0: int = 35800, npix: int = 3800) -> NDArray[np.void]:
    made = np.zeros(npix, [(name, "<f4") for name in ("flux", "loglam", "ivar")])
    made["loglam"] = ((k0 + np.arange(npix)) * 1e-4).astype(np.float32)
    made["flux"], made["ivar"] = level + np.sin(np.arange(npix) / 300), 1.0
    return made


def grid(count: int, columns: int, options: PreviewOptions | None = None, **more: Any) -> Image.Image:  # noqa: ANN401
    spectra = [spectrum(5.0 + index) for index in range(count)]
    subjects = [Subject(None, 0.01 * index, "GALAXY") for index in range(count)]
    image = Image.open(io.BytesIO(draw_grid(spectra, subjects, columns, options or PreviewOptions(), **more)))
    image.load()
    return image


def cell(image: Image.Image, column: int, row: int, width: int = 400, height: int = 100) -> NDArray[np.uint8]:
    return np.asarray(image.crop((column * width, row * height, (column + 1) * width, (row + 1) * height)))


@pytest.mark.parametrize(
    ("count", "columns", "size"), [(25, 5, (2000, 500)), (7, 3, (1200, 300)), (1, 2, (400, 100)), (4, 2, (800, 200))]
)
def test_a_grid_has_as_many_rows_as_needed_and_no_more_columns_than_spectra(
    count: int, columns: int, size: tuple[int, int]
) -> None:
    image = grid(count, columns)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", size)


def test_cells_are_previews_in_rows_from_the_upper_left() -> None:
    image = grid(7, 3)
    for index in range(7):
        data = draw_preview(spectrum(5.0 + index), Subject(None, 0.01 * index, "GALAXY"), PreviewOptions())
        alone = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(cell(image, index % 3, index // 3), alone)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_cells_that_are_left_over_are_background(theme: Any) -> None:  # noqa: ANN401
    image = grid(4, 3, PreviewOptions(300, 80, theme=theme))
    empty = image.crop((300, 80, 900, 160))
    assert {color for _, color in empty.getcolors() or []} == {image.getpixel((0, 0))}
    assert cell(image, 0, 1, 300, 80).std() > 0


def test_aligned_cells_share_one_wavelength_axis() -> None:
    options = PreviewOptions()
    spectra = [spectrum(k0=35800, npix=2000), spectrum(k0=36900, npix=2000)]
    subjects = [Subject(None), Subject(None)]
    apart, together = (
        Image.open(io.BytesIO(draw_grid(spectra, subjects, 1, options, align=align))) for align in (False, True)
    )

    def ends(image: Image.Image, row: int) -> list[int]:
        drawn = (cell(image, 0, row)[30:78, 46:390] < 200).all(axis=2).any(axis=0)
        return [int(np.flatnonzero(drawn)[0]), int(np.flatnonzero(drawn)[-1])]

    assert ends(apart, 0)[1] > 335
    assert ends(apart, 1)[0] < 5
    assert ends(together, 0)[0] < 5
    assert ends(together, 0)[1] < 250
    assert ends(together, 1)[0] > 70
    assert ends(together, 1)[1] > 335


def test_labels_can_be_left_out() -> None:
    def rows_above_the_frame(image: Image.Image) -> NDArray[np.uint8]:
        picture = np.asarray(image)
        full = (picture != 255).any(axis=2).mean(axis=1) > 0.8
        return picture[: int(np.flatnonzero(full)[0])]

    assert (rows_above_the_frame(grid(1, 1)) < 100).any()
    assert (rows_above_the_frame(grid(1, 1, labels=False)) == 255).all()


def test_without_labels_numbers_stay_inside() -> None:
    for top in np.linspace(5, 12, 15):
        made = spectrum()
        made["flux"] = np.linspace(0, top, 3800)
        picture = np.asarray(
            Image.open(io.BytesIO(draw_grid([made], [Subject(None)], 1, PreviewOptions(), labels=False)))
        )
        assert (picture[0] == 255).all()


def test_a_spectrum_without_good_pixels_leaves_the_others_alone() -> None:
    bad = spectrum()
    bad["ivar"] = 0
    for align in (False, True):
        both = draw_grid([spectrum(), bad], [Subject(None)] * 2, 2, PreviewOptions(), align=align)
        assert cell(Image.open(io.BytesIO(both)), 1, 0).std() > 0
    draw_grid([bad], [Subject(None)], 2, PreviewOptions(), align=True)


def test_what_cannot_be_drawn_is_named() -> None:
    one, subject = [spectrum()], [Subject(None)]
    with pytest.raises(InvalidRequest, match="id_list"):
        draw_grid([], [], 5, PreviewOptions())
    with pytest.raises(InvalidRequest, match="columns: 0"):
        draw_grid(one, subject, 0, PreviewOptions())
    with pytest.raises(InvalidRequest, match="format"):
        draw_grid(one, subject, 1, PreviewOptions(format="svg"))
    with pytest.raises(InvalidRequest, match="rest_frame"):
        draw_grid(one, subject, 1, PreviewOptions(rest_frame=True))
    with pytest.raises(LimitExceeded, match="50,000,000 pixels"):
        draw_grid(one * 5, subject * 5, 2, PreviewOptions(4000, 3000))
