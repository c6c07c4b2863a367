from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from astropy.visualization import ZScaleInterval
from hypothesis import given
from hypothesis import strategies as st

from specflight.errors import InvalidRequest
from specflight.http.levels import Limits, colour_table, coloured, find_limits, grey_levels, parse_limits


@pytest.mark.parametrize(
    ("text", "limits"),
    [("zscale", "zscale"), (" ZScale ", "zscale"), ("1,99", (1.0, 99.0)), ("0.5, 100", (0.5, 100.0))],
)
def test_limits_are_read(text: str, limits: Limits) -> None:
    assert parse_limits(text) == limits


@pytest.mark.parametrize("text", ["", "minmax", "1", "1,2,3", "99,1", "5,5", "-1,99", "1,101", "nan,99", "1,inf"])
def test_what_are_no_limits_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"limits: '{text}'"):
        parse_limits(text)


def test_the_limits_are_those_of_astropy_and_numpy() -> None:
    flux = np.random.default_rng(1).gamma(2, 3, 50_000).astype(np.float32)
    low, high = ZScaleInterval(n_samples=10_000).get_limits(flux)
    assert find_limits(flux, "zscale") == pytest.approx((low, high), abs=1e-2 * (high - low))
    assert find_limits(flux, (2, 98)) == pytest.approx(np.percentile(flux, [2, 98]))
    assert find_limits(flux[:0], "zscale") == (0.0, 1.0)


def test_outliers_do_not_move_the_limits() -> None:
    rng = np.random.default_rng(2)
    flux = (rng.gamma(0.5, 12, 500_000) + rng.normal(0, 0.5, 500_000)).astype(np.float32)
    flux[rng.integers(0, 500_000, 250)] -= rng.gamma(2, 10, 250).astype(np.float32)
    low, high = find_limits(flux, "zscale")
    assert -2 < low < 0
    for _ in range(3):
        again = find_limits(rng.permutation(flux), "zscale")
        assert again == pytest.approx((low, high), abs=0.1 * (high - low))


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1), st.floats(-100, 100), st.floats(0.01, 1e4))
def test_levels_are_clipped_and_rounded(fluxes: list[float], low: float, span: float) -> None:
    flux = np.array(fluxes, np.float32)
    low, high = float(np.float32(low)), float(np.float32(low + span))
    exact = 255 * (np.clip(flux.astype(float), low, high) - low) / (high - low)
    levels = grey_levels(flux, low, high)
    assert levels.dtype == np.uint8
    # Half a level from rounding, and what 24 bits of a flux lose beside large limits.
    error = 0.5 + 255 * 4e-7 * max(abs(low), abs(high), 1) / (high - low)
    assert (np.abs(levels - exact)[flux != 0] <= error).all()


def test_what_has_no_flux_is_level_0() -> None:
    flux = np.array([0, -0.0, np.nan, np.inf, -np.inf, -3, 2, 3e38, 1e-30], np.float32)
    assert grey_levels(flux, -1, 1).tolist() == [0, 0, 0, 255, 0, 0, 255, 255, 128]


def test_a_sample_without_contrast_makes_a_picture_all_the_same() -> None:
    assert grey_levels(np.array([1, 2, 3], np.float32), 2, 2).tolist() == [0, 0, 0]


@pytest.mark.parametrize("cmap", ["viridis", "summer", "tab10", "twilight", "gray_r"])
def test_the_colours_are_those_of_matplotlib(cmap: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    table = colour_table(cmap)
    assert np.array_equal(coloured(levels, table), matplotlib.colormaps[cmap](levels / 255, bytes=True))


def test_gray_has_no_colours() -> None:
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert colour_table("gray") is None
    assert coloured(levels, None) is levels


@pytest.mark.parametrize(
    ("cmap", "hint"), [("virdis", "viridis"), ("GRAY", "gray"), ("zzz9", "such as gray"), ("x" * 9999, "x{40}'")]
)
def test_a_map_that_is_none_is_named_with_similar_ones(cmap: str, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=f"cmap: .*{hint}") as refused:
        colour_table(cmap)
    assert len(str(refused.value)) < 200
