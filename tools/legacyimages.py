"""What the old client's calls for pictures and plots have to return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specflight.tools.legacychecks import all_of
from specflight.tools.legacytruth import Check, Result, Truth

__all__ = ["drawn", "grid", "picture", "png_bytes", "same_image", "stack"]

PREVIEW = (400, 100)


def drawn(ids: str, shift: Callable[[float], float] = lambda z: 1 + z) -> Check:
    """A plot that shows the flux where ivar > 0, over the wavelength divided by a function of the redshift."""

    def check(result: Result, truth: Truth) -> str | None:
        true = truth.spectra(ids)
        z = truth.client.match(ids=truth.ids(ids), fields="z")["z"][0].as_py()
        if result.kind != "NoneType":
            return "does not return None"
        curve = result.arrays()
        if not np.allclose(curve["x"], 10.0 ** true["loglam"].astype(float) / shift(z), rtol=2e-6):
            return "is not drawn over the wavelengths of the spectrum"
        flux = true["flux"] * (true["ivar"] > 0)
        scale = 1e-17 if np.abs(curve["y"]).max() < 1e-9 else 1.0  # of a Spectrum1D
        return None if np.allclose(curve["y"], scale * flux, rtol=1e-5, atol=scale * 1e-6) else "does not show the flux"

    return check


def picture(mode: str, size: tuple[int, int] | Callable[[Truth], tuple[int, int]]) -> Check:
    """A PNG of a mode and a size (width, height), with something in it."""

    def check(result: Result, truth: Truth) -> str | None:
        wanted = size(truth) if callable(size) else size
        if result.kind != "image" or result.told["format"] != "PNG" or result.told["mode"] != mode:
            return f"is not a PNG of mode {mode}"
        if result.told["size"] != list(wanted):
            return f"is not of size {wanted}"
        return None if len(np.unique(result.array())) > 3 else "is empty"

    return check


def png_bytes(result: Result, truth: Truth) -> str | None:
    """Bytes of a PNG."""
    good = result.kind == "bytes" and result.content().startswith(b"\x89PNG\r\n\x1a\n")
    return None if good else "are not the bytes of a PNG"


def grid(count: int, columns: int) -> Check:
    """A grid of so many previews, `columns` in a row, in each of which something is drawn."""
    across, down = min(count, columns), -(-count // columns)
    width, height = PREVIEW

    def cells(result: Result, truth: Truth) -> str | None:
        image = result.array()
        for k in range(count):
            y, x = divmod(k, columns)
            if len(np.unique(image[y * height : (y + 1) * height, x * width : (x + 1) * width])) < 4:
                return f"has nothing in cell {k}"
        return None

    return all_of(picture("RGB", (across * width, down * height)), cells)


def stack(
    ids: str, scale: tuple[float, float] = (1.0, 1.0), thickness: int = 1, mode: str = "L", inverse: bool = False
) -> Check:
    """A stacked image of these spectra; unless it is scaled or coloured, each row is a spectrum, the first lowest."""

    def size(truth: Truth) -> tuple[int, int]:
        true = truth.spectra(ids, "flux")
        return int(true.shape[-1] * scale[0]), int(len(truth.ids(ids)) * thickness * scale[1])

    def in_order(result: Result, truth: Truth) -> str | None:
        if scale != (1.0, 1.0) or mode != "L":
            return None
        flux = np.atleast_2d(truth.spectra(ids, "flux"))["flux"]
        levels = result.array()[::-1][::thickness].astype(int)
        inside = flux != 0  # of the padding no more is asked than that it is there
        rising = np.diff(levels[inside][np.argsort(flux[inside], kind="stable")])
        falls = np.all(rising <= 0) if inverse else np.all(rising >= 0)
        return None if falls else "does not show the fluxes, the first spectrum at the bottom"

    return all_of(picture(mode, size), in_order)


def same_image(name: str) -> Check:
    """The very image of another call."""

    def check(result: Result, truth: Truth) -> str | None:
        other = truth.results[name]
        same = result.kind == other.kind == "image" and np.array_equal(result.array(), other.array())
        return None if same else f"is not the image of {name}"

    return check
