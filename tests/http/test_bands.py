from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from specflight.http.bands import bands, scaled_band, scaled_width

BOX = Image.Resampling.BOX


def blocks(rows: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def scaled(rows: NDArray[np.uint8], thickness: int, width: int, height: int, size: int) -> NDArray[np.uint8]:
    narrow = (scaled_width(block, width) for block in blocks(rows, size))
    return np.concatenate([scaled_band(band) for band in bands(narrow, len(rows), thickness, height)])


def ambiguous(rows: int, height: int) -> NDArray[np.bool_]:
    """Rows of the scaled picture at which the last bit of a number tells which of two rows counts.

    These are those with an edge in the middle of a row, or, in a larger picture, with their middle on an edge.
    """
    places = np.arange(2 * height + 1) * rows  # of edges and middles, in half rows times the height
    edges, middles = places[::2], places[1::2]
    on_middle = (edges % height == 0) & (edges // height % 2 == 1)
    found: NDArray[np.bool_] = on_middle[:-1] | on_middle[1:] | (middles % (2 * height) == 0)
    return found


@settings(max_examples=60)
@given(
    st.integers(1, 300), st.integers(1, 20), st.integers(1, 4), st.integers(1, 30), st.integers(1, 500), st.integers(0)
)
def test_the_parts_are_the_whole(count: int, width: int, thickness: int, to_width: int, height: int, size: int) -> None:
    rows = np.random.default_rng(count).integers(0, 256, (count, width), dtype=np.uint8)
    thick = Image.fromarray(rows.repeat(thickness, axis=0))
    whole = np.asarray(thick.resize((to_width, thick.height), BOX).resize((to_width, height), BOX))
    made = scaled(rows, thickness, to_width, height, 1 + size % count)
    assert made.shape == (height, to_width)
    assert not ((made != whole).any(axis=1) & ~ambiguous(thick.height, height)).any()


def test_a_pixel_is_the_mean_of_those_in_it() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (1200, 60), dtype=np.uint8)
    means = rows.reshape(300, 4, 20, 3).mean(axis=(1, 3))
    assert np.abs(scaled(rows, 1, 20, 300, 100) - means).max() <= 1


def test_larger_pictures_repeat_their_pixels() -> None:
    rows = np.random.default_rng(2).integers(0, 256, (50, 30), dtype=np.uint8)
    assert np.array_equal(scaled(rows, 1, 90, 200, 7), rows.repeat(4, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize(("count", "height"), [(100_000, 1000), (100, 100_000)])
def test_no_band_holds_much(count: int, height: int) -> None:
    rows = np.zeros((count, 10), np.uint8)
    for band in bands(blocks(rows, 50), count, 1, height):
        assert len(band.rows) <= 200
        assert band.height * 10 <= 1 << 18
